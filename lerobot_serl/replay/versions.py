"""A dataset directory that changes in one instant: versions beside it, and a symbolic link that names the present one.

LeRobot appends in place: while it does, and after a kill for good, the dataset cannot be opened (measured: parquet files without a footer,
``info.json`` ahead of them). Here the next version is made beside the present one, of hard links to what does not change, and becomes the
dataset by replacing a symbolic link, which POSIX does atomically. A reader, or a kill, sees the old version or the new one.

What lies in ``<root>.versions``, and the order in which a commit writes it, each step durable before the next:

1. ``N.making``: version N is being made; everything in it is also in the version before, or in the journal. Then the directory ``N``.
2. ``N.finished``: N is whole. ``N.making`` goes.
3. ``committed.json``: N was committed, with so many episodes and lines of its manifest.
4. The link ``<root>`` names N. Then the other versions go.

So what a kill leaves can be told from what somebody, or a disk, took away. :meth:`DatasetVersions.recover` puts right what a kill leaves, and
:meth:`DatasetVersions.check` refuses the rest: nothing is deleted unless a version that is there is known to replace it.
"""

import logging
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from ..owned_lock import OwnedLock
from .committed import Committed
from .inventory import FORMAT, IDENTITY, MAKING, Inventory, making_mark, mark_of
from .journal import make_directory, sync
from .json_file import write_json

# The dataset writer of a learner that was killed finishes what it has begun.
WRITER_PATIENCE_S = 120.0
# LeRobot writes these files anew under their old names; a hard link would change the present version too.
_REWRITTEN = ("meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/serl_episodes.jsonl")


class DatasetVersions(Inventory):
    """Versions of the dataset at ``root``.

    Args:
        root: what users, and LeRobot, call the dataset's directory: a symbolic link, once there is a first version.

    Raises:
        ValueError: a newer release of lerobot_serl has written there.
    """

    def identity(self) -> str:
        """An identifier that this dataset keeps, and no other has; made when it is first asked for.

        Raises:
            UnreadableError: its file is damaged; :meth:`check` says so, with the remedy.
        """
        path = self.directory / IDENTITY
        if not path.is_file():
            make_directory(self.directory)
            write_json(path, {"format": FORMAT, "id": uuid.uuid4().hex})
        return str((self._identity() or {})["id"])

    def lock(self, name: str, what: str, remedy: str, patience_s: float = 0.0) -> OwnedLock:
        """A lock beside the versions; the arguments are those of :class:`OwnedLock`."""
        with suppress(OSError):  # the lock says it in its own words
            make_directory(self.directory)
        return OwnedLock(self.directory / name, what, remedy, patience_s)

    def writing(self) -> OwnedLock:
        """Lock for whoever prepares and commits, or recovers: use it as a context."""
        return self.lock("writer.lock", f"The dataset {self.root}", "Wait until it has finished.", WRITER_PATIENCE_S)

    def recover(self) -> None:
        """Put right what a kill leaves: finish a commit, put a missing link back, adopt a plain directory, drop what is replaced.

        - The link names version P. A finished version with a higher number was about to become the dataset, and does. An unfinished one goes:
          all that it holds is also in P or in the journal. Versions with lower numbers go: P replaces them.
        - The link is gone. The newest finished version is the dataset, with a warning.
        - There is no link and nothing but versions that were being made: the first commit was killed. They go; the journal has it all.

        Raises:
            ValueError: see :meth:`check`; nothing was changed.
        """
        self.check()
        if self.other is not None:
            if not self.root.is_symlink():
                self._adopt()
        elif (newest := self.newest) is not None:
            before, committed = self.linked, self.committed
            if before != newest or committed is None or committed.version != newest.name or not mark_of(newest).is_file():
                self.become(newest)
            if before is None:
                logging.warning(f"Online dataset: {self.root} was missing and was put back; it is version {newest.name}.")
            self._drop_others()
        else:
            self._drop_others()

    def prepare(self) -> Path:
        """Directory for the next version, with what the present one holds; it does not exist yet if there is no present one."""
        present, committed = self.current, self.committed
        numbers = [int(path.name.partition(".")[0]) for path in [*self.all, *self.marks]]
        path = self.directory / f"{max([*numbers, committed.number if committed else 0], default=0) + 1:08d}"
        make_directory(self.directory)
        making_mark(path).touch()
        sync(self.directory)
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
        self.become(path)
        self._drop_others()

    def become(self, path: Path) -> None:
        """Mark a version that is whole and durable, note that it was committed, and make it the dataset."""
        committed = Committed.of(path)
        mark_of(path).touch()
        sync(self.directory)
        making_mark(path).unlink(missing_ok=True)
        committed.write(self.directory)
        self.point_to(path)

    def point_to(self, path: Path) -> None:
        """Make a version the dataset, and nothing else: the others stay."""
        if self.root.is_dir() and not self.root.is_symlink():
            self.root.rmdir()  # an empty directory, where the first version goes
        link = self.directory / "link.part"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(self.directory.name) / path.name, target_is_directory=True)
        os.replace(link, self.root)
        sync(self.root.parent)

    def discard(self, path: Path) -> None:
        """Drop a prepared version, unless it is finished: then recovery makes it the dataset."""
        if not mark_of(path).is_file():
            shutil.rmtree(path, ignore_errors=True)
            making_mark(path).unlink(missing_ok=True)

    def accept_loss(self) -> None:
        """Go on with what there is, although more was committed: a person has decided so. What there is becomes a version of its own."""
        newest = self.newest
        if newest is not None and newest != self.linked:
            self.point_to(newest)
        self.commit(self.prepare())

    def _adopt(self) -> None:
        """A dataset that LeRobot, or an earlier release, made as a plain directory becomes the first version."""
        Committed.of(self.root)  # raises where it is damaged, while nothing is changed yet
        first = self.directory / f"{1:08d}"
        make_directory(self.directory)
        self._drop_others()  # a first version that was being made when its process was killed
        mark_of(first).touch()
        sync(self.directory)
        os.replace(self.root, first)  # a kill between this line and the next: recover() finds the finished version
        sync(self.root.parent)
        self.become(first)

    def _drop_others(self) -> None:
        """All but the version that the link names: with it there, the others are replaced, or unfinished."""
        kept = self.linked
        for path in self.all:
            if path != kept:
                mark_of(path).unlink(missing_ok=True)
                shutil.rmtree(path)
        for making in self.directory.glob(f"*{MAKING}"):
            making.unlink(missing_ok=True)


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
