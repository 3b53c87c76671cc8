"""What a run is doing at the moment, as a part of a page that somebody reads beside the robot."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from lerobot_serl.report.interval import SuccessCount
from lerobot_serl.report.markup import text_html
from lerobot_serl.report.metrics_files import ACT, DEPLOYED, MetricsDirectory, RunMetrics

PHASES = {
    "collect": "Collecting: the base policy acts alone, or with small edits; nothing is learnt yet",
    "critic": "The critics learn; the robot goes on as before",
    "actor": "Practising: edits are learnt, and carried out where the critics like them",
    "offline": "Learning from the dataset, without a robot",
}
RECENT = 20
"""Episodes of the short success rates, and squares in the row of outcomes."""
LISTED = 8
SILENT_S = 120.0
"""Without a new row for so long, something may have stopped."""
_HOW = {DEPLOYED: "as deployed", ACT: "base policy alone", "exploring": "exploring", "": "exploring"}


def now_html(run_dir: Path, metrics: RunMetrics, now_s: float | None = None) -> str:
    """The panel; every text of the run is escaped.

    Args:
        now_s: the clock, seconds since 1970.
    """
    now_s = time.time() if now_s is None else now_s
    phase = str((metrics.learner.get("phase") or metrics.episodes.get("phase") or [""])[-1])
    parts = [f'<p class="phase">{text_html(PHASES.get(phase) or phase)}</p>']
    parts += [f'<p class="alarm">{text_html(line)}</p>' for line in _alarms(run_dir, metrics, now_s)]
    parts.append('<div class="tiles">' + "".join(_tile(name, value, note) for name, value, note in _tiles(metrics)) + "</div>")
    parts += [_squares(metrics), _table(metrics)]
    return f'<div class="now">{"".join(parts)}</div>\n'


def _alarms(run_dir: Path, metrics: RunMetrics, now_s: float) -> list[str]:
    """What a person should look at, in sentences."""
    lines = []
    counts = {
        "alarms": "{} times success fell far below that of the start-up episodes.",
        "rollbacks": "{} times the weights were set back to earlier ones.",
        "skipped_updates": "{} updates were not made: their numbers were not finite.",
    }
    for column, words in counts.items():
        if (count := _last(metrics.learner.get(column, []))) and count > 0:
            lines.append(words.format(f"{count:.0f}").replace("1 times", "Once").replace("1 updates were", "1 update was"))
    files = MetricsDirectory(run_dir)
    ages = [now_s - path.stat().st_mtime for path in (files.learner, files.episodes) if path.is_file()]
    if ages and min(ages) > SILENT_S:
        lines.append(f"Nothing new for {_minutes(min(ages))}: has the learner ended, or is it waiting for a robot?")
    return lines


def _tiles(metrics: RunMetrics) -> list[tuple[str, str, str]]:
    """Name, value, and a note below it."""
    episodes, info = metrics.episodes, metrics.info
    steps = sum(filter(math.isfinite, episodes.get("length", [])))
    helped = sum(filter(math.isfinite, episodes.get("interventions", [])))
    fps = info.get("fps")
    spans = [_span(count, fps) for count in (steps, helped)]
    act, deployed = metrics.act_success(), _recent(metrics, DEPLOYED)
    any_kind = _recent(metrics, None)
    return [
        ("Success as deployed", *_rate(deployed)),
        ("All practice", *_rate(any_kind)),
        ("Base policy alone", *_rate(act)),
        ("Robot", spans[0], f"{len(episodes.get('success', [])):,} episodes"),
        ("Person", spans[1], f"{sum(filter(math.isfinite, episodes.get('takeovers', []))):.0f} takeovers"),
        ("Learner", *_pace(metrics)),
    ]


def _pace(metrics: RunMetrics) -> tuple[str, str]:
    """Updates, and who waits for whom."""
    learner = metrics.learner
    updates, lead = _last(learner.get("step", [])), _last(learner.get("lead_steps", []))
    value = "0" if updates is None else f"{updates:,.0f}"
    if lead is not None and lead > 100:
        return value, f"updates; {lead:,.0f} steps behind the robot"
    waits = [wait for wait in learner.get("wait_s", [])[-3:] if math.isfinite(wait)]
    return value, "updates; waits for the robot" if waits and sum(waits) > 1 else "updates; keeps up"


def _recent(metrics: RunMetrics, acted_as: str | None) -> SuccessCount | None:
    rows = metrics.unaided(acted_as)[-RECENT:]
    return metrics.count(rows, f"last {len(rows)}") if rows else None


def _rate(count: SuccessCount | None) -> tuple[str, str]:
    if count is None or not count.trials:
        return "none", "no episode yet"
    low, high = (100 * bound for bound in count.interval)
    return f"{100 * count.rate:.0f} %", f"{count.successes} of {count.trials}; 95 %: {low:.0f} to {high:.0f}"


def _squares(metrics: RunMetrics) -> str:
    """The last outcomes, oldest first; told apart by letter as well as by colour."""
    successes = metrics.episodes.get("success", [])[-RECENT:]
    kinds = {1.0: ("yes", "S"), 0.0: ("no", "F")}
    cells = "".join('<i class="{}">{}</i>'.format(*kinds.get(success, ("none", "?"))) for success in successes)
    return f'<p class="outcomes" aria-label="last outcomes, newest last">{cells}</p>' if cells else ""


def _table(metrics: RunMetrics) -> str:
    """The newest episodes, newest first."""
    episodes = metrics.episodes
    count = len(episodes.get("success", []))
    rows = []
    for index in range(count - 1, max(count - 1 - LISTED, -1), -1):
        value = {name: column[index] for name, column in episodes.items()}
        success, length = value.get("success"), value.get("length", math.nan)
        cells = (
            _number(value.get("episode")),
            "success" if success == 1 else "failure",
            _HOW.get(str(value.get("acted_as", "")), ""),
            _number(length),
            _number(value.get("takeovers")) if value.get("takeovers", 0) else "",
            str(value.get("decided_by", "")),
        )
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "<tr><th>#</th><th>Outcome</th><th>How</th><th>Steps</th><th>Help</th><th>Ended by</th></tr>"
    return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>' if rows else ""


def _tile(name: str, value: str, note: str) -> str:
    return f"<div><b>{text_html(value)}</b><span>{text_html(name)}</span><small>{text_html(note)}</small></div>"


def _span(steps: float, fps: Any) -> str:
    """Minutes, where the rate is known."""
    return _minutes(steps / fps) if isinstance(fps, int | float) and fps > 0 else f"{steps:,.0f} steps"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 600 else f"{seconds / 60:.1f} min"


def _number(value: Any) -> str:
    return f"{value:,.0f}" if isinstance(value, float) and math.isfinite(value) else ""


def _last(column: Sequence[float]) -> float | None:
    return next((value for value in reversed(column) if math.isfinite(value)), None)
