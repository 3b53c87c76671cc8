"""Figures, drawn from the committed tables and nothing else."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerobot_serl.report.interval import mean_interval

from .collect import evaluations_of
from .results import read_rows, success_by_step
from .summary import summarise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUCCESS = "success, % (mean; 95 % interval of 3 seeds or more)"
# Two seeds' interval covers half of the figure and says nothing.
LEAST_SEEDS_OF_AN_INTERVAL = 3
COLUMNS = 4
COLOURS = ("#0b5394", "#cc4125", "#6aa84f", "#8e7cc3", "#e69138", "#45818e", "#a64d79", "#7f6000")
MARKERS = "osD^vXP*"
STYLES = ("-", "-", "-", "--", ":", "-", "--", ":")  # curves that lie upon each other all show
# A method looks the same in every figure.
PLACES = {"serl_sac": 0, "filtered_bc": 1, "from_scratch": 2, "lerobot_sac": 3, "lerobot_sac_defaults": 4}


def draw_curves(directory: Path, variants: Sequence[str], path: Path, title: str, act_from: str | None = None) -> None:
    """:func:`curves_of` as a file."""
    curves_of(directory, variants, title, act_from).savefig(path, dpi=120, metadata={"Software": None})


def curves_of(directory: Path, variants: Sequence[str], title: str, act_from: str | None = None) -> "Figure":
    """Mean success over seeds against environment steps, with 95 % intervals of three seeds or more; ACT as a dashed line.

    More variants than there are colours get a panel each, beside the first of them over the same seeds.

    Args:
        directory: ``docs/results/<study>``.
        act_from: variant whose evaluations at step 0 are ACT's; the first one by default.
    """
    from matplotlib import rc_context

    act = summarise(directory, act_from or variants[0])
    act_of = dict(zip(act.seeds, act.act, strict=True))
    with rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        return (_panels if len(variants) > len(COLOURS) else _together)(directory, variants, title, act_of)


def _together(directory: Path, variants: Sequence[str], title: str, act_of: dict[int, float]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    _draw_act(axes, list(act_of.values()), label=f"ACT (mean of {len(act_of)} seeds)" if len(act_of) > 1 else "ACT (1 seed)")
    for variant, place in _places(variants).items():
        _draw(axes, directory, variant, COLOURS[place], MARKERS[place], STYLES[place])
    axes.set(xlabel="environment steps", ylabel=SUCCESS, title=title)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _places(variants: Sequence[str]) -> dict[str, int]:
    """Variant -> which of the colours and markers; others than the methods take those that are left."""
    free = [place for place in range(len(COLOURS)) if place not in {PLACES.get(variant) for variant in variants}]
    return {variant: PLACES[variant] if variant in PLACES else free.pop(0) for variant in variants}


def _panels(directory: Path, variants: Sequence[str], title: str, act_of: dict[int, float]) -> "Figure":
    from matplotlib.figure import Figure

    first, *others = variants
    n_rows = math.ceil(len(others) / COLUMNS)
    figure = Figure(figsize=(2.2 * COLUMNS, 1.8 * n_rows + 0.6), layout="constrained")
    panels = figure.subplots(n_rows, COLUMNS, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, variant in zip(panels, others, strict=False):
        seeds = _seeds_of(directory, variant)
        _draw_act(axes, [act_of[seed] for seed in seeds])
        _draw(axes, directory, first, "0.6", seeds=seeds)
        _draw(axes, directory, variant, COLOURS[1])
        axes.set_title(_label(variant, len(seeds)), fontsize=9)
    for axes in panels[len(others) :]:
        axes.set_visible(False)
    for axes in panels[: len(others)][-COLUMNS:]:
        axes.tick_params(labelbottom=True)
    figure.suptitle(f"{title}: each variant (red) and {first} (grey) over the same seeds, ACT dashed")
    figure.supxlabel("environment steps")
    figure.supylabel(SUCCESS)
    return figure


def _draw_act(axes: Any, act: Sequence[float], label: str | None = None) -> None:
    axes.axhline(100 * sum(act) / len(act), color="0.4", linestyle="--", linewidth=1, label=label)


def _draw(
    axes: Any, directory: Path, variant: str, colour: str, marker: str = "o", style: str = "-", seeds: Sequence[int] | None = None
) -> None:
    seeds = seeds or _seeds_of(directory, variant)
    steps, middle, low, high = curve(directory, variant, seeds)
    axes.plot(steps, middle, color=colour, label=_label(variant, len(seeds)), marker=marker, markersize=3.5, linestyle=style)
    if len(seeds) >= LEAST_SEEDS_OF_AN_INTERVAL:
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(ylim=(-2, 102), xlim=(0, None))


def _label(variant: str, n_seeds: int) -> str:
    return f"{variant.replace('_', ' ')} ({n_seeds} seed{'s' * (n_seeds > 1)})"


def _seeds_of(directory: Path, variant: str) -> list[int]:
    return sorted({row.seed for row in read_rows(evaluations_of(directory, variant))})


def curve(directory: Path, variant: str, seeds: Sequence[int]) -> tuple[list[float], list[float], list[float], list[float]]:
    """Steps, mean success and interval in percent; the n-th evaluation of every seed makes the n-th point."""
    rows = read_rows(evaluations_of(directory, variant))
    runs = [success_by_step(rows, seed) for seed in seeds]
    count = min(len(run) for run in runs)
    points = [mean_interval([list(run.values())[index] for run in runs]) for index in range(count)]
    steps = [sum(list(run)[index] for run in runs) / len(runs) for index in range(count)]
    clipped = [[100 * min(max(value, 0.0), 1.0) for value in column] for column in zip(*points, strict=True)]
    return steps, clipped[0], clipped[1], clipped[2]
