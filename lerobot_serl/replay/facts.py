"""What the demonstrations say about the robot: names, ranges, lengths. Travels to the actor processes, which derive limits from it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from lerobot.utils.constants import ACTION, OBS_STATE

from .action_range import action_range

MAX_ENTRIES = 10_000
LARGEST = 1e30  # float32 can hold it


@dataclass(frozen=True)
class DemonstrationFacts:
    """Entries of an action are those of `action_names`, in that order, in raw units.

    Attributes:
        action_names, state_names: as the dataset names them; empty if it does not.
        action_low, action_high: smallest and largest action, without glitches.
        action_step: largest distance between an action and the measured value of the same name, in the same frame; None without one.
        start: median of the first measured value of the same name; None without one.
        median_length, longest: of the episodes, in steps.
    """

    action_names: tuple[str, ...]
    state_names: tuple[str, ...]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    action_step: tuple[float | None, ...]
    start: tuple[float | None, ...]
    median_length: int
    longest: int

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return asdict(self)


def facts_from_json(document: Any) -> DemonstrationFacts:
    """The inverse of :meth:`DemonstrationFacts.to_json`, from a peer that is not trusted.

    Raises:
        ValueError: naming the entry that is wrong.
    """
    names, numbers, optional = ("action_names", "state_names"), ("action_low", "action_high"), ("action_step", "start")
    lengths = ("median_length", "longest")
    if not isinstance(document, Mapping) or set(document) != {*names, *numbers, *optional, *lengths}:
        raise ValueError("the demonstrations' facts have other entries than expected; learner and actor need the same version")
    size = len(document["action_low"]) if isinstance(document["action_low"], list | tuple) else -1
    for key in (*names, *numbers, *optional):
        values = document[key]
        if not isinstance(values, list | tuple) or len(values) > MAX_ENTRIES:
            raise ValueError(f"'{key}' is {str(values)[:80]!r}, expected a list")
        if key not in names and len(values) != size:
            raise ValueError(f"'{key}' has {len(values)} entries, expected {size}")
        if not all(_fits(value, key in names, key in optional) for value in values):
            raise ValueError(f"'{key}' is {str(values)[:80]}, expected {'names' if key in names else 'finite numbers'}")
    if any(low > high for low, high in zip(document["action_low"], document["action_high"], strict=True)):
        raise ValueError("'action_low' lies above 'action_high'")
    for key in lengths:
        if type(document[key]) is not int or not 1 <= document[key] < 1e9:
            raise ValueError(f"'{key}' is {document[key]!r}, expected a positive number of steps")
    columns: dict[str, Any] = {key: tuple(document[key]) for key in (*names, *numbers, *optional)}
    return DemonstrationFacts(**columns, median_length=document["median_length"], longest=document["longest"])


def gather_facts(
    features: Mapping[str, Mapping[str, Any]],
    actions: np.ndarray,
    states: np.ndarray | None,
    starts: Sequence[int],
    lengths: Sequence[int],
) -> DemonstrationFacts:
    """Facts of a dataset.

    Args:
        features: ``LeRobotDataset.features``.
        actions: ``(N, D)``.
        states: ``(N, S)`` of ``observation.state``, if the dataset has it.
        starts: first frame of each episode.
        lengths: of the episodes.
    """
    action_names = _names(features.get(ACTION), actions.shape[1])
    state_names = _names(features.get(OBS_STATE), 0 if states is None else states.shape[1])
    steps: list[float | None] = [None] * actions.shape[1]
    start: list[float | None] = [None] * actions.shape[1]
    low, high = action_range(actions)
    if states is not None:
        for index, name in enumerate(action_names):
            if name in state_names:
                measured = states[:, state_names.index(name)]
                usual = (actions[:, index] >= low[index]) & (actions[:, index] <= high[index])
                steps[index] = float(np.abs(actions[usual, index] - measured[usual]).max())
                start[index] = float(np.median(measured[list(starts)]))
    return DemonstrationFacts(
        action_names=action_names,
        state_names=state_names,
        action_low=tuple(low.astype(float).tolist()),
        action_high=tuple(high.astype(float).tolist()),
        action_step=tuple(steps),
        start=tuple(start),
        median_length=max(1, round(float(np.median(lengths)))),
        longest=max(lengths),
    )


def _names(feature: Mapping[str, Any] | None, size: int) -> tuple[str, ...]:
    """A feature's names, if there is one for each entry. Older datasets nest them: ``{"motors": [...]}``."""
    names = (feature or {}).get("names")
    if isinstance(names, Mapping):
        nested = list(names.values())
        names = nested[0] if len(nested) == 1 and isinstance(nested[0], list | tuple) else list(names)
    if not isinstance(names, list | tuple) or len(names) != size or len(set(names)) != size:
        return ()
    return tuple(str(name) for name in names)


def _fits(value: Any, name: bool, optional: bool) -> bool:
    if name:
        return isinstance(value, str) and len(value) <= 200
    if value is None:
        return optional
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST
