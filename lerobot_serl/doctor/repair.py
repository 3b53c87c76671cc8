"""Put a repaired dataset in the place of a broken one, which is kept: at every instant one of the two is there."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from lerobot.utils.constants import DEFAULT_FEATURES

from ..owned_lock import LockedError, OwnedLock
from ..replay.dataset_writer import StoreSettings, write_pending
from ..replay.inventory import dataset_of, mark_of
from ..replay.journal import sync
from ..replay.versions import link_or_copy
from .dataset_check import DatasetCheck, examine
from .dataset_context import DatasetContext, free_name
from .finding import CannotCheckError
from .rebuild import rebuild, sync_tree

FIELDS = ("dtype", "shape", "names")


class RepairError(RuntimeError):
    """A repair could not be made; the message says what stands in its way, and nothing is lost."""


def interrupted(root: Path) -> bool:
    """Whether a repair was killed between taking the broken dataset away and putting the repaired one in its place."""
    return not root.exists() and _finished(root).is_dir()


def repair(around: DatasetContext, found: DatasetCheck | None) -> Iterator[str]:
    """Do what the findings announce; yields what was done, in words.

    Args:
        found: None if there is no dataset to examine.

    Raises:
        RepairError: nothing was changed, or only what was said.
    """
    try:
        if interrupted(around.root):
            _put_in_place(around.root)
            yield f"{around.root}: the repair that was interrupted is finished"
            found = examine(around.root)
        yield from around.set_aside()
        if around.ambiguous:
            raise RepairError("Nothing else was changed: decide first which of the two is the dataset.")
        if around.to_choose or around.to_link is not None:
            yield from _link(around)
            found = examine(around.root)
        if found is not None and found.repairable:
            around.check_unused()
            broken = _repair_version(around, found) if around.managed else _repair_directory(around.root, found)
            yield f"{around.root} was repaired; as it was before, it lies in {broken}"
            found = examine(around.root)
        if loss := around.loss:
            with around.versions.writing():
                around.versions.accept_loss()
            yield f"{loss}; {around.root} goes on without it as version {around.root.resolve().name}"
            found = examine(around.root)
        yield from _repair_journal(around, found)
    except (OSError, LockedError, ValueError) as error:
        raise RepairError(str(error)) from error


def _link(around: DatasetContext) -> Iterator[str]:
    """Let the link name the newest version that is sound, or else has sound episodes. Newer ones are kept beside it."""
    versions = around.versions
    candidates = around.to_choose or versions.finished[::-1]
    examined = {path: examine(path) for path in candidates}
    chosen = next((path for path, found in examined.items() if found.sound), None)
    chosen = chosen or next((path for path, found in examined.items() if found.kept), None)
    if chosen is None:
        raise RepairError(f"No version in {versions.directory} holds an episode that can be read; nothing was changed.")
    with versions.writing():
        for path in candidates[: candidates.index(chosen)]:
            broken = free_name(around.root.with_name(f"{around.root.name}.broken"))
            mark_of(path).unlink(missing_ok=True)
            os.replace(path, broken)
            yield f"version {path.name} is not sound, and lies in {broken}"
        if chosen != versions.linked:
            versions.point_to(chosen)
            yield f"{around.root} is version {chosen.name} again"


def _repair_version(around: DatasetContext, found: DatasetCheck) -> Path:
    versions = around.versions
    with versions.writing():
        present = versions.current or around.root.resolve()
        path = versions.prepare()
        try:
            shutil.rmtree(path, ignore_errors=True)  # what is good in the present version is linked again
            rebuild(found, path)
            broken = free_name(around.root.with_name(f"{around.root.name}.broken"))
            shutil.copytree(present, broken, copy_function=link_or_copy, symlinks=True)  # committing drops the broken version
            versions.commit(path)
        except BaseException:
            versions.discard(path)
            raise
    return broken


def _repair_directory(root: Path, found: DatasetCheck) -> Path:
    workshop = _workshop(root)
    with OwnedLock(workshop / "lock", f"A repair of {root}", "Wait until it has finished."):
        for half in (workshop / "dataset", _finished(root)):
            shutil.rmtree(half, ignore_errors=True)
        try:
            rebuild(found, workshop / "dataset")
            sync_tree(workshop / "dataset")
        except BaseException:
            shutil.rmtree(workshop, ignore_errors=True)
            raise
        os.replace(workshop / "dataset", _finished(root))
        sync(workshop)
        broken = free_name(root.with_name(f"{root.name}.broken"))
        os.replace(root, broken)
        _put_in_place(root)
    return broken


def _put_in_place(root: Path) -> None:
    os.replace(_finished(root), root)
    sync(root.parent)
    shutil.rmtree(_workshop(root), ignore_errors=True)


def _repair_journal(around: DatasetContext, found: DatasetCheck | None) -> Iterator[str]:
    yield from around.recover_parts()
    waiting = len(around.journal.pending())
    if not waiting:
        return
    if found is None or found.description is None or found.repairable or not found.kept:
        raise RepairError(
            f"{waiting} episodes stay in {around.journal.directory}: there is no sound dataset that tells their features. "
            f"Start the learner with --policy.online.root={around.root}, which adds them."
        )
    info = found.description.info
    features = {key: {name: ft.get(name) for name in FIELDS} for key, ft in info.features.items() if key not in DEFAULT_FEATURES}
    settings = StoreSettings(f"local/{around.root.name}", str(around.root), info.fps, features, bool(found.description.video_keys))
    try:
        added = write_pending(settings)
    except (ValueError, KeyError) as error:
        raise RepairError(
            f"{waiting} episodes stay in {around.journal.directory}: they do not fit the dataset ({error}). Start the learner, which knows "
            "its features."
        ) from error
    yield f"{added} of {waiting} episodes from the journal were added to the dataset"


def check_path(path: Path) -> Path:
    """The dataset that a path means: a person's own link leads to it, a learner's link is it.

    Raises:
        CannotCheckError: there is none, or it is a part of one.
    """
    root = Path(os.path.abspath(path))
    if root.is_symlink() and root.exists() and root.resolve().parent.name != f"{root.name}.versions":
        root = root.resolve()
    if (whole := dataset_of(root)) is not None:
        raise CannotCheckError(f"{path} is a version of the dataset {whole}: name that one.")
    if root.exists() and not root.is_dir():
        raise CannotCheckError(f"{path} is a file, expected the directory of a LeRobotDataset (the one that holds meta/ and data/).")
    if root.is_dir() and not holds_dataset(root) and not DatasetContext(root).beside:
        raise CannotCheckError(f"{path} holds neither meta/ nor data/: expected the directory of a LeRobotDataset.")
    return root


def holds_dataset(root: Path) -> bool:
    """Whether there is anything of a LeRobotDataset in a directory."""
    return (root / "meta").is_dir() or (root / "data").is_dir()


def _workshop(root: Path) -> Path:
    return root.with_name(f"{root.name}.repairing")


def _finished(root: Path) -> Path:
    return _workshop(root) / "finished"
