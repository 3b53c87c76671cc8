"""A process of its own that moves journalled episodes into the LeRobotDataset, so that appending never slows the updates down.

Measured: appending an episode of 40 frames inside the learner takes 0.65 s of Python, during which the updates fell from 20 to 1 per second.
"""

import json
import logging
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets

from .journal import EpisodeJournal

# Appended with one opening of the dataset; bounds the memory of the process.
EPISODES_PER_OPENING = 50
NICENESS = 10


@dataclass(frozen=True)
class StoreSettings:
    """Where and how the online dataset is written; JSON-able."""

    repo_id: str
    root: str
    fps: int
    features: dict[str, dict[str, Any]]
    use_videos: bool


def journal_of(root: Path) -> EpisodeJournal:
    """The journal of the dataset in ``root``, beside it."""
    return EpisodeJournal(root.with_name(f"{root.name}.journal"))


def complete(settings: StoreSettings) -> int:
    """Move every pending episode into the dataset; returns their number."""
    from lerobot.utils.feature_utils import dataset_to_policy_features

    from .recording_message import decode_recording
    from .store import EpisodeStore

    journal = journal_of(Path(settings.root))
    pending = journal.pending()
    store = EpisodeStore(settings.repo_id, settings.root, settings.fps, settings.features, settings.use_videos)
    features = dataset_to_policy_features(settings.features)
    action = features.pop("action")
    for start in range(0, len(pending), EPISODES_PER_OPENING):
        files = pending[start : start + EPISODES_PER_OPENING]
        store.append([decode_recording(path.read_bytes(), features, action.shape[0])[1] for path in files])
        for path in files:
            path.unlink()
    return len(pending)


class CompletionProcess:
    """The learner's handle on the process.

    Args:
        settings: of the dataset.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None

    def request(self) -> None:
        """Ask for completion; returns at once."""
        if self._process is None or self._process.poll() is not None:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "lerobot_serl.replay.completion", json.dumps(asdict(self._settings))],
                stdin=subprocess.PIPE,
                text=True,
                env=environment,
                start_new_session=True,
            )
        if self._process.stdin is not None:
            try:
                self._process.stdin.write("complete\n")
                self._process.stdin.flush()
            except BrokenPipeError:
                logging.warning(
                    "The process that completes the online dataset has stopped; episodes stay in the journal until the next start."
                )

    def finish(self) -> None:
        """Complete what is left and wait for the end of the process."""
        self.request()
        assert self._process is not None
        with suppress(BrokenPipeError):  # it has ended already; what it left is counted below
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._process.wait()
        left = len(journal_of(Path(self._settings.root)).pending())
        if left:
            logging.warning(f"{left} episodes are not in the online dataset yet; they stay in its journal until the next start.")


def main() -> None:
    """Complete whenever a line arrives, once more at the end of input."""
    os.nice(NICENESS)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s online dataset: %(message)s")
    datasets.disable_progress_bars()
    settings = StoreSettings(**json.loads(sys.argv[1]))
    for _ in sys.stdin:
        complete(settings)


if __name__ == "__main__":
    main()
