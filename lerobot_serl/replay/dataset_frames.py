"""One camera's images of an episode, as they lie in a LeRobotDataset."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from .lazy_frames import LazyFrames

# Frames -> camera key -> ``(N, C, H, W)``.
ReadCameras = Callable[[range], Mapping[str, Tensor]]


class LastRead:
    """LeRobot decodes all cameras of a frame at once, and they are asked for one after the other: keeps what was read last."""

    def __init__(self, read: ReadCameras) -> None:
        self._read, self._frames = read, range(0)
        self._images: Mapping[str, Tensor] = {}

    def __call__(self, frames: range) -> Mapping[str, Tensor]:
        if frames != self._frames or not self._images:
            self._images = {}  # before the next ones take memory
            self._frames, self._images = frames, self._read(frames)
        return self._images


class DatasetFrames(LazyFrames):
    """Decoded when they are asked for, which raises ValueError if a video or picture is damaged.

    Args:
        read: shared by the cameras.
        key: of the camera.
        image_shape: ``(C, H, W)``.
        start, stop: frames, counted in the dataset.
    """

    def __init__(self, read: LastRead, key: str, image_shape: Sequence[int], start: int, stop: int) -> None:
        super().__init__(image_shape, start, stop)
        self._cameras, self._key = read, key

    def _read(self, frames: range) -> Tensor:
        return self._cameras(frames)[self._key]

    def _part(self, start: int, stop: int) -> "DatasetFrames":
        return DatasetFrames(self._cameras, self._key, self._image_shape, start, stop)
