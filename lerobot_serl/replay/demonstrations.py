"""Reading episodes out of a LeRobotDataset, checked and labelled."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor

from .facts import DemonstrationFacts, gather_facts
from .labels import INTERVENTION, LABEL_COLUMNS, LabelRule, Labels, choose_rule, label_episode, pays_once_at_its_end
from .opening import explained
from .recording import Recording

EPISODE_INDEX = "episode_index"


@dataclass(frozen=True)
class _Span:
    """Frames ``start <= i < stop`` of one episode."""

    episode: int
    start: int
    stop: int


class EpisodeReader:
    """Episodes of a LeRobotDataset as :class:`Recording`; images are decoded once, when their episode is read.

    Args:
        dataset: opened without delta timestamps.
        observation_keys: features to read.

    Raises:
        ValueError: an episode of one frame (unless it was recorded as terminated there: that is a transition), a NaN or infinite number
            (episode, frame and key are named), or labels without any success.
    """

    def __init__(self, dataset: LeRobotDataset, observation_keys: Sequence[str]) -> None:
        self._dataset = dataset
        self._images = [key for key in observation_keys if key in dataset.meta.camera_keys]
        self._vectors = [key for key in observation_keys if key not in self._images]
        labels = [key for key in LABEL_COLUMNS if key in dataset.features]
        with explained(dataset.root):
            table = dataset.hf_dataset.select_columns([EPISODE_INDEX, ACTION, *self._vectors, *labels]).with_format("numpy")[:]
        self._columns = {key: _stacked(value) for key, value in table.items()}
        for key in (ACTION, *self._vectors):  # LeRobot stores features of shape (1,) as plain numbers
            self._columns[key] = self._columns[key].reshape(-1, *dataset.features[key]["shape"])
        self._labels = {key: self._columns[key].reshape(len(self._columns[key])) for key in labels}
        self.spans = list(_spans(self._columns[EPISODE_INDEX]))
        self.rule: LabelRule = choose_rule(self._labels, dataset.repo_id)
        self._check()

    def __len__(self) -> int:
        return len(self.spans)

    @property
    def lengths(self) -> list[int]:
        """Frames of each episode after labelling."""
        return [len(self._labelled(span).reward) for span in self.spans]

    @property
    def facts(self) -> DemonstrationFacts:
        """Names, ranges and lengths."""
        starts, states = [span.start for span in self.spans], self._columns.get(OBS_STATE)
        return gather_facts(self._dataset.features, self._columns[ACTION], states, starts, self.lengths)

    @property
    def action_change(self) -> np.ndarray:
        """``(D,)`` root mean square of an action's difference to the one before it, raw units."""
        actions = self._columns[ACTION]
        changes = np.concatenate([np.diff(actions[span.start : span.stop], axis=0) for span in self.spans])
        return np.sqrt(np.square(changes, dtype=np.float64).mean(axis=0))

    @property
    def binary_rewards(self) -> bool:
        """Whether every reward is 0 or 1 and only a termination pays."""
        return all(pays_once_at_its_end(labels.reward, labels.terminated) for labels in map(self._labelled, self.spans))

    def read(self, index: int) -> Recording:
        """Decode one episode.

        Raises:
            ValueError: a video, or a picture, is damaged; its file is named.
        """
        span = self.spans[index]
        labels = self._labelled(span)
        stop = span.start + len(labels.reward)
        observation: dict[str, Tensor] = {key: torch.from_numpy(self._columns[key][span.start : stop]).float() for key in self._vectors}
        observation |= self._decode(span, stop)
        flags = self._labels.get(INTERVENTION)
        return Recording(
            observation=observation,
            action=torch.from_numpy(self._columns[ACTION][span.start : stop]).float(),
            reward=torch.from_numpy(labels.reward),
            intervention=torch.zeros(stop - span.start, dtype=torch.bool)
            if flags is None
            else torch.from_numpy(flags[span.start : stop].astype(bool)),
            terminated=labels.terminated,
            truncated=labels.truncated,
        )

    def _decode(self, span: _Span, stop: int) -> dict[str, Tensor]:
        if not self._images:
            return {}
        with explained(self._dataset.root):
            needed = self._files(span.episode)
        with explained(self._dataset.root, needed):
            frames = [self._dataset[i] for i in range(span.start, stop)]
            return {key: torch.stack([_as_uint8(frame[key]) for frame in frames]) for key in self._images}

    def _files(self, episode: int) -> list[Path]:
        meta = self._dataset.meta
        places = [meta.get_data_file_path(episode), *(meta.get_video_file_path(episode, key) for key in meta.video_keys)]
        return [self._dataset.root / place for place in places]

    def _labelled(self, span: _Span) -> Labels:
        columns = {key: value[span.start : span.stop] for key, value in self._labels.items()}
        return label_episode(self.rule, columns, span.stop - span.start)

    def _check(self) -> None:
        for span in self.spans:
            recorded_end = self.rule is LabelRule.RECORDED and self._labelled(span).terminated
            if span.stop - span.start < 2 and not recorded_end:
                raise ValueError(
                    f"Dataset {self._dataset.repo_id}: episode {span.episode} has {span.stop - span.start} frame; expected at least two. "
                    f"Remove it: lerobot-edit-dataset --repo_id={self._dataset.repo_id} --operation.type=delete_episodes "
                    f'--operation.episode_indices="[{span.episode}]"'
                )
        for key, values in self._columns.items():
            check_finite(values, key, self._columns[EPISODE_INDEX], self._dataset.repo_id)


def check_finite(values: np.ndarray, key: str, episode_index: np.ndarray, dataset: str) -> None:
    """Raise on the first NaN or infinite number.

    Args:
        values: ``(N, ...)``.
        episode_index: ``(N,)`` of each frame.

    Raises:
        ValueError: naming episode, frame within the episode, and key.
    """
    if values.dtype.kind != "f":
        return
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if bad.any():
        row = int(np.argmax(bad))
        episode = int(episode_index[row])
        frame = row - int(np.argmax(episode_index == episode))
        raise ValueError(
            f"Dataset {dataset}: episode {episode}, frame {frame}, '{key}' is {values[row].tolist()}; expected finite numbers. "
            "Remove or repair that episode; learning from it would destroy the critics."
        )


def _spans(episode_index: np.ndarray) -> Iterator[_Span]:
    cuts = np.flatnonzero(np.diff(episode_index)) + 1
    for start, stop in zip([0, *cuts], [*cuts, len(episode_index)], strict=True):
        yield _Span(int(episode_index[start]), int(start), int(stop))


def _stacked(column: object) -> np.ndarray:
    array = np.asarray(column)
    return np.stack(list(array)) if array.dtype == object else array


def _as_uint8(image: Tensor) -> Tensor:
    return image if image.dtype == torch.uint8 else (image * 255.0).round().clamp(0, 255).to(torch.uint8)
