"""What the tables say: success over seeds with intervals, the worst stretch of practice, and how soon a policy is much better than ACT."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lerobot_serl.report.interval import mean_interval

from .collect import act_tried, evaluations_of, training_of
from .results import read_rows, success_by_step, worst_window

WINDOW = 50
GAIN = 0.25
# Of an ablation: the variant that the others differ from in one setting. It has all seeds that they have.
DEFAULT = "default"


@dataclass(frozen=True)
class Summary:
    """One variant over its seeds; shares from 0 to 1.

    Attributes:
        variant: name.
        seeds: of the runs.
        act: success at step 0, each seed.
        best_act: the largest share of successes among ACT's checkpoints that were tried, over the episodes of that choice, each seed; empty
            where that is not known of all seeds.
        final: success at the end, each seed.
        throughout: mean success of the evaluations after ACT's own, each seed: how soon and how far together, of more episodes than the end has.
        worst: lowest success over 50 practice episodes in a row, each seed; empty where nothing was practised.
        steps_to_gain: environment steps until an evaluation is 25 points above ACT's, each seed; None: never.
    """

    variant: str
    seeds: tuple[int, ...]
    act: tuple[float, ...]
    best_act: tuple[float, ...]
    final: tuple[float, ...]
    throughout: tuple[float, ...]
    worst: tuple[float, ...]
    steps_to_gain: tuple[int | None, ...]

    @property
    def mean(self) -> tuple[float, float, float]:
        """Of the final success: mean and 95 % interval over seeds."""
        return mean_interval(self.final)

    def by_seed(self, values: tuple[float, ...]) -> dict[int, float]:
        """Values of the seeds, such as :attr:`final`, by seed."""
        return dict(zip(self.seeds, values, strict=True))


def summarise(directory: Path, variant: str, act: dict[int, float] | None = None, starts_from_act: bool = True) -> Summary:
    """Read a variant's tables.

    Args:
        directory: ``docs/results/<study>``.
        act: ACT's success by seed; seeds that it lacks are left out.
        starts_from_act: what the variant does at step 0 is ACT, as the variant uses it (replanned sooner, for example); otherwise ACT's success
            is that in ``act``.
    """
    rows = read_rows(evaluations_of(directory, variant))
    practice = read_rows(training_of(directory, variant)) if training_of(directory, variant).is_file() else []
    seeds = tuple(sorted({row.seed for row in rows if act is None or row.seed in act}))
    curves = {seed: success_by_step(rows, seed) for seed in seeds}
    own = act is None or starts_from_act
    first = {seed: next(iter(curves[seed].values())) if own or act is None else act[seed] for seed in seeds}
    tried = act_tried(directory, variant)
    reached = tuple(
        next((step for step, success in curves[seed].items() if success >= min(first[seed] + GAIN, 1.0) - 1e-9), None) for seed in seeds
    )
    return Summary(
        variant,
        seeds,
        tuple(first[seed] for seed in seeds),
        tuple(max(tried[seed].values()) for seed in seeds) if tried.keys() >= set(seeds) else (),
        tuple(list(curves[seed].values())[-1] for seed in seeds),
        tuple(float(np.mean(list(curves[seed].values())[min(1, len(curves[seed]) - 1) :])) for seed in seeds),
        tuple(worst_window(practice, seed, WINDOW) for seed in seeds) if practice else (),
        reached,
    )


def dip_by_chance(success: float, episodes: int, runs: int = 4000) -> tuple[float, float]:
    """How far below its own success the worst 50 episodes in a row lie, of a policy that never changes: chance alone.

    Args:
        success: of each episode, independently.
        episodes: of a run, at least 50.
        runs: to draw.

    Returns:
        median, and what one run in twenty reaches.
    """
    successes = np.random.default_rng(0).random((runs, episodes)) < success
    sums = np.cumsum(np.pad(successes, ((0, 0), (1, 0))), axis=1)
    dips = success - (sums[:, WINDOW:] - sums[:, :-WINDOW]).min(axis=1) / WINDOW
    return float(np.median(dips)), float(np.quantile(dips, 0.95))


def variants_in(directory: Path) -> list[str]:
    """Variants that have a table."""
    return sorted(path.stem for path in directory.glob("*.csv") if not path.stem.endswith((".training", ".control")))


def table(directory: Path, act_from: str | None = None, without_act: Collection[str] = ()) -> str:
    """A Markdown table of a study, best first; of an ablation with each variant's difference to the default, at the end and throughout.

    Args:
        act_from: variant whose first evaluation is ACT's success, for those in ``without_act``; what has no seed of it waits.
        without_act: variants that do not start from ACT.
    """
    names = variants_in(directory)
    reference = summarise(directory, act_from) if act_from else None
    act = reference.by_seed(reference.act) if reference else None
    every = [summarise(directory, name, act, name not in without_act) for name in names]
    summaries = sorted((summary for summary in every if summary.seeds), key=lambda summary: -summary.mean[0])
    default = next((summary for summary in summaries if summary.variant == DEFAULT), None)
    columns = ["variant", "seeds", "ACT", "ACT, best checkpoint that was tried", "success at the end", "difference to ACT"]
    columns += [f"difference to {DEFAULT}, same seeds", "the same over all evaluations"] * (default is not None)
    columns += ["worst 50 of practice, below ACT", "steps to ACT + 25 points"]
    rows = [columns, *(_cells(summary, default) for summary in summaries)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(columns) + "|", *lines[1:]])


def _cells(summary: Summary, default: Summary | None) -> list[str]:
    mean, low, high = summary.mean
    final = f"{100 * mean:.0f}"
    if len(summary.seeds) > 1:  # one seed has no interval
        final += f" ({100 * max(low, 0):.0f} to {100 * min(high, 1):.0f})"
    at_the_end, throughout = summary.by_seed(summary.final), summary.by_seed(summary.throughout)
    act, best = (f"{100 * np.mean(shares):.0f}" if shares else "" for shares in (summary.act, summary.best_act))
    cells = [summary.variant, str(len(summary.seeds)), act, best, final, _difference(at_the_end, summary.by_seed(summary.act))]
    if default is summary:
        cells += ["", ""]
    elif default is not None:
        cells += [_difference(at_the_end, default.by_seed(default.final)), _difference(throughout, default.by_seed(default.throughout))]
    if not summary.worst:
        return [*cells, "", ""]
    drop = max(act - worst for act, worst in zip(summary.act, summary.worst, strict=True))
    steps = [step for step in summary.steps_to_gain if step is not None]
    missed = len(summary.seeds) - len(steps)
    soon = f"{sum(steps) / len(steps):,.0f}" if steps else "never"
    soon += f" ({missed} of {len(summary.seeds)} never)" if steps and missed else ""
    return [*cells, f"{100 * drop:.0f}", soon]


def mean_difference(values: dict[int, float], others: dict[int, float]) -> tuple[float, float, float]:
    """Mean and 95 % interval over the seeds of ``values``, each beside the other value of the same seed."""
    return mean_interval([value - others[seed] for seed, value in values.items()])


def _difference(values: dict[int, float], others: dict[int, float]) -> str:
    mean, low, high = mean_difference(values, others)
    interval = f" ({100 * max(low, -1):+.0f} to {100 * min(high, 1):+.0f})" if len(values) > 1 else ""
    return f"{100 * mean:+.0f}{interval}"
