"""A dataset directory that changes in one instant: versions beside it, and a symbolic link that names the present one.

LeRobot appends in place: while it does, and after a kill for good, the dataset cannot be opened (measured: parquet files without a footer,
``info.json`` ahead of them). Here the next version is made beside the present one, of hard links to what does not change, and becomes the
dataset by replacing a symbolic link, which POSIX does atomically. A reader, or a kill, sees the old version or the new one.
"""

import json
import logging
import os
import shutil
import uuid
from pathlib import Path

from ..owned_lock import OwnedLock
from .journal import sync

FORMAT = 1
_FINISHED = ".finished"
# The completion process of a learner that was killed finishes what it has begun.
WRITER_PATIENCE_S = 120.0
_IDENTITY = "identity.json"
# LeRobot writes these files anew under their old names; a hard link would change the present version too.
_REWRITTEN = ("meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/serl_episodes.jsonl")


class DatasetVersions:
    """Versions of the dataset at ``root``.

    Args:
        root: what users, and LeRobot, call the dataset's directory: a symbolic link, once there is a first version.

    Raises:
        ValueError: a newer release of lerobot_serl has written there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = root.with_name(f"{root.name}.versions")
        self._check_format()

    @property
    def current(self) -> Path | None:
        """Directory of the present version; None while there is none. The dataset may still be a plain directory."""
        target = self.root.resolve()
        return target if (target / "meta" / "info.json").is_file() else None

    def identity(self) -> str:
        """An identifier that this dataset keeps, and no other has; made when it is first asked for."""
        path = self.directory / _IDENTITY
        if not path.is_file():
            self.directory.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".part")
            with temporary.open("w", encoding="utf-8") as handle:
                json.dump({"format": FORMAT, "id": uuid.uuid4().hex}, handle)
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
            sync(self.directory)
        return str(json.loads(path.read_text(encoding="utf-8"))["id"])

    def writing(self) -> OwnedLock:
        """Lock for whoever prepares and commits, or recovers: use it as a context."""
        return OwnedLock(self.directory / "writer.lock", f"The dataset {self.root}", "Wait until it has finished.", WRITER_PATIENCE_S)

    def recover(self) -> None:
        """Clean up after whatever happened: drop versions that were never finished, put a missing link back, adopt a plain directory."""
        if self.current is not None and not self.root.is_symlink():
            self._adopt()
        finished = [path for path in self._all() if _mark(path).is_file()]
        if not self.root.exists() and finished:
            self._point_to(finished[-1])
            logging.warning(f"Online dataset: {self.root} was missing and was put back; it is version {finished[-1].name}.")
        self._drop_others()

    def prepare(self) -> Path:
        """Directory for the next version, with what the present one holds; it does not exist yet if there is no present one."""
        present = self.current
        names = [int(path.name) for path in self._all()]
        path = self.directory / f"{max(names, default=0) + 1:08d}"
        self.directory.mkdir(parents=True, exist_ok=True)
        if present is not None:
            shutil.copytree(present, path, copy_function=link_or_copy, ignore=shutil.ignore_patterns("images"))
            for name in _REWRITTEN:
                if (path / name).is_file():
                    _unshare(path / name)
        return path

    def commit(self, path: Path) -> None:
        """Make a prepared version the dataset; on return this survives SIGKILL and power loss."""
        for file in path.rglob("*"):
            if file.is_dir() or file.stat().st_nlink == 1:  # the others are the present version's, and durable
                sync(file)
        sync(path)
        _mark(path).touch()
        sync(self.directory)
        self._point_to(path)
        self._drop_others()

    def discard(self, path: Path) -> None:
        """Drop a prepared version, unless it has become the dataset."""
        if path.resolve() != self.root.resolve():
            shutil.rmtree(path, ignore_errors=True)

    def _adopt(self) -> None:
        """A dataset that LeRobot, or an earlier release, made as a plain directory becomes the first version."""
        first = self.directory / f"{1:08d}"
        self.directory.mkdir(parents=True, exist_ok=True)
        if any(_mark(path).is_file() for path in self._all()):
            raise ValueError(
                f"{self.root} is a directory, but {self.directory} already holds versions of a dataset with this name. "
                f"Move one of the two away; lerobot-serl-doctor {self.root} tells what each holds."
            )
        _mark(first).touch()
        os.replace(self.root, first)  # a kill between this line and the next: recover() finds the finished version
        self._point_to(first)

    def _point_to(self, path: Path) -> None:
        if self.root.is_dir() and not self.root.is_symlink():
            self.root.rmdir()  # an empty directory, where the first version goes
        link = self.directory / "link.part"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(self.directory.name) / path.name, target_is_directory=True)
        os.replace(link, self.root)
        sync(self.root.parent)

    def _drop_others(self) -> None:
        present = self.root.resolve()
        for path in self._all():
            if path.resolve() != present:
                _mark(path).unlink(missing_ok=True)
                shutil.rmtree(path)

    def _all(self) -> list[Path]:
        if not self.directory.is_dir():
            return []
        return sorted(path for path in self.directory.iterdir() if path.is_dir() and path.name.isdigit())

    def _check_format(self) -> None:
        path = self.directory / _IDENTITY
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8")).get("format")
            if not isinstance(found, int) or found > FORMAT:
                raise ValueError(
                    f"{self.directory} was written by a newer lerobot_serl (format {found}, this one knows {FORMAT}): "
                    "update it, or name another dataset for the online episodes."
                )


def _mark(path: Path) -> Path:
    """Beside a version that is whole; a version without it was being made when its process ended."""
    return path.with_name(f"{path.name}{_FINISHED}")


def link_or_copy(source: str, target: str) -> None:
    """The same file under another name; a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:  # no hard links here, or too many: a copy costs time and space, and is as good
        shutil.copy2(source, target)


def _unshare(path: Path) -> None:
    copy = path.with_name(f"{path.name}.part")
    shutil.copy2(path, copy)
    os.replace(copy, path)
