"""Random shift of stored images (DrQ, arXiv 2004.13649): copied out of the memory and moved in one pass, still uint8."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PAD_PX = 4


def shifted(images: Tensor, index: Tensor, generator: torch.Generator, pad_px: int = PAD_PX) -> Tensor:
    """``images[index]``, each moved by up to ``pad_px`` pixels; what comes in at an edge repeats the edge.

    Args:
        images: ``(N, C, H, W)``.
        index: ``(B,)`` int64.
        generator: CPU generator; each image has a shift of its own.

    Returns:
        ``(B, C, H, W)``, a copy, same dtype.
    """
    moves = torch.randint(-pad_px, pad_px + 1, (len(index), 2), generator=generator).tolist()
    source, result = images.numpy(), np.empty((len(index), *images.shape[1:]), dtype=images.numpy().dtype)
    for target, frame, (down, right) in zip(result, index.tolist(), moves, strict=True):
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
