"""A dataset as it is at this instant, kept still while it is read for long: a learner may go on appending to it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from .versions import DatasetVersions, link_or_copy

# Pictures of an episode that was being recorded; LeRobot does not count them as part of a dataset.
_LEFT_OVER = ("images",)


@contextmanager
def snapshot(root: Path) -> Iterator[Path]:
    """A directory beside the dataset with hard links to its files; it is gone afterwards.

    Raises:
        ValueError: there is no dataset.
        LockedError: a writer does not finish its version.
        OSError: the links cannot be made.
    """
    versions = DatasetVersions(root)
    if versions.current is None:
        raise ValueError(
            f"{root} is no LeRobotDataset: there is no meta/info.json. Name the directory that holds meta/ and data/, or a run's."
        )
    with tempfile.TemporaryDirectory(prefix=f"{root.name}.snapshot-", dir=root.absolute().parent) as directory:
        target = Path(directory) / root.name
        # A dataset without versions has no writer of ours.
        with versions.writing() if versions.directory.is_dir() else nullcontext():
            present = versions.current
            assert present is not None
            shutil.copytree(present, target, copy_function=link_or_copy, ignore=shutil.ignore_patterns(*_LEFT_OVER))
        yield target
