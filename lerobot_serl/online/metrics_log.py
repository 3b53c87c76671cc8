"""What a run writes for people: metric files for ``lerobot-serl-report``, what LeRobot's log shows, and ACT's own success."""

import logging
import math
import shlex
import statistics
import sys
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import Tensor

from ..policy.configuration_serl_sac import SerlSacConfig
from ..policy.progress import Phase, Progress
from ..replay.episode import ActedAs, Episode
from ..replay.store import dataset_root
from ..report.csv_appender import CsvAppender
from ..report.metrics_files import DEPLOYED, EPISODE_COLUMNS, LEARNER_LEADING_COLUMNS, TEXT_COLUMNS, MetricsDirectory, MissingMetricsError
from ..report.style import WINDOW
from ..report.success_curve import DEPLOYED_WINDOW
from .averages import Averages
from .evidence import BestPolicy, Tally


class MetricsLog:
    """Averages metrics between two rows, writes rows and episodes, and remembers how the first episodes went.

    Metrics are an open set: whatever is collected becomes a column of ``learner.csv``, and is shown.

    Args:
        directory: run directory; None writes nothing.
        config: for ``run.json`` and the period.
        progress: counters.
        fps: of the robot, for ``run.json``.
        resumed: rows written after the checkpoint are dropped, since they will be written again.

    Raises:
        OSError: the files cannot be written.
        MetricsFormatError: an earlier run's files are damaged, or are others.
    """

    def __init__(self, directory: Path | None, config: SerlSacConfig, progress: Progress, resumed: bool, fps: int | None = None) -> None:
        self._config = config
        self._progress = progress
        self._fps = fps
        self._started = self._last_row = time.perf_counter()
        self._updates_at_last_row = progress.updates
        self._averages = Averages()
        self._waited_s = self._longest_intake_s = 0.0
        self._startup: dict[ActedAs, Tally] = defaultdict(Tally)
        self._row: dict[str, float] = {}
        self._recent: deque[Mapping[str, Any]] = deque(maxlen=WINDOW)
        self._deployed: deque[float] = deque(maxlen=DEPLOYED_WINDOW)
        self._episodes_shown: dict[str, float] = {}
        self._learner: CsvAppender | None = None
        self._episodes: CsvAppender | None = None
        self._files = None if directory is None else MetricsDirectory(directory)
        if self._files is not None:
            try:
                self._open(self._files, resumed)
            except OSError as error:
                raise OSError(f"Metrics cannot be written in {directory}: {error}. Set --policy.metrics_dir=DIR.") from error

    @property
    def due(self) -> bool:
        """Whether a row is written after this update; the first update has one, so that there is something to show."""
        return not self._row or time.perf_counter() - self._last_row >= self._config.metrics_period_s

    def collect(self, metrics: Mapping[str, Tensor | float]) -> None:
        """Add one update's metrics to the averages. Tensors stay where they are until the next row."""
        self._averages.add(metrics)

    def waited(self, seconds: float) -> None:
        """Time the learner waited for the robot."""
        self._waited_s += seconds

    def took_in(self, seconds: float) -> None:
        """Time for which an update was held up by an episode that came in."""
        self._longest_intake_s = max(self._longest_intake_s, seconds)

    def write_if_due(self, gauges: Mapping[str, float], last: bool = False) -> None:
        """Write a row of averages and the momentary ``gauges``, if the period is over, or the run."""
        if not (self.due or last):
            return
        now, updates = time.perf_counter(), self._progress.updates
        row = self._averages.read() | dict(gauges)
        row["updates_per_s"] = (updates - self._updates_at_last_row) / (now - self._last_row)
        row["wait_s"] = self._waited_s
        row["intake_ms"] = 1000 * self._longest_intake_s
        if self._learner is not None:
            place = {"step": updates, "env_steps": self._progress.env_steps, "wall_s": now - self._started, "phase": self._phase_name()}
            self._learner.append({**row, **place})
        self._row |= {name: float(value) for name, value in row.items()}
        self._last_row, self._updates_at_last_row = now, updates
        self._waited_s = self._longest_intake_s = 0.0

    def shown(self) -> dict[str, float]:
        """What LeRobot's log shows: the newest row, and how the newest episodes went.

        LeRobot averages floats between two lines of its log, drops whatever else there is, and shows 0 for a name that did not come. So a name
        that was there once keeps its last value.
        """
        phase = list(Phase).index(self._progress.phase)
        return self._row | self._episodes_shown | {"env_steps": float(self._progress.env_steps), "phase": float(phase)}

    def episode(self, episode: Episode, phase: Phase) -> None:
        """One finished episode, collected while ``phase`` was on."""
        if phase is Phase.COLLECT and not episode.intervention.any():  # one with help says nothing about the policy
            self._startup[episode.acted_as].add(episode.success)
        row = {
            **{name: value for name, value in episode.info.items() if _fits(name, value)},
            "episode": self._progress.episodes,
            "env_steps": self._progress.env_steps,
            "wall_s": time.perf_counter() - self._started,
            "phase": phase.value,
            "success": int(episode.success_alone),
            "return": float(episode.reward.sum()),
            "length": len(episode),
            "interventions": int(episode.intervention.sum()),
            "acted_as": episode.acted_as.value,
        }
        self._remember([row])
        if self._episodes is not None:
            self._episodes.append(row)

    def write_best(self, best: BestPolicy) -> None:
        """Write for the report which policy ``checkpoints/best`` holds."""
        if self._files is None:
            return
        candidate = None if best.candidate is None else best.candidate.tally
        self._files.write_best(
            {
                "text": f"checkpoints/best {best}",
                "acts_as_act": not best.edits_are_better,
                "learnt_updates": None if best.candidate is None else best.candidate.kept.learnt_updates,
                "deployed": None if candidate is None else [candidate.successes, candidate.trials],
                "act": [best.act.successes, best.act.trials],
            }
        )

    def report_act(self, begins_as_act: bool) -> None:
        """Say how the first policy did before learning, with intervals: what everything is compared with.

        Args:
            begins_as_act: it is ACT; else it has learnt before, and goes on.
        """
        if not self._startup:
            policy = "ACT" if begins_as_act else "the policy that practice began with"
            logging.warning(f"A person helped in every episode before learning: how well {policy} does is not known.")
            return
        names = {
            ActedAs.ACT: "ACT alone",
            ActedAs.DEPLOYED: "The policy that practice began with",
            ActedAs.EXPLORING: "ACT with small edits" if begins_as_act else "The same policy, exploring",
        }
        for acted_as, name in names.items():
            if acted_as in self._startup:
                logging.info(f"{name}, before learning: success in {self._startup[acted_as]} episodes.")
        if not any(tally.successes for tally in self._startup.values()):
            editing = "editing ACT" if begins_as_act else "editing this policy"
            logging.warning(
                f"No success at all: {editing} is not expected to work from 0 %. Record more demonstrations, or train ACT longer."
            )

    def _remember(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Rows of ``episodes.csv``, the newest last, for what LeRobot's log shows."""
        for row in rows:
            self._recent.append(row)
            if row.get("acted_as") == DEPLOYED and row["phase"] != Phase.COLLECT and not row.get("interventions", 0) > 0:
                self._deployed.append(row["success"])
        columns = {name: [row.get(name, math.nan) for row in self._recent] for name in ("success", "return", "takeovers")}
        columns["success_deployed"] = list(self._deployed)
        for name, values in columns.items():
            if known := [value for value in values if math.isfinite(value)]:
                self._episodes_shown[name] = statistics.fmean(known)

    def _phase_name(self) -> str:
        return self._progress.phase.value if self._config.online.enabled else "offline"

    def _open(self, files: MetricsDirectory, resumed: bool) -> None:
        updates, episodes = float(self._progress.updates), float(self._progress.episodes)
        self._learner = CsvAppender(files.learner, LEARNER_LEADING_COLUMNS, ("step", updates) if resumed else None)
        self._episodes = CsvAppender(files.episodes, EPISODE_COLUMNS, ("episode", episodes) if resumed else None)
        if resumed:
            self._go_on(files)
        else:
            files.best.unlink(missing_ok=True)  # another run's, which was written into this directory
        config = self._config
        files.write_run_info(
            {
                "name": "serl_sac",
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "fps": self._fps,
                "horizon": config.horizon,
                "discount": config.discount,
                "utd": config.utd,
                "act": config.act_source,
                "online_dataset": config.online.repo_id,
                "online_root": str(dataset_root(config.online.repo_id, config.online.root).absolute()) if config.online.repo_id else None,
                "command": shlex.join([Path(sys.argv[0]).stem.replace("_", "-"), *sys.argv[1:]]),
            }
        )

    def _go_on(self, files: MetricsDirectory) -> None:
        """Clocks, and what is shown, go on where the rows that were kept end."""
        try:
            metrics = files.load()
        except MissingMetricsError:
            return
        times = [*metrics.learner.get("wall_s", []), *metrics.episodes.get("wall_s", [])]
        self._started -= max((time_s for time_s in times if math.isfinite(time_s)), default=0.0)
        self._remember(dict(zip(metrics.episodes, row, strict=True)) for row in zip(*metrics.episodes.values(), strict=True))


def _fits(name: str, value: float | str) -> bool:
    """Whether what an actor process reports, which may be anything, can stand in a column: words in those for text, else finite numbers."""
    return name in TEXT_COLUMNS if isinstance(value, str) else name not in TEXT_COLUMNS and abs(value) < 1e300
