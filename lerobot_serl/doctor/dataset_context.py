"""What lies around a dataset: who uses it, the versions and the journal that a learner keeps beside it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..owned_lock import LockedError, OwnedLock
from ..replay.committed import NAME as COMMITTED
from ..replay.inventory import IDENTITY, held_by
from ..replay.journal import DAMAGED, IMAGES, SUFFIX, DamagedFileError, journal_of
from ..replay.versions import DatasetVersions
from .finding import CannotCheckError, Finding, note, ok, problem

_PART = ".part"
_LOCKS = ("learner.lock", "writer.lock")
_MADE_ANEW = {
    IDENTITY: "the next learner makes a new one, and episodes that are still in actor processes' outboxes wait there for the old one",
    COMMITTED: "the next learner writes it anew from the version that is there",
}
_STOP = "Stop it, or wait until it has finished; nothing was changed."


class DatasetContext:
    """Args:
        root: of the dataset.

    Raises:
        CannotCheckError: a newer release has written there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            self.versions = DatasetVersions(root)
        except ValueError as error:
            raise CannotCheckError(str(error)) from error
        self.journal = journal_of(root)

    @property
    def exists(self) -> bool:
        """Something of this dataset is there."""
        return self.root.exists() or self.root.is_symlink() or self.beside

    @property
    def beside(self) -> bool:
        """A learner has left something beside the dataset."""
        versions = self.versions
        return bool(versions.all or versions.is_lost or versions.flaws or self.journal.pending())

    @property
    def managed(self) -> bool:
        """The dataset is a link to one of the versions."""
        return self.versions.linked is not None

    @property
    def ambiguous(self) -> bool:
        """There are versions, and a directory that is none of them where their link should be."""
        return self.versions.other is not None and bool(self.versions.finished or self.versions.unmarked)

    @property
    def to_link(self) -> Path | None:
        """The newest finished version, where the link does not name it."""
        versions = self.versions
        return versions.newest if versions.other is None and versions.newest != versions.linked else None

    @property
    def to_choose(self) -> list[Path]:
        """Versions of which nothing tells which is the dataset, newest first."""
        return self.versions.unmarked[::-1] if self.versions.newest is None else []

    @property
    def loss(self) -> str:
        """What is gone of the version that was committed last; empty if nothing is, or if what is there has to be repaired first."""
        try:
            return self.versions.loss
        except ValueError:  # the check names the file
            return ""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep learners away, as far as this dataset ever had one.

        Raises:
            CannotCheckError: somebody uses it.
        """
        with ExitStack() as stack:
            for name in _LOCKS:
                path = self.versions.directory / name
                if path.is_file():
                    try:
                        lock = stack.enter_context(OwnedLock(path, f"The dataset {self.root}", _STOP))
                    except LockedError as error:
                        raise CannotCheckError(str(error)) from error
                    if name == "writer.lock":
                        lock.release()  # whoever completes or commits takes it again
            yield

    def check_unused(self) -> None:
        """A recorder keeps the files open that it writes.

        Raises:
            CannotCheckError: a process of this user, or of any if root asks, writes into the dataset.
        """
        inside = f"{self.root.resolve()}{os.sep}"
        for process in Path("/proc").glob("[0-9]*"):
            if process.name == str(os.getpid()):
                continue
            try:
                names = [os.readlink(entry) for entry in (process / "fd").iterdir() if (entry.lstat().st_mode & 0o200)]
            except OSError:  # it has ended, or is another user's
                continue
            if written := [name for name in names if name.startswith(inside)]:
                raise CannotCheckError(f"{written[0]} is being written by process {process.name}. {_STOP}")

    def findings(self) -> list[Finding]:
        """About link, versions and journal."""
        return [*self._about_versions(), *self._about_journal()]

    def parts(self) -> list[Path]:
        """Files of the journal whose writing was not finished."""
        return sorted(self.journal.directory.glob(f"*{_PART}"))

    def recover_parts(self) -> list[str]:
        """Make a half-written file an episode if only its name was missing, else set it aside; returns what was done."""
        done = []
        for part in self.parts():
            try:
                self.journal.read(part)
            except DamagedFileError as error:
                done.append(f"{part.name} was set aside as {self.journal.set_aside(part, str(error))}")
            else:
                os.replace(part, part.with_suffix(SUFFIX))
                done.append(f"{part.name} was whole and is an episode again")
        return done

    def set_aside(self) -> Iterator[str]:
        """Take damaged files beside the versions out of the way; says what was done."""
        for name in self.versions.flaws:
            target = free_name(self.versions.directory / f"{name}.damaged")
            os.replace(self.versions.directory / name, target)
            yield f"{name} was set aside as {target}"

    def _about_versions(self) -> Iterator[Finding]:
        versions = self.versions
        for name, flaw in versions.flaws.items():
            yield problem(f"{versions.directory.name}/{name} {flaw}", f"sets it aside; {_MADE_ANEW[name]}")
        if self.ambiguous:
            for path in [self.root, *versions.finished, *versions.unmarked]:
                yield note(f"{path} {held_by(path)}")
            yield problem(
                f"{self.root} is a directory of its own, and {versions.directory} holds versions of a dataset of this name. "
                "Move one of the two away"
            )
        elif self.to_choose:
            for path in self.to_choose:
                yield note(f"{path} {held_by(path)}")
            text = f"{self.root} is missing, and nothing tells whether the versions in {versions.directory} are whole"
            yield problem(text, "examines them, and puts the newest one that is sound back; newer ones are kept beside it")
        elif versions.is_lost or (versions.other is not None and versions.committed is not None):
            yield problem(f"{versions.gone}. Restore it; or move {self.root} and {versions.directory} away, to begin anew")
        elif self.to_link is not None and not self.managed:
            text = f"{self.root} is missing, and {versions.directory} holds version {self.to_link.name} of it"
            yield problem(text, "puts the link back")
        elif self.to_link is not None:
            text = f"version {self.to_link.name} is finished, and {self.root} still names the one before: its writer was killed"
            yield problem(text, "makes it the dataset if it is sound, else keeps it beside it")
        elif self.managed:
            yield ok(f"{self.root} is version {self.root.resolve().name} of a learner's dataset")
        if self.loss:
            yield problem(self.loss, "goes on with what there is, in a new version; episodes that are sent again may be added twice")
        yield from self._notes()

    def _notes(self) -> Iterator[Finding]:
        versions = self.versions
        if unfinished := [path.name for path in versions.all if versions.newest is not None and path not in versions.finished]:
            yield note(
                f"{versions.directory.name}/{', '.join(unfinished)}: never finished, its writer was killed; the learner drops it when it starts"
            )
        if not self.managed:
            return
        if not (versions.directory / IDENTITY).exists():
            yield note(
                f"{versions.directory.name}/{IDENTITY} is not there: the next learner makes one. If there was one, restore it: actor "
                "processes keep the episodes that they hold for the dataset of that identity"
            )
        if not (versions.directory / COMMITTED).exists():
            yield note(
                f"{versions.directory.name}/{COMMITTED} is not there: the next learner writes it. Until then a loss would not be noticed"
            )

    def _about_journal(self) -> Iterator[Finding]:
        if not self.journal.directory.is_dir():
            return
        damaged = []
        for path in self.journal.pending():
            try:
                self.journal.read(path)
            except DamagedFileError as error:
                damaged.append(path)
                yield problem(f"{self.journal.directory.name}: {error}", f"sets it aside in {DAMAGED}/")
        if waiting := len(self.journal.pending()) - len(damaged):
            yield problem(
                f"{waiting} episodes wait in {self.journal.directory}: their learner was stopped before they were in the dataset",
                "adds them, if the dataset is there and tells its features; else start the learner, which does it too",
            )
        if parts := self.parts():
            yield problem(f"{len(parts)} files in {self.journal.directory} are half-written and were never acknowledged", "sets them aside")
        if kept := [path for path in (self.journal.directory / DAMAGED).glob("*") if path.is_file() and path.suffix != IMAGES]:
            yield note(f"{len(kept)} damaged episodes were set aside in {self.journal.directory / DAMAGED}")


def free_name(path: Path) -> Path:
    """A name that begins like this one and is not taken."""
    number = 1
    while (free := path.with_name(f"{path.name}-{number}")).exists():
        number += 1
    return free
