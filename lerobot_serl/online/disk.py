"""Whether a checkpoint fits on the disk: asked at the start of a run, and before each checkpoint."""

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

# Configurations, processors and metrics beside the tensors.
_SPARE_BYTES = 2 * 1024 * 1024


def checkpoint_bytes(kept: Iterable[Tensor], learning: Iterable[Tensor]) -> int:
    """Of a checkpoint: the policy's tensors, and Adam's two moments of each one that learns."""
    return sum(tensor.nbytes for tensor in kept) + 2 * sum(tensor.nbytes for tensor in learning) + _SPARE_BYTES


def require_room(directory: Path, needed_bytes: int, flag: str = "output_dir") -> None:
    """Raise unless so much is free where the directory is, or will be.

    Raises:
        OSError: naming both sizes, and the remedy.
    """
    there = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    free_bytes = shutil.disk_usage(there).free
    if free_bytes < needed_bytes:
        raise OSError(
            errno.ENOSPC,
            f"{flag}={str(directory)!r}: a checkpoint needs {_megabytes(needed_bytes)}, {_megabytes(free_bytes)} are free there. "
            f"{os.strerror(errno.ENOSPC)}: free some, or choose another --{flag}; what was saved before is whole",
        )


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"
