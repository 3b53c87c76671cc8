"""What lies around a dataset: who uses it, the versions and the journal that a learner keeps beside it."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..owned_lock import LockedError, OwnedLock
from ..replay.completion import journal_of
from ..replay.journal import DAMAGED, SUFFIX, DamagedFileError
from ..replay.versions import DatasetVersions
from .finding import CannotCheckError, Finding, note, ok, problem

_PART = ".part"
_LOCKS = ("learner.lock", "writer.lock")
_STOP = "Stop it, or wait until it has finished; nothing was changed."


class Surroundings:
    """Args:
        root: of the dataset.

    Raises:
        CannotCheckError: a newer release has written there, or the identity of the dataset is damaged.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            self.versions = DatasetVersions(root)
        except (ValueError, OSError, AttributeError) as error:
            raise CannotCheckError(f"{root.with_name(root.name + '.versions')}/identity.json: {error}") from error
        self.journal = journal_of(root)

    @property
    def exists(self) -> bool:
        """Something of this dataset is there."""
        return self.root.exists() or self.root.is_symlink() or bool(self.finished) or bool(self.journal.pending())

    @property
    def finished(self) -> list[Path]:
        """Versions that are whole, oldest first."""
        return [path for path in self._versions() if path.with_name(f"{path.name}.finished").is_file()]

    @property
    def managed(self) -> bool:
        """The dataset is a link to one of the versions."""
        return self.root.is_symlink() and self.root.resolve().parent == self.versions.directory.resolve()

    @property
    def link_missing(self) -> bool:
        """There are versions, and nothing, or a link to nothing, where the dataset should be."""
        return not self.root.exists() and bool(self.finished)

    @property
    def ambiguous(self) -> bool:
        """There are versions, and a directory that is none of them where their link should be."""
        return self.root.exists() and not self.managed and bool(self.finished)

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

    def _about_versions(self) -> Iterator[Finding]:
        if self.link_missing:
            text = f"{self.root} is missing, and {self.versions.directory} holds version {self.finished[-1].name} of it"
            yield problem(text, "puts the link back")
        elif self.ambiguous:
            for path in [self.root, *self.finished]:
                yield note(f"{path} {_held_by(path)}")
            yield problem(
                f"{self.root} is a directory of its own, and {self.versions.directory} holds versions of a dataset of this name. "
                "Move one of the two away"
            )
        elif self.managed:
            yield ok(f"{self.root} is version {self.root.resolve().name} of a learner's dataset")
        if unfinished := [path for path in self._versions() if path not in self.finished]:
            names = ", ".join(path.name for path in unfinished)
            yield note(
                f"{self.versions.directory.name}/{names}: never finished, its writer was killed; the learner drops it when it starts"
            )
        if self.managed and not (self.versions.directory / "identity.json").is_file():
            yield note(
                f"{self.versions.directory.name}/identity.json is not there: the next learner makes one. If there was one, restore it: actor "
                "processes keep the episodes that they hold for the dataset of that identity"
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
        if kept := [path for path in (self.journal.directory / DAMAGED).glob("*") if path.is_file()]:
            yield note(f"{len(kept)} damaged episodes were set aside in {self.journal.directory / DAMAGED}")

    def _versions(self) -> list[Path]:
        directory = self.versions.directory
        return sorted(path for path in directory.iterdir() if path.is_dir() and path.name.isdigit()) if directory.is_dir() else []


def _held_by(path: Path) -> str:
    try:
        info = json.loads((path / "meta" / "info.json").read_text(encoding="utf-8"))
        return f"holds {int(info['total_episodes'])} episodes, {int(info['total_frames'])} frames"
    except (OSError, ValueError, KeyError, TypeError):
        return "does not say what it holds"
