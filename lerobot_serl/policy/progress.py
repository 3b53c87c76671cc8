"""How far learning has come: counters that travel in the checkpoint, and what follows from them (phase, pacing, ramp)."""

import math
from dataclasses import dataclass, field, fields

from ..transport import Phase
from .configuration_serl_sac import SerlSacConfig


@dataclass
class Progress:
    """Counters of one run; ``--resume=true`` goes on where the run stopped.

    Attributes:
        updates: that were made; those that were skipped do not count.
        env_steps, episodes: that the robot made in this run.
        first_online_frame, first_online_episode: of this run in the online dataset.
        skipped_updates: whose loss or gradient was not finite.
        alarms, rollbacks, undone_updates: of the success watch.
    """

    config: SerlSacConfig = field(repr=False)
    updates: int = 0
    env_steps: int = 0
    episodes: int = 0
    first_online_frame: int = 0
    first_online_episode: int = 0
    skipped_updates: int = 0
    alarms: int = 0
    rollbacks: int = 0
    undone_updates: int = 0

    def counters(self) -> dict[str, int]:
        """All of them, by name."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "config"}

    def restore(self, counters: dict[str, int]) -> None:
        """Go on from what :meth:`counters` said."""
        for name, value in counters.items():
            setattr(self, name, value)

    def restart(self) -> None:
        """Begin a new run."""
        self.restore(dict.fromkeys(self.counters(), 0))

    @property
    def phase(self) -> Phase:
        """Offline, collection is skipped."""
        startup = self.config.startup
        if self.config.online.enabled and self.env_steps < startup.collect_steps:
            return Phase.COLLECT
        return Phase.CRITIC if self.updates < startup.critic_updates else Phase.ACTOR

    @property
    def actor_joins(self) -> bool:
        """Whether the next update moves actor and temperature too."""
        return self.phase is Phase.ACTOR and self.updates % self.config.policy_delay == 0

    @property
    def learnt_updates(self) -> int:
        """Updates that the weights have seen: all but those that rollbacks undid. Ramps go by these, so that they go on where the weights do."""
        return self.updates - self.undone_updates

    @property
    def ramp(self) -> float:
        """Factor on the actor's learning rate: rises linearly from 0 to 1 over ``startup.ramp_updates`` critic updates."""
        since = self.learnt_updates - self.config.startup.critic_updates
        return min(1.0, (since + 1) / max(self.config.startup.ramp_updates, 1))

    @property
    def lr_factor(self) -> float:
        """Factor on all learning rates, of ``lr_schedule``."""
        if self.config.lr_schedule == "constant" or not self.config.lr_decay_updates:
            return 1.0
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, self.learnt_updates / self.config.lr_decay_updates)))

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
        return self.updates < self._earned

    @property
    def lead_steps(self) -> float:
        """Environment steps by which the robot is ahead of the learner."""
        if self.phase is Phase.COLLECT:
            return 0.0
        return (self._earned - self.updates) / self.config.utd

    @property
    def _earned(self) -> float:
        startup = self.config.startup
        return startup.critic_updates + self.config.utd * (self.env_steps - startup.collect_steps)
