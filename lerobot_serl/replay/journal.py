"""Episodes on their way into the LeRobotDataset: one file each, complete, checksummed and fsync'd before it is acknowledged."""

import hashlib
import logging
import os
import re
import threading
from contextlib import suppress
from pathlib import Path

SUFFIX = ".episode"
# Of the file with an episode's images (image_parts.py), beside that of the episode. It is complete when the other one is there.
IMAGES = ".images"
DAMAGED = "damaged"
# What a file starts with; the SHA-256 of the message follows, then the message.
_MAGIC = b"SERLEP01"
_DIGEST_BYTES = 32
# Of an episode, chosen by its sender. No other character: one UUID is one name of a file, and leads nowhere else.
UUID = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)


class DamagedFileError(ValueError):
    """A journalled episode is not what was written."""


class EpisodeJournal:
    """A directory of episode messages, in the order in which they came.

    LeRobot 0.6.1 loses every episode of a dataset whose writer is killed, and appending takes its time; an episode is durable as soon as its
    file is here. Writing costs the same however many episodes there are.

    Args:
        directory: created when the first episode arrives.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()
        self._last: int | None = None

    def write(self, uuid: str, data: bytes) -> Path:
        """Keep a message; on return it survives SIGKILL and power loss.

        Raises:
            ValueError: the UUID has other characters than :data:`UUID`, or too many.
            OSError: disk full or not writable; nothing is left behind.
        """
        if not UUID.fullmatch(uuid):
            raise ValueError(f"the episode's UUID is {uuid[:80]!r}, expected 1 to 64 letters, digits and dashes")
        with self._lock:
            make_directory(self.directory)
            if self._last is None:
                sync(self.directory.parent)  # whoever made the directory may have been killed before it came to this
                self._last = max((int(path.name.partition("-")[0]) for path in self.pending()), default=0)
            path = self.directory / f"{self._last + 1:08d}-{uuid}{SUFFIX}"
            temporary = path.with_suffix(".part")
            try:
                with temporary.open("wb") as handle:
                    handle.write(_MAGIC + hashlib.sha256(data).digest())
                    handle.write(data)
                    handle.flush()
                    os.fsync(handle.fileno())
                os.replace(temporary, path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            sync(self.directory)
            self._last += 1
            return path

    def read(self, path: Path) -> bytes:
        """Message of a pending episode.

        Raises:
            DamagedFileError: the file is shorter than it was, or some of its bits have changed.
        """
        content = path.read_bytes()
        start = len(_MAGIC) + _DIGEST_BYTES
        if not content.startswith(_MAGIC) or len(content) < start:
            raise DamagedFileError(f"{path.name} is no journalled episode, or only the beginning of one ({len(content)} bytes)")
        data = content[start:]
        if hashlib.sha256(data).digest() != content[len(_MAGIC) : start]:
            raise DamagedFileError(f"{path.name} does not have the checksum that it was written with")
        return data

    def images(self, uuid: str) -> Path:
        """Where the images of an episode are, or will be, if it has any."""
        return self.directory / f"{uuid}{IMAGES}"

    def remove(self, path: Path) -> None:
        """An episode is safe elsewhere: delete it, and then its images.

        Raises:
            OSError: it cannot be deleted.
        """
        path.unlink(missing_ok=True)  # it may have been set aside
        self.images(uuid_of(path)).unlink(missing_ok=True)

    def remove_unfinished(self) -> None:
        """Delete images of episodes that are not here: they were never finished, or are safe elsewhere. For the only user of the journal."""
        known = self.uuids()
        for path in self.directory.glob(f"*{IMAGES}") if self.directory.is_dir() else ():
            if path.name.removesuffix(IMAGES) not in known:
                path.unlink(missing_ok=True)

    def set_aside(self, path: Path, reason: str, where: str = DAMAGED) -> Path:
        """Move a file that cannot be used out of the way, and say so; it is never deleted."""
        target = self.directory / where / path.name
        make_directory(target.parent)
        images = self.images(uuid_of(path))
        with suppress(FileNotFoundError):
            os.replace(images, target.parent / images.name)
        os.replace(path, target)
        sync(target.parent)
        sync(self.directory)
        logging.warning(f"An episode could not be used and was set aside as {target}: {reason}")
        return target

    def pending(self) -> list[Path]:
        """Files of the episodes that are not in the dataset yet, oldest first."""
        if not self.directory.is_dir():
            return []
        return sorted(path for path in self.directory.glob(f"*-*{SUFFIX}") if path.name.partition("-")[0].isdecimal())

    def uuids(self) -> set[str]:
        """UUIDs of the pending episodes."""
        return {uuid_of(path) for path in self.pending()}


def journal_of(root: Path) -> EpisodeJournal:
    """The journal of the dataset in ``root``, beside it."""
    return EpisodeJournal(root.with_name(f"{root.name}.journal"))


def uuid_of(path: Path) -> str:
    """The UUID in the name of a pending episode's file, as :meth:`EpisodeJournal.write` made it."""
    return path.name.removesuffix(SUFFIX).partition("-")[2]


def make_directory(path: Path) -> None:
    """Create a directory, and those above it that are missing; on return their names survive a power loss.

    Raises:
        OSError: it cannot be created.
    """
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def sync(path: Path) -> None:
    """Make a file's content, or the names in a directory, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
