"""What lies in ``<root>.versions``, and whether going on with it loses anything. Looks only; :mod:`.versions` changes it."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from .committed import NAME as COMMITTED
from .committed import Committed
from .journal import journal_of
from .json_file import UnreadableError, read_json
from .manifest import MANIFEST

FORMAT = 1
IDENTITY = "identity.json"
_VERSIONS = ".versions"
FINISHED, MAKING = ".finished", ".making"
_REMEDIES = {
    IDENTITY: (
        "By it actor processes know the dataset for which they keep episodes. Restore it from a copy, or write {{"
        f'"format": {FORMAT}, "id": "ID"'
        "}} into it, where ID is the name of the dataset's folder in an actor process's outbox. Or delete it (lerobot-serl-doctor {root} --repair "
        "sets it aside): the next learner makes a new one, and episodes that are still in outboxes then wait there for the old one"
    ),
    COMMITTED: (
        "It says what was committed last, so that a loss is noticed. Restore it from a copy; or lerobot-serl-doctor {root} --repair sets it aside, "
        "and the learner writes it anew from the version that is there"
    ),
}


class Inventory:
    """Versions of the dataset at ``root``, what is known of them, and what is missing.

    Args:
        root: what users, and LeRobot, call the dataset's directory: a symbolic link, once there is a first version.

    Raises:
        ValueError: a newer release of lerobot_serl has written there.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = root.with_name(f"{root.name}{_VERSIONS}")
        self._check_format()

    @property
    def current(self) -> Path | None:
        """Directory of the present version; None while there is none. The dataset may still be a plain directory."""
        target = self.root.resolve()
        return target if (target / "meta" / "info.json").is_file() else None

    @property
    def all(self) -> list[Path]:
        """Directories of all versions, finished or not, oldest first."""
        if not self.directory.is_dir():
            return []
        return sorted(path for path in self.directory.iterdir() if path.is_dir() and path.name.isdigit())

    @property
    def linked(self) -> Path | None:
        """The version that the link names, if it is there."""
        return next((path for path in self.all if self.root.is_symlink() and path.resolve() == self.root.resolve()), None)

    @property
    def finished(self) -> list[Path]:
        """Versions that are whole, oldest first: marked, named by the link, or committed."""
        committed = self.committed
        sure = {self.linked, self.directory / committed.version if committed else None}
        return [path for path in self.all if mark_of(path).is_file() or path in sure]

    @property
    def unmarked(self) -> list[Path]:
        """Versions of which nothing tells whether they are whole, oldest first."""
        return [path for path in self.all if path not in self.finished and not making_mark(path).is_file()]

    @property
    def newest(self) -> Path | None:
        """What is the dataset after :meth:`recover`: a version, or a directory that is none yet; None if nothing is there."""
        if self.other is not None:
            return self.other
        finished = self.finished
        return finished[-1] if finished else None

    @property
    def other(self) -> Path | None:
        """A directory with something in it that is none of the versions, where the dataset should be."""
        is_there = self.linked is None and self.root.is_dir() and any(self.root.iterdir())
        return self.root.resolve() if is_there else None

    @property
    def is_lost(self) -> bool:
        """Something tells of a dataset that was there, and none is."""
        is_dangling = self.root.is_symlink() and not self.root.exists()
        return self.newest is None and (is_dangling or bool(self.marks) or self.committed is not None)

    @property
    def committed(self) -> Committed | None:
        """What was committed last; None where an earlier release wrote the versions, or the file is damaged."""
        try:
            return Committed.read(self.directory)
        except UnreadableError:  # among the flaws
            return None

    @property
    def flaws(self) -> dict[str, str]:
        """Damaged files beside the versions: name -> what is wrong."""
        found = {}
        for name, read in ((IDENTITY, self._identity), (COMMITTED, lambda: Committed.read(self.directory))):
            try:
                read()
            except UnreadableError as error:
                found[name] = str(error)
        return found

    @property
    def loss(self) -> str:
        """What of the version that was committed last is gone from what is there now, in words; empty if nothing is.

        Raises:
            ValueError: a file is damaged; it is named.
        """
        committed, newest = self.committed, self.newest
        if committed is None or newest is None or newest == self.other or int(newest.name) > committed.number:
            return ""
        if int(newest.name) < committed.number:
            return f"{self.gone}; version {newest.name} before it {held_by(newest)}"
        found = Committed.of(newest)
        if found.ledger < committed.ledger:
            return f"{newest / MANIFEST} has {found.ledger} lines, and {committed.ledger} were committed: it tells which episodes the dataset holds"
        if found.episodes < committed.episodes:
            return f"{newest / 'meta' / 'info.json'} counts {found.episodes} episodes, and {committed.episodes} were committed"
        return ""

    @property
    def gone(self) -> str:
        """What something tells of that is not there, in words."""
        if (committed := self.committed) is not None:
            return f"version {committed.version} of {self.root}, with {committed.episodes} episodes, is gone from {self.directory}"
        if marks := self.marks:
            return f"version {marks[-1].name.removesuffix(FINISHED)} of {self.root} is gone from {self.directory}; its mark is still there"
        return f"{self.root} is a link to {os.readlink(self.root)}, which is gone"

    def check(self) -> None:
        """Refuse what no kill leaves, and where going on would begin anew or lose sight of something; changes nothing.

        Raises:
            ValueError: a version that was committed, or a part of it, is gone; or what is there cannot be told. The message names it, what the
                journal still holds, and the way on.
        """
        for name, flaw in self.flaws.items():
            raise self._refusal(f"{self.directory / name} {flaw}. {_REMEDIES[name].format(root=self.root)}")
        if self.other is not None:
            self._check_other(self.other)
        elif self.newest is None and self.unmarked:
            held = "; ".join(f"{path.name} {held_by(path)}" for path in self.unmarked)
            raise self._refusal(
                f"{self.root} is missing, and {self.directory} holds versions of which nothing tells whether they are whole: {held}. "
                f"lerobot-serl-doctor {self.root} examines them, and with --repair puts the newest one that is sound back"
            )
        elif self.is_lost:
            raise self._refusal(f"{self.gone}. {self._ways_on()}")
        else:
            self._check_loss()

    def _check_other(self, found: Path) -> None:
        if (owner := dataset_of(found)) is not None:
            raise self._refusal(
                f"{self.root} is a link to version {found.name} of the dataset {owner}. If it was renamed, name it {owner.name} again; "
                f"lerobot-serl-doctor {owner} tells what is there. For a dataset of its own, name another directory"
            )
        if self.finished or self.unmarked:
            raise self._refusal(
                f"{self.root} is a directory, but {self.directory} already holds versions of a dataset with this name. "
                f"Move one of the two away; lerobot-serl-doctor {self.root} tells what each holds"
            )
        if self.committed is not None:
            raise self._refusal(f"{self.root} is a directory, and {self.gone}. {self._ways_on()}")

    def _check_loss(self) -> None:
        try:
            loss = self.loss
        except ValueError as error:
            raise self._refusal(f"{error}. lerobot-serl-doctor {self.root} --repair keeps what of it can be read") from error
        if loss:
            raise self._refusal(
                f"{loss}. Restore it from a copy, or go on without it: lerobot-serl-doctor {self.root} --repair. Episodes that are then sent "
                "again may be added twice"
            )

    def _ways_on(self) -> str:
        return (
            f"Restore it from a copy; lerobot-serl-doctor {self.root} tells what is left. To begin anew on purpose, name another dataset, or move "
            f"{self.root} and {self.directory} away"
        )

    def _refusal(self, text: str) -> ValueError:
        """An error that also says what the journal still holds."""
        journal = journal_of(self.root)
        return ValueError(f"{text}. Nothing was changed; {len(journal.pending())} acknowledged episodes wait in {journal.directory}.")

    @property
    def marks(self) -> list[Path]:
        """Marks of finished versions, also of those that are gone, oldest first."""
        return sorted(path for path in self.directory.glob(f"*{FINISHED}") if path.name.removesuffix(FINISHED).isdigit())

    def _identity(self) -> dict[str, Any] | None:
        path = self.directory / IDENTITY
        if not path.exists():
            return None
        found = read_json(path)
        if not isinstance(found, dict) or not isinstance(found.get("id"), str) or not isinstance(found.get("format"), int):
            raise UnreadableError(f"holds {str(found)[:100]!r}, expected 'format' and 'id'")
        return found

    def _check_format(self) -> None:
        with suppress(UnreadableError):  # among the flaws
            found = (self._identity() or {}).get("format", FORMAT)
            if found > FORMAT:
                raise ValueError(
                    f"{self.directory} was written by a newer lerobot_serl (format {found}, this one knows {FORMAT}): "
                    "update it, or name another dataset for the online episodes."
                )


def dataset_of(version: Path) -> Path | None:
    """The dataset of which a directory is a version; None if it is none."""
    is_version = version.parent.name.endswith(_VERSIONS) and version.name.isdigit()
    return version.parent.with_name(version.parent.name.removesuffix(_VERSIONS)) if is_version else None


def held_by(dataset: Path) -> str:
    """What a dataset says of itself, in words."""
    try:
        info = read_json(dataset / "meta" / "info.json")
        return f"holds {int(info['total_episodes'])} episodes, {int(info['total_frames'])} frames"
    except (ValueError, KeyError, TypeError):
        return "does not say what it holds"


def mark_of(path: Path) -> Path:
    """Beside a version that is whole."""
    return path.with_name(f"{path.name}{FINISHED}")


def making_mark(path: Path) -> Path:
    """Beside a version that is not whole yet."""
    return path.with_name(f"{path.name}{MAKING}")
