"""What one would try first, and what must not be done: ACT's weights as the actor of stock SAC, with nothing that keeps them.

No base policy proposes (`policy.base=none`), so the actor's output is the action, and the actor is ACT itself; its chunk is the mean of a
tanh-Gaussian, exact at step 0, and the losses move all of its weights. SAC has the common settings: two critics, target entropy -1/2 for each
dimension, entropy in the target, and no phase in which only the critics learn. (The temperature of 1 weighs the mean of log pi over the chunk's
entries, not its sum: milder than in SAC.)
"""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from lerobot_serl.base.act import ActBase
from lerobot_serl.policy.agent import Agent

from ..run import Run
from .serl import learn, make_policy

STOCK_SAC: dict[str, Any] = {
    "base": "none",
    "actor": {"noise_correlation": 0.0, "explore": 1.0, "knots": None, "deployed_share": 0.0},
    "critic": {"members": 2},
    "temperature": {"init": 1.0, "lr": 3e-4, "target_entropy": -0.5},
    "backup_entropy": "soft",
    "policy_delay": 1,
    "startup": {"critic_updates": 0, "ramp_updates": 0, "scale_updates": 0},
    "guard": {"rollback": False},
}  # fmt: skip
INITIAL_STD, LARGEST_ACTION = 0.2, 0.99


class ActActor(nn.Module):
    """ACT's chunk as the mean of a Gaussian before tanh; all of ACT's weights learn.

    Args:
        agent: on ACT, which is copied. Its box and features are used. State observations only.
    """

    has_learnt = True

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self.act = copy.deepcopy(agent.act).requires_grad_(True)
        self.log_std = nn.Parameter(torch.full((agent.horizon * agent.action_dim,), math.log(INITIAL_STD)))
        self.knots, self.action_dim = agent.horizon, agent.action_dim
        self.edits = torch.ones(agent.action_dim, dtype=torch.bool)
        self.spread = torch.eye(agent.horizon * agent.action_dim)
        self._box, self._features, self._horizon = [agent.box], [agent.features], agent.horizon

    def forward(self, features: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`EditActor.forward`; ``base`` is not needed."""
        box, normaliser = self._box[0], self._features[0]
        raw = features * normaliser.std + normaliser.mean
        sizes = [self.act.input_features[key].shape[0] for key in normaliser.state_keys]
        observation = dict(zip(normaliser.state_keys, raw.split(sizes, dim=-1), strict=True))
        actions, _ = ActBase.plan.__wrapped__(self.act, observation, self._horizon)  # type: ignore[attr-defined] # with gradient
        mean = box.normalize(actions).clamp(-LARGEST_ACTION, LARGEST_ACTION).atanh().flatten(1)
        return mean, self.log_std.exp().clamp(1e-3, 3.0).expand_as(mean)

    def learns(self) -> None:
        """It has learnt from the beginning."""

    def along_chunk(self, edit: Tensor) -> Tensor:
        """As :meth:`EditActor.along_chunk`, with a value for every step."""
        return edit.unflatten(-1, (self.knots, -1))


def naive(run: Run) -> None:
    """Stock SAC on ACT's weights."""
    on_act = make_policy(run, run.base.start).agent
    policy = make_policy(run, {"horizon": on_act.horizon, **STOCK_SAC})
    agent = policy.agent
    for part in ("box", "features"):  # of one scale, and the box contains what ACT plans
        getattr(agent, part).load_state_dict(getattr(on_act, part).state_dict())
    agent.actor = ActActor(on_act)  # type: ignore[assignment]
    learn(run, policy)
