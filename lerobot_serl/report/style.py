"""How every figure looks: colours, windows, the phases behind the curves, legends and ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lerobot_serl.report.metrics_files import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WINDOW = 50
"""Episodes per rolling window."""

MIN_TRIALS = 10
"""A rolling success is drawn from this many episodes on."""

BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#222222",
)  # fmt: skip
"""Okabe and Ito's colours, told apart with every common form of colour blindness."""

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
PHASE_SHADES = ("#eeeeee", "#fafafa")
STYLE: Any = {
    "font.size": 11, "axes.titlesize": 12, "axes.labelsize": 11, "legend.fontsize": 10,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#d9d9d9",
    "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False, "savefig.dpi": 160,
}  # fmt: skip


def phase_spans(table: Table, x_column: str) -> list[tuple[str, float, float]]:
    """(phase, start, end) along a column; a phase starts after the last row before its first appearance."""
    spans: list[tuple[str, float, float]] = []
    previous = 0.0
    for phase, x in zip(table.get("phase", []), table.get(x_column, []), strict=False):
        if phase and math.isfinite(x):
            if phase not in [name for name, _, _ in spans]:
                spans.append((phase, previous, x))
            name, start, _ = spans[-1]
            spans[-1] = (name, start, x)
            previous = x
    return [span for span in spans if span[2] > span[1]]


def shade_phases(ax: Axes, spans: Sequence[tuple[str, float, float]]) -> None:
    """Shade the phases and write above the axes the names that fit without touching."""
    total = max((end for _, _, end in spans), default=0.0)
    occupied = -math.inf
    for index, (phase, start, end) in enumerate(spans):
        ax.axvspan(start, end, color=PHASE_SHADES[index % 2], linewidth=0, zorder=0)
        centre, half_width = (start + end) / 2, 0.008 * len(phase) * total
        if centre - half_width > occupied:
            occupied = centre + half_width
            ax.text(centre, 1.01, phase, transform=ax.get_xaxis_transform(), ha="center", va="bottom", fontsize=9,
                    color="#555555")  # fmt: skip
    ax.margins(x=0.01)


def finish_axes(ax: Axes, below: bool) -> None:
    """Add the legend (below the axes, or inside small ones) and readable thousands on the x axis."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    ax.xaxis.set_major_locator(MaxNLocator(nbins=6))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    handles, labels = ax.get_legend_handles_labels()
    if handles and below:
        columns = 2 if max(map(len, labels)) > 14 else min(4, len(labels))
        ax.legend(handles, labels, loc="upper left", bbox_to_anchor=(0, -0.2), ncol=columns, borderaxespad=0)
    elif handles:
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.3 * (high - low))
        ax.legend(handles, labels, loc="upper right", ncol=2, frameon=True, framealpha=0.85, edgecolor="none")
