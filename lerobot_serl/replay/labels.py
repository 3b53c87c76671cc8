"""Reward and end of an episode, from its label columns and a dataset's rule (label_rule.py decides it)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

REWARD, SUCCESS, DONE = "next.reward", "next.success", "next.done"
TERMINATED, TRUNCATED, INTERVENTION = "next.terminated", "next.truncated", "is_intervention"
DECIDED_BY = "next.decided_by"
# Column -> what it is understood as. LeRobot's reinforcement learning writes flags of its own under another name.
LABEL_COLUMNS = {name: name for name in (REWARD, SUCCESS, DONE, TERMINATED, TRUNCATED, INTERVENTION)} | {
    "complementary_info.is_intervention": INTERVENTION
}
_MAY_BE_LABEL = re.compile(r"^next\.|^complementary_info|reward|success|done|termina|truncat|penalty|interven", re.IGNORECASE)


@dataclass(frozen=True)
class LabelRule:
    """How rewards and ends of a dataset are read.

    Attributes:
        ends, reward: names of :data:`.ENDS` and :data:`.REWARDS`, other than auto.
        shift: added to every reward.
        level: rewards above it are successes; only for ends "reward".
        judged: ``next.success`` says which terminations are successes, for reward "success".
        others: choices of ends that the dataset's columns bear as well.
        remarks: what a person should know about the choice, one sentence or two each.
    """

    ends: str
    reward: str
    shift: float = 0.0
    level: float = np.inf
    judged: bool = False
    others: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As flags say it."""
        return f"ends={self.ends}, reward={self.reward}"


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of one episode: ``reward (T',)`` float32 for its first ``T'`` frames (a termination ends it), and how it ended."""

    reward: np.ndarray
    terminated: bool
    truncated: bool

    @property
    def steps(self) -> int:
        """Transitions: the last frame of an episode that did not terminate only serves as the observation to bootstrap from."""
        return len(self.reward) if self.terminated else len(self.reward) - 1


def label_columns(table: Mapping[str, np.ndarray], dataset: str) -> dict[str, np.ndarray]:
    """The label columns of a table ``(N, ...)``, by what they are understood as: rewards float32 ``(N,)``, all others bool ``(N,)``.

    Raises:
        ValueError: a column does not hold one number a frame.
    """
    columns: dict[str, np.ndarray] = {}
    for name, meaning in LABEL_COLUMNS.items():
        if name not in table or meaning in columns:
            continue
        values = np.asarray(table[name])
        if values.size != len(values) or values.dtype.kind not in "biuf":
            raise ValueError(
                f"Dataset {dataset}: {name} has the shape {values.shape[1:]} and type {values.dtype} in each frame, expected one number or flag. "
                "Remove the column, or write it anew (lerobot-edit-dataset, docs/data.md)."
            )
        flat = values.reshape(len(values))
        columns[meaning] = flat.astype(np.float32) if meaning == REWARD else flat > 0
    return columns


def unread_labels(names: Iterable[str]) -> list[str]:
    """Those of a dataset's features that look as if they were labels, and are not read."""
    known = {*LABEL_COLUMNS, DECIDED_BY}
    return [name for name in names if name not in known and not name.startswith(("observation.", "action")) and _MAY_BE_LABEL.search(name)]


def pays_once_at_its_end(reward: np.ndarray, terminated: bool) -> bool:
    """Whether an episode's rewards ``(T,)`` are 0 or 1, and only a termination pays: then values lie in [0, 1]."""
    return bool(np.isin(reward, (0, 1)).all()) and not reward[:-1].any() and (terminated or not reward.any())


def label_episodes(rule: LabelRule, columns: Mapping[str, np.ndarray], spans: Sequence[tuple[int, int]]) -> list[Labels]:
    """Labels of all episodes of a dataset, whose label columns are ``(N,)``, each from a first frame to the one after its last."""
    return [label_episode(rule, {name: column[start:stop] for name, column in columns.items()}, stop - start) for start, stop in spans]


def label_episode(rule: LabelRule, columns: Mapping[str, np.ndarray], frames: int) -> Labels:
    """Labels of one episode, whose label columns (:func:`label_columns`) are ``(T,)``."""
    end = _termination(rule, columns, frames)
    kept = frames if end is None else end + 1
    if rule.reward == "recorded":
        reward = columns[REWARD][:kept].copy()
    else:
        reward = np.zeros(kept, dtype=np.float32)
        reward[-1] = end is not None and (not rule.judged or columns[SUCCESS][:kept].any())
    cut_off = any(name in columns and columns[name][-1] for name in (TRUNCATED, DONE))
    return Labels(reward + np.float32(rule.shift), end is not None, end is None and cut_off)


def _termination(rule: LabelRule, columns: Mapping[str, np.ndarray], frames: int) -> int | None:
    """The frame that terminates an episode, if one does."""
    match rule.ends:
        case "never":
            return None
        case "last":
            return frames - 1
        case "reward":
            return _begin_of_last_run(columns[REWARD] > rule.level)
        case "done":
            done = columns[DONE] if DONE in columns else np.arange(frames) == frames - 1
            return _first(done & ~columns[TRUNCATED] if TRUNCATED in columns else done)
        case _:
            return _first(columns[{"terminated": TERMINATED, "success": SUCCESS}[rule.ends]])


def _first(flags: np.ndarray) -> int | None:
    """The first true flag; the last one where all are true: such a column speaks of the episode, not of its frames."""
    if flags.all():
        return len(flags) - 1
    return int(np.argmax(flags)) if flags.any() else None


def _begin_of_last_run(flags: np.ndarray) -> int | None:
    """Where the flags become true for the last time: a success that is held is one; rewards before it are parts of the way."""
    if flags.all():
        return len(flags) - 1
    rises = np.flatnonzero(flags & ~np.concatenate([[False], flags[:-1]]))
    return int(rises[-1]) if len(rises) else None
