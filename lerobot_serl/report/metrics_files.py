"""The metric files of a run: their columns and tolerant readers.

RUN_DIR/metrics holds learner.csv (a row per log window), episodes.csv (per episode), evaluations.csv (optional), run.json (facts) and
best.json (optional: which weights the evidence favours).
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lerobot_serl.report.interval import SuccessCount

LEARNER_LEADING_COLUMNS = ("step", "env_steps", "wall_s", "phase")
"""First columns of learner.csv: critic updates, environment steps, seconds, phase. Whatever else is measured follows, a float each."""

EPISODE_COLUMNS = (
    "episode", "env_steps", "wall_s", "actor", "phase", "success", "return", "length", "interventions",
    "policy_version", "share_base", "share_mean", "share_sample", "edit_rms", "decided_by", "takeovers", "late_ticks",
    "worst_lateness_s", "clamps", "own_ms", "acted_as", "seed",
)  # fmt: skip
"""First columns of episodes.csv; env_steps and wall_s are cumulative, success is 0 or 1, length is in steps. Others may follow, floats."""

EPISODE_REQUIRED_COLUMNS = ("episode", "env_steps", "phase", "success")
EVALUATION_COLUMNS = ("env_steps", "step", "name", "successes", "trials")
TEXT_COLUMNS = frozenset({"phase", "actor", "name", "decided_by", "acted_as"})
EXPLORING, DEPLOYED, ACT = "exploring", "deployed", "ACT"
"""How an episode was carried out, as column acted_as has it. It is empty in episodes of older releases, which always explored."""

EVALUATION_ACT, EVALUATION_FINE_TUNED = "act", "fine_tuned"
MAX_FILE_BYTES = 1 << 30
REMEDY, FILE_REMEDY = "take that line out to go on without it", "move that file away to go on without it"

Table = dict[str, list[Any]]
"""Columns by name, all of one length: float (NaN when empty), or str for the names in TEXT_COLUMNS."""


class MetricsFormatError(ValueError):
    """A metric file does not have the expected form; the message names the file and the place."""


class MissingMetricsError(FileNotFoundError):
    """A run directory holds no metrics to report on."""


def read_table(path: Path, required: Sequence[str] = ()) -> Table:
    """Read a metric CSV file, whatever columns it has. Empty cells become NaN, or "" in text columns.

    Args:
        path: the CSV file.
        required: columns that must be in the header.

    Raises:
        FileNotFoundError: there is no such file.
        MetricsFormatError: bad header, a row with the wrong number of cells, a cell that is no number, or a file above 1 GiB.
    """
    rows = rows_of(path)
    _, header = next(rows, (0, None))
    if header is None:
        raise MetricsFormatError(f"{path} has no complete header line; {FILE_REMEDY}")
    check_header(path, header, required)
    table: Table = {name: [] for name in header}
    for number, row in rows:
        if len(row) != len(header):
            raise MetricsFormatError(f"{path} line {number}: {len(row)} cells, expected {len(header)}; {REMEDY}")
        for name, cell in zip(header, row, strict=True):
            table[name].append(parse_cell(cell, name, path, number))
    return table


def rows_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Cells of each row, the header's first, with the number of its last line.

    A last line without a line end was torn by a kill (or is being written) and is left out.
    """
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise MetricsFormatError(f"{path} has {size} bytes; files above {MAX_FILE_BYTES} bytes (1 GiB) are not read; {FILE_REMEDY}")
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as handle:
        reader = csv.reader(line for line in handle if line.endswith("\n"))
        try:
            for row in reader:
                yield reader.line_num, row
        except csv.Error as error:
            raise MetricsFormatError(f"{path} line {reader.line_num}: {error}; {REMEDY}") from error


def check_header(path: Path, header: Sequence[str], required: Sequence[str]) -> None:
    """Raise MetricsFormatError unless the header names each column once and has the required ones."""
    for position, name in enumerate(header):
        if not name.strip() or name in header[:position]:
            fault = f"{name!r} is in the header twice" if name.strip() else f"{position + 1} of the header has no name"
            raise MetricsFormatError(f"{path}: column {fault}; {FILE_REMEDY}")
    missing = [name for name in required if name not in header]
    if missing:
        raise MetricsFormatError(f"{path}: the header lacks the column(s) {', '.join(missing)}; {FILE_REMEDY}")


def parse_cell(cell: str, column: str, path: Path, line: int) -> float | str:
    """Turn one cell into a float (NaN when empty), or leave it as text."""
    if column in TEXT_COLUMNS:
        return cell
    try:
        return float(cell) if cell.strip() else math.nan
    except ValueError:
        raise MetricsFormatError(f"{path} line {line}: {cell[:40]!r} in column {column!r} is not a number; {REMEDY}") from None


@dataclass(frozen=True)
class RunMetrics:
    """All metrics of one run; an absent file is an empty table. Episodes are ordered by environment steps."""

    learner: Table = field(default_factory=dict)
    episodes: Table = field(default_factory=dict)
    evaluations: Table = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)

    def evaluation_counts(self, name: str) -> list[tuple[float, SuccessCount]]:
        """Evaluations of one name as (env_steps, count), in order; rows at the same step are added up.

        Raises:
            MetricsFormatError: more successes than trials, or no env_steps.
        """
        totals: dict[float, tuple[int, int]] = {}
        table = self.evaluations
        for row, row_name in enumerate(table.get("name", [])):
            steps, successes, trials = (table[column][row] for column in ("env_steps", "successes", "trials"))
            if row_name == name and trials > 0:
                if not (0 <= successes <= trials and math.isfinite(steps)):
                    raise MetricsFormatError(f"evaluations.csv row {row + 1}: {successes:g} of {trials:g} at env_steps {steps:g}")
                before = totals.get(steps, (0, 0))
                totals[steps] = (before[0] + int(successes), before[1] + int(trials))
        return [(x, SuccessCount(*totals[x], source="evaluations")) for x in sorted(totals)]

    def act_success(self) -> SuccessCount | None:
        """Success of ACT alone: all evaluations named act, else its own episodes, else those of the collect phase; without human help.

        None without any, and where the collect phase shows that practice began with a policy that had learnt already.
        """
        counts = [count for _, count in self.evaluation_counts(EVALUATION_ACT)]
        if counts:
            return SuccessCount(sum(c.successes for c in counts), sum(c.trials for c in counts), "evaluations")
        if rows := self.unaided(ACT):
            return self.count(rows, "ACT episodes")
        began_as_act = not self.rows(DEPLOYED, collecting=True)
        rows = self.unaided(collecting=True) if began_as_act else []
        return self.count(rows, "collect phase") if rows else None

    def count(self, rows: Sequence[int], source: str) -> SuccessCount:
        """Successes among some episodes, at least one."""
        return SuccessCount(sum(int(self.episodes["success"][row]) for row in rows), len(rows), source)

    def rows(self, acted_as: str | None = None, collecting: bool | None = None) -> list[int]:
        """Rows of the episodes that were carried out so, in the collect phase or after it; None: all of them."""
        phases = self.episodes.get("phase", [])
        kinds = self.episodes.get("acted_as", [""] * len(phases))
        return [
            row
            for row, (phase, kind) in enumerate(zip(phases, kinds, strict=True))
            if acted_as in (None, kind or EXPLORING) and collecting in (None, phase == "collect")
        ]

    def unaided(self, acted_as: str | None = None, collecting: bool | None = None) -> list[int]:
        """Those of `rows` in which nobody helped: the others say nothing about the policy."""
        helped = self.episodes.get("interventions", [])
        return [row for row in self.rows(acted_as, collecting) if not (helped and helped[row] > 0)]

    def kind_of_fine_tuned(self) -> str:
        """Which episodes after the collect phase count for the fine-tuned policy: DEPLOYED, or EXPLORING if nobody left one of those alone."""
        return DEPLOYED if self.unaided(DEPLOYED, collecting=False) else EXPLORING


class MetricsDirectory:
    """Paths of the metric files of a run directory."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = Path(run_dir)
        self.directory = self.run_dir / "metrics"
        self.learner = self.directory / "learner.csv"
        self.episodes = self.directory / "episodes.csv"
        self.evaluations = self.directory / "evaluations.csv"
        self.run_info = self.directory / "run.json"
        self.best = self.directory / "best.json"

    def write_run_info(self, info: Mapping[str, Any]) -> None:
        """Write run.json in one step (temporary file, then rename)."""
        self._write_json(self.run_info, info)

    def write_best(self, best: Mapping[str, Any]) -> None:
        """Write best.json, which policy is to be deployed, in the same way."""
        self._write_json(self.best, best)

    def _write_json(self, path: Path, document: Mapping[str, Any]) -> None:
        text = json.dumps(dict(document), indent=2, sort_keys=True) + "\n"
        self.directory.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.tmp")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)

    def read_run_info(self) -> dict[str, Any]:
        """Read run.json; an empty dict when there is none."""
        return _read_object(self.run_info)

    def read_best(self) -> dict[str, Any]:
        """Read best.json, whose "text" says in words which weights the evidence favours; an empty dict when there is none."""
        best = _read_object(self.best)
        if self.best.exists() and not isinstance(best.get("text"), str):
            raise MetricsFormatError(f'{self.best} must hold a "text" in words; {FILE_REMEDY}')
        return best

    def load(self) -> RunMetrics:
        """Read every metric file of the run.

        Raises:
            MissingMetricsError: neither learner.csv nor episodes.csv has a row.
            MetricsFormatError: a file is malformed.
        """
        learner = _read_if_present(self.learner, LEARNER_LEADING_COLUMNS)
        episodes = _read_if_present(self.episodes, EPISODE_REQUIRED_COLUMNS)
        if not learner.get("step") and not episodes.get("success"):
            raise MissingMetricsError(
                f"no metrics in {self.directory} (looked for rows in {self.learner.name} and {self.episodes.name}). Give the output "
                "directory of a training run, the one that holds `metrics/`, and make the report after the first episode has finished."
            )
        evaluations = _read_if_present(self.evaluations, EVALUATION_COLUMNS)
        return RunMetrics(learner, _finished_in_order(self.episodes, episodes), evaluations, self.read_run_info(), self.read_best())


def _read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; an empty one when there is no file."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise MetricsFormatError(f"{path} is not valid JSON: {error}; {FILE_REMEDY}") from error
    if not isinstance(content, dict):
        raise MetricsFormatError(f"{path} must hold a JSON object, not a {type(content).__name__}; {FILE_REMEDY}")
    return content


def _read_if_present(path: Path, required: Sequence[str]) -> Table:
    """Read a table, or return an empty one when there is no file yet or nothing in it."""
    return read_table(path, required) if path.exists() and path.stat().st_size > 0 else {}


def _finished_in_order(path: Path, episodes: Table) -> Table:
    """Episodes with a known outcome and step, ordered by environment steps; refuse outcomes other than 0 and 1."""
    for row, success in enumerate(episodes.get("success", [])):
        if not math.isnan(success) and success not in (0.0, 1.0):
            raise MetricsFormatError(f"{path} data row {row + 1}: success must be 0 or 1, not {success:g}")
    pairs = zip(episodes.get("success", []), episodes.get("env_steps", []), strict=True)
    known = [row for row, (success, steps) in enumerate(pairs) if math.isfinite(success + steps)]
    known.sort(key=lambda row: episodes["env_steps"][row])
    return {name: [values[row] for row in known] for name, values in episodes.items()}
