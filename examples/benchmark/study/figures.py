"""Figures, drawn from the committed tables and nothing else."""

from collections.abc import Sequence
from pathlib import Path

from lerobot_serl.report.interval import mean_interval

from .collect import evaluations_of
from .results import read_rows, success_by_step
from .summary import summarise

COLOURS = ("#0b5394", "#cc4125", "#6aa84f", "#8e7cc3", "#e69138", "#45818e", "#a64d79", "#7f6000")


def draw_curves(directory: Path, variants: Sequence[str], path: Path, title: str, act_from: str | None = None) -> None:
    """Mean success over seeds against environment steps, with 95 % intervals; ACT as a dashed line.

    Args:
        directory: ``docs/results/<study>``.
        act_from: variant whose evaluations at step 0 are ACT's; the first one by default.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        act = summarise(directory, act_from or variants[0]).act
        axes.axhline(100 * sum(act) / len(act), color="0.4", linestyle="--", linewidth=1, label="ACT")
        for variant, colour in zip(variants, COLOURS, strict=False):
            steps, middle, low, high = curve(directory, variant)
            axes.plot(steps, middle, color=colour, label=variant.replace("_", " "), marker="o", markersize=3)
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set(
            xlabel="environment steps", ylabel="success, % (mean and 95 % interval over seeds)", title=title, ylim=(-2, 102), xlim=(0, None)
        )
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(path, dpi=120, metadata={"Software": None})


def curve(directory: Path, variant: str) -> tuple[list[float], list[float], list[float], list[float]]:
    """Steps, mean success and interval in percent; the n-th evaluation of every seed makes the n-th point."""
    rows = read_rows(evaluations_of(directory, variant))
    runs = [success_by_step(rows, seed) for seed in sorted({row.seed for row in rows})]
    count = min(len(run) for run in runs)
    points = [mean_interval([list(run.values())[index] for run in runs]) for index in range(count)]
    steps = [sum(list(run)[index] for run in runs) / len(runs) for index in range(count)]
    clipped = [[100 * min(max(value, 0.0), 1.0) for value in column] for column in zip(*points, strict=True)]
    return steps, clipped[0], clipped[1], clipped[2]
