"""Directories that are fsync'd."""

import os
from pathlib import Path

import pytest


def record_syncs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Directories that are fsync'd from now on, in order; the calls are made."""
    synced, fsync = [], os.fsync

    def recording(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path.is_dir():
            synced.append(path)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    return synced
