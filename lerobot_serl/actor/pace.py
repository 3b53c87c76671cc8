"""Fixed-rate control: when the next tick is due, and how often it was missed."""

import time
from collections.abc import Callable

from ..lerobot_names import precise_sleep


class Pace:
    """Ticks at a fixed rate. A late tick is counted, and the grid starts anew from it: lost time is not caught up by faster motion.

    Args:
        fps: ticks per second.
        clock: seconds, monotonic.
        sleep: waits for so many seconds.

    Attributes:
        late_ticks: ticks since :meth:`begin` that came later than :attr:`tolerance_s` after they were due.
        worst_lateness_s: of the latest of them.
    """

    def __init__(self, fps: float, clock: Callable[[], float] = time.perf_counter, sleep: Callable[[float], None] = precise_sleep) -> None:
        self.period_s = 1.0 / fps
        self.tolerance_s = 0.1 * self.period_s
        self._clock, self._sleep = clock, sleep
        self.begin()

    def begin(self) -> None:
        """The first tick is now."""
        self._due_s = self._clock() + self.period_s
        self.late_ticks, self.worst_lateness_s = 0, 0.0

    def wait(self) -> float:
        """Sleep until the tick is due; returns how late it is, in seconds (0 if in time)."""
        now = self._clock()
        if now < self._due_s:
            self._sleep(self._due_s - now)
            now = self._clock()
        lateness_s = max(0.0, now - self._due_s)
        if lateness_s > self.tolerance_s:
            self.late_ticks += 1
            self.worst_lateness_s = max(self.worst_lateness_s, lateness_s)
            self._due_s = now
        self._due_s += self.period_s
        return lateness_s
