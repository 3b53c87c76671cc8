"""What the episodes say that were carried out as deployed: which weights did best, and whether they are better than ACT."""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import NormalDist

from ..policy.agent import Agent
from ..policy.progress import Progress
from ..replay.episode import ActedAs, Episode
from ..report.interval import SuccessCount, chance_of_as_many, wilson_interval
from .best_weights import Kept, keep

# One-sided: the probability with which a policy that is no better than ACT may be called better. All looks of a run share it.
LEVEL = 0.05
Z_LEVEL = NormalDist().inv_cdf(1 - LEVEL)
# Episodes carried out as deployed between two copies of the weights; as many must follow a copy before anything is said about it.
BETWEEN_COPIES = 5


@dataclass
class Tally:
    """Successes among episodes without help."""

    successes: int = 0
    trials: int = 0

    @classmethod
    def of(cls, outcomes: Iterable[bool]) -> "Tally":
        """Of single episodes."""
        counted = list(outcomes)
        return cls(sum(counted), len(counted))

    @property
    def rate(self) -> float:
        """Share of successes; 0 without episodes."""
        return self.successes / self.trials if self.trials else 0.0

    @property
    def at_least(self) -> float:
        """Lower end of the rate's one-sided interval; 0 without episodes. It favours more evidence where rates are alike."""
        return wilson_interval(self.successes, self.trials, Z_LEVEL)[0] if self.trials else 0.0

    def add(self, success: bool) -> None:
        """One more episode."""
        self.successes += success
        self.trials += 1

    def beats(self, other: "Tally", level: float) -> bool:
        """Whether the rate is higher, by more than chance."""
        mine, theirs = (SuccessCount(tally.successes, tally.trials, "") for tally in (self, other))
        return chance_of_as_many(mine, theirs) < level

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.successes + other.successes, self.trials + other.trials)

    def __str__(self) -> str:
        if not self.trials:
            return "no episodes"
        low, high = wilson_interval(self.successes, self.trials)
        return f"{self.successes} of {self.trials} ({100 * self.rate:.0f} %, 95 % interval {100 * low:.0f} to {100 * high:.0f} %)"


@dataclass
class Candidate:
    """A copy of the weights, with the episodes around it: those before ran on what it grew out of, those after on what grew out of it."""

    kept: Kept
    before: Tally = field(default_factory=Tally)
    after: Tally = field(default_factory=Tally)

    @property
    def tally(self) -> Tally:
        """All of its episodes."""
        return self.before + self.after


@dataclass(frozen=True, eq=False)
class BestPolicy:
    """Which weights the evidence favours.

    Attributes:
        candidate: the best copy; None without enough episodes.
        act: ACT's own episodes.
        looks: windows of episodes, each of which could have been the best by chance.
        has_base: false where the actor's output is the action: there is nothing else to deploy.
    """

    candidate: Candidate | None
    act: Tally
    looks: int = 1
    has_base: bool = True

    @property
    def edits_are_better(self) -> bool:
        """Whether the candidate is better than the base policy by more than chance, or the only one there is."""
        return not self.has_base or (self.candidate is not None and self.candidate.tally.beats(self.act, LEVEL / self.looks))

    def __str__(self) -> str:
        if not self.has_base:
            which = "the newest weights" if self.candidate is None else f"the weights after {self.candidate.kept.learnt_updates:,} updates"
            return f"acts with {which}, learnt from scratch. {'' if self.candidate is None else f'As deployed: {self.candidate.tally}.'}".rstrip()
        level = f"Fisher's exact test, one-sided, at the level of {100 * LEVEL:.0f} %"
        if self.looks > 1:
            level += f" for all {self.looks} windows together"
        if self.candidate is None:
            reason = f"at least {2 * BETWEEN_COPIES} episodes have to be carried out as deployed once the actor learns"
            return f"acts as ACT: nothing can be said about the edits yet, {reason}. ACT: {self.act}."
        edited = f"edits after {self.candidate.kept.learnt_updates:,} updates: {self.candidate.tally}; ACT: {self.act}"
        if self.edits_are_better:
            return f"edits ACT, as that is better ({level}). Episodes as deployed, with the {edited}."
        return f"acts as ACT: the episodes do not say that the edits are better ({level}). As deployed, with the {edited}."


class Evidence:
    """Copies the weights now and then, and counts for each copy the episodes as deployed just before and just after it.

    At most a handful of copies are held: the best one, and those whose episodes are not complete.

    Args:
        window: most episodes that count for a copy, half of them before it and half after.
        agent: whose weights are copied.
        progress: says how many updates they have seen.
    """

    def __init__(self, window: int, agent: Agent, progress: Progress) -> None:
        self._agent = agent
        self._progress = progress
        self._half = window // 2
        self.act = Tally()
        self.deployed = 0
        self.recent: deque[bool] = deque(maxlen=self._half)
        self.open: list[Candidate] = []
        self.best: Candidate | None = None
        self.since_copy = 0

    def episode(self, episode: Episode, learning: bool) -> None:
        """One more episode without help; ``learning``: it came while the actor learnt."""
        if episode.acted_as is ActedAs.ACT:
            self.act.add(episode.success)
        if episode.acted_as is not ActedAs.DEPLOYED:
            return
        for candidate in self.open:
            candidate.after.add(episode.success)
        self.recent.append(episode.success)
        self.deployed += 1
        self.since_copy += 1
        for candidate in [candidate for candidate in self.open if candidate.after.trials >= self._half]:
            self.open.remove(candidate)
            self.best = better(self.best, candidate)
        if learning and self.since_copy >= BETWEEN_COPIES:
            self.copy()

    def copy(self) -> None:
        """Keep the weights as they are now, unless they are still ACT's."""
        if not self._agent.is_act:
            self.open.append(Candidate(keep(self._agent, self._progress.learnt_updates), Tally.of(self.recent)))
        self.since_copy = 0

    def forget_recent(self) -> None:
        """The weights were set back: the episodes of what was undone say nothing about what comes."""
        self.recent.clear()
        self.open.clear()
        self.since_copy = 0

    def best_policy(self) -> BestPolicy:
        """What is known now."""
        best = self.best
        for candidate in self.open:
            if candidate.after.trials >= BETWEEN_COPIES:
                best = better(best, candidate)
        return BestPolicy(best, self.act, max(1, math.ceil(self.deployed / (2 * self._half))), self._agent.act.proposes)


def better(one: Candidate | None, other: Candidate) -> Candidate:
    """The one that surely succeeds more often; the other, which is newer, if there is no difference."""
    return one if one is not None and one.tally.at_least > other.tally.at_least else other
