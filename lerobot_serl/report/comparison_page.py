"""Write a comparison as a page, a picture and a file, and show the comparisons of a run in its report."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerobot_serl.report.comparison import Comparison
from lerobot_serl.report.curves import WrittenFigure
from lerobot_serl.report.evaluations import ComparisonError
from lerobot_serl.report.markup import PAGE_END, figure_html, page_head, text_html
from lerobot_serl.report.metrics_files import MetricsFormatError
from lerobot_serl.report.style import BLACK, BLUE, STYLE, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMAT = "lerobot_serl comparison 1"
DATA, PICTURE, PAGE = "comparison.json", "comparison.png", "index.html"
FOLDER = "compare_with_"
MAX_DATA_BYTES = 1 << 20
MAX_SHOWN = 10
_CAPTION = "Success of A and B, and their difference, with 95 % intervals."


def write_comparison(comparison: Comparison, output_dir: Path | None = None) -> Path:
    """Write the page, its picture and `comparison.json`; returns the page.

    Args:
        comparison: what is written.
        output_dir: the folder; `compare_with_` and A's name, in B's folder, when None.

    Raises:
        ComparisonError: the folder holds something else than an earlier comparison of the same two.
        ModuleNotFoundError: matplotlib is not installed.
        OSError: a file cannot be written.
    """
    folder = output_dir or comparison.b.folder / f"{FOLDER}{comparison.a.folder.resolve().name}"
    low, high = comparison.interval
    data: dict[str, Any] = {
        "format": FORMAT, "a": str(comparison.a.source.resolve()), "b": str(comparison.b.source.resolve()),
        "successes": [count.successes for count in comparison.counts], "trials": [count.trials for count in comparison.counts],
        "difference": comparison.difference, "low": low, "high": high, "needed": comparison.needed,
        "paired": comparison.pairs is not None, "verdict": comparison.verdict, "facts": comparison.facts,
    }  # fmt: skip
    _refuse_foreign(folder, data)
    folder.mkdir(parents=True, exist_ok=True)
    _draw(comparison, folder / PICTURE)
    body = [page_head("Comparison of two policies"), "<h1>Comparison of two policies</h1>\n", _section(data, folder / PICTURE), PAGE_END]
    for name, text in ((DATA, json.dumps(data, indent=2) + "\n"), (PAGE, "".join(body))):
        temporary = folder / f"{name}.tmp"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, folder / name)
    return folder / PAGE


def _refuse_foreign(folder: Path, data: dict[str, Any]) -> None:
    """Raise unless the folder is absent, empty, or holds an earlier comparison of the same two files."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / DATA).is_file():
        raise ComparisonError(f"{folder} exists and holds no {DATA}: it is not overwritten; --output_dir=DIR writes elsewhere")
    there = _read(folder / DATA)
    if (there.get("a"), there.get("b")) != (data["a"], data["b"]):
        raise ComparisonError(
            f"{folder} compares {there.get('a')} and {there.get('b')}, not {data['a']} and {data['b']}; --output_dir=DIR writes elsewhere"
        )


def _read(path: Path) -> dict[str, Any]:
    """A comparison as it was written, or MetricsFormatError."""
    remedy = "make it again with lerobot-serl-report --compare, or take it away"
    if path.stat().st_size > MAX_DATA_BYTES:
        raise MetricsFormatError(f"{path} has more than {MAX_DATA_BYTES} bytes; {remedy}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise MetricsFormatError(f"{path} is not valid JSON: {error}; {remedy}") from error
    facts = data.get("facts") if isinstance(data, dict) and data.get("format") == FORMAT else None
    rows = facts if isinstance(facts, list) else [None]
    if not all(isinstance(row, list) and len(row) == 2 and all(isinstance(cell, str) for cell in row) for row in rows):
        raise MetricsFormatError(f"{path} is no comparison of this version ({FORMAT}); {remedy}")
    return {**data, "verdict": str(data.get("verdict", ""))}


def _section(data: dict[str, Any], picture: Path) -> str:
    """Verdict, picture and table of one comparison."""
    rows: Iterable[tuple[str, str]] = data["facts"]
    table = "".join(f"<tr><th>{text_html(name)}</th><td>{text_html(text)}</td></tr>" for name, text in rows)
    figure = figure_html(WrittenFigure("Comparison of two policies", _CAPTION, picture)) if picture.is_file() else ""
    return f'<div class="summary"><p>{text_html(data["verdict"])}</p></div>\n{figure}<div class="wide"><table>{table}</table></div>\n'


def comparisons_html(run_dir: Path) -> str:
    """The comparisons that lie in a run directory, or in a folder of it, each with a heading; empty without any.

    Raises:
        MetricsFormatError: one is damaged; the message names it.
    """
    name = f"{FOLDER}*/{DATA}"
    found = sorted([*run_dir.glob(name), *run_dir.glob(f"*/{name}")])[:MAX_SHOWN]
    headings = (f"<h2>Comparison: {escape(str(path.parent.relative_to(run_dir)))}</h2>\n" for path in found)
    return "".join(h2 + _section(_read(path), path.with_name(PICTURE)) for h2, path in zip(headings, found, strict=True))


def _draw(comparison: Comparison, path: Path) -> None:
    """Two bars with Wilson intervals, and the difference with Newcombe's."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        rates, difference = figure.subplots(1, 2, width_ratios=(3, 2))
        _draw_rates(comparison, rates)
        _draw_difference(comparison, difference)
        temporary = path.with_suffix(".tmp")
        figure.savefig(temporary, format="png")
    os.replace(temporary, path)


def _draw_rates(comparison: Comparison, ax: Axes) -> None:
    for x, (count, colour) in enumerate(zip(comparison.counts, (VERMILION, BLUE), strict=True)):
        low, high = count.interval
        reach = [[100 * (count.rate - low)], [100 * (high - count.rate)]]
        ax.bar(x, 100 * count.rate, width=0.6, color=colour)
        ax.errorbar(x, 100 * count.rate, yerr=reach, color=BLACK, capsize=5, linewidth=1.5)
    ax.set_xticks([0, 1], [f"{name}\n{c.successes} of {c.trials}" for name, c in zip("AB", comparison.counts, strict=True)])
    ax.set(ylim=(0, 102), ylabel="success (%)", title="Success")
    ax.grid(axis="x", visible=False)


def _draw_difference(comparison: Comparison, ax: Axes) -> None:
    low, high = (100 * bound for bound in comparison.interval)
    value = 100 * comparison.difference
    ax.axhline(0, color=BLACK, linestyle="--", linewidth=1.2)
    ax.errorbar(0, value, yerr=[[value - low], [high - value]], fmt="o", color=BLACK, capsize=6, markersize=7, linewidth=1.5)
    ax.set(xlim=(-1, 1), xticks=[], ylabel="B minus A (points)", title="Difference")
    ax.margins(y=0.15)
