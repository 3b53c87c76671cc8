"""This project's own policy: as it is, on ACT, and from scratch."""

from collections.abc import Callable, Mapping
from typing import Any

import draccus
import torch
from torch import Tensor

from lerobot_serl.online.learner import Learner
from lerobot_serl.policy.agent import Agent
from lerobot_serl.policy.configuration_serl_sac import SerlSacConfig
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy

from ..candidates import CANDIDATES, act_alone, best, measured
from ..practice import Practice, deterministic
from ..run import Run, policy_features

# Soft actor-critic with demonstrations, half of each batch (RLPD), in our code: one-step critics, a random actor whose output is the action,
# ten critics of which two give the target, target entropy -D/2, no entropy in the target (RLPD's setting for sparse rewards).
FROM_SCRATCH: dict[str, Any] = {
    "horizon": 1,
    "act": {"chunk_size": 1, "dim_model": 16, "n_heads": 1, "dim_feedforward": 16, "n_encoder_layers": 1},
    "actor": {
        "edit_scale": 1.0, "candidates": False, "anchor": 0.0, "init_std": 1.0, "min_std": 0.01, "max_std": 3.0, "noise_correlation": 0.0,
        "explore": 1.0, "pessimism": 0.0, "deployed_share": 0.0,
    },
    "critic": {"members": 10, "prior_steps": 0},
    "temperature": {"init": 0.1, "lr": 3e-4, "target_entropy": -0.5},
    "startup": {"collect_steps": 500, "critic_updates": 0, "ramp_updates": 0, "scale_fraction": 1.0, "scale_updates": 0},
    "guard": {"rollback": False},
    "policy_delay": 1,
}  # fmt: skip


class DirectAgent(Agent):
    """The actor's output is the action, whatever ACT says."""

    def _edited(self, base: Tensor, edit: Tensor) -> Tensor:
        return edit.unflatten(-1, base.shape[-2:])


def frozen_act(run: Run) -> None:
    """ACT, evaluated again."""
    policy = make_policy(run, {"act_path": str(run.base.act), "horizon": run.base.task.horizon})
    run.evaluate(deterministic(policy), policy.config.input_features or {}, policy.agent.action_dim, 0)


def fine_tune(run: Run) -> None:
    """`serl_sac` on the run's ACT."""
    learn(run, make_policy(run, {"act_path": str(run.base.act), "horizon": run.base.task.horizon}))


def from_scratch(run: Run) -> None:
    """The same code without ACT."""
    inputs, outputs = policy_features(run.base.meta)
    policy = make_policy(run, FROM_SCRATCH, input_features=inputs, output_features=outputs)
    policy.agent.__class__ = DirectAgent
    learn(run, policy)


def make_policy(run: Run, settings: Mapping[str, Any], **features: Any) -> SerlSacPolicy:
    """The policy with the method's settings, and the variant's on top of them."""
    torch.manual_seed(run.seed)
    fixed = {"device": "cpu", "push_to_hub": False, "online": {"repo_id": "local/practice"}, "metrics_dir": str(run.directory)}
    config = draccus.decode(SerlSacConfig, merged(merged(fixed, settings), run.variant.policy))
    for name, value in features.items():
        setattr(config, name, value)
    meta = run.base.meta
    return SerlSacPolicy(config, dataset_stats=meta.stats, dataset_meta=meta)


def learn(run: Run, policy: SerlSacPolicy) -> None:
    """What `lerobot-train` does, with the world in the same process, and evaluations on the way."""
    config, act, progress = policy.config, deterministic(policy), policy.progress
    inputs, action_dim = config.input_features or {}, policy.agent.action_dim
    run.evaluate(act, inputs, action_dim, 0)
    if run.plan.control_steps:
        run.control([measured("ACT", act_alone(policy, run.base), run.base, policy, run.plan.control_episodes)], 0)
    practice = Practice(policy.agent, progress, run.base.task.env(), run.logbook)
    learner, update = training_step(run, policy, practice)
    while progress.env_steps < run.plan.env_steps or progress.may_update:
        update()
        step = int(progress.env_steps)
        if run.due(step) and (step < run.plan.env_steps or not progress.may_update):
            run.evaluate(act, inputs, action_dim, step)
            if run.control_due(step):
                run.control(control_rows(run, policy, learner), step)


def control_rows(run: Run, policy: SerlSacPolicy, learner: Learner) -> list[dict[str, str]]:
    """Every way to deploy the weights as they are now, and what `checkpoints/best` would hold; where that is ACT, it was measured at step 0."""
    ways = {name: make(policy) for name, make in CANDIDATES.items()}
    best_policy = learner.best_policy
    print(f"best: {best_policy}", flush=True)
    if best_policy.edits_are_better:
        ways["best"] = best(policy, best_policy)
    return [measured(name, act, run.base, policy, run.plan.control_episodes) for name, act in ways.items()]


def training_step(run: Run, policy: SerlSacPolicy, practice: Practice | None = None) -> tuple[Learner, Callable[[], None]]:
    """A learner, and what `lerobot-train` calls for each update.

    Args:
        practice: where episodes come from; None: learn from the demonstrations alone.
    """
    torch.manual_seed(run.seed)
    learner = Learner(policy.agent, policy.config, policy.progress, run.base.meta, practice)

    def update() -> None:
        learner.step()

    return learner, update


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """``other``'s entries on top of ``one``'s, group by group."""
    result = dict(one)
    for key, value in other.items():
        result[key] = merged(result[key], value) if isinstance(value, Mapping) and isinstance(result.get(key), Mapping) else value
    return result
