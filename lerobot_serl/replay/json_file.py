"""Small JSON files: read with suspicion, and written so that a kill or a power loss leaves the old one or the new one."""

import json
import os
from pathlib import Path
from typing import Any

from .journal import sync

MAX_JSON_BYTES = 64 * 1024**2


class UnreadableError(ValueError):
    """A file, or a part of it, cannot be used; the message says why, without the file's name."""


def read_json(path: Path) -> Any:
    """A JSON file of bearable size.

    Raises:
        UnreadableError: it is missing, empty, cut short, or no JSON.
    """
    size = 0
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise UnreadableError(f"has {size} bytes, expected at most {MAX_JSON_BYTES}")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UnreadableError("is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError("is empty" if size == 0 else f"is cut short or damaged ({size} bytes: {error})") from error


def write_json(path: Path, document: Any) -> None:
    """Replace a JSON file; on return this survives SIGKILL and power loss.

    Raises:
        OSError: the disk is full or cannot be written; the file is what it was.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as handle:
        json.dump(document, handle)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, path)
    sync(path.parent)
