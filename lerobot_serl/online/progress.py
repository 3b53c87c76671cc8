"""How far learning has come: counters that travel in the checkpoint, and what follows from them (phase, pacing, ramp)."""

import torch
from torch import Tensor, nn

from ..policy.configuration_serl_sac import SerlSacConfig
from ..transport import Phase

COUNTERS = (
    "updates", "actor_updates", "env_steps", "episodes", "first_online_frame", "first_online_episode",
    "skipped_updates", "alarms", "rollbacks", "undone_updates",
)  # fmt: skip


class Progress(nn.Module):
    """Counters as buffers, so that LeRobot's checkpoint carries them; ``--resume=true`` goes on where the run stopped.

    Args:
        config: the policy's configuration.
    """

    updates: Tensor
    actor_updates: Tensor
    env_steps: Tensor
    episodes: Tensor
    first_online_frame: Tensor
    first_online_episode: Tensor
    skipped_updates: Tensor
    alarms: Tensor
    rollbacks: Tensor
    undone_updates: Tensor
    generator_state: Tensor

    def __init__(self, config: SerlSacConfig) -> None:
        super().__init__()
        self.config = config
        for name in COUNTERS:
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        self.register_buffer("generator_state", torch.Generator().get_state())

    def restart(self, seed: int) -> None:
        """Begin a new run: counters at 0, the learner's random generator seeded."""
        for name in COUNTERS:
            getattr(self, name).zero_()
        self.generator_state.copy_(torch.Generator().manual_seed(seed).get_state())

    @property
    def phase(self) -> Phase:
        """Offline, collection is skipped."""
        startup = self.config.startup
        if self.config.online.enabled and self.env_steps.item() < startup.collect_steps:
            return Phase.COLLECT
        return Phase.CRITIC if self.updates.item() < startup.critic_updates else Phase.ACTOR

    @property
    def actor_joins(self) -> bool:
        """Whether the next update moves actor and temperature too."""
        return self.phase is Phase.ACTOR and self.updates.item() % self.config.policy_delay == 0

    @property
    def learnt_updates(self) -> int:
        """Updates that the weights have seen: all but those that rollbacks undid. Ramps go by these, so that they go on where the weights do."""
        return int(self.updates.item()) - int(self.undone_updates.item())

    @property
    def ramp(self) -> float:
        """Factor on the actor's learning rate: rises linearly from 0 to 1 over ``startup.ramp_updates`` critic updates."""
        since = self.learnt_updates - self.config.startup.critic_updates
        return min(1.0, (since + 1) / max(self.config.startup.ramp_updates, 1))

    @property
    def scale_fraction(self) -> float:
        """Fraction of the edit scale: from ``startup.scale_fraction`` linearly to 1 over ``startup.scale_updates``."""
        startup = self.config.startup
        since = max(0, self.learnt_updates - startup.critic_updates)
        grown = min(1.0, since / max(startup.scale_updates, 1))
        return startup.scale_fraction + (1 - startup.scale_fraction) * grown

    @property
    def may_update(self) -> bool:
        """Whether pacing allows one more update: ``updates < critic_updates + utd * (env_steps - collect_steps)``."""
        if not self.config.online.enabled:
            return True
        phase = self.phase
        if phase is not Phase.ACTOR:
            return phase is Phase.CRITIC
        return self.updates.item() < self._earned()

    @property
    def lead_steps(self) -> float:
        """Environment steps by which the robot is ahead of the learner."""
        if self.phase is Phase.COLLECT:
            return 0.0
        return (self._earned() - self.updates.item()) / self.config.utd

    def _earned(self) -> float:
        startup = self.config.startup
        return startup.critic_updates + self.config.utd * (self.env_steps.item() - startup.collect_steps)
