"""Success of several runs in one figure, for comparing settings over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lerobot_serl.report.interval import RateCurve, mean_interval, rolling_success
from lerobot_serl.report.metrics_files import MetricsDirectory, MissingMetricsError
from lerobot_serl.report.style import BLACK, COLOURS, MIN_TRIALS, STYLE, WINDOW

GRID_POINTS = 200


def success_curves(run_dirs: Sequence[Path]) -> list[RateCurve]:
    """Rolling success of the last 50 episodes of each run.

    Raises:
        MissingMetricsError: a run has fewer than 10 finished episodes; the message names it.
    """
    curves = []
    for run_dir in run_dirs:
        episodes = MetricsDirectory(run_dir).load().episodes
        if len(episodes.get("success", [])) < MIN_TRIALS:
            raise MissingMetricsError(f"{run_dir} has fewer than {MIN_TRIALS} finished episodes")
        curves.append(rolling_success(episodes["env_steps"], episodes["success"], WINDOW, MIN_TRIALS))
    return curves


def mean_over_runs(curves: Sequence[RateCurve], points: int = GRID_POINTS) -> RateCurve:
    """Mean rate of several curves with its 95 % Student t interval over runs.

    Each curve holds its last value until its next episode; the mean covers only the stretch that every run has.

    Raises:
        ValueError: no curve is given, or the runs have no stretch in common.
    """
    if not curves:
        raise ValueError("no run is given")
    start, end = max(curve.x[0] for curve in curves), min(curve.x[-1] for curve in curves)
    if start > end:
        raise ValueError("the runs have no environment steps in common")
    grid = np.linspace(start, end, points)
    held = [np.asarray(c.rate)[np.searchsorted(c.x, grid, side="right") - 1] for c in curves]
    triples = [mean_interval([float(value) for value in column]) for column in zip(*held, strict=True)]
    means, lows, highs = (list(values) for values in zip(*triples, strict=True))
    clipped_low, clipped_high = [max(0.0, low) for low in lows], [min(1.0, high) for high in highs]
    return RateCurve([float(x) for x in grid], means, clipped_low, clipped_high)


def plot_runs(groups: Mapping[str, Sequence[Path]], output: Path, act_rate: float | None = None) -> None:
    """Draw the success of groups of runs: each run thin, each group's mean bold with its interval over runs.

    Args:
        groups: run directories by label, at least one of each, at most seven groups.
        output: PNG file to write; its folder is created.
        act_rate: success of ACT alone, 0 to 1, drawn as a dashed line.

    Raises:
        ValueError: no or too many groups, an empty group, or act_rate out of range.
        MissingMetricsError: a run has too few episodes.
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    if not 1 <= len(groups) <= len(COLOURS):
        raise ValueError(f"give between 1 and {len(COLOURS)} groups, not {len(groups)}")
    if act_rate is not None and not 0 <= act_rate <= 1:
        raise ValueError(f"act_rate must be between 0 and 1, not {act_rate}")
    output.parent.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        ax = figure.subplots()
        for (label, run_dirs), colour in zip(groups.items(), COLOURS, strict=False):
            curves = success_curves(run_dirs)
            mean = mean_over_runs(curves)
            for curve in curves if len(curves) > 1 else ():
                ax.plot(curve.x, 100 * np.asarray(curve.rate), color=colour, alpha=0.35, linewidth=0.9)
            text = f"{label}, one run" if len(curves) == 1 else f"{label}, mean of {len(curves)} runs and 95 % interval"
            low, high = 100 * np.asarray(mean.low), 100 * np.asarray(mean.high)
            ax.fill_between(mean.x, low, high, color=colour, alpha=0.18, linewidth=0)
            ax.plot(mean.x, 100 * np.asarray(mean.rate), color=colour, linewidth=2.2, label=text)
        if act_rate is not None:
            ax.axhline(100 * act_rate, color=BLACK, linestyle="--", linewidth=1.5, label="ACT alone")
        ax.set(ylim=(-2, 102), xlabel="environment steps", ylabel=f"success of the last {WINDOW} episodes of practice (%)")
        ax.margins(x=0.01)
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.16), ncol=2 if len(groups) < 2 else 1, borderaxespad=0)
        figure.savefig(output)


def figure_success_over_seeds(run_dirs: Sequence[Path], output: Path, act_rate: float | None = None) -> None:
    """Draw the success of several runs of one setting; see `plot_runs` for arguments and errors."""
    plot_runs({"fine-tuned": run_dirs}, output, act_rate)
