"""One camera's images of an episode, as they lie in its parts."""

from collections.abc import Sequence

from torch import Tensor

from .image_parts import ImageParts
from .jpeg import decode_jpegs
from .lazy_frames import LazyFrames


class EncodedFrames(LazyFrames):
    """Decoded when they are asked for, which raises DamagedFileError if the file has changed since it was checked.

    Args:
        parts: of the episode.
        key: of the camera.
        image_shape: ``(C, H, W)``.
        start, stop: frames; empty: all of them.
    """

    def __init__(self, parts: ImageParts, key: str, image_shape: Sequence[int], start: int = 0, stop: int | None = None) -> None:
        super().__init__(image_shape, start, parts.frames if stop is None else stop)
        self.parts, self._key = parts, key

    def _read(self, frames: range) -> Tensor:
        return decode_jpegs([self.parts.image(self._key, frame) for frame in frames], self._image_shape)

    def _part(self, start: int, stop: int) -> "EncodedFrames":
        return EncodedFrames(self.parts, self._key, self._image_shape, start, stop)
