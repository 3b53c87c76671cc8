"""The metric files of a run: their columns, a crash-safe appender and tolerant readers.

RUN_DIR/metrics holds learner.csv (a row per log window), episodes.csv (per episode), evaluations.csv (optional) and run.json (facts).
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from lerobot_serl.report.interval import SuccessCount

LEARNER_LEADING_COLUMNS = ("step", "env_steps", "wall_s", "phase")
"""First columns of learner.csv: critic updates, environment steps, seconds, phase; free float columns follow."""

EPISODE_COLUMNS = (
    "episode", "env_steps", "wall_s", "actor", "phase", "success", "return", "length", "interventions",
    "policy_version", "share_base", "share_mean", "share_sample", "edit_rms", "decided_by", "takeovers", "late_ticks",
    "worst_lateness_s", "clamps", "own_ms",
)  # fmt: skip
"""Columns of episodes.csv; env_steps and wall_s are cumulative, success is 0 or 1, length is in steps."""

EPISODE_REQUIRED_COLUMNS = ("episode", "env_steps", "phase", "success")
EVALUATION_COLUMNS = ("env_steps", "step", "name", "successes", "trials")
TEXT_COLUMNS = frozenset({"phase", "actor", "name", "decided_by"})
PHASES = ("collect", "offline", "critic", "actor")
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
    """Read a metric CSV file.

    A last line without a line end was torn by a kill (or is being written) and is left out. Empty cells become NaN, or "" in text columns.

    Args:
        path: the CSV file.
        required: columns that must be in the header.

    Raises:
        FileNotFoundError: there is no such file.
        MetricsFormatError: bad header, a row with the wrong number of cells, a cell that is no number, or a file above 1 GiB.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise MetricsFormatError(f"{path} has {size} bytes; files above {MAX_FILE_BYTES} bytes (1 GiB) are not read")
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as handle:
        rows = _rows(path, (line for line in handle if line.endswith("\n")))
        _, header = next(rows, (0, None))
        if header is None:
            raise MetricsFormatError(f"{path} has no complete header line; {FILE_REMEDY}")
        _check_header(path, header, required)
        table: Table = {name: [] for name in header}
        for number, row in rows:
            if len(row) != len(header):
                raise MetricsFormatError(f"{path} line {number}: {len(row)} cells, expected {len(header)}; {REMEDY}")
            for name, cell in zip(header, row, strict=True):
                table[name].append(_parse(cell, name, path, number))
    return table


def _rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Cells of each row, with the number of its last line."""
    reader = csv.reader(lines)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise MetricsFormatError(f"{path} line {reader.line_num}: {error}; {REMEDY}") from error


def _check_header(path: Path, header: Sequence[str], required: Sequence[str]) -> None:
    """Raise MetricsFormatError unless the header names each column once and has the required ones."""
    for position, name in enumerate(header):
        if not name.strip() or name in header[:position]:
            fault = f"{name!r} is in the header twice" if name.strip() else f"{position + 1} of the header has no name"
            raise MetricsFormatError(f"{path}: column {fault}; {FILE_REMEDY}")
    missing = [name for name in required if name not in header]
    if missing:
        raise MetricsFormatError(f"{path}: the header lacks the column(s) {', '.join(missing)}; {FILE_REMEDY}")


def _parse(cell: str, column: str, path: Path, line: int) -> float | str:
    """Turn one cell into a float (NaN when empty), or leave it as text."""
    if column in TEXT_COLUMNS:
        return cell
    try:
        return float(cell) if cell.strip() else math.nan
    except ValueError:
        raise MetricsFormatError(f"{path} line {line}: {cell[:40]!r} in column {column!r} is not a number; {REMEDY}") from None


def _format(value: object, column: str) -> str:
    """Turn one value into a cell: None and NaN empty, booleans 0 or 1, floats with all digits."""
    if value is None:
        return ""
    if column in TEXT_COLUMNS:
        text = str(value)
        if "\n" in text or "\r" in text:
            raise ValueError(f"column {column!r} must not hold a line break")
        return text
    if isinstance(value, int):
        return str(int(value))
    if not hasattr(value, "__float__"):
        raise TypeError(f"column {column!r} needs a number, not {type(value).__name__}")
    number = float(value)
    return "" if math.isnan(number) else repr(number)


def _csv_line(cells: Sequence[str]) -> bytes:
    """Encode cells as one CSV line."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue().encode()


class CsvAppender:
    """Appends rows to a CSV file so that a kill at any moment costs at most the row being written.

    Each row is a single unbuffered write, so readers see whole rows. Opening an existing file keeps its header and
    drops a torn last line. Safe to call from several threads; one process at a time may hold a file.

    Args:
        path: the CSV file; its folder is created.
        columns: column names, used as the header of a new file.
        resume_below: (column, number): drop rows with a greater number in that column; the resumed run writes them again.

    Raises:
        ValueError: a name in `columns`, or the resume column, is not in the header of the existing file.
    """

    def __init__(self, path: Path, columns: Sequence[str], resume_below: tuple[str, float] | None = None) -> None:
        self.path = Path(path)
        _check_header(self.path, columns, ())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        if _drop_torn_line(self.path):
            self.columns = self._existing_columns(columns)
        else:
            self.columns = tuple(columns)
            self.path.write_bytes(_csv_line(columns))
        if resume_below is not None:
            self._trim(*resume_below)
        self._file = self.path.open("ab", buffering=0)

    def _existing_columns(self, columns: Sequence[str]) -> tuple[str, ...]:
        with self.path.open(encoding="utf-8-sig", errors="replace", newline="") as handle:
            header = tuple(next(_rows(self.path, handle))[1])
        _check_header(self.path, header, ())
        self._refuse_unknown(columns, header)
        return header

    def _refuse_unknown(self, names: Sequence[str], known: Sequence[str]) -> None:
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f"{self.path} has no column(s) {', '.join(unknown)}; its columns are {', '.join(known)[:200]}; {FILE_REMEDY}")

    def _trim(self, column: str, limit: float) -> None:
        self._refuse_unknown([column], self.columns)
        index = self.columns.index(column)
        kept_path = self.path.with_name(self.path.name + ".tmp")
        with self.path.open(encoding="utf-8-sig", errors="replace", newline="") as source, kept_path.open("wb") as kept:
            for number, row in _rows(self.path, source):
                if number > 1 and len(row) > index:
                    value = _parse(row[index], column, self.path, number)
                    if isinstance(value, float) and value > limit:
                        continue
                kept.write(_csv_line(row))
            kept.flush()
            os.fsync(kept.fileno())
        os.replace(kept_path, self.path)

    def append(self, row: Mapping[str, object]) -> None:
        """Write one row; columns left out stay empty.

        Raises:
            ValueError: a name is not a column, or the file is closed, or text holds a line break.
            TypeError: a value of a number column is no number.
            OSError: the row could not be written whole (disk full); the file is left as before.
        """
        self._refuse_unknown(list(row), self.columns)
        line = _csv_line([_format(row.get(name), name) for name in self.columns])
        with self._lock:
            before = os.fstat(self._file.fileno()).st_size
            if self._file.write(line) != len(line):
                os.ftruncate(self._file.fileno(), before)
                raise OSError(f"could not write a whole row to {self.path}; is the disk full?")

    def close(self) -> None:
        """Close the file; calling it again does nothing."""
        with self._lock:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _drop_torn_line(path: Path) -> bool:
    """Cut what follows the last line end of a file; False when no complete line (no header) is left."""
    if not path.exists():
        return False
    with path.open("r+b") as handle:
        end = handle.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            handle.seek(start)
            position = handle.read(end - start).rfind(b"\n")
            if position >= 0:
                handle.truncate(start + position + 1)
                return True
            end = start
    return False


@dataclass(frozen=True)
class RunMetrics:
    """All metrics of one run; an absent file is an empty table. Episodes are ordered by environment steps."""

    learner: Table = field(default_factory=dict)
    episodes: Table = field(default_factory=dict)
    evaluations: Table = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)

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
        """Success of ACT alone: all evaluations named act, else the episodes of the collect phase without help, else None."""
        counts = [count for _, count in self.evaluation_counts(EVALUATION_ACT)]
        if counts:
            return SuccessCount(sum(c.successes for c in counts), sum(c.trials for c in counts), "evaluations")
        rows = self.unaided(collecting=True)
        return SuccessCount(sum(int(self.episodes["success"][row]) for row in rows), len(rows), "collect phase") if rows else None

    def unaided(self, collecting: bool) -> list[int]:
        """Rows of the episodes, of the collect phase or after it, in which nobody helped: the others say nothing about the policy."""
        phases = self.episodes.get("phase", [])
        helped = self.episodes.get("interventions", [0.0] * len(phases))
        return [row for row, phase in enumerate(phases) if (phase == "collect") == collecting and not helped[row] > 0]


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
        """Write run.json in one step (temporary file, then rename).

        Raises:
            TypeError: a value cannot be written as JSON.
        """
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
        """Read run.json; an empty dict when there is none.

        Raises:
            MetricsFormatError: the file is not a JSON object.
        """
        if not self.run_info.exists():
            return {}
        try:
            info = json.loads(self.run_info.read_text(encoding="utf-8"))
        except ValueError as error:
            raise MetricsFormatError(f"{self.run_info} is not valid JSON: {error}; {FILE_REMEDY}") from error
        if not isinstance(info, dict):
            raise MetricsFormatError(f"{self.run_info} must hold a JSON object, not a {type(info).__name__}; {FILE_REMEDY}")
        return info

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
        return RunMetrics(learner, _finished_in_order(self.episodes, episodes), evaluations, self.read_run_info())


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
