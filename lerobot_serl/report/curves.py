"""Draw the curves of a run as PNG files.

Matplotlib is imported only when something is drawn, and only its Figure class is used, so no display is needed and
the caller's matplotlib settings stay as they are.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lerobot_serl.report.interval import rolling_mean
from lerobot_serl.report.metrics_files import EPISODE_COLUMNS, LEARNER_LEADING_COLUMNS, TEXT_COLUMNS, RunMetrics, Table
from lerobot_serl.report.style import BLACK, BLUE, COLOURS, SKY, STYLE, VERMILION, WINDOW, finish_axes, phase_spans, shade_phases
from lerobot_serl.report.success_curve import draw_success, success_caption

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Draw = Callable[["Axes"], None]


@dataclass(frozen=True)
class Plot:
    """One figure before drawing: each entry of `panels` draws on its own axes, one below the other; `left_out` are columns without a place."""

    key: str
    title: str
    caption: str
    x_label: str
    panels: tuple[Draw, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class WrittenFigure:
    """One PNG file with what the page says about it."""

    title: str
    caption: str
    path: Path


@dataclass(frozen=True)
class WrittenCurves:
    """Everything drawn for a run; `skipped` holds (title, reason) of figures without data."""

    figures: list[WrittenFigure]
    overview: WrittenFigure | None
    skipped: list[tuple[str, str]]


MAX_OTHERS = 40
"""Panels of a figure for the columns that have no place of their own; what is beyond is named under "Not drawn"."""

_EPISODE_X = "environment steps"
_LEARNER_X = "critic updates"

_LEARNER_PLOTS: tuple[tuple[str, str, str, tuple[tuple[tuple[str, ...], str], ...]], ...] = (
    ("q_values", "Values of the critic", "Estimated discounted returns. They should settle near the returns that "
     "episodes really reach; values that keep growing are a warning.", ((("q_*", "target_q"), "value (return)"),)),
    ("losses", "Losses and gradients", "Losses and gradient norms of each log window.",
     ((("critic_loss",), "critic loss\n(return²)"), (("actor_loss",), "actor loss\n(return)"),
      (("temperature_loss",), "temperature\nloss (nats)"), (("*_grad_norm",), "gradient norm\n(loss / weight)"))),
    ("edits", "Size and worth of the edits", "How far the actor moves ACT's actions, how often an edit hits its "
     "bound, and how much better the critic thinks the edited action is.",
     ((("edit_rms",), "edit RMS\n(norm. action)"), (("edit_saturation",), "at the bound\n(share)"),
      (("edit_advantage",), "advantage\n(return)"))),
    ("exploration", "Exploration", "Temperature, standard deviation and entropy of the actor.",
     ((("temperature",), "temperature\n(return / nat)"), (("sigma",), "sigma\n(norm. action)"),
      (("entropy",), "entropy\n(nats)"))),
    ("pacing", "Pacing", "How fast the learner works next to the robot.",
     ((("updates_per_env_step",), "updates per\nenv. step"), (("updates_per_s",), "updates\n(1/s)"),
      (("wait_s",), "waiting\n(s / window)"), (("buffer_steps",), "buffer\n(steps)"))),
)  # fmt: skip
"""(key, title, caption, panels) of the figures against critic updates; a panel is (column patterns, y label)."""


def _draw_episode_values(metrics: RunMetrics, column: str, label: str, successes_only: bool, ax: Axes) -> None:
    """One dot per episode with the mean of the last episodes."""
    episodes = metrics.episodes
    keep = [not successes_only or success == 1 for success in episodes["success"]]
    x = [value for value, wanted in zip(episodes["env_steps"], keep, strict=True) if wanted]
    y = [value for value, wanted in zip(episodes[column], keep, strict=True) if wanted]
    shade_phases(ax, phase_spans(episodes, "env_steps"))
    dots = "successful episode" if successes_only else "episode"
    ax.scatter(x, y, s=9, color=SKY, alpha=0.6, linewidth=0, label=dots)
    ax.plot(x, rolling_mean(y, WINDOW), color=BLUE, linewidth=2, label=f"mean of last {WINDOW}")
    ax.set_ylabel(label)


def _draw_shares(metrics: RunMetrics, ax: Axes) -> None:
    """Stacked shares of the executed candidates, rolling, in percent."""
    episodes = metrics.episodes
    names = [name for name in ("share_base", "share_mean", "share_sample") if _has_values(episodes, name)]
    layers = [100 * np.nan_to_num(rolling_mean(episodes[name], WINDOW)) for name in names]
    colours = {"share_base": VERMILION, "share_mean": BLUE, "share_sample": SKY}
    labels = {"share_base": "ACT's own action", "share_mean": "actor's mean", "share_sample": "actor's sample"}
    ax.stackplot(episodes["env_steps"], *layers, labels=[labels[n] for n in names], colors=[colours[n] for n in names],
                 alpha=0.75, linewidth=0)  # fmt: skip
    spans = phase_spans(episodes, "env_steps")
    shade_phases(ax, spans)
    for _, _, end in spans[:-1]:
        ax.axvline(end, color=BLACK, linewidth=1, linestyle=":")
    ax.margins(x=0)
    ax.set_ylim(0, 100)
    ax.set_ylabel(f"share, last {WINDOW} (%)")


def _draw_learner(table: Table, columns: Sequence[str], label: str, ax: Axes) -> None:
    """Columns against critic updates: the logged values faint, their rolling mean bold."""
    window = min(WINDOW, max(1, len(table["step"]) // 40))
    shade_phases(ax, phase_spans(table, "step"))
    filled = [column for column in columns if _has_values(table, column)]
    for column in filled:
        index = columns.index(column)  # empty ones count too: a value keeps its colour from run to run
        present = [row for row, value in enumerate(table[column]) if math.isfinite(value)]
        x, y = [table["step"][row] for row in present], [table[column][row] for row in present]
        colour = COLOURS[index % len(COLOURS)]
        ax.plot(x, y, color=colour, alpha=0.3, linewidth=0.8)
        name = column if len(filled) > 1 else None
        ax.plot(x, rolling_mean(y, window), color=colour, linewidth=1.8, label=name,
                marker="o" if len(x) == 1 else None, linestyle="-" if index < len(COLOURS) else "--")  # fmt: skip
    ax.set_ylabel(label)


def _has_values(table: Table, column: str) -> bool:
    return any(math.isfinite(value) for value in table.get(column, []))


def _with_update_ratio(table: Table, rows: int = 20) -> Table:
    """Add updates_per_env_step: updates over environment steps across the last `rows` windows, NaN without steps."""
    if "step" not in table:
        return table
    ratio = []
    for row, (step, env_steps) in enumerate(zip(table["step"], table["env_steps"], strict=True)):
        first = max(0, row - rows)
        passed = env_steps - table["env_steps"][first]
        ratio.append((step - table["step"][first]) / passed if passed > 0 else math.nan)
    return {**table, "updates_per_env_step": ratio}


def _plan_episode_plots(metrics: RunMetrics) -> list[Plot]:
    episodes = metrics.episodes
    lengths = zip(episodes.get("length", []), episodes.get("success", []), strict=False)
    has_wins = any(success == 1 and math.isfinite(length) for length, success in lengths)
    has_shares = any(_has_values(episodes, f"share_{kind}") for kind in ("base", "mean", "sample"))
    has_help = any(count > 0 for count in episodes.get("interventions", []))
    values = partial(_draw_episode_values, metrics)
    entries: list[tuple[bool, str, str, str, Draw]] = [
        (bool(episodes.get("success")), "success", "Success", success_caption(metrics),
         partial(draw_success, metrics)),
        (has_wins, "length", "Episode length on success", "Shorter means the task is solved faster.",
         partial(values, "length", "length (env. steps)", True)),
        (_has_values(episodes, "return"), "returns", "Returns", "Sum of rewards of each episode.",
         partial(values, "return", "return (reward)", False)),
        (has_help, "interventions", "Human help", "Interventions in each episode.",
         partial(values, "interventions", "interventions\n(per episode)", False)),
        (has_shares, "shares", "Which action was executed", "Share of steps on which each candidate action was "
         "chosen.", partial(_draw_shares, metrics)),
    ]  # fmt: skip
    plots = [Plot(key, name, text, _EPISODE_X, (draw,) if shown else ()) for shown, key, name, text, draw in entries]
    others = _others("episodes_other", "Other values of episodes", _EPISODE_X, "episodes.csv", episodes, EPISODE_COLUMNS,
                     lambda name: partial(values, name, _as_logged(name), False))  # fmt: skip
    return [*plots, others] if others.panels or others.left_out else plots


def _others(key: str, title: str, x_label: str, file: str, table: Table, known: Iterable[str], draw: Callable[[str], Draw]) -> Plot:
    """A panel for each column for which nobody made a place, up to 40 with numbers."""
    names = [name for name in table if name not in known and name not in TEXT_COLUMNS]
    drawn = [name for name in names if _has_values(table, name)][:MAX_OTHERS]
    left_out = tuple(name for name in names if name not in drawn)
    return Plot(key, title, f"Every other column of {file}.", x_label, tuple(draw(name) for name in drawn), left_out)


def _as_logged(name: str) -> str:
    return textwrap.fill(name.replace("_", " "), 18) + "\n(as logged)"


def _plan_learner_plots(metrics: RunMetrics) -> list[Plot]:
    table = _with_update_ratio(metrics.learner)
    used = set(LEARNER_LEADING_COLUMNS)
    plots = []
    for key, title, caption, panels in _LEARNER_PLOTS:
        draws: list[Draw] = []
        for patterns, label in panels:
            columns = [name for name in table if any(fnmatchcase(name, pattern) for pattern in patterns)]
            used.update(columns)
            if any(_has_values(table, name) for name in columns):
                draws.append(partial(_draw_learner, table, columns, label))
        plots.append(Plot(key, title, caption, _LEARNER_X, tuple(draws)))
    plots.append(_others("other", "Other logged values", _LEARNER_X, "learner.csv", table, used,
                         lambda name: partial(_draw_learner, table, [name], _as_logged(name))))  # fmt: skip
    return plots


def _save_plot(plot: Plot, path: Path) -> None:
    """Draw one figure, panels one below the other, and save it."""
    from matplotlib.figure import Figure

    count = len(plot.panels)
    figure = Figure(figsize=(6.4, 4.2 if count == 1 else 0.9 + 1.75 * count), layout="constrained")
    axes = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    for index, (ax, draw) in enumerate(zip(axes, plot.panels, strict=True)):
        draw(ax)
        finish_axes(ax, below=count == 1)
        if index > 0:
            for text in list(ax.texts):
                text.remove()
    axes[0].set_title(plot.title, loc="left", fontweight="bold", pad=20)
    axes[-1].set_xlabel(plot.x_label)
    figure.align_ylabels(axes)
    figure.savefig(path)


def _save_overview(plots: Sequence[Plot], title: str, path: Path) -> None:
    """Draw the first panel of every figure in two columns, success first."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = (len(plots) + 1) // 2
    layout = ConstrainedLayoutEngine(hspace=0.06, wspace=0.04)
    figure = Figure(figsize=(13, 3.9 * rows + 0.4), layout=layout)
    figure.suptitle(title, fontweight="bold")
    for index, plot in enumerate(plots):
        ax = figure.add_subplot(rows, 2, index + 1)
        plot.panels[0](ax)
        finish_axes(ax, below=True)
        ax.set_title(plot.title, loc="left", fontweight="bold", pad=20)
        ax.set_xlabel(plot.x_label)
    figure.savefig(path, dpi=110)


def write_curves(metrics: RunMetrics, output_dir: Path) -> WrittenCurves:
    """Draw every figure that has data into output_dir (created), plus overview.png.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        OSError: a file cannot be written.
    """
    from matplotlib import rc_context

    output_dir.mkdir(parents=True, exist_ok=True)
    plots = _plan_episode_plots(metrics) + _plan_learner_plots(metrics)
    drawn = [plot for plot in plots if plot.panels]
    written = []
    with rc_context(STYLE):
        for plot in drawn:
            path = output_dir / f"{plot.key}.png"
            _save_plot(plot, path)
            written.append(WrittenFigure(plot.title, plot.caption, path))
        overview = None
        if drawn:
            overview = WrittenFigure("Overview", "The first panel of every figure.", output_dir / "overview.png")
            _save_overview(drawn, str(metrics.info.get("name", "Run")), overview.path)
    skipped = [(plot.title, "its columns are missing or empty") for plot in plots if not plot.panels]
    skipped += [(name, f"it has no numbers, or {MAX_OTHERS} others are drawn") for plot in plots for name in plot.left_out]
    return WrittenCurves(written, overview, skipped)
