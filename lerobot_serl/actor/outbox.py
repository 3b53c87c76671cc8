"""The robot side's journal: a finished episode is on this machine's disk before it is sent, and until the learner has acknowledged it."""

import hashlib
import json
import logging
import os
import re
import stat
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..owned_lock import OwnedLock
from ..replay.image_parts import ImageParts
from ..replay.journal import DAMAGED, IMAGES, SUFFIX, DamagedFileError, EpisodeJournal, make_directory, sync, uuid_of
from ..replay.json_file import write_json
from ..transport import MessageError
from ..words import printable

# Room for the next episode is at least this.
FLOOR_BYTES = 64 * 1024 * 1024
REFUSED = "refused"
_OUR_ID = re.compile(r"[0-9a-f]{32}")
_UNNAMED, _DESCRIPTION, _PART, _LONGEST_NAME = "unnamed", "dataset.json", ".part", 256


class OutboxFullError(RuntimeError):
    """There may be no room for another episode; every finished one is safe."""


@dataclass(frozen=True)
class OnlineDataset:
    """Which dataset a learner collects for.

    Attributes:
        id: opaque; empty if the learner does not say.
        repo_id: for messages; printable.
    """

    id: str = ""
    repo_id: str = field(default="", compare=False)

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> "OnlineDataset":
        """Read from the header of a policy message.

        Raises:
            MessageError: it is there, and not what it should be.
        """
        said = header.get("dataset")
        if said is None:
            return cls()
        names = [str(said[key]) for key in ("id", "repo_id") if isinstance(said.get(key), str)] if isinstance(said, Mapping) else []
        if len(names) != 2 or max(map(len, names)) > _LONGEST_NAME:
            raise MessageError(f"the learner names its dataset {str(said)[:100]!r}, expected 'id' and 'repo_id' in words")
        return cls(names[0], printable(names[1]))

    @property
    def directory(self) -> str:
        """Name of its part of the outbox: the id itself if it is such as we make; ids from the network must not meet another file's name."""
        if not self.id:
            return _UNNAMED
        return self.id if _OUR_ID.fullmatch(self.id) else hashlib.sha256(self.id.encode()).hexdigest()[:32]


class Outbox:
    """Episodes of one actor process that the learner has not acknowledged, in one directory for each online dataset.

    Only one process may use an outbox. What an earlier one left behind is kept; files that it did not finish, or that were damaged since, are
    set aside under ``damaged/``.

    Args:
        directory: made if it is not there.
        limit_bytes: of everything in it.

    Raises:
        LockedError: another process uses it.
        OSError: the directory can not be written.
    """

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        self.directory = directory
        self.limit_bytes = limit_bytes
        self._expected_bytes = 0
        self._owner = OwnedLock(
            directory / "lock",
            f"The outbox {directory} (--spool_dir)",
            "Two actor processes on one machine need two names: give each its own --name.",
        )
        with suppress(OSError):  # the lock says it in its own words
            make_directory(directory)
        self._owner.acquire()
        sync(directory.parent)  # the process that made it may have been killed before it came to this
        self._lock = threading.Lock()
        self._journals: dict[str, EpisodeJournal] = {}
        self._skipped: set[Path] = set()
        for part in directory.glob(f"*/*{_PART}"):
            self._recover(part)
        for dataset in [path for path in directory.iterdir() if path.is_dir()]:
            self._journal(dataset.name).remove_unfinished()
        sizes = (_file_bytes(path) + _file_bytes(path.parent / f"{uuid_of(path)}{IMAGES}") for path in directory.glob(f"*/*{SUFFIX}"))
        self._largest_bytes = max(sizes, default=0)

    def expect(self, n_bytes: int) -> None:
        """Keep room for the longest episode, which has so many."""
        self._expected_bytes = n_bytes

    def new_parts(self, dataset: OnlineDataset, uuid: str) -> ImageParts:
        """Where the images of an episode go while it goes on; without :meth:`write` afterwards the next start deletes them."""
        return ImageParts(self._journal(dataset.directory).images(uuid), is_new=True)

    def write(self, dataset: OnlineDataset, uuid: str, data: bytes, parts: ImageParts | None = None) -> None:
        """Keep an episode; on return it survives SIGKILL and power loss.

        Raises:
            OSError: disk full or not writable.
        """
        self._largest_bytes = max(self._largest_bytes, len(data) + (0 if parts is None else parts.n_bytes))
        if parts is not None:
            parts.save()
        journal = self._journal(dataset.directory)
        description = journal.directory / _DESCRIPTION
        if not description.exists():
            make_directory(journal.directory)
            write_json(description, {"id": dataset.id, "repo_id": dataset.repo_id})
        journal.write(uuid, data)

    def pending(self, dataset: OnlineDataset) -> list[Path]:
        """Files of the episodes for a dataset that are not acknowledged, oldest first."""
        return [path for path in self._journal(dataset.directory).pending() if path not in self._skipped]

    def read(self, path: Path) -> bytes | None:
        """Message of an episode; None if it is damaged (it is then set aside) or can not be read."""
        journal = self._journal(path.parent.name)
        try:
            return journal.read(path)
        except DamagedFileError as error:
            self._set_aside(path, str(error))
        except OSError as error:
            self._skip(path, "can not be read", error)
        return None

    def parts(self, path: Path, expected: int) -> ImageParts:
        """Images of an episode that is in so many parts.

        Raises:
            DamagedFileError: they are not what was written.
        """
        parts = ImageParts(self._journal(path.parent.name).images(uuid_of(path)))
        if len(parts) != expected:
            raise DamagedFileError(f"{parts.path.name} has {len(parts)} parts, expected {expected}")
        return parts

    def damaged(self, path: Path, reason: str) -> None:
        """An episode that can not be used goes out of the way."""
        self._set_aside(path, reason)

    def acknowledge(self, path: Path) -> None:
        """The learner has it: delete it."""
        try:
            self._journal(path.parent.name).remove(path)
        except OSError as error:
            self._skip(path, "has arrived but can not be deleted", error)

    def refuse(self, path: Path, reason: str) -> None:
        """The learner will never take it: keep it under ``refused/``."""
        self._set_aside(path, reason, REFUSED)

    @property
    def needed_bytes(self) -> int:
        """For the next episode: as much as the longest is expected to take, or twice the largest so far, at least `FLOOR_BYTES`."""
        return max(FLOOR_BYTES, self._largest_bytes, self._expected_bytes or 2 * self._largest_bytes)

    @property
    def free_bytes(self) -> int:
        """Of its disk."""
        disk = os.statvfs(self.directory)
        return disk.f_bavail * disk.f_frsize

    def check_room(self) -> None:
        """Is there room for the next episode?

        Raises:
            OutboxFullError: perhaps not; the message says what to do.
        """
        needed = self.needed_bytes
        used = sum(_file_bytes(path) for path in self.directory.rglob("*"))
        if used + needed > self.limit_bytes:
            raise OutboxFullError(
                f"The outbox {self.directory} holds {_mb(used)} and the next episode may take {_mb(needed)}; --spool_limit_gb="
                f"{self.limit_bytes / 1e9:g} allows no more. Let the learner take the waiting episodes, or raise the limit. Nothing is lost."
            )
        disk = os.statvfs(self.directory)
        free = self.free_bytes
        if free < needed or (disk.f_files and not disk.f_favail):
            raise OutboxFullError(
                f"The disk of the outbox {self.directory} has {_mb(free)} and {disk.f_favail} files left, and the next episode may take "
                f"{_mb(needed)}. Free some space, or choose another --spool_dir. Nothing is lost."
            )

    def others(self, dataset: OnlineDataset) -> dict[str, int]:
        """Episodes that wait for other datasets: name -> number."""
        counts = {}
        for path in sorted(self.directory.iterdir()):
            if path.is_dir() and path.name != dataset.directory and (number := len(self._journal(path.name).pending())):
                counts[_name_of(path)] = number
        return counts

    def close(self) -> None:
        """Let another process use it; may be called twice."""
        self._owner.release()

    def _journal(self, name: str) -> EpisodeJournal:
        with self._lock:
            return self._journals.setdefault(name, EpisodeJournal(self.directory / name))

    def _set_aside(self, path: Path, reason: str, where: str = DAMAGED) -> None:
        try:
            self._journal(path.parent.name).set_aside(path, reason, where)
        except OSError as error:
            self._skip(path, f"is of no use ({reason}) and can not be moved", error)

    def _skip(self, path: Path, what: str, error: OSError) -> None:
        """One file must not hold up the others."""
        self._skipped.add(path)
        logging.warning(f"{path} {what} ({error}); it stays where it is until the next start.")

    def _recover(self, part: Path) -> None:
        """A process was killed while it wrote this. It is an episode if only the new name was missing."""
        journal = self._journal(part.parent.name)
        try:
            journal.read(part)
            part.replace(part.with_suffix(SUFFIX))
        except DamagedFileError as error:
            self._set_aside(part, f"{error}; the process that wrote it was stopped before the episode was complete on disk")
        except OSError as error:
            self._skip(part, "can not be read", error)


def _name_of(directory: Path) -> str:
    try:
        return printable(str(json.loads((directory / _DESCRIPTION).read_text(encoding="utf-8"))["repo_id"])) or directory.name
    except (OSError, ValueError, KeyError, TypeError):
        return directory.name


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.0f} MB"


def _file_bytes(path: Path) -> int:
    """0 for what is no file, or has been sent and deleted meanwhile."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
