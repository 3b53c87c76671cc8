"""The range of a dataset's numbers, without glitches: an absurd one must not make the action box and the robot's limits many times as wide."""

import numpy as np

# Of an entry's numbers this share, and one at least, may be glitches; of very few numbers nobody can tell ...
_SHARE = 1 / 2000
_FEWEST = 50
# ... where they lie farther outside the range of all others than so many of its widths.
_WIDTHS = 3.0


def usual_range(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(D,)`` smallest and ``(D,)`` largest of ``(N, D)`` numbers.

    A number counts unless it is one of few and far outside all others. Where the others are all alike it counts too: a gripper may close for
    one frame.
    """
    spare = max(1, round(_SHARE * len(values))) if len(values) >= _FEWEST else 0
    inner = np.sort(values, axis=0)[spare : len(values) - spare]
    low, high = inner.min(axis=0), inner.max(axis=0)
    reach = np.where(high > low, _WIDTHS * (high - low), np.inf)
    usual = (values >= low - reach) & (values <= high + reach)
    return np.where(usual, values, np.inf).min(axis=0), np.where(usual, values, -np.inf).max(axis=0)
