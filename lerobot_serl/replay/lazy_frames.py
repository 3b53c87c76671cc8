"""One camera's images of an episode that are read when they are asked for; otherwise like a tensor ``(T, C, H, W)`` of uint8."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Self, overload

import torch
from torch import Tensor


class LazyFrames:
    """Frames ``start <= t < stop`` of a camera.

    Args:
        read: frames -> images ``(N, C, H, W)``; it raises where they are damaged.
        image_shape: ``(C, H, W)``.
    """

    dtype = torch.uint8

    def __init__(self, read: Callable[[range], Tensor], image_shape: Sequence[int], start: int, stop: int) -> None:
        self._read = read
        self._image_shape = tuple(image_shape)
        self._frames = range(start, stop)

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def shape(self) -> tuple[int, ...]:
        """As a tensor's."""
        return (len(self), *self._image_shape)

    @overload
    def __getitem__(self, which: int) -> Tensor: ...
    @overload
    def __getitem__(self, which: slice) -> Tensor: ...
    def __getitem__(self, which: int | slice) -> Tensor:
        frames = self._frames[which]
        return self._read(frames) if isinstance(frames, range) else self._read(range(frames, frames + 1))[0]

    def narrow(self, dimension: int, start: int, length: int) -> Self:
        """Fewer frames, still not read; as a tensor's, of dimension 0."""
        if dimension != 0 or start < 0 or start + length > len(self):
            raise ValueError(f"frames {start} to {start + length} along dimension {dimension} of {self.shape}")
        part = copy.copy(self)
        part._frames = self._frames[start : start + length]
        return part


class LastRead:
    """LeRobot decodes all cameras of a frame at once, and they are asked for one after the other: keeps what was read last.

    Args:
        read: frames -> camera key -> ``(N, C, H, W)``.
    """

    def __init__(self, read: Callable[[range], Mapping[str, Tensor]]) -> None:
        self._read = read
        self._frames = range(0)
        self._images: Mapping[str, Tensor] = {}

    def __call__(self, frames: range) -> Mapping[str, Tensor]:
        if frames != self._frames or not self._images:
            self._images = {}  # before the next ones take memory
            self._frames, self._images = frames, self._read(frames)
        return self._images


Frames = Tensor | LazyFrames
