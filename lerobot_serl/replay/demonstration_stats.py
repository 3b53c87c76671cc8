"""What the demonstrations say about the robot: names, ranges, lengths. Travels to the actor processes, which derive limits from it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from lerobot.utils.constants import ACTION, OBS_STATE

from .usual_range import usual_range

MAX_ENTRIES = 10_000
LARGEST = 1e30  # float32 can hold it
NAMES, LENGTHS = ("action_names", "state_names"), ("median_length", "longest")
# For each entry of an action; older learners do not send the last two.
NUMBERS, OPTIONAL = ("action_low", "action_high"), ("action_step", "start", "start_low", "start_high")
STATES = ("state_low", "state_high")
LATER = {"start_low", "start_high", *STATES}


@dataclass(frozen=True)
class DemonstrationStats:
    """Entries of an action are those of `action_names`, in that order, in raw units.

    Attributes:
        action_names, state_names: as the dataset names them; empty if it does not.
        action_low, action_high: smallest and largest action, without glitches.
        action_step: largest distance between an action and the measured value of the same name, in the same frame; None without one.
        start: median of the first measured value of the same name; None without one.
        median_length, longest: of the episodes, in steps.
        state_low, state_high: smallest and largest value of each entry of `observation.state`; empty if an older learner does not say.
        start_low, start_high: of the first measured value of the same name, as `start`; empty likewise.
    """

    action_names: tuple[str, ...]
    state_names: tuple[str, ...]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    action_step: tuple[float | None, ...]
    start: tuple[float | None, ...]
    median_length: int
    longest: int
    state_low: tuple[float, ...] = ()
    state_high: tuple[float, ...] = ()
    start_low: tuple[float | None, ...] = ()
    start_high: tuple[float | None, ...] = ()

    @property
    def starts(self) -> tuple[tuple[float, float] | None, ...]:
        """For each entry of an action, between which measured values the demonstrations begin; None where that is not known."""
        low, high = self.start_low or self.start, self.start_high or self.start
        return tuple(None if a is None or b is None else (a, b) for a, b in zip(low, high, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return asdict(self)


def stats_from_json(document: Any) -> DemonstrationStats:
    """The inverse of :meth:`DemonstrationStats.to_json`, from a peer that is not trusted.

    Raises:
        ValueError: naming the entry that is wrong.
    """
    known = {*NAMES, *NUMBERS, *OPTIONAL, *STATES, *LENGTHS}
    if not isinstance(document, Mapping) or not known - LATER <= set(document) <= known:
        raise ValueError("the demonstrations' statistics have other entries than expected; learner and actor need the same version")
    document = {**dict.fromkeys(LATER, ()), **document}
    size, states = (len(document[key]) if isinstance(document[key], list | tuple) else -1 for key in ("action_low", "state_low"))
    for key in sorted(known - {*LENGTHS}):
        values = document[key]
        if not isinstance(values, list | tuple) or len(values) > MAX_ENTRIES:
            raise ValueError(f"'{key}' is {str(values)[:80]!r}, expected a list")
        expected = states if key in STATES else size
        if key not in NAMES and len(values) != expected and not (key in LATER and not values):
            raise ValueError(f"'{key}' has {len(values)} entries, expected {expected}")
        if not all(_fits(value, key in NAMES, key in OPTIONAL) for value in values):
            raise ValueError(f"'{key}' is {str(values)[:80]}, expected {'names' if key in NAMES else 'finite numbers'}")
    for low, high in (NUMBERS, STATES, OPTIONAL[2:]):
        pairs = zip(document[low], document[high], strict=True) if len(document[low]) == len(document[high]) else [(1, 0)]
        if any(None not in pair and pair[0] > pair[1] for pair in pairs):
            raise ValueError(f"'{low}' lies above '{high}'")
    if document["state_names"] and states not in (0, len(document["state_names"])):
        raise ValueError(f"'state_low' has {states} entries, expected {len(document['state_names'])}, as 'state_names'")
    for key in LENGTHS:
        if type(document[key]) is not int or not 1 <= document[key] < 1e9:
            raise ValueError(f"'{key}' is {document[key]!r}, expected a positive number of steps")
    columns: dict[str, Any] = {key: document[key] if key in LENGTHS else tuple(document[key]) for key in known}
    return DemonstrationStats(**columns)


def gather_stats(
    features: Mapping[str, Mapping[str, Any]],
    actions: np.ndarray,
    states: np.ndarray | None,
    starts: Sequence[int],
    lengths: Sequence[int],
) -> DemonstrationStats:
    """Facts of a dataset.

    Args:
        features: ``LeRobotDataset.features``.
        actions: ``(N, D)``.
        states: ``(N, S)`` of ``observation.state``, if the dataset has it.
        starts: first frame of each episode.
        lengths: of the episodes.
    """
    action_names = entry_names(features.get(ACTION), actions.shape[1])
    state_names = entry_names(features.get(OBS_STATE), 0 if states is None else states.shape[1])
    steps: list[float | None] = [None] * actions.shape[1]
    start: list[float | None] = [None] * actions.shape[1]
    start_low, start_high = start.copy(), start.copy()
    low, high = usual_range(actions)
    seen = (np.zeros(0), np.zeros(0)) if states is None else usual_range(states)
    if states is not None:
        for index, name in enumerate(action_names):
            if name in state_names:
                measured = states[:, state_names.index(name)]
                usual = (actions[:, index] >= low[index]) & (actions[:, index] <= high[index])
                steps[index] = float(np.abs(actions[usual, index] - measured[usual]).max())
                first = measured[list(starts)]
                start[index], start_low[index], start_high[index] = float(np.median(first)), float(first.min()), float(first.max())
    return DemonstrationStats(
        action_names=action_names,
        state_names=state_names,
        action_low=tuple(low.astype(float).tolist()),
        action_high=tuple(high.astype(float).tolist()),
        action_step=tuple(steps),
        start=tuple(start),
        median_length=max(1, round(float(np.median(lengths)))),
        longest=max(lengths),
        state_low=tuple(seen[0].astype(float).tolist()),
        state_high=tuple(seen[1].astype(float).tolist()),
        start_low=tuple(start_low),
        start_high=tuple(start_high),
    )


def entry_names(feature: Mapping[str, Any] | None, size: int) -> tuple[str, ...]:
    """A feature's names, if there is one for each entry; else none. Older datasets nest them: ``{"motors": [...]}``."""
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
