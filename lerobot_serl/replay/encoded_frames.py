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
    """

    def __init__(self, parts: ImageParts, key: str, image_shape: Sequence[int]) -> None:
        def read(frames: range) -> Tensor:
            return decode_jpegs([parts.image(key, frame) for frame in frames], tuple(image_shape))

        super().__init__(read, image_shape, 0, parts.frames)
        self.parts = parts
