"""Episodes of practice as the online dataset holds them, without their pictures, and which of them are worth looking at."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = {
    "episode_index": "episode", "action": "action", "plan.action": "plan", "plan.age": "age", "is_intervention": "intervention",
    "next.success": "success", "observation.state": "state",
}  # fmt: skip
NEEDED = {"episode_index", "action", "next.success"}
FAILURES, LARGEST_EDITS = 3, 4
SMALLEST_RANGE = 1e-6


@dataclass(frozen=True, eq=False)
class Trace:
    """One episode of ``T`` frames.

    Attributes:
        number: in the dataset.
        first: its first frame, counted in the dataset.
        success: it ended in one.
        action: ``(T, D)`` raw, what was executed.
        plan: ``(T, D)`` raw, what the base policy had planned; the action itself where it had no plan.
        edit: ``(T,)`` largest change of an entry, as a share of half its range in all episodes; NaN where nothing was planned.
        intervention: ``(T,)`` bool, a person acted.
        state: ``(T, S)``; no columns where the dataset has none.
    """

    number: int
    first: int
    success: bool
    action: np.ndarray
    plan: np.ndarray
    edit: np.ndarray
    intervention: np.ndarray
    state: np.ndarray

    @property
    def mean_edit(self) -> float:
        """0 where nothing was planned."""
        return float(np.nanmean(self.edit)) if np.isfinite(self.edit).any() else 0.0


@dataclass(frozen=True, eq=False)
class Recorded:
    """All episodes of a dataset.

    Attributes:
        traces: in order.
        fps: control rate.
        names: feature -> its entries' names, where they are known.
        cameras: keys of its pictures.
    """

    traces: list[Trace]
    fps: float
    names: Mapping[str, list[str]]
    cameras: list[str]


def read_recorded(root: Path) -> Recorded | None:
    """The numbers of a dataset; None where it says nothing of successes, and so is no practice.

    Raises:
        OSError, ValueError: it cannot be read, for example because there is none yet.
    """
    import pyarrow.dataset as arrow

    info = json.loads((root / "meta" / "info.json").read_text(encoding="utf-8"))
    features: dict[str, dict[str, Any]] = info["features"]
    table = arrow.dataset(root / "data", format="parquet")
    there = [name for name in COLUMNS if name in table.schema.names]
    if not set(there) >= NEEDED:
        return None
    rows = table.to_table(columns=there)
    values = {COLUMNS[name]: _array(rows[name]) for name in there}
    names = {key: list(map(str, feature["names"])) for key, feature in features.items() if isinstance(feature.get("names"), list)}
    cameras = [key for key, feature in features.items() if feature["dtype"] in ("image", "video")]
    return Recorded(list(_traces(values)), float(info["fps"]), names, cameras)


def worth_a_look(traces: Sequence[Trace]) -> list[tuple[str, Trace]]:
    """First failures, last failures and largest edits, each episode once, with the reason."""
    failures = [trace for trace in traces if not trace.success]
    by_edit = sorted((trace for trace in traces if trace.mean_edit > 0), key=lambda trace: -trace.mean_edit)
    chosen: dict[int, tuple[str, Trace]] = {}
    for reason, candidates, most in (
        ("one of the first failures", failures, FAILURES),
        ("one of the last failures", failures[::-1], FAILURES),
        ("one of the largest edits", by_edit, LARGEST_EDITS),
    ):
        fresh = [trace for trace in candidates if trace.number not in chosen][:most]
        chosen |= {trace.number: (reason, trace) for trace in fresh}
    return [chosen[number] for number in sorted(chosen)]


def _traces(values: Mapping[str, np.ndarray]) -> Iterator[Trace]:
    action, episode = values["action"], values["episode"].astype(int).reshape(-1)
    count = len(action)
    plan, age = values.get("plan", action), values.get("age", np.full(count, -1)).reshape(-1)
    person = values.get("intervention", np.zeros(count)).reshape(-1) > 0
    half_range = np.maximum(np.ptp(action, axis=0) / 2, SMALLEST_RANGE)
    edit = np.where((age >= 0) & ~person, (np.abs(action - plan) / half_range).max(axis=1), np.nan)
    state = values.get("state", np.zeros((count, 0)))
    starts = [0, *(np.flatnonzero(np.diff(episode)) + 1), count]
    for first, stop in pairwise(starts):
        part = slice(first, stop)
        success = bool((values["success"].reshape(-1)[part] > 0).any())
        yield Trace(int(episode[first]), first, success, action[part], plan[part], edit[part], person[part], state[part])


def _array(column: Any) -> np.ndarray:
    """A column of numbers or of lists of them: ``(T,)`` or ``(T, n)``."""
    found = column.to_pylist()
    return np.asarray(found, dtype=np.float64)
