"""What a run writes for people: metric files for ``lerobot-serl-report``, and ACT's own success."""

import logging
import math
import time
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from torch import Tensor

from ..policy.configuration_serl_sac import SerlSacConfig
from ..policy.progress import Phase, Progress
from ..replay.recording import ActedAs, Recording
from ..report.csv_appender import CsvAppender
from ..report.metrics_files import EPISODE_COLUMNS, LEARNER_LEADING_COLUMNS, TEXT_COLUMNS, MetricsDirectory, MissingMetricsError
from .averages import Averages
from .evidence import BestPolicy, Tally

# Every value that a row of learner.csv may have; docs/metrics.md explains them.
LEARNER_METRICS = (
    "critic_loss", "advantage_penalty", "q_data", "q_demo", "q_online", "q_std", "q_base", "q_edit", "target_q", "reward_share",
    "actor_loss", "anchor", "edit_rms", "edit_saturation", "edit_advantage", "edit_chosen", "sigma", "entropy",
    "temperature", "temperature_loss", "corrector_loss",
    "critic_grad_norm", "actor_grad_norm", "temperature_grad_norm", "corrector_grad_norm",
    "updates_per_s", "wait_s", "intake_ms", "buffer_steps", "demo_steps", "lead_steps", "skipped_updates", "alarms", "rollbacks",
)  # fmt: skip


class RunJournal:
    """Averages metrics between two rows, writes rows and episodes, and remembers how the first episodes went.

    Args:
        directory: run directory; None writes nothing.
        config: for ``run.json`` and the period.
        progress: counters.
        resumed: rows written after the checkpoint are dropped, since they will be written again.

    Raises:
        OSError: the files cannot be written.
        MetricsFormatError: an earlier run's files are damaged, or are others.
    """

    def __init__(self, directory: Path | None, config: SerlSacConfig, progress: Progress, resumed: bool) -> None:
        self._config, self._progress = config, progress
        self._started = self._last_row = time.perf_counter()
        self._updates_at_last_row = progress.updates
        self._averages = Averages()
        self._row: dict[str, float] = {}
        self._waited_s = self._longest_intake_s = 0.0
        self._startup: dict[ActedAs, Tally] = defaultdict(Tally)
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
        """Whether a row is written after this update."""
        return time.perf_counter() - self._last_row >= self._config.metrics_period_s

    def collect(self, metrics: Mapping[str, Tensor | float]) -> None:
        """Add one update's metrics to the averages. Tensors stay where they are until the next row."""
        self._averages.add(metrics)

    def shown(self) -> dict[str, float]:
        """What LeRobot's log shows: the newest row."""
        return self._row | {"env_steps": float(self._progress.env_steps)}

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
            self._learner.append(
                {
                    "step": updates,
                    "env_steps": self._progress.env_steps,
                    "wall_s": now - self._started,
                    "phase": self._phase_name(),
                    **row,
                }
            )
        self._row |= {name: float(value) for name, value in row.items()}
        self._last_row, self._updates_at_last_row = now, updates
        self._waited_s = self._longest_intake_s = 0.0

    def episode(self, recording: Recording, phase: Phase) -> None:
        """One finished episode, collected while ``phase`` was on."""
        if phase is Phase.COLLECT and not recording.intervention.any():  # one with help says nothing about the policy
            self._startup[recording.acted_as].add(recording.success)
        if self._episodes is None:
            return
        reported = {
            name: recording.info[name]
            for name in EPISODE_COLUMNS
            if name in recording.info and isinstance(recording.info[name], str) == (name in TEXT_COLUMNS)  # an actor may report anything
        }
        self._episodes.append(
            {
                **reported,
                "episode": self._progress.episodes,
                "env_steps": self._progress.env_steps,
                "wall_s": time.perf_counter() - self._started,
                "phase": phase.value,
                "success": int(recording.success_alone),
                "return": float(recording.reward.sum()),
                "length": len(recording),
                "interventions": int(recording.intervention.sum()),
                "acted_as": recording.acted_as.value,
            }
        )

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

    def _phase_name(self) -> str:
        return self._progress.phase.value if self._config.online.enabled else "offline"

    def _open(self, files: MetricsDirectory, resumed: bool) -> None:
        updates, episodes = float(self._progress.updates), float(self._progress.episodes)
        self._learner = CsvAppender(files.learner, (*LEARNER_LEADING_COLUMNS, *LEARNER_METRICS), ("step", updates) if resumed else None)
        self._episodes = CsvAppender(files.episodes, EPISODE_COLUMNS, ("episode", episodes) if resumed else None)
        if resumed:  # clocks go on where the rows that were kept end
            self._started -= _last_wall_s(files)
        else:
            files.best.unlink(missing_ok=True)  # another run's, which was written into this directory
        config = self._config
        files.write_run_info(
            {
                "name": "serl_sac",
                "started": datetime.now(UTC).isoformat(timespec="seconds"),
                "horizon": config.horizon,
                "discount": config.discount,
                "utd": config.utd,
                "act": config.act_source,
                "online_dataset": config.online.repo_id,
            }
        )


def _last_wall_s(files: MetricsDirectory) -> float:
    try:
        metrics = files.load()
    except MissingMetricsError:
        return 0.0
    times = [*metrics.learner.get("wall_s", []), *metrics.episodes.get("wall_s", [])]
    return max((time_s for time_s in times if math.isfinite(time_s)), default=0.0)
