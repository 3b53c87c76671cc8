"""The replay memory on disk: a LeRobotDataset that every episode of the robot is appended to."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata
from lerobot.utils.constants import ACTION, DEFAULT_FEATURES, HF_LEROBOT_HOME

from .committed import Committed
from .episode import Episode
from .frame_columns import FRAME_COLUMNS
from .frames import frames_of
from .json_file import UnreadableError, read_json
from .labels import DECIDED_BY, DONE, INTERVENTION, REWARD, SUCCESS, TERMINATED, TRUNCATED
from .manifest import add_to_manifest, known_uuids
from .opening import explained, open_dataset, require_whole
from .versions import DatasetVersions

# Pixels of an episode that is stored as pictures: LeRobot puts them into one table in memory, and takes twice as much as they have as PNG.
_LARGEST_PICTURES_BYTES = 2**31
# Of them, more time than an episode takes: otherwise cameras are stored as videos, unless somebody says how.
_LEAST_PICTURES_S = 120.0
_FLAGS = (SUCCESS, DONE, TERMINATED, TRUNCATED, INTERVENTION)


def online_features(demonstrations: Mapping[str, dict[str, Any]], use_videos: bool) -> dict[str, dict[str, Any]]:
    """Features of the online dataset: the demonstrations' observations and actions, and the labels of reinforcement learning.

    Args:
        demonstrations: ``LeRobotDataset.features`` of the demonstrations.
        use_videos: store cameras as video, otherwise as single images.
    """
    features: dict[str, dict[str, Any]] = {}
    for key, feature in demonstrations.items():
        if key == ACTION or key.startswith("observation."):
            features[key] = {name: feature[name] for name in ("dtype", "shape", "names")}
            if feature["dtype"] in ("image", "video"):
                features[key]["dtype"] = "video" if use_videos else "image"
    features[REWARD] = {"dtype": "float32", "shape": (1,), "names": None}
    features[DECIDED_BY] = {"dtype": "int64", "shape": (1,), "names": None}
    for flag in _FLAGS:
        features[flag] = {"dtype": "bool", "shape": (1,), "names": None}
    for column in FRAME_COLUMNS:
        shape = features[ACTION]["shape"] if column.per_entry else (1,)
        features.setdefault(column.key, {"dtype": str(column.dtype).removeprefix("torch."), "shape": shape, "names": None})
    return features


def most_frames(features: Mapping[str, dict[str, Any]]) -> int | None:
    """Of an episode that a dataset with these features can hold; None: as many as there are. Videos have no limit."""
    sizes = [math.prod(feature["shape"]) for feature in features.values() if feature["dtype"] == "image"]
    return _LARGEST_PICTURES_BYTES // sum(sizes) if sizes else None


def dataset_root(repo_id: str, root: str | None) -> Path:
    """Of an online dataset; in LeRobot's own place if nobody says where."""
    return Path(root) if root else HF_LEROBOT_HOME / repo_id


def decide_videos(demonstrations: Mapping[str, dict[str, Any]], fps: int, root: Path) -> bool:
    """Whether cameras are stored as videos: as in the dataset that is there; else where two minutes of pictures are too many for LeRobot."""
    with suppress(UnreadableError, KeyError, TypeError, AttributeError):  # none yet; or damaged, which the store says
        kinds = {feature["dtype"] for feature in read_json(root / "meta" / "info.json")["features"].values()}
        if kinds & {"image", "video"}:
            return "video" in kinds
    frames = most_frames(online_features(demonstrations, use_videos=False))
    return frames is not None and frames < _LEAST_PICTURES_S * fps


class EpisodeStore:
    """Appends episodes; the dataset can be opened at every instant, and holds each episode once, whatever is killed when.

    Opening and closing the dataset costs 0.5 s, an episode of 40 frames 0.12 s: append several at once.

    Args:
        repo_id: of the dataset.
        root: its directory; LeRobot's cache if None.
        fps: control rate.
        features: from :func:`online_features`.

    Raises:
        ValueError: an existing dataset has other features or another rate; the differences are named. Or it is damaged, or parts of it are
            gone: see :class:`.DamagedDatasetError` and :meth:`.Inventory.check`.
    """

    def __init__(self, repo_id: str, root: str | None, fps: int, features: dict[str, dict[str, Any]], use_videos: bool) -> None:
        self.repo_id = repo_id
        self.fps = fps
        self.features = features
        self.root = dataset_root(repo_id, root)
        self.versions = DatasetVersions(self.root)
        self._use_videos = use_videos
        try:
            self._check()
        except ValueError:
            if not self.versions.directory.is_dir():
                raise
            with self.versions.writing():  # whoever made the next version just now took files of the last one away
                self._check()

    @property
    def exists(self) -> bool:
        """Whether there is a dataset; another store, or process, may have created it."""
        return self.versions.current is not None

    @property
    def n_episodes(self) -> int:
        """Episodes that the dataset holds, also those that no learner wrote.

        Raises:
            ValueError: its ``info.json`` or manifest is damaged.
        """
        current = self.versions.current
        return 0 if current is None else Committed.of(current).episodes

    def uuids(self) -> set[str]:
        """Episodes that the dataset holds, as far as a learner wrote them."""
        return known_uuids(self.versions.current)

    def open(self) -> LeRobotDataset:
        """The dataset, for reading.

        Raises:
            ValueError: it is damaged.
        """
        require_whole(self.root)
        return open_dataset(self.repo_id, self.root)

    def append(self, episodes: Sequence[tuple[str, Episode]]) -> None:
        """Write episodes with their UUIDs as the dataset's next version; they are readable and durable when this returns.

        Raises:
            OSError: the disk is full or cannot be written; the dataset is what it was.
        """
        path = self.versions.prepare()
        try:
            dataset = self._writer(path)
            for _, episode in episodes:
                for frame in frames_of(episode, self.features):
                    dataset.add_frame(frame)
                dataset.save_episode(parallel_encoding=False)
            dataset.finalize()
            add_to_manifest(path, episodes)
            self.versions.commit(path)
        except BaseException:
            self.versions.discard(path)
            raise

    def _writer(self, path: Path) -> LeRobotDataset:
        if path.exists():
            return LeRobotDataset.resume(self.repo_id, root=path)
        return LeRobotDataset.create(self.repo_id, fps=self.fps, features=self.features, root=path, use_videos=self._use_videos)

    def _check(self) -> None:
        """What is the dataset, or becomes it at recovery, must be whole, and fit."""
        self.versions.check()
        newest = self.versions.newest
        if newest is not None and newest == self.versions.other and not any((newest / name).exists() for name in ("meta", "data")):
            raise ValueError(
                f"policy.online.root={str(self.root)!r}: the directory is not empty and holds no LeRobotDataset. Name an empty or new directory."
            )
        if newest is not None:
            require_whole(newest)
            with explained(newest):
                dataset = LeRobotDatasetMetadata(self.repo_id, root=newest)
            self._check_fit(dataset)

    def _check_fit(self, dataset: LeRobotDatasetMetadata) -> None:
        # Of an earlier release: it goes on without these columns.
        late = {column.key for column in FRAME_COLUMNS if column.optional} - dataset.features.keys()
        self.features = {key: feature for key, feature in self.features.items() if key not in late}
        names = [*self.features, *(key for key in dataset.features if key not in self.features and key not in DEFAULT_FEATURES)]
        found = {key: (_brief(dataset.features.get(key)), _brief(self.features.get(key))) for key in names}
        differences = [f"'{key}' is {theirs}, expected {ours}" for key, (theirs, ours) in found.items() if theirs != ours]
        if dataset.fps != self.fps:
            differences.append(f"fps is {dataset.fps}, expected {self.fps}")
        if differences:
            raise ValueError(
                f"policy.online.repo_id={self.repo_id!r}: the dataset in {self.root} does not fit the demonstrations: {'; '.join(differences)}. "
                "Name another dataset for the online episodes."
            )


def _brief(feature: Mapping[str, Any] | None) -> str:
    return "missing" if feature is None else f"{feature['dtype']}{tuple(feature['shape'])}"
