"""Statistics of a dataset's vectors, from their numbers: ``meta/stats.json`` may be of another day."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from torch import Tensor

from .opening import explained

# A statistic is wrong if it is off by more than this share of the entry's range.
_TOLERANCE = 1e-3
_NAMES = ("min", "max", "mean", "std")
Stats = dict[str, dict[str, Tensor]]


def checked_statistics(said: Mapping[str, Mapping[str, Tensor]], dataset: LeRobotDataset, keys: Sequence[str]) -> Stats:
    """``said`` (``meta/stats.json``), with those of a vector that the numbers do not confirm taken from the numbers.

    Args:
        said: feature -> statistic -> tensor.
        dataset: whose numbers count.
        keys: vectors to look at. Frames with NaN or infinite numbers do not count here: whoever reads the episodes names them.
    """
    checked = {key: dict(named) for key, named in said.items()}
    with explained(dataset.root):
        table = dataset.hf_dataset.select_columns(list(keys)).with_format("numpy")[:]
    for key in keys:
        numbers = np.stack(list(table[key])).reshape(len(dataset), -1).astype(np.float64)
        sound = numbers[np.isfinite(numbers).all(1)]
        if len(sound) == 0:
            continue
        found = dict(zip(_NAMES, (sound.min(0), sound.max(0), sound.mean(0), sound.std(0)), strict=True))
        if wrong := _wrong(checked.get(key, {}), found):
            checked[key] = {**checked.get(key, {}), **{name: torch.from_numpy(value).float() for name, value in found.items()}}
        if wrong and len(sound) == len(numbers):
            logging.warning(
                f"meta/stats.json of {dataset.repo_id} does not fit its '{key}': {wrong}. The numbers themselves are used; LeRobot's "
                f"lerobot-edit-dataset --repo_id={dataset.repo_id} --new_repo_id={dataset.repo_id} --root={dataset.root} --new_root={dataset.root} "
                "--operation.type=recompute_stats --operation.overwrite=true writes it anew."
            )
    return checked


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
