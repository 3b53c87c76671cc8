"""One readable line on a run in progress, from its metric files."""

import math
from pathlib import Path

from ..report.metrics_files import DEPLOYED, MetricsDirectory, MetricsFormatError, MissingMetricsError
from ..report.style import WINDOW
from ..report.success_curve import DEPLOYED_WINDOW

PHASE_WORDS = {"collect": "ACT collects", "critic": "critics learn", "actor": "actor learns", "offline": "offline"}


def live_line(run_dir: Path, steps: int | None) -> str:
    """Phase, episodes, success of the last 50 and of the last 20 as deployed, updates, speed and buffer of the run in ``run_dir``.

    Args:
        steps: updates that the run is going to take, if known.
    """
    try:
        metrics = MetricsDirectory(run_dir).load()
    except (MissingMetricsError, FileNotFoundError):
        return "starting: the learner reads the demonstrations"
    except MetricsFormatError as error:
        return f"metrics unreadable: {error}"
    success = metrics.episodes.get("success", [])
    recent = [float(value) for value in success[-WINDOW:]]
    parts = []
    learner = metrics.learner
    phase = str((learner.get("phase") or metrics.episodes.get("phase") or ["collect"])[-1])
    parts.append(PHASE_WORDS.get(phase, phase))
    env_steps = _last(metrics.episodes.get("env_steps", []))
    parts.append(f"{len(success)} episodes, {env_steps:.0f} steps")
    if recent:
        parts.append(f"success of the last {len(recent)}: {100 * sum(recent) / len(recent):.0f} %")
    if deployed := metrics.unaided(DEPLOYED, collecting=False)[-DEPLOYED_WINDOW:]:
        parts[-1] += f", as deployed: {metrics.count(deployed, '').successes} of {len(deployed)}"
    if learner.get("step"):
        total = f" of {steps}" if steps else ""
        parts.append(f"{_last(learner['step']):.0f}{total} updates, {_last(learner.get('updates_per_s', [])):.0f}/s")
        parts.append(f"buffer {_last(learner.get('buffer_steps', [])):.0f} steps")
    return " | ".join(parts)


def _last(values: list[float] | list[float | str]) -> float:
    numbers = [float(value) for value in values if isinstance(value, int | float) and not math.isnan(value)]
    return numbers[-1] if numbers else 0.0
