"""One camera's images of an episode that are read when they are asked for; otherwise like a tensor ``(T, C, H, W)`` of uint8."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self, overload

import torch
from torch import Tensor


class LazyFrames(ABC):
    """Frames ``start <= t < stop`` of a camera.

    Args:
        image_shape: ``(C, H, W)``.
    """

    dtype = torch.uint8

    def __init__(self, image_shape: Sequence[int], start: int, stop: int) -> None:
        self._image_shape = tuple(image_shape)
        self._start = start
        self._stop = stop

    def __len__(self) -> int:
        return self._stop - self._start

    @property
    def shape(self) -> tuple[int, ...]:
        """As a tensor's."""
        return (len(self), *self._image_shape)

    @overload
    def __getitem__(self, which: int) -> Tensor: ...
    @overload
    def __getitem__(self, which: slice) -> Tensor: ...
    def __getitem__(self, which: int | slice) -> Tensor:
        frames = range(self._start, self._stop)[which]
        return self._read(frames) if isinstance(frames, range) else self._read(range(frames, frames + 1))[0]

    def narrow(self, dimension: int, start: int, length: int) -> Self:
        """Fewer frames, still not read; as a tensor's, of dimension 0."""
        if dimension != 0 or start < 0 or start + length > len(self):
            raise ValueError(f"frames {start} to {start + length} along dimension {dimension} of {self.shape}")
        return self._part(self._start + start, self._start + start + length)

    @abstractmethod
    def _read(self, frames: range) -> Tensor:
        """These frames ``(N, C, H, W)``."""

    @abstractmethod
    def _part(self, start: int, stop: int) -> Self:
        """The same with other frames."""


Frames = Tensor | LazyFrames
