"""What became of the labels of a dataset: recorded beside learnt from, the rule in words, and what was left out, for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from .label_rule import FLAG, UNLABELLED, words
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
    notes: what else a person should know, one sentence or two each.
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
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        dataset: str,
        rule: LabelRule,
        columns: Mapping[str, np.ndarray],
        spans: Sequence[tuple[int, int]],
        labelled: Sequence[Labels],
        unread: Sequence[str] = (),
        delete_command: str = "",
    ) -> Self:
        """The table of a dataset.

        Args:
            columns: from :func:`.label_columns`, each ``(N,)``, over all frames.
            spans: first frame of each episode, and the one after its last.
            labelled: its labels.
            unread: columns that may be labels, and are not read.
            delete_command: what leaves episodes out of the dataset.
        """
        frames = max((stop for _, stop in spans), default=0)
        reward = columns.get(REWARD, np.zeros(frames, np.float32))
        pieces: dict[str, list[np.ndarray]] = {"recorded": [], "used": [], "after": [], "last": []}
        for (start, stop), labels in zip(spans, labelled, strict=True):
            end, kept = start + labels.steps, start + len(labels.reward)
            for name, (first, beyond) in zip(pieces, ((start, stop), (start, end), (kept, stop), (end, kept)), strict=True):
                pieces[name].append(reward[first:beyond])
        notes = [*rule.remarks]
        if UNLABELLED in notes and delete_command:
            notes.append(f"Leave failures out: {delete_command}")
        if unread:
            notes.append(f"not read, and no part of the reward: {', '.join(unread)}")
        ends = [(labels.terminated, labels.truncated) for labels in labelled]
        return cls(
            dataset,
            rule,
            **{name: Rewards.of(np.concatenate(parts)) for name, parts in pieces.items()},
            learnt=Rewards.of(np.concatenate([labels.reward[: labels.steps] for labels in labelled])),
            terminated=ends.count((True, False)),
            truncated=ends.count((False, True)),
            data_end=ends.count((False, False)),
            notes=tuple(notes),
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
        other = "otherwise: success; and " if self.rule.reward == "recorded" else "otherwise: recorded; and " if has_reward else "also "
        rows = [
            ("episodes", f"{self.terminated} terminate, {self.truncated} are truncated, {self.data_end} end with the data"),
            ("ends", f"{ends} ({FLAG}.ends={self.rule.ends}; otherwise: {'|'.join(self.rule.others)})"),
            ("reward", f"{reward} ({FLAG}.reward={self.rule.reward}; {other}{FLAG}.shift=NUMBER)"),
            *(("left out", text) for text in self._left_out()),
            *(("note", text) for text in self.notes),
        ]
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
        lost = [f"{share:.1%} of the {name}" for name, share in shares.items() if share < LEAST_SHARE]
        if not self.learnt.count:
            lost.append("no reward")
        if not lost:
            return None
        why = f": {'; '.join(left)}" if (left := self._left_out()) else ""
        return (
            f"Of dataset {self.dataset}, {' and '.join(lost)} {'are' if len(lost) > 1 else 'is'} learnt from{why}. "
            f"{words(self.rule)[0].capitalize()}; {FLAG}.ends={'|'.join(self.rule.others)} says otherwise."
        )

    def _left_out(self) -> list[str]:
        reasons = {
            "after": "after a termination: the task was over, and a success that is held pays once",
            "last": "at the end of episodes that do not terminate: only to bootstrap from",
        }
        found = {reason: getattr(self, name) for name, reason in reasons.items()}
        return [
            f"{rewards.frames} frame{'s' if rewards.frames > 1 else ''} (reward {rewards.total:.6g}) {reason}"
            for reason, rewards in found.items()
            if rewards.frames
        ]
