"""When a scripted person helps: a rule that depends on the attempt, its simulated time and a seed, and on no clock."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class AttemptState(Protocol):
    """What the rule looks at: a `SimulatedArm`, or several."""

    @property
    def n_attempts_begun(self) -> int:
        """Attempts so far, the present one included."""

    @property
    def attempt_time_s(self) -> float:
        """Simulated seconds since the attempt began."""

    @property
    def success(self) -> bool:
        """Whether the task is done now."""


@dataclass
class ScriptedTakeover:
    """Helps in a share of the attempts, from a time on and when it is needed, until the cube has been lifted.

    Args:
        share: of the attempts that are helped, 0 to 1.
        after_s: simulated time of the attempt from which on it helps.
        for_s: how long it helps at most, in simulated seconds; 0 = no limit.
        seed: which attempts; attempt `n` depends on `seed` and `n` alone.
    """

    share: float
    after_s: float
    for_s: float
    seed: int

    def __post_init__(self) -> None:
        self._attempt = 0
        self._was_lifted = self._helps_here = False
        self._began_s: float | None = None

    def is_due(self, arm: AttemptState, is_needed: bool = True) -> bool:
        """Whether it helps now; ask at every step, because a cube that was lifted once in an attempt ends the help in that attempt.

        Args:
            arm: at which it looks.
            is_needed: whether the attempt goes wrong now; help that has begun does not ask again.
        """
        if arm.n_attempts_begun != self._attempt:
            self._attempt = arm.n_attempts_begun
            self._was_lifted = False
            self._began_s = None
            self._helps_here = bool(np.random.default_rng([self.seed, self._attempt]).random() < self.share)
        self._was_lifted = self._was_lifted or arm.success
        now_s = arm.attempt_time_s
        if self._began_s is None and is_needed and now_s >= self.after_s:
            self._began_s = now_s
        in_time = self._began_s is not None and (self.for_s == 0 or now_s - self._began_s < self.for_s)
        return self._helps_here and in_time and not self._was_lifted
