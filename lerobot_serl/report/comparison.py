"""Compare two policies: what was counted, how far apart they are, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lerobot_serl.report.evaluations import ComparisonError, Outcomes, read_outcomes
from lerobot_serl.report.interval import SuccessCount, difference_interval, trials_needed
from lerobot_serl.report.paired import PairedCounts

LAST = 50
"""Practice episodes of a run that are compared, the newest."""

MIN_EPISODES = 5
LEVEL = 0.05

_UNPROVED = (
    "not known to be the same, so compared as independent samples: files without seeds (of lerobot-eval, or of a robot) do not say what the "
    "starts were. If --env.*, --seed and LeRobot were the same for both, add --same_starts"
)
_STATED = "the same, as --same_starts states (lerobot-eval's file holds no seeds)"
_SEEDED = "the same seeds, which both files hold (they do not name the environment)"
_PRACTICE = (
    "of practice, never the same: compared as independent samples, {which}. "
    "The metrics do not name the task; both must have practised the same one"
)
_ALL_DEPLOYED = "the episodes carried out as the policies would be deployed"
_ALL_EXPLORING = "exploration included"
_MIXED = "of {deployed} the episodes carried out as deployed; of {exploring}, which has none, those that explored, which may cost success"


@dataclass(frozen=True)
class Comparison:
    """Two policies A and B; differences are B minus A, as shares.

    Attributes:
        a, b: their outcomes.
        starts: what is known of the starts, in words.
        pairs: who succeeded from which start; None when the samples are independent.
    """

    a: Outcomes
    b: Outcomes
    starts: str
    pairs: PairedCounts | None

    @property
    def counts(self) -> tuple[SuccessCount, SuccessCount]:
        """Successes of A and of B."""
        first, second = (SuccessCount(sum(o.successes), len(o.successes), str(o.given)) for o in (self.a, self.b))
        return first, second

    @property
    def difference(self) -> float:
        """Rate of B minus that of A."""
        a, b = self.counts
        return b.rate - a.rate

    @property
    def interval(self) -> tuple[float, float]:
        """Newcombe's 95 % interval of the difference: the paired one where there are pairs, else the independent one."""
        a, b = self.counts
        return self.pairs.interval() if self.pairs else difference_interval(b, a)

    @property
    def needed(self) -> int | None:
        """Episodes of each that would be needed to tell them apart; None when they succeeded equally often."""
        return self.pairs.starts_needed() if self.pairs else trials_needed(*self.counts)

    @property
    def verdict(self) -> str:
        """One sentence in plain words."""
        low, high = self.interval
        if not low <= 0 <= high:
            word = "better" if low > 0 else "worse"
            doubt = ""
            if self.pairs and (p := self.pairs.mcnemar_p()) >= LEVEL:
                doubt = f", though the exact McNemar test is less sure ({_probability(p)})"
            points = f"{100 * abs(self.difference):.0f} points (95 % interval {_points(low)} to {_points(high)})"
            return f"B is {word} than A by {points}{doubt}."
        numbers = sorted({count.trials for count in self.counts})
        each = " of each" if len(numbers) == 1 and not self.pairs else ""
        tried = f"{' and '.join(str(number) for number in numbers)} episodes{each} cannot tell them apart"
        if self.needed is None:
            return f"{tried}: they succeeded equally often, so how many would be needed cannot be told."
        return f"{tried}; about {self.needed:,}{'' if self.pairs else ' of each'} would be needed."

    @property
    def facts(self) -> list[tuple[str, str]]:
        """Rows of the table: (name, text)."""
        rows = [(name, _counted(count)) for name, count in zip("AB", self.counts, strict=True)]
        if len(self.a.tasks) > 1:
            rows.append(("Tasks", f"{len(self.a.tasks)}, counted together"))
        if self.pairs:
            rows += [
                ("Both succeed", str(self.pairs.both)),
                ("Only A succeeds", str(self.pairs.first_only)),
                ("Only B succeeds", str(self.pairs.second_only)),
                ("Neither succeeds", str(self.pairs.neither)),
            ]
        low, high = self.interval
        kind = "paired" if self.pairs else "independent"
        rows.append(
            ("B minus A", f"{_points(self.difference)} points (95 % interval {_points(low)} to {_points(high)}; Newcombe 1998, {kind})")
        )
        if self.pairs:
            rows.append(("Exact McNemar test", _probability(self.pairs.mcnemar_p())))
        needed = "cannot be told: they are equal" if self.needed is None else f"about {self.needed:,}{'' if self.pairs else ' of each'}"
        source = "Connor 1987" if self.pairs else "Fleiss 1981"
        rows.append(("Episodes needed", f"{needed} (80 % power at the 5 % level if the rates are as seen; {source})"))
        return [*rows, ("Starts", self.starts)]


def _counted(count: SuccessCount) -> str:
    low, high = count.interval
    rate = f"{100 * count.rate:.0f} % (95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
    return f"{count.successes} of {count.trials}, {rate}: {count.source}"


def _points(share: float) -> str:
    """A difference in percentage points, with its sign; one decimal near 0, so that no bound looks like 0 that is not."""
    points = 100 * share
    return f"{points:+.0f}" if abs(points) >= 0.95 else f"{points:+.1f}" if points else "0"


def _probability(p: float) -> str:
    return f"p = {p:.2g}" if p >= 0.0001 else "p < 0.0001"


def compare(a: Path, b: Path, same_starts: bool = False, last: int | None = None) -> Comparison:
    """Read and compare two evaluations, or the practice of two runs.

    Args:
        a, b: see `read_outcomes`.
        same_starts: the user's word that both evaluations had the same environment, starts and episode length.
        last: how many practice episodes of each run are compared, the newest; `LAST` when None.

    Raises:
        ComparisonError: they cannot be compared; the message names both.
        MetricsFormatError, MissingMetricsError: a run has no sound metrics.
    """
    first, second = (read_outcomes(path, last or LAST) for path in (a, b))
    if first.source.resolve() == second.source.resolve():
        raise ComparisonError(f"{a} and {b} are the same: both mean {first.source}; give two policies' results")
    if first.practice != second.practice:
        run, evaluation = (a, b) if first.practice else (b, a)
        raise ComparisonError(
            f"{run} is a run and {evaluation} is an evaluation: practice has starts of its own, and explores. Evaluate a checkpoint of "
            f"{run} with lerobot-eval as {evaluation} was, and compare the two evaluations"
        )
    _refuse_few(first, second)
    if first.practice:
        if same_starts:
            raise ComparisonError(f"{a} and {b} are runs; practice never has the same starts: leave --same_starts out")
        return Comparison(first, second, _PRACTICE.format(which=_which_episodes(first, second)), None)
    if last is not None:
        raise ComparisonError(f"{a} and {b} are evaluations and compared whole: leave --last out")
    seeded = _refuse_other_starts(first, second, same_starts)
    if not (seeded or same_starts):
        return Comparison(first, second, _UNPROVED, None)
    return Comparison(first, second, _SEEDED if seeded else _STATED, PairedCounts.of(first.successes, second.successes))


def _which_episodes(a: Outcomes, b: Outcomes) -> str:
    """Of two runs."""
    if a.deployed == b.deployed:
        return _ALL_DEPLOYED if a.deployed else _ALL_EXPLORING
    return _MIXED.format(deployed="A" if a.deployed else "B", exploring="B" if a.deployed else "A")


def _refuse_few(a: Outcomes, b: Outcomes) -> None:
    if min(len(a.successes), len(b.successes)) < MIN_EPISODES:
        kind = "practice episodes without help after the start-up" if a.practice else "episodes"
        kind += " (carried out as deployed, where a run has such)" if a.deployed or b.deployed else ""
        raise ComparisonError(
            f"{a.given} has {len(a.successes)} and {b.given} has {len(b.successes)} {kind}; "
            f"fewer than {MIN_EPISODES} say nothing: {'let them practise longer' if a.practice else 'raise --eval.n_episodes'}"
        )


def _refuse_other_starts(a: Outcomes, b: Outcomes, same_starts: bool) -> bool:
    """Refuse evaluations that are known to differ in tasks or seeds; True if both files hold the same seeds.

    Numbers of episodes may differ only where one task's are compared as independent samples: one evaluation may have ended early.
    """
    is_paired = same_starts or (a.seeds is not None and b.seeds is not None)
    names_a, names_b = ([name for name, _ in o.tasks] for o in (a, b))
    if names_a != names_b:
        raise ComparisonError(
            f"{a.given} and {b.given} are evaluations of other tasks: {_listed(names_a)}, and {_listed(names_b)}; "
            "evaluate both policies on the same --env.type and --env.task"
        )
    for (name, first), (_, second) in zip(a.tasks, b.tasks, strict=True):
        if len(first) != len(second) and (is_paired or len(names_a) > 1):
            where = f" of {name}" if name else ""
            raise ComparisonError(
                f"{a.given} has {len(first)} episodes{where}, {b.given} has {len(second)}; evaluate both with the same --eval.n_episodes"
            )
    if a.seeds is None or b.seeds is None:
        return False
    if a.seeds != b.seeds:
        row = next(row for row, pair in enumerate(zip(a.seeds, b.seeds, strict=True)) if pair[0] != pair[1])
        raise ComparisonError(
            f"{a.given} and {b.given} have other starts: episode {row} has seed {a.seeds[row]} in the first and {b.seeds[row]} in the "
            "second; evaluate both with the same --seed"
        )
    return True


def _listed(names: list[str]) -> str:
    return ", ".join(name or "one without a name" for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
