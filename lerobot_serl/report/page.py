"""Write the report of a run: one HTML page that needs nothing but itself, and a summary in plain words."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from lerobot_serl.report.comparison_page import comparisons_html
from lerobot_serl.report.curves import WrittenCurves, write_curves
from lerobot_serl.report.film_strips import draw_strips
from lerobot_serl.report.interval import SuccessCount, difference_interval
from lerobot_serl.report.markup import PAGE_END, figure_html, page_head, text_html
from lerobot_serl.report.metrics_files import (
    DEPLOYED,
    EVALUATION_ACT,
    EVALUATION_FINE_TUNED,
    EXPLORING,
    MetricsDirectory,
    RunMetrics,
)
from lerobot_serl.report.style import WINDOW

MAX_FACTS = 300
"""Entries of run.json shown on the page."""

MAX_STRIPS_BYTES = 6_000_000
"""Of all film strips on the page."""

FEW = 10
"""Fewer episodes than this are called few."""


@dataclass(frozen=True)
class Report:
    """Where the page is and what it says, line by line."""

    page: Path
    summary: tuple[str, ...]


def _percent(count: SuccessCount) -> str:
    low, high = count.interval
    return f"{100 * count.rate:.0f} % (95 % interval {100 * low:.0f} to {100 * high:.0f} %, n = {count.trials})"


def _last_finite(table: Mapping[str, list[Any]], column: str) -> float | None:
    """Largest finite value of a cumulative column; None when there is none."""
    return max((value for value in table.get(column, []) if math.isfinite(value)), default=None)


def fine_tuned_success(metrics: RunMetrics) -> SuccessCount | None:
    """Success of the fine-tuned policy: its newest evaluation, else its last 50 episodes as deployed, else the last 50 that explored.

    Episodes count after the collect phase and without human help. Before there are any the answer is None.
    """
    evaluations = metrics.evaluation_counts(EVALUATION_FINE_TUNED)
    if evaluations:
        _, count = evaluations[-1]
        return SuccessCount(count.successes, count.trials, "newest evaluation")
    return _practised(metrics, metrics.kind_of_fine_tuned())


def _practised(metrics: RunMetrics, acted_as: str) -> SuccessCount | None:
    """Success of the last 50 episodes after the collect phase that were carried out so, those with help left out."""
    recent = metrics.unaided(acted_as, collecting=False)[-WINDOW:]
    if not recent:
        return None
    left_out = sum(row >= recent[0] for row in metrics.rows(acted_as, collecting=False)) - len(recent)
    name = {DEPLOYED: "episodes carried out as deployed", EXPLORING: "practice episodes with exploration"}[acted_as]
    few = f" (only {len(recent)} so far: it is early to say)" if len(recent) < FEW else ""
    help_text = f" without human help ({left_out} with help left out)" if left_out else ""
    return metrics.count(recent, f"last {len(recent)} {name}{help_text}{few}")


def summarise(metrics: RunMetrics) -> tuple[str, ...]:
    """Plain sentences: how much was done, the success rates, how they compare, practice that explores, and which weights are best."""
    tables = (metrics.learner, metrics.episodes)
    env_steps, wall_s = (max(_last_finite(t, column) or 0.0 for t in tables) for column in ("env_steps", "wall_s"))
    updates = _last_finite(metrics.learner, "step") or 0.0
    done = (
        f"{metrics.info.get('name', 'Run')}: {len(metrics.episodes.get('success', []))} episodes, "
        f"{env_steps:,.0f} environment steps and {updates:,.0f} critic updates in {wall_s / 60:.0f} min."
    )
    act, tuned, exploring = metrics.act_success(), fine_tuned_success(metrics), _practised(metrics, EXPLORING)
    lines = [done, _rates(act, tuned), _verdict(act, tuned)]
    if exploring and tuned and exploring != tuned:
        lines.append(f"Practice, not the policy as deployed: {_percent(exploring)}, from the {exploring.source}.")
    if metrics.best:
        lines.append(" ".join(metrics.best["text"].split()))
    return tuple(lines)


def _rates(act: SuccessCount | None, tuned: SuccessCount | None) -> str:
    act_text = f"{_percent(act)}, from the {act.source}" if act else "not measured"
    tuned_text = f"{_percent(tuned)}, from the {tuned.source}" if tuned else "no episodes yet"
    return f"Success fine-tuned: {tuned_text}; ACT alone: {act_text}."


def _verdict(act: SuccessCount | None, tuned: SuccessCount | None) -> str:
    if act is None or tuned is None:
        return "Comparison with ACT alone: not possible yet."
    low, high = (100 * bound for bound in difference_interval(tuned, act))
    verdict = "better than" if low > 0 else "worse than" if high < 0 else "not yet told apart from"
    gain = 100 * (tuned.rate - act.rate)
    interval = f"{gain:+.0f} percentage points, 95 % interval {low:+.0f} to {high:+.0f}"
    return f"The fine-tuned policy is {verdict} ACT alone ({interval})."


def _evaluations_html(metrics: RunMetrics) -> str:
    """Table of all evaluations with their intervals; empty without evaluations."""
    rows = []
    for name, words in ((EVALUATION_ACT, "ACT alone"), (EVALUATION_FINE_TUNED, "fine-tuned")):
        for env_steps, count in metrics.evaluation_counts(name):
            low, high = (100 * bound for bound in count.interval)
            rate = f"{100 * count.rate:.0f} % ({low:.0f} to {high:.0f} %)"
            cells = (words, f"{env_steps:,.0f}", f"{count.successes} / {count.trials}", rate)
            rows.append("<tr>" + "".join(f"<td>{text_html(cell)}</td>" for cell in cells) + "</tr>")
    if not rows:
        return ""
    head = "<tr><th>Policy</th><th>Environment steps</th><th>Successes</th><th>Rate (95 % interval)</th></tr>"
    return f'<h2>Evaluations</h2>\n<div class="wide"><table>{head}{"".join(rows)}</table></div>\n'


def _facts(info: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Flatten run.json into (dotted name, text)."""
    for name, value in info.items():
        if isinstance(value, dict) and value:
            yield from _facts(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)


def _facts_html(info: Mapping[str, Any]) -> str:
    facts = list(_facts(info))
    if not facts:
        return ""
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in facts[:MAX_FACTS])
    left = f'<p class="note">{len(facts) - MAX_FACTS} more in run.json.</p>' if len(facts) > MAX_FACTS else ""
    return f"<details><summary>Facts about the run (run.json)</summary><table>{rows}</table>{left}</details>\n"


def _episodes_html(info: Mapping[str, Any], output_dir: Path) -> str:
    """Film strips of practice, where the run says which dataset holds it; a sentence where they cannot be drawn."""
    root, repo_id = info.get("online_root"), info.get("online_dataset")
    if not isinstance(root, str) or not isinstance(repo_id, str) or not Path(root, "meta", "info.json").is_file():
        return ""
    try:
        strips = draw_strips(Path(root), repo_id, output_dir / "episodes")
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are ValueErrors
        return f'<h2>Episodes</h2>\n<p class="note">The episodes in {escape(root)} cannot be drawn: {text_html(str(error)[:300])}</p>\n'
    parts, left_bytes = ["<h2>Episodes</h2>\n"], MAX_STRIPS_BYTES
    for strip in strips:
        left_bytes -= strip.path.stat().st_size
        if left_bytes < 0:
            parts.append(f'<p class="note">More in {escape(str(strip.path.parent))}: the page would grow too large.</p>\n')
            break
        parts.append(f"<h3>{text_html(strip.title)}</h3>\n{figure_html(strip)}")
    return "".join(parts) if strips else ""


def render_page(metrics: RunMetrics, curves: WrittenCurves, summary: tuple[str, ...], comparisons: str = "", episodes: str = "") -> str:
    """The whole page as HTML, `comparisons` and `episodes` as they are; every text of the run is escaped, every image part of the page."""
    name = escape(str(metrics.info.get("name", "Run")))
    started = escape(str(metrics.info.get("started", "")))
    parts = [page_head(f"{name} - report"), f"<h1>{name}</h1>\n"]
    if started:
        parts.append(f'<p class="note">Started {started}</p>\n')
    parts.append('<div class="summary">' + "".join(f"<p>{text_html(line)}</p>" for line in summary) + "</div>\n")
    figures = [figure_html(figure) for figure in curves.figures]
    parts += [*figures[:1], _evaluations_html(metrics), comparisons, episodes, *figures[1:]]
    if curves.skipped:
        items = "".join(f"<li>{escape(title)}: {escape(reason)}</li>" for title, reason in curves.skipped)
        parts.append(f'<h2>Not drawn</h2>\n<ul class="note">{items}</ul>\n')
    parts.append("<h2>More</h2>\n")
    if curves.overview is not None:
        picture = figure_html(curves.overview)
        parts.append(f"<details><summary>All figures in one picture</summary>\n{picture}</details>\n")
    parts += [_facts_html(metrics.info), PAGE_END]
    return "".join(parts)


def write_report(run_dir: Path, output_dir: Path | None = None) -> Report:
    """Draw the curves of a run and write its page.

    Args:
        run_dir: directory that holds metrics/.
        output_dir: where the PNG files and index.html go; run_dir/report when None.

    Raises:
        MissingMetricsError: the run has no metrics.
        MetricsFormatError: a metric file or a comparison is malformed.
        ModuleNotFoundError: matplotlib is not installed.
        OSError: the report cannot be written.
    """
    metrics = MetricsDirectory(run_dir).load()
    target = output_dir if output_dir is not None else Path(run_dir) / "report"
    comparisons = comparisons_html(Path(run_dir))  # a flaw is told before the curves are drawn
    summary = summarise(metrics)
    curves = write_curves(metrics, target)
    page = target / "index.html"
    temporary = target / "index.html.tmp"
    episodes = _episodes_html(metrics.info, target)
    temporary.write_text(render_page(metrics, curves, summary, comparisons, episodes), encoding="utf-8")
    os.replace(temporary, page)
    return Report(page, summary)
