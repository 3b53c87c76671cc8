"""Where an evaluation learns what the demonstrations were like: a dataset that is named, the checkpoint, or the dataset that it names."""

import logging
from pathlib import Path
from typing import Any

from lerobot.datasets import LeRobotDatasetMetadata
from lerobot.utils.constants import HF_LEROBOT_HOME, OBS_STATE

from ..checkpoint.files import CheckpointFiles
from ..label_settings import LabelSettings
from ..replay.demonstration_stats import DemonstrationStats
from ..replay.demonstration_stats_file import FILE, RatedStats
from ..replay.demonstrations import EpisodeReader
from ..replay.opening import open_dataset
from ..transport import MessageError
from .settings import DemonstrationsConfig

TRAIN_CONFIG = "train_config.json"  # of lerobot-train, beside every checkpoint of its


def find_stats(files: CheckpointFiles, asked: DemonstrationsConfig) -> RatedStats | None:
    """What is known of the demonstrations; None where nothing is. Nothing is downloaded that was not named.

    Args:
        files: of the policy's checkpoint.

    Raises:
        ValueError: the dataset or the file is damaged, or its labels cannot be understood.
    """
    if asked.repo_id is not None:
        return _of_dataset(asked.repo_id, _root_of(asked.repo_id, asked.root), asked.labels)
    if files.find(FILE) is not None:
        try:
            return RatedStats.of(files.json(FILE))
        except MessageError as error:
            raise files.error(FILE, str(error)) from error
    if files.find(TRAIN_CONFIG) is None:
        return None
    said = files.json(TRAIN_CONFIG).get("dataset")
    repo_id, root = (said.get("repo_id"), said.get("root")) if isinstance(said, dict) else (None, None)
    if not isinstance(repo_id, str) or not isinstance(root, str | None):
        return None
    place = Path(root) if root else HF_LEROBOT_HOME / repo_id
    if not (place / "meta" / "info.json").is_file():
        return None
    logging.info(f"The demonstrations are those that {TRAIN_CONFIG} names: {repo_id} in {place}.")
    return _of_dataset(repo_id, place, asked.labels)


def nothing_known(action_dim: int, fps: int, longest: int) -> RatedStats:
    """In the place of statistics, where the person has switched the limits off."""
    nothing: dict[str, Any] = {name: (None,) * action_dim for name in ("action_step", "start")}
    zeros = (0.0,) * action_dim
    return RatedStats(fps, DemonstrationStats((), (), zeros, zeros, **nothing, median_length=longest, longest=longest))


def _root_of(repo_id: str, root: str | None) -> Path:
    """Where LeRobot has the dataset, or puts it."""
    place = Path(root) if root else HF_LEROBOT_HOME / repo_id
    if (place / "meta" / "info.json").is_file():
        return place
    try:
        return LeRobotDatasetMetadata(repo_id, root=root).root
    except Exception as error:  # of whatever kind: the Hub's, or of the files that it gave
        words = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:200]}"
        raise ValueError(
            f"--dataset.repo_id={repo_id}: neither in {place} nor on the Hub ({words}). Give --dataset.root=DIR too?"
        ) from error


def _of_dataset(repo_id: str, root: Path, labels: LabelSettings) -> RatedStats:
    dataset = open_dataset(repo_id, root)
    keys = [key for key in (OBS_STATE,) if key in dataset.features]
    return RatedStats(dataset.fps, EpisodeReader(dataset, keys, settings=labels).demo_stats)
