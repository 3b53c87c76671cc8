"""The success of a run along its practice: as deployed, all practice, ACT alone, evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lerobot_serl.report.interval import rolling_success
from lerobot_serl.report.metrics_files import DEPLOYED, EVALUATION_FINE_TUNED, RunMetrics
from lerobot_serl.report.style import BLACK, BLUE, MIN_TRIALS, SKY, VERMILION, WINDOW, phase_spans, shade_phases

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DEPLOYED_WINDOW = 20
"""Of the episodes carried out as deployed: one in five, so a window of theirs reaches as far back as 100 episodes of practice."""


def _draw_rolling_success(metrics: RunMetrics, rows: Sequence[int], window: int, band: bool, ax: Axes, **look: Any) -> None:
    """Rolling success of some episodes in percent; with its band, or with a bar where there is one point alone."""
    env_steps, success = ([metrics.episodes[name][row] for row in rows] for name in ("env_steps", "success"))
    curve = rolling_success(env_steps, success, window, min(MIN_TRIALS, max(1, len(rows))))
    low, rate, high = (100 * np.asarray(values) for values in (curve.low, curve.rate, curve.high))
    look |= {"marker": "o" if len(rate) < MIN_TRIALS else None, "markersize": 4}
    if band and len(rate) == 1:
        ax.vlines(curve.x, low, high, color=look["color"], linewidth=1.2)
    elif band:
        ax.fill_between(curve.x, low, high, color=look["color"], alpha=0.2, linewidth=0)
    ax.plot(curve.x, rate, **look)


def draw_success(metrics: RunMetrics, ax: Axes) -> None:
    """Rolling success as deployed and of all practice, ACT's own success, evaluations and phases; all in percent."""
    deployed, every = metrics.unaided(DEPLOYED), metrics.rows()
    shade_phases(ax, phase_spans(metrics.episodes, "env_steps"))
    if deployed:
        label = f"as deployed, last {min(DEPLOYED_WINDOW, len(deployed))} episodes"
        _draw_rolling_success(metrics, deployed, DEPLOYED_WINDOW, True, ax, color=BLUE, linewidth=2, label=label, zorder=3)
        look = {"color": SKY, "linewidth": 1.2, "label": f"all practice, last {WINDOW}"}
    else:
        look = {"color": BLUE, "linewidth": 2, "label": f"practice, last {WINDOW} episodes"}
    _draw_rolling_success(metrics, every, WINDOW, not deployed, ax, **look)
    act = metrics.act_success()
    if act is not None:
        ax.axhspan(100 * act.interval[0], 100 * act.interval[1], color=VERMILION, alpha=0.12, linewidth=0)
        ax.axhline(100 * act.rate, color=VERMILION, linestyle="--", linewidth=1.8, label=f"ACT alone ({act.source})")
    evaluations = metrics.evaluation_counts(EVALUATION_FINE_TUNED)
    if evaluations:
        rates = np.asarray([100 * c.rate for _, c in evaluations])
        bounds = 100 * np.asarray([c.interval for _, c in evaluations])
        ax.errorbar([x for x, _ in evaluations], rates, yerr=[rates - bounds[:, 0], bounds[:, 1] - rates], fmt="o",
                    color=BLACK, markersize=5, capsize=3, linewidth=1.2, label="evaluation, fine-tuned")  # fmt: skip
    ax.set_ylim(-2, 102)
    ax.set_ylabel("success (%)")


def success_caption(metrics: RunMetrics) -> str:
    """What the curves are, in words."""
    practice = f"of practice among the last {WINDOW} episodes (most explore; one with human help counts as none)"
    if metrics.unaided(DEPLOYED):
        practice = f"of episodes carried out as deployed, without human help, among the last {DEPLOYED_WINDOW} of them; thin: {practice}"
    return (f"Share of successes {practice}; as dots, evaluations without exploration. Bands and bars: Wilson 95 % intervals, each for one "
            "window by itself. Dashed: ACT alone.")  # fmt: skip
