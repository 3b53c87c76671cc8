"""Pictures as small as an encoder that learns can afford: reduced once, before the replay memory keeps them."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .lazy_frames import Frames, LazyFrames


def reduced_shape(shape: Sequence[int], longest_px: int | None, shortest_px: int) -> tuple[int, ...]:
    """Shape ``(C, H, W)`` of a camera's pictures after :func:`reduced`: the same proportions, never larger.

    Args:
        shape: ``(C, H, W)`` as the camera gives them.
        longest_px: of the longer side; None: as they are.
        shortest_px: below which the shorter side does not go.
    """
    channels, *sides = shape
    if longest_px is None:
        return tuple(shape)
    scale = min(1.0, max(longest_px / max(sides), shortest_px / min(sides)))
    return channels, *(max(1, round(scale * side)) for side in sides)


def reduced(images: Tensor, shape: Sequence[int]) -> Tensor:
    """Images ``(..., C, H, W)``, uint8 or float in [0, 1] -> uint8 ``(..., *shape)``, without aliasing.

    Both sides see the same numbers: the robot's float pictures become uint8, as those that the learner reads. Pictures that have this shape already
    stay as they are.
    """
    if images.shape[-3:] == tuple(shape):
        return images
    values = 255.0 * images if images.is_floating_point() else images.float()
    small = F.interpolate(values.reshape(-1, *values.shape[-3:]), tuple(shape[1:]), mode="bilinear", antialias=True)
    return small.round().to(torch.uint8).reshape(*images.shape[:-3], *shape)


def reduce_all(images: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """The cameras that ``shapes`` names, each reduced to its shape."""
    return {key: reduced(images[key], shape) for key, shape in shapes.items()}


def reduced_frames(frames: Frames, shape: Sequence[int]) -> LazyFrames:
    """Recorded images, each reduced to ``shape`` when it is asked for; it raises what reading them raises."""
    return LazyFrames(lambda which: reduced(frames[which.start : which.stop], shape), shape, 0, len(frames))
