"""Reading episodes out of a LeRobotDataset, checked and labelled."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.datasets import LeRobotDataset
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor

from ..label_settings import AUTO, LabelSettings
from ..lerobot_names import dataset_to_policy_features
from .demonstration_stats import DemonstrationStats, gather_stats
from .episode import Episode
from .frame_columns import FRAME_COLUMNS, FrameColumn
from .label_rule import FLAG, decide_rule
from .label_table import LabelTable
from .labels import (
    LABEL_COLUMNS,
    REWARD,
    LabelRule,
    label_columns,
    label_episodes,
    pays_once_at_its_end,
    unread_labels,
)
from .lazy_frames import Frames, LastRead, LazyFrames
from .opening import delete_episodes_command, explained
from .plausible import Plausible, refused_episode

EPISODE_INDEX = "episode_index"


@dataclass(frozen=True)
class _Span:
    """Frames ``start <= i < stop`` of one episode."""

    episode: int
    start: int
    stop: int


class EpisodeReader:
    """Episodes of a LeRobotDataset as :class:`Episode`; images are decoded when they are asked for.

    Args:
        dataset: opened without delta timestamps.
        observation_keys: features to read.
        plausible: episodes that make no sense by this are left out, with a word: one bad episode must not keep a run from its data. None: they
            are refused, as the demonstrations' must be.
        settings: how rewards and ends are understood.

    Raises:
        ValueError: an episode of one frame (unless it was recorded as terminated there: that is a transition), a number that is not finite or
            absurdly large (episode, frame and key are named), or labels that do not tell a success from a failure.
    """

    def __init__(
        self,
        dataset: LeRobotDataset,
        observation_keys: Sequence[str],
        plausible: Plausible | None = None,
        settings: LabelSettings = AUTO,
    ) -> None:
        self._dataset = dataset
        self._images = [key for key in observation_keys if key in dataset.meta.camera_keys]
        self._vectors = [key for key in observation_keys if key not in self._images]
        labels = [key for key in LABEL_COLUMNS if key in dataset.features]
        others = [column.key for column in FRAME_COLUMNS if column.key in dataset.features and column.key not in (ACTION, *labels)]
        with explained(dataset.root):
            table = dataset.hf_dataset.select_columns([EPISODE_INDEX, ACTION, *self._vectors, *labels, *others]).with_format("numpy")[:]
        self._columns = {key: _stacked(value) for key, value in table.items()}
        for key in (ACTION, *self._vectors):  # LeRobot stores features of shape (1,) as plain numbers
            self._columns[key] = self._columns[key].reshape(-1, *dataset.features[key]["shape"])
        self._labels = label_columns({key: self._columns[key] for key in labels}, dataset.repo_id)
        self.spans = list(_spans(self._columns[EPISODE_INDEX]))
        bounds = [(span.start, span.stop) for span in self.spans]
        self.rule: LabelRule = decide_rule(self._labels, bounds, dataset.repo_id, settings)
        self._labelled = dict(zip(self.spans, label_episodes(self.rule, self._labels, bounds), strict=True))
        if plausible is None:
            self._refuse_flaws()
            self._refuse_worthless(settings)
        else:
            self._leave_out_flaws(plausible)

    def __len__(self) -> int:
        return len(self.spans)

    @property
    def lengths(self) -> list[int]:
        """Frames of each episode after labelling."""
        return [len(self._labelled[span].reward) for span in self.spans]

    @property
    def demo_stats(self) -> DemonstrationStats:
        """Names, ranges and lengths."""
        starts, states = [span.start for span in self.spans], self._columns.get(OBS_STATE)
        return gather_stats(self._dataset.features, self._columns[ACTION], states, starts, self.lengths)

    def plausible(self, reach: float, pays_once: bool) -> Plausible:
        """Bounds around these episodes, for others of the same robot and task; arguments as :meth:`Plausible.around`."""
        columns = {key: value for key, value in self._columns.items() if key == ACTION or key in self._vectors}
        columns[REWARD] = np.concatenate([self._labelled[span].reward for span in self.spans])
        return Plausible.around({key: (value.min(axis=0), value.max(axis=0)) for key, value in columns.items()}, reach, pays_once)

    @property
    def action_change(self) -> np.ndarray:
        """``(D,)`` root mean square of an action's difference to the one before it, raw units."""
        actions = self._columns[ACTION]
        changes = np.concatenate([np.diff(actions[span.start : span.stop], axis=0) for span in self.spans])
        return np.sqrt(np.square(changes, dtype=np.float64).mean(axis=0))

    @property
    def binary_rewards(self) -> bool:
        """Whether every reward is 0 or 1 and only a termination pays."""
        return all(pays_once_at_its_end(labels.reward, labels.terminated) for labels in (self._labelled[span] for span in self.spans))

    @property
    def label_table(self) -> LabelTable:
        """What became of rewards and ends, for people."""
        name, command = self._dataset.repo_id, delete_episodes_command(self._dataset.repo_id, self._dataset.root, "NUMBERS")
        bounds = [(span.start, span.stop) for span in self._labelled]
        unread = unread_labels(self._dataset.features)
        return LabelTable.of(name, self.rule, self._labels, bounds, list(self._labelled.values()), unread, command)

    def read(self, index: int) -> Episode:
        """Decode one episode.

        Raises:
            ValueError: a video, or a picture, is damaged; its file is named.
        """
        episode = self.open(index)
        return replace(episode, observation={key: value[:] for key, value in episode.observation.items()})

    def open(self, index: int) -> Episode:
        """One episode, whose images are decoded when they are asked for, which raises what :meth:`read` does."""
        span = self.spans[index]
        labels = self._labelled[span]
        stop = span.start + len(labels.reward)
        observation: dict[str, Frames] = {key: torch.from_numpy(self._columns[key][span.start : stop]).float() for key in self._vectors}
        observation |= self._cameras(span, stop)
        columns: dict[str, Any] = {column.name: self._recorded(column, span.start, stop) for column in FRAME_COLUMNS}
        columns["reward"] = torch.from_numpy(labels.reward)
        return Episode(observation=observation, **columns, terminated=labels.terminated, truncated=labels.truncated)

    def _recorded(self, column: FrameColumn, start: int, stop: int) -> Tensor:
        values = self._labels.get(column.key, self._columns.get(column.key))
        frames, action_dim = stop - start, self._columns[ACTION].shape[1]
        if values is None or (column.optional and values[0].size != math.prod(column.shape(1, action_dim))):
            return column.absent(frames, action_dim)
        return torch.from_numpy(values[start:stop]).to(column.dtype).reshape(column.shape(frames, action_dim))

    def _cameras(self, span: _Span, stop: int) -> dict[str, LazyFrames]:
        if not self._images:
            return {}
        with explained(self._dataset.root):
            needed = self._files(span.episode)

        def decode(frames: range) -> dict[str, Tensor]:
            images: dict[str, list[Tensor]] = {key: [] for key in self._images}
            with explained(self._dataset.root, needed):
                for index in frames:
                    frame = self._dataset[index]
                    for key, kept in images.items():
                        kept.append(_as_uint8(frame[key]))
                return {key: torch.stack(kept) for key, kept in images.items()}

        read, features = LastRead(decode), dataset_to_policy_features(self._dataset.features)

        def camera(key: str) -> LazyFrames:
            return LazyFrames(lambda frames: read(frames)[key], features[key].shape, span.start, stop)

        return {key: camera(key) for key in self._images}

    def _files(self, episode: int) -> list[Path]:
        meta = self._dataset.meta
        places = [meta.get_data_file_path(episode), *(meta.get_video_file_path(episode, key) for key in meta.video_keys)]
        return [self._dataset.root / place for place in places]

    def _flaw(self, span: _Span, plausible: Plausible) -> str | None:
        columns = {key: value[span.start : span.stop] for key, value in self._columns.items() if value.dtype.kind == "f" and key != REWARD}
        labels = self._labelled[span]
        return plausible.flaw({**columns, REWARD: labels.reward}, labels.terminated)

    def _refuse_flaws(self) -> None:
        for span in self.spans:
            recorded_end = self.rule.ends == "terminated" and self._labelled[span].terminated
            if span.stop - span.start < 2 and not recorded_end:
                raise ValueError(
                    f"Dataset {self._dataset.repo_id}: episode {span.episode} has {span.stop - span.start} frame; expected at least two. "
                    f"Remove it: {delete_episodes_command(self._dataset.repo_id, self._dataset.root, str(span.episode))}"
                )
            if (flaw := self._flaw(span, Plausible())) is not None:
                raise refused_episode(self._dataset, span.episode, flaw)

    def _refuse_worthless(self, settings: LabelSettings) -> None:
        """Unless a person has said how the labels are to be read: then it is for the table to warn."""
        table = self.label_table
        if settings.ends == "auto" and table.worthless:
            lines = "\n".join(table.lines())
            raise ValueError(
                f"Dataset {self._dataset.repo_id}: no reward is left in any transition, so the critics would learn that demonstrations are worth "
                f"nothing. Expected an episode that terminates with a reward. Say with {FLAG}.ends which frames do.\n{lines}"
            )

    def _leave_out_flaws(self, plausible: Plausible) -> None:
        flaws = {span: flaw for span in self.spans if (flaw := self._flaw(span, plausible)) is not None}
        if flaws:
            span, flaw = next(iter(flaws.items()))
            logging.warning(
                f"Dataset {self._dataset.repo_id}: {len(flaws)} of {len(self.spans)} episodes are left out of learning, since their numbers make "
                f"no sense; the first is episode {span.episode}, {flaw}. lerobot-serl-doctor {self._dataset.root} tells more."
            )
        self.spans = [span for span in self.spans if span not in flaws]


def _spans(episode_index: np.ndarray) -> Iterator[_Span]:
    cuts = np.flatnonzero(np.diff(episode_index)) + 1
    for start, stop in zip([0, *cuts], [*cuts, len(episode_index)], strict=True):
        yield _Span(int(episode_index[start]), int(start), int(stop))


def _stacked(column: object) -> np.ndarray:
    array = np.asarray(column)
    return np.stack(list(array)) if array.dtype == object else array


def _as_uint8(image: Tensor) -> Tensor:
    return image if image.dtype == torch.uint8 else (image * 255.0).round().clamp(0, 255).to(torch.uint8)
