"""Random shift of stored images (DrQ, arXiv 2004.13649): copied out of the memory and moved in one pass, still uint8."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PAD_PX = 4


def shifted(images: Tensor, index: Tensor, generator: torch.Generator, pad_px: int = PAD_PX) -> Tensor:
    """``images[index]``, each moved by up to ``pad_px`` pixels; what comes in at an edge repeats the edge.

    Args:
        images: ``(N, C, H, W)``, on any device.
        index: ``(B,)`` int64, on the same device.
        generator: each image has a shift of its own; the shifts are drawn on the generator's device.

    Returns:
        ``(B, C, H, W)``, a copy, same dtype.
    """
    moves = torch.randint(-pad_px, pad_px + 1, (len(index), 2), generator=generator, device=generator.device)
    return _in_blocks(images, index, moves) if images.device.type == "cpu" else _gathered(images, index, moves.to(images.device))


def _gathered(images: Tensor, index: Tensor, moves: Tensor) -> Tensor:
    """All images in one gather: nothing is read back from the device.

    Args:
        moves: ``(B, 2)`` int64, pixels down and to the right.
    """
    height, width = images.shape[2:]
    down, right = moves.unsqueeze(-1).unbind(1)
    rows = (torch.arange(height, device=images.device) + down).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) + right).clamp(0, width - 1)
    pixels = (rows.unsqueeze(2) * width + columns.unsqueeze(1)).flatten(1)
    chosen = images.flatten(2).index_select(0, index)
    return chosen.gather(2, pixels.unsqueeze(1).expand(-1, images.shape[1], -1)).unflatten(2, (height, width))


def _in_blocks(images: Tensor, index: Tensor, moves: Tensor) -> Tensor:
    """Image by image in host memory: copying rectangles takes a sixth of the time that a CPU needs for the gather."""
    source, result = images.numpy(), np.empty((len(index), *images.shape[1:]), dtype=images.numpy().dtype)
    for target, frame, (down, right) in zip(result, index.tolist(), moves.tolist(), strict=True):
        _move(source[frame], target, down, right)
    return torch.from_numpy(result)


def _move(source: NDArray[np.generic], target: NDArray[np.generic], down: int, right: int) -> None:
    """``target[c, y, x] = source[c, y + down, x + right]``, indices held inside the image."""
    height, width = source.shape[1:]
    top, bottom = max(0, -down), min(height, height - down)
    left, end = max(0, -right), min(width, width - right)
    target[:, top:bottom, left:end] = source[:, top + down : bottom + down, left + right : end + right]
    target[:, top:bottom, :left] = target[:, top:bottom, left : left + 1]
    target[:, top:bottom, end:] = target[:, top:bottom, end - 1 : end]
    target[:, :top] = target[:, top : top + 1]
    target[:, bottom:] = target[:, bottom - 1 : bottom]
