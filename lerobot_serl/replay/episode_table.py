"""Where the episodes of a replay memory lie: adding one, dropping the oldest and finding one cost the same however many there are."""

from collections import deque
from typing import NamedTuple

import torch
from torch import Tensor

_NUMBER = 1  # row of the table
_LEAST_COLUMNS = 64


class StoredEpisode(NamedTuple):
    """Frames ``start .. start + frames`` of the ring, with so many transitions."""

    start: int
    frames: int
    steps: int


class Transitions(NamedTuple):
    """``B`` transitions.

    Attributes:
        number: ``(B,)`` of each; it stays the same while others come and go.
        frame: ``(B,)`` its frame in the ring.
        is_first: ``(B,)`` bool, whether the episode begins with it.
    """

    number: Tensor
    frame: Tensor
    is_first: Tensor


class EpisodeTable:
    """Episodes, oldest first. Their transitions are numbered in the order in which they were added; numbers are never used again.

    What decides where episodes go is kept in Python, what draws are looked up in lies on the device: neither reads the other back.

    Args:
        device: of the draws.

    Attributes:
        frames: of all episodes held.
        steps: transitions of all episodes held.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._held: deque[StoredEpisode] = deque()
        # Rows: first frame, number of the first transition.
        self._table = torch.empty((2, _LEAST_COLUMNS), dtype=torch.int64, device=device)
        self._begin = self._end = 0
        self._first_number = 0
        self.frames = self.steps = 0

    def __len__(self) -> int:
        """Episodes held."""
        return len(self._held)

    @property
    def oldest(self) -> StoredEpisode:
        """Where it lies; there is one."""
        return self._held[0]

    def append(self, start: int, frames: int, steps: int) -> None:
        """Add an episode whose first frame is ``start``, with so many frames and transitions."""
        if self._end == self._table.shape[1]:
            held = self._table[:, self._begin : self._end]
            self._table = held.new_empty((len(held), max(_LEAST_COLUMNS, 2 * held.shape[1])))
            self._table[:, : held.shape[1]] = held
            self._begin, self._end = 0, held.shape[1]
        self._table[:, self._end] = torch.tensor((start, self._first_number + self.steps))
        self._held.append(StoredEpisode(start, frames, steps))
        self._end += 1
        self.frames += frames
        self.steps += steps

    def drop_oldest(self) -> None:
        """Forget it; there is one."""
        oldest = self._held.popleft()
        self.frames -= oldest.frames
        self.steps -= oldest.steps
        self._first_number += oldest.steps
        self._begin += 1

    def find(self, index: Tensor) -> Transitions:
        """Transitions by their index among those held, oldest first.

        Args:
            index: ``(B,)`` in ``0 .. steps - 1``, on the table's device.
        """
        held, number = self._table[:, self._begin : self._end], index + self._first_number
        episode = torch.searchsorted(held[_NUMBER], number, right=True) - 1
        frame, first_number = held.index_select(1, episode)
        offset = number - first_number
        return Transitions(number, frame + offset, offset == 0)
