"""Numbers that nobody measured: not finite, too large for 32 bits to square, or far outside what the other episodes hold."""

from collections.abc import Sequence

import numpy as np

from ..replay.plausible import LARGEST, Plausible
from .dataset_episode import DatasetEpisode

# In widths of the usual range. Much more than a learner allows around its demonstrations: here nothing tells which episodes are the good ones.
REACH = 1e6
_FEWEST_EPISODES = 3


def find_outliers(episodes: Sequence[DatasetEpisode]) -> None:
    """Add a fault to each episode that holds such a number; what is usual is the median of the episodes' smallest and largest numbers."""
    for key in sorted({key for episode in episodes for key, summary in episode.summary.items() if summary[0].dtype.kind == "f"}):
        holding = [episode for episode in episodes if key in episode.summary]
        low, high = (np.stack([np.ravel(episode.summary[key][i]) for episode in holding]).astype(np.float64) for i in (0, 1))
        bounds = Plausible()
        if len(holding) >= _FEWEST_EPISODES:
            bounds = Plausible.around({key: (np.nanmedian(low, axis=0), np.nanmedian(high, axis=0))}, REACH)
        least, most = bounds.low.get(key, -LARGEST), bounds.high.get(key, LARGEST)
        outside = ~((low >= least) & (high <= most))
        for row in np.flatnonzero(outside.any(axis=1)):
            entry = int(np.argmax(outside[row]))
            here = [f"{bound[row, entry]:g}" for bound in (low, high)]
            sense = [f"{np.broadcast_to(bound, low.shape[1:])[entry]:.3g}" for bound in (least, most)]
            holding[row].faults.append(f"its {key}[{entry}] goes from {' to '.join(here)}, where {' to '.join(sense)} would make sense")
