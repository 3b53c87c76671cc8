"""Statistics of a dataset's vectors, from their numbers: ``meta/stats.json`` may be of another day."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from lerobot.datasets import LeRobotDataset
from lerobot.utils.constants import ACTION
from torch import Tensor

from .demonstrations import EPISODE_INDEX
from .labels import REWARD
from .opening import explained
from .plausible import LARGEST, Plausible, refused_episode
from .usual_range import usual_range

# A statistic is wrong if it is off by more than this share of the entry's range.
_TOLERANCE = 1e-3
_NAMES = ("min", "max", "mean", "std")
Stats = dict[str, dict[str, Tensor]]


def checked_statistics(said: Mapping[str, Mapping[str, Tensor]], dataset: LeRobotDataset, keys: Sequence[str]) -> Stats:
    """``said`` (``meta/stats.json``), with those of a vector that the numbers do not confirm taken from the numbers, and an action's range without
    glitches.

    Args:
        said: feature -> statistic -> tensor.
        dataset: whose numbers count.
        keys: vectors to look at.

    Raises:
        ValueError: a number is NaN, infinite or absurdly large; episode, frame and key are named.
    """
    checked = {key: dict(named) for key, named in said.items()}
    with explained(dataset.root):
        table = dataset.hf_dataset.select_columns([EPISODE_INDEX, *keys]).with_format("numpy")[:]
    vectors = {key: np.stack(list(table[key])).reshape(len(dataset), -1).astype(np.float64) for key in keys}
    episodes = np.asarray(table[EPISODE_INDEX])
    _require_sense(dataset, vectors, episodes)
    for key, numbers in vectors.items():
        found = dict(zip(_NAMES, (numbers.min(0), numbers.max(0), numbers.mean(0), numbers.std(0)), strict=True))
        if wrong := _wrong(checked.get(key, {}), found):
            logging.warning(
                f"meta/stats.json of {dataset.repo_id} does not fit its '{key}': {wrong}. The numbers themselves are used; LeRobot's "
                f"lerobot-edit-dataset --repo_id={dataset.repo_id} --new_repo_id={dataset.repo_id} --root={dataset.root} --new_root={dataset.root} "
                "--operation.type=recompute_stats --operation.overwrite=true writes it anew."
            )
            checked[key] = {**checked.get(key, {}), **{name: torch.from_numpy(value).float() for name, value in found.items()}}
    if ACTION in vectors:
        low, high = usual_range(vectors[ACTION])
        _tell_glitches(dataset, vectors[ACTION], episodes, low, high)
        checked[ACTION] |= {"min": torch.from_numpy(low).float(), "max": torch.from_numpy(high).float()}
    return checked


def _tell_glitches(dataset: LeRobotDataset, actions: np.ndarray, episodes: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    outside = np.argwhere((actions < low) | (actions > high))
    if len(outside):
        row, entry = (int(index) for index in outside[0])
        episode, frame = int(episodes[row]), row - int(np.argmax(episodes == episodes[row]))
        logging.warning(
            f"Dataset {dataset.repo_id}: episode {episode}, frame {frame}, '{ACTION}'[{entry}] is {actions[row, entry]:g}, one of "
            f"{len(outside)} numbers far outside all others, which lie within {low[entry]:g} to {high[entry]:g}. The action box and the "
            "robot's limits are made without them, and learning takes the nearest action inside. If these were glitches, delete the "
            f"episodes: lerobot-edit-dataset --repo_id={dataset.repo_id} --root={dataset.root} --operation.type=delete_episodes "
            f"--operation.episode_indices='[{episode}]'"
        )


def _require_sense(dataset: LeRobotDataset, vectors: Mapping[str, np.ndarray], episodes: np.ndarray) -> None:
    """ACT makes NaN of them, and then nothing can be said of step 0."""
    for values in vectors.values():
        outside = ~(np.abs(values) <= LARGEST).all(axis=1)  # NaN is outside
        if outside.any():
            episode = episodes[np.argmax(outside)]
            columns = {key: numbers[episodes == episode] for key, numbers in vectors.items()}
            flaw = Plausible().flaw({**columns, REWARD: np.zeros(0)}, terminated=False)
            assert flaw is not None
            raise refused_episode(dataset, int(episode), flaw)


def _wrong(said: Mapping[str, Tensor], found: Mapping[str, np.ndarray]) -> str:
    """The first statistic that is missing or off, in words; empty if all are right."""
    span = found["max"] - found["min"]
    for name, value in found.items():
        if name not in said:
            return f"it has no '{name}'"
        recorded = torch.as_tensor(said[name]).double().numpy().ravel()
        if recorded.shape != value.shape:
            return f"its '{name}' has {recorded.size} numbers, expected {value.size}"
        off = ~(np.abs(recorded - value) <= _TOLERANCE * span + 1e-6 * np.abs(value) + 1e-9)
        if off.any():
            entry = int(np.argmax(off))
            return f"its '{name}' of entry {entry} is {recorded[entry]:g}, the numbers' is {value[entry]:g}"
    return ""
