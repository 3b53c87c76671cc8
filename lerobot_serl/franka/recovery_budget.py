"""How often an arm may recover without being asked."""

from collections import deque

WINDOW_S = 60.0


class RecoveryBudget:
    """Counts recoveries of the last minute.

    Args:
        per_min: how many there may be.
    """

    def __init__(self, per_min: int) -> None:
        self._per_min = per_min
        self._times_s: deque[float] = deque()

    def __len__(self) -> int:
        return len(self._times_s)

    def take(self, now_s: float) -> bool:
        """Count one recovery at `now_s`; False where there have been too many, and then it does not count."""
        while self._times_s and now_s - self._times_s[0] >= WINDOW_S:
            self._times_s.popleft()
        if len(self._times_s) >= self._per_min:
            return False
        self._times_s.append(now_s)
        return True

    def clear(self) -> None:
        """Forget all: a person has looked."""
        self._times_s.clear()
