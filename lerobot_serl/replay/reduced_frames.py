"""One camera's images of an episode, made smaller when they are read."""

from collections.abc import Sequence

from torch import Tensor

from .lazy_frames import Frames, LazyFrames
from .picture_size import reduced


class ReducedFrames(LazyFrames):
    """Of other frames, which raise what they raise.

    Args:
        frames: as they were recorded, uint8.
        image_shape: ``(C, H, W)`` to reduce them to.
        start, stop: frames; empty: all of them.
    """

    def __init__(self, frames: Frames, image_shape: Sequence[int], start: int = 0, stop: int | None = None) -> None:
        super().__init__(image_shape, start, len(frames) if stop is None else stop)
        self._frames = frames

    def _read(self, frames: range) -> Tensor:
        return reduced(self._frames[frames.start : frames.stop], self._image_shape)

    def _part(self, start: int, stop: int) -> "ReducedFrames":
        return ReducedFrames(self._frames, self._image_shape, start, stop)
