"""A process of its own that moves journalled episodes into the LeRobotDataset, so that appending never slows the updates down.

Measured: appending an episode of 40 frames inside the learner takes 0.65 s of Python, during which the updates fell from 20 to 1 per second.
"""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
from tqdm import tqdm

from ..child_process import module_command
from ..owned_lock import LockedError
from ..transport import MessageError
from .journal import DamagedFileError, EpisodeJournal, journal_of, uuid_of

if TYPE_CHECKING:
    from .episode import Episode
    from .plausible import Plausible

# Appended with one opening of the dataset; bounds the memory of the process.
EPISODES_PER_OPENING = 50
# The libraries below LeRobot keep about 4 MB of each opening: after so many the process ends, and another goes on.
OPENINGS_PER_PROCESS = 20
NICENESS = 10
LOOK_EVERY_S = 0.2


@dataclass(frozen=True)
class StoreSettings:
    """Where and how the online dataset is written; JSON-able."""

    repo_id: str
    root: str
    fps: int
    features: dict[str, dict[str, Any]]
    use_videos: bool


def write_pending(
    settings: StoreSettings, openings: int | None = None, shows_progress: bool = False, plausible: "Plausible | None" = None
) -> int:
    """Move pending episodes into the dataset, the oldest first; returns how many it gained.

    Args:
        settings: of the dataset.
        openings: how often it may be opened, for `EPISODES_PER_OPENING` episodes each; None: as often as it takes.
        plausible: episodes that make no sense by this are set aside, as are files that cannot be read. A learner refuses them; one of an earlier
            release did not.
        shows_progress: draw a progress bar where there is more than one opening's work.

    May be killed at any instant, and repeated: an episode's file goes when the dataset has it, and one that the dataset has is not added
    again.

    Raises:
        LockedError: another process completes this dataset.
        OSError: the disk is full or cannot be written; nothing is lost.
        ValueError: the dataset is damaged, or parts of it are gone; nothing was changed.
    """
    from .store import EpisodeStore

    journal, added = journal_of(Path(settings.root)), 0
    store = EpisodeStore(settings.repo_id, settings.root, settings.fps, settings.features, settings.use_videos)
    with store.versions.writing():
        store.versions.recover()
        pending = journal.pending()[: None if openings is None else openings * EPISODES_PER_OPENING]
        starts = range(0, len(pending), EPISODES_PER_OPENING)
        for start in tqdm(
            starts, desc=f"Online dataset: {EPISODES_PER_OPENING} episodes each", disable=not shows_progress or len(starts) < 2
        ):
            files, known = pending[start : start + EPISODES_PER_OPENING], store.uuids()
            episodes = [episode for path in files if uuid_of(path) not in known and (episode := _read(journal, path, settings, plausible))]
            if episodes:
                store.append(episodes)
            for path in files:
                journal.remove(path)
            added += len(episodes)
    return added


def _read(journal: EpisodeJournal, path: Path, settings: StoreSettings, plausible: "Plausible | None") -> "tuple[str, Episode] | None":
    from ..lerobot_names import dataset_to_policy_features
    from .episode_message import decode_episode
    from .image_parts import ImageParts

    def find_parts(uuid: str, n_parts: int) -> ImageParts:
        parts = ImageParts(journal.images(uuid))
        parts.check()  # once the episode is being added it is too late
        return parts

    features = dataset_to_policy_features(settings.features)
    action = features.pop("action")
    try:
        episode = decode_episode(journal.read(path), features, action.shape[0], find_parts)[1]
        if plausible is not None and (flaw := plausible.flaw_of(episode)) is not None:
            raise MessageError(f"it makes no sense: {flaw}")
        return uuid_of(path), episode
    except (DamagedFileError, MessageError) as error:
        journal.set_aside(path, str(error))
        return None


class DatasetWriter:
    """The learner's handle on the process.

    Args:
        settings: of the dataset.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None

    def request(self) -> None:
        """Ask for completion; returns at once."""
        for _ in range(2):  # it may end just when it is asked
            try:
                pipe = self._running().stdin
                assert pipe is not None
                pipe.write("complete\n")
                pipe.flush()
            except BrokenPipeError:
                continue
            return
        logging.warning("The process that completes the online dataset has stopped; episodes stay in the journal until the next start.")

    def finish(self) -> None:
        """Complete what is left and wait for the end of the process."""
        journal = journal_of(Path(self._settings.root))
        left = len(journal.pending())
        with tqdm(total=left, desc="Completing the online dataset", unit="episode", disable=left <= EPISODES_PER_OPENING) as bar:
            while True:
                if left:
                    self.request()
                self._end(lambda: bar.update(max(0, bar.total - len(journal.pending()) - bar.n)))
                before, left = left, len(journal.pending())
                if left == 0 or left >= before:
                    break
        if left:
            logging.warning(f"{left} episodes are not in the online dataset yet; they stay in its journal until the next start.")

    def _running(self) -> "subprocess.Popen[str]":
        if self._process is None or self._process.poll() is not None:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                module_command("lerobot_serl.replay.dataset_writer", json.dumps(asdict(self._settings))),
                stdin=subprocess.PIPE,
                text=True,
                env=environment,
                start_new_session=True,
            )
        return self._process

    def _end(self, look: Callable[[], object]) -> None:
        """Let the process come to its end; ``look`` is called while it does."""
        if self._process is None:
            return
        with suppress(BrokenPipeError):  # it has ended already
            if self._process.stdin is not None:
                self._process.stdin.close()
        while self._process.poll() is None:
            look()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(LOOK_EVERY_S)


def main() -> None:
    """Complete whenever a line arrives, until the end of input, or until `OPENINGS_PER_PROCESS`."""
    os.nice(NICENESS)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s online dataset: %(message)s")
    datasets.disable_progress_bars()
    settings = StoreSettings(**json.loads(sys.argv[1]))
    openings = 0
    for _ in sys.stdin:
        try:
            openings += 1 + write_pending(settings, OPENINGS_PER_PROCESS) // EPISODES_PER_OPENING
            if openings >= OPENINGS_PER_PROCESS:
                break
        except (OSError, LockedError, ValueError) as error:
            logging.warning(f"Episodes stay in the journal for now: {error}")


if __name__ == "__main__":
    main()
