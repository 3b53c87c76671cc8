"""The replay memory in RAM: a ring of whole episodes, each frame stored once, windows drawn from any step."""

import math

import torch
from lerobot.utils.constants import OBS_IMAGES
from torch import Tensor

from .batch import Batch
from .episode import Episode
from .episode_table import EpisodeTable
from .lazy_frames import Frames
from .random_shift import shifted
from .window_columns import WindowColumns, window_columns

FEATURES, BASE, SPAN = "features", "base", "span"
FRAMES_AT_ONCE = 64
CHECKED_AT_ONCE = 4096
HOST = torch.device("cpu")


class ReplayMemory:
    """Ring of episodes of at most ``capacity`` frames; the oldest episodes make room for new ones.

    An episode lies contiguously, so that a window never wraps; its boundaries are explicit, so that a window never crosses them.
    Host memory is taken from the operating system as frames arrive, a device's at once. Drawing reads nothing back from the device.

    Args:
        capacity: frames.
        horizon: ``h``, executed steps of a chunk.
        discount: gamma, for one step.
        n_step: ``n``, steps whose rewards are summed before the value that follows; at least ``h``, which is the default.
        device: of the memory.
    """

    def __init__(
        self,
        capacity: int,
        horizon: int,
        discount: float,
        n_step: int | None = None,
        device: torch.device = HOST,
    ) -> None:
        self.capacity = capacity
        self.horizon = horizon
        self.discount = discount
        self.n_step = n_step or horizon
        self.device = device
        self._columns: dict[str, Tensor] = {}
        self._windows: WindowColumns | tuple[()] = ()
        self._episodes = EpisodeTable(device)
        self._head = 0

    def __len__(self) -> int:
        """Transitions that a window can start at."""
        return self._episodes.steps

    @property
    def episodes(self) -> int:
        """Episodes held."""
        return len(self._episodes)

    @property
    def frames(self) -> int:
        """Frames held."""
        return self._episodes.frames

    @property
    def bytes_per_frame(self) -> int:
        """Bytes that a frame takes."""
        columns = (*self._columns.values(), *self._windows)
        return sum(column[0].numel() * column.element_size() for column in columns)

    def add(self, episode: Episode) -> None:
        """Store an episode.

        Raises:
            ValueError: without a transition, longer than the capacity, or with other columns, shapes or dtypes than the first one, or so large
                that the machine or the device refuses the memory for all of the capacity.
        """
        if episode.steps < 1:
            raise ValueError(f"An episode needs at least one transition, got {len(episode)} frames (terminated={episode.terminated}).")
        values = dict(episode.kept)
        span = values.pop(SPAN)[:] if SPAN in values else None
        if len(episode) > self.capacity:
            raise ValueError(f"An episode of {len(episode)} frames does not fit a replay memory of {self.capacity}; raise buffer_capacity.")
        windows = window_columns(episode.steps, episode.terminated, episode.reward, span, self.horizon, self.n_step, self.discount)
        if not self._columns:
            self._columns = {name: self._column(value) for name, value in values.items()}
            self._windows = WindowColumns(*(self._column(value) for value in windows))
        self._check_layout(values)
        start = self._make_room(len(episode))
        for name, value in values.items():
            for first in range(0, len(episode), FRAMES_AT_ONCE):  # encoded images are decoded here, and not all at once
                piece = value[first : first + FRAMES_AT_ONCE]
                self._columns[name][start + first : start + first + len(piece)] = piece
        for column, value in zip(self._windows, windows, strict=True):
            column[start : start + len(episode)] = value
        self._episodes.append(start, len(episode), episode.steps)
        self._head = start + len(episode)

    def bad_columns(self) -> list[str]:
        """Columns that hold NaN or infinity at a transition held; images, being bytes, can not."""
        bad = set()
        for first in range(0, len(self), CHECKED_AT_ONCE):
            index = torch.arange(first, min(first + CHECKED_AT_ONCE, len(self)), device=self.device)
            frame = self._episodes.find(index).frame
            bad |= {name for name in self._columns if not bool(self._rows(name, frame).isfinite().all())}
        return sorted(bad)

    def sample(self, size: int, generator: torch.Generator, is_demo: bool = False) -> Batch:
        """``size`` windows that start uniformly at the transitions held.

        Args:
            generator: the draw depends on its state and the stored episodes alone; it is made on the generator's device.
            is_demo: value of the batch's column of that name.

        Raises:
            ValueError: nothing is stored.
        """
        if not self._episodes:
            raise ValueError("The replay memory is empty: nothing to sample.")
        draw = torch.randint(len(self), (size,), generator=generator, device=generator.device)
        return self.windows(draw.to(self.device), generator, is_demo)

    def windows(self, index: Tensor, generator: torch.Generator, is_demo: bool = False) -> Batch:
        """The windows that start at these transitions.

        Args:
            index: ``(B,)`` int64 among the transitions held, oldest first, on the memory's device.
            generator: of the images' shifts.
            is_demo: value of the batch's column of that name.
        """
        number, frame, is_first = self._episodes.find(index)
        length, inside, jump, reward, discount = (column.index_select(0, frame) for column in self._windows)
        step, of_each = torch.arange(self.horizon, device=self.device), length.unsqueeze(-1)
        # Steps beyond the window repeat its last frame: read, then masked, never used.
        executed, is_inside = frame.unsqueeze(-1) + torch.minimum(step, of_each - 1), step < inside.unsqueeze(-1)
        after = frame + jump
        base = self._rows(BASE, frame).float()
        return Batch(
            features=self._rows(FEATURES, frame).float(),
            base=base,
            chunk=torch.where(is_inside.unsqueeze(-1), self._rows("action", executed), base),
            reward=reward,
            discount=discount,
            next_features=self._rows(FEATURES, after).float(),
            next_base=self._rows(BASE, after).float(),
            length=length,
            intervention=self._rows("intervention", executed) & is_inside,
            is_demo=torch.full_like(is_first, is_demo),
            images=self._images(frame, generator),
            next_images=self._images(after, generator),
            index=number,
            weight=torch.ones_like(reward),
            previous=self._rows("action", frame - 1 + is_first),
        )

    def _rows(self, name: str, frame: Tensor) -> Tensor:
        """A column at these frames, ``(*frame.shape, ...)``."""
        column = self._columns[name]
        return column.index_select(0, frame) if frame.dim() == 1 else column.index_select(0, frame.flatten()).unflatten(0, frame.shape)

    def _images(self, frame: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Kept camera images of these frames, each moved by a few pixels."""
        return {key: shifted(column, frame, generator) for key, column in self._columns.items() if key.startswith(OBS_IMAGES)}

    def _column(self, value: Frames) -> Tensor:
        """Room for the capacity; of the host's the system gives each page when it is first written."""
        try:
            return torch.empty((self.capacity, *value.shape[1:]), dtype=value.dtype, device=self.device)
        except RuntimeError as error:
            owner = "this machine" if self.device.type == "cpu" else self.device
            raise ValueError(
                f"The replay memory's {self.capacity:,} frames with {_frame_bytes(value):,} bytes each are "
                f"{self.capacity * _frame_bytes(value) / 1e9:.0f} GB, which {owner} does not give. "
                "Set a smaller --policy.buffer_capacity, or smaller images."
            ) from error

    def _make_room(self, frames: int) -> int:
        """Evict the oldest episodes that lie where the next one goes; returns its first frame."""
        wraps = self._head + frames > self.capacity
        start = 0 if wraps else self._head
        while self._episodes:
            oldest = self._episodes.oldest
            overlaps = oldest.start < start + frames and start < oldest.start + oldest.frames
            # After a wrap, the episodes in the abandoned tail of the ring are older than those that follow in front.
            in_tail = wraps and oldest.start >= self._head
            if not (overlaps or in_tail):
                break
            self._episodes.drop_oldest()
        return start

    def _check_layout(self, values: dict[str, Frames]) -> None:
        expected = {name: (tuple(column.shape[1:]), column.dtype) for name, column in self._columns.items()}
        actual = {name: (tuple(value.shape[1:]), value.dtype) for name, value in values.items()}
        if expected != actual:
            raise ValueError(f"The episode's columns {actual} differ from those of the replay memory {expected}.")


def _frame_bytes(value: Frames) -> int:
    return math.prod(value.shape[1:]) * value.dtype.itemsize
