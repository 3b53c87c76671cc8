"""Where the episodes of a replay memory lie: adding one, dropping the oldest and finding one cost the same however many there are."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_FRAME, _FRAMES, _NUMBER, _STEPS, _TERMINATED = range(5)
_LEAST_COLUMNS = 64

IntArray = NDArray[np.int64]


class StoredEpisode(NamedTuple):
    """Frames ``start .. start + frames`` of the ring."""

    start: int
    frames: int


class EpisodeTable:
    """Episodes, oldest first. Their transitions are numbered in the order in which they were added; numbers are never used again.

    Attributes:
        frames: of all episodes held.
        steps: transitions of all episodes held.
    """

    def __init__(self) -> None:
        self._table = np.empty((5, _LEAST_COLUMNS), dtype=np.int64)
        self._begin = self._end = 0
        self._next_number = 0
        self.frames = self.steps = 0

    def __len__(self) -> int:
        """Episodes held."""
        return self._end - self._begin

    @property
    def oldest(self) -> StoredEpisode:
        """Where it lies; there is one."""
        return StoredEpisode(int(self._table[_FRAME, self._begin]), int(self._table[_FRAMES, self._begin]))

    def append(self, start: int, frames: int, steps: int, terminated: bool) -> None:
        """Add an episode whose first frame is ``start``, with so many frames and transitions."""
        if self._end == self._table.shape[1]:
            held = self._table[:, self._begin : self._end]
            self._table = np.empty((5, max(_LEAST_COLUMNS, 2 * held.shape[1])), dtype=np.int64)
            self._table[:, : held.shape[1]] = held
            self._begin, self._end = 0, held.shape[1]
        self._table[:, self._end] = start, frames, self._next_number, steps, terminated
        self._end += 1
        self._next_number += steps
        self.frames += frames
        self.steps += steps

    def drop_oldest(self) -> None:
        """Forget it; there is one."""
        self.frames -= int(self._table[_FRAMES, self._begin])
        self.steps -= int(self._table[_STEPS, self._begin])
        self._begin += 1

    def find(self, index: IntArray) -> tuple[IntArray, IntArray, NDArray[np.bool_]]:
        """Transitions by their index among those held, oldest first.

        Args:
            index: (B,) in ``0 .. steps - 1``.

        Returns:
            (B,) frame of each, (B,) transitions from there to the episode's end, itself included, (B,) whether the episode terminated.
        """
        frame, _, number, steps, terminated = self._table[:, self._begin : self._end]
        wanted = index + number[0]
        episode = np.searchsorted(number, wanted, side="right") - 1
        offset = wanted - number[episode]
        return frame[episode] + offset, steps[episode] - offset, terminated[episode] > 0
