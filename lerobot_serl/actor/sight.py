"""Whether a camera shows anything at all: a lens cap, no light and a camera that hangs look like pictures to everything else."""

from collections.abc import Iterable

from torch import Tensor

# Every so many pixels each way are looked at; black is also what noise of so many levels of 255 leaves.
_STRIDE, _NOISE = 4, 12
# So many frames may be the same where an arm waits.
_LEAST_FRAMES = 10


class Sight:
    """Follows the pictures of one episode.

    Args:
        cameras: their keys.
    """

    def __init__(self, cameras: Iterable[str]) -> None:
        self._first: dict[str, Tensor] = {}
        self._frames = dict.fromkeys(cameras, 0)
        self._shows = dict.fromkeys(self._frames, False)
        self._moves = dict.fromkeys(self._frames, False)

    def add(self, camera: str, image: Tensor) -> None:
        """Its next picture, uint8 ``(C, H, W)``."""
        self._frames[camera] += 1
        if self._shows[camera] and self._moves[camera]:
            return
        few = image[:, ::_STRIDE, ::_STRIDE]
        first = self._first.setdefault(camera, few)
        self._shows[camera] |= int(few.amax()) - int(few.amin()) > _NOISE
        self._moves[camera] |= not bool((few == first).all())

    def complaints(self) -> list[str]:
        """A sentence for each camera that showed nothing."""
        found = []
        for camera, frames in self._frames.items():
            if frames >= _LEAST_FRAMES and not self._shows[camera]:
                found.append(f"'{camera}' was of one colour in all {frames} frames of the episode: a lens cap, or no light?")
            elif frames >= _LEAST_FRAMES and not self._moves[camera]:
                found.append(f"'{camera}' gave the very same picture {frames} times, all of the episode: does it hang?")
        return found
