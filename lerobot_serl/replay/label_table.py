"""What became of the labels of a dataset: recorded beside learnt from, the rule in words, and what was left out, for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from ..label_settings import ENDS, REWARDS
from .label_rule import FLAG, words
from .labels import REWARD, LabelRule, Labels

LEAST_SHARE = 0.95


@dataclass(frozen=True)
class Rewards:
    """Of some frames: their number, the rewards' sum, the sum of their sizes, and how many are not 0."""

    frames: int = 0
    total: float = 0.0
    size: float = 0.0
    count: int = 0

    @classmethod
    def of(cls, reward: np.ndarray) -> Self:
        """Those ``(N,)``; what is not finite counts as 0."""
        finite = np.where(np.isfinite(reward), reward, 0).astype(np.float64)
        return cls(len(reward), float(finite.sum()), float(np.abs(finite).sum()), int(np.count_nonzero(finite)))


@dataclass(frozen=True)
class LabelTable:
    """Attributes:
    dataset: its name.
    rule: how it is read.
    recorded: all frames, with the dataset's rewards (0 where there are none).
    used: those of them that are transitions, with the same rewards.
    learnt: the transitions with the rewards that are learnt from.
    after, last: what is left out: frames after a termination, and last frames that only serve to bootstrap from.
    terminated, truncated, data_end: episodes that end so.
    unread: columns that may be labels, and are not read.
    """

    dataset: str
    rule: LabelRule
    recorded: Rewards
    used: Rewards
    learnt: Rewards
    after: Rewards
    last: Rewards
    terminated: int
    truncated: int
    data_end: int
    unread: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        dataset: str,
        rule: LabelRule,
        columns: Mapping[str, np.ndarray],
        labelled: Sequence[tuple[int, int, Labels]],
        unread: Sequence[str] = (),
    ) -> Self:
        """The table of a dataset.

        Args:
            columns: from :func:`.label_columns`, each ``(N,)``, over all frames.
            labelled: first frame of each episode, the one after its last, and its labels.
        """
        frames = max((stop for _, stop, _ in labelled), default=0)
        reward = columns.get(REWARD, np.zeros(frames, np.float32))
        pieces = {"recorded": [], "used": [], "after": [], "last": []}
        for start, stop, labels in labelled:
            end, kept = start + labels.steps, start + len(labels.reward)
            for name, (first, beyond) in zip(pieces, ((start, stop), (start, end), (kept, stop), (end, kept)), strict=True):
                pieces[name].append(reward[first:beyond])
        ends = [(labels.terminated, labels.truncated) for _, _, labels in labelled]
        return cls(
            dataset,
            rule,
            **{name: Rewards.of(np.concatenate(parts)) for name, parts in pieces.items()},
            learnt=Rewards.of(np.concatenate([labels.reward[: labels.steps] for _, _, labels in labelled])),
            terminated=ends.count((True, False)),
            truncated=ends.count((False, True)),
            data_end=ends.count((False, False)),
            unread=tuple(unread),
        )

    @property
    def worthless(self) -> bool:
        """No transition is rewarded, although rewards were recorded, or a success should pay."""
        return not self.learnt.count and (self.recorded.count > 0 or self.rule.reward == "success")

    def lines(self) -> list[str]:
        """The table, as it is printed."""
        has_reward = self.recorded.count > 0
        numbers = [
            ("frames", str(self.recorded.frames), f"{self.used.frames}, as transitions"),
            ("reward, sum", f"{self.recorded.total:.6g}" if has_reward else "-", f"{self.learnt.total:.6g}"),
            ("reward, not 0", str(self.recorded.count) if has_reward else "-", f"{self.learnt.count} frames"),
        ]
        ends, reward = words(self.rule)
        rows = [
            ("episodes", f"{self.terminated} terminate, {self.truncated} are truncated, {self.data_end} end with the data"),
            ("ends", f"{ends} ({FLAG}.ends={self.rule.ends}; or {_others(ENDS, self.rule.ends)})"),
            ("reward", f"{reward} ({FLAG}.reward={self.rule.reward}; or {_others(REWARDS, self.rule.reward)}, {FLAG}.shift=NUMBER)"),
            *(("left out", text) for text in self._left_out()),
            *(("note", text) for text in self.rule.remarks),
        ]
        if self.unread:
            rows.append(("note", f"not read, and no part of the reward: {', '.join(self.unread)}"))
        first = f"Labels of {self.dataset}: {self.terminated + self.truncated + self.data_end} episodes"
        return [
            first,
            f"  {'':<14}{'recorded':>12}  learnt from",
            *(f"  {name:<14}{recorded:>12}  {learnt}" for name, recorded, learnt in numbers),
            *(f"  {name:<14}{text}" for name, text in rows),
        ]

    @property
    def warning(self) -> str | None:
        """What is lost, and why, where that is more than a twentieth of the frames or the reward; or that nothing pays."""
        shares = {"frames": self.used.frames / max(self.recorded.frames, 1)}
        if self.rule.reward == "recorded" and self.recorded.size:
            shares["recorded reward"] = self.used.size / self.recorded.size
        lost = [f"{share:.0%} of the {name}" for name, share in shares.items() if share < LEAST_SHARE]
        if not self.learnt.count:
            lost.append("no reward")
        if not lost:
            return None
        why = f": {'; '.join(left)}" if (left := self._left_out()) else ""
        return (
            f"Of dataset {self.dataset}, {' and '.join(lost)} {'are' if len(lost) > 1 else 'is'} learnt from{why}. "
            f"{words(self.rule)[0].capitalize()}; {FLAG}.ends={_others(ENDS, self.rule.ends)} says otherwise."
        )

    def _left_out(self) -> list[str]:
        reasons = {
            "after": "after a termination: the task was over, and a success that is held pays once",
            "last": "last ones of episodes that do not terminate: only to bootstrap from",
        }
        found = {reason: getattr(self, name) for name, reason in reasons.items()}
        return [f"{rewards.frames} frames with reward {rewards.total:.6g}, {reason}" for reason, rewards in found.items() if rewards.frames]


def _others(choices: Mapping[str, str], chosen: str) -> str:
    return "|".join(name for name in choices if name not in ("auto", chosen))
