"""A lock on a file that names its owner: two processes that would write to one place, of which the second learns who the first is."""

import fcntl
import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TextIO

POLL_S = 0.1
_MOST_BYTES = 4096


class LockedError(RuntimeError):
    """Another process holds the lock."""


class OwnedLock:
    """Exclusive lock of a file, released when its process ends, however it ends.

    Args:
        path: of the lock file; its directory is made.
        what: what is locked, for the message.
        remedy: what to do about it, for the message.
        patience_s: how long to wait for the lock.
    """

    def __init__(self, path: Path, what: str, remedy: str, patience_s: float = 0.0) -> None:
        self._path = path
        self._what = what
        self._remedy = remedy
        self._patience_s = patience_s
        self._handle: TextIO | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            LockedError: another process has it; who that is, and since when, is in the message.
            OSError: the file cannot be written; the message says what was to be locked.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = self._path.open("a+", encoding="utf-8")
        except OSError as error:
            raise type(error)(f"{self._what} cannot be written: {self._path}: {error.strerror or error}.") from error
        until = time.monotonic() + self._patience_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    owner = _owner(handle)
                    handle.close()
                    raise LockedError(f"{self._what} is in use by {owner}. {self._remedy}") from None
                time.sleep(POLL_S)
        handle.truncate(0)
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat(timespec="seconds")}, handle)
        handle.flush()
        self._handle = handle

    def release(self) -> None:
        """Give the lock back; may be called twice."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __enter__(self) -> "OwnedLock":
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


def _owner(handle: TextIO) -> str:
    handle.seek(0)
    try:
        owner = json.loads(handle.read(_MOST_BYTES))
        return f"process {owner['pid']} on {owner['host']} (since {owner['since']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
