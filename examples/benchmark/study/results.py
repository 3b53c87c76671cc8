"""Result tables: one row an episode, CSV files that only grow by whole runs."""

import csv
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("lerobot", "torch", "numpy", "mujoco", "gymnasium")


@dataclass(frozen=True)
class Row:
    """One episode.

    Attributes:
        step: environment steps that the policy had learnt from; 0 is ACT, untouched.
        episode: number, from 0: of the evaluation, or of the training run.
        success: 1 or 0.
        ret: sum of rewards; the column is called ``return``.
        length: steps.
        seed: of the run.
        wall_s: seconds since the run began.
        acted_as: what the policy was (`ActedAs`); empty in tables of before version 0.2.
    """

    step: int
    episode: int
    success: int
    ret: float
    length: int
    seed: int
    wall_s: float
    acted_as: str = ""


COLUMNS = tuple("return" if item.name == "ret" else item.name for item in fields(Row))


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Replace the file as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(astuple(row) for row in rows)
    os.replace(temporary, path)


def replace_measured(path: Path, rows: Sequence[dict[str, str]], key: Sequence[str]) -> None:
    """Rows of a table with columns of its own, all of one `key`, in the place of those that it had of that key."""
    place = [rows[0][field] for field in key]
    before = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.is_file() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows([*(row for row in before if [row[field] for field in key] != place), *rows])


def read_rows(path: Path) -> list[Row]:
    """Rows of a table.

    Raises:
        ValueError: other columns.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if tuple(header) not in (COLUMNS, COLUMNS[:-1]):
            raise ValueError(f"{path} has the columns {header}, expected {list(COLUMNS)}")
        types = [item.type for item in fields(Row)][: len(header)]
        return [Row(*(kind(value) for kind, value in zip(types, line, strict=True))) for line in reader]


def success_by_step(rows: Iterable[Row], seed: int) -> dict[int, float]:
    """Share of successes of each evaluation of one run."""
    found: dict[int, list[int]] = {}
    for row in rows:
        if row.seed == seed:
            found.setdefault(row.step, []).append(row.success)
    return {step: sum(successes) / len(successes) for step, successes in sorted(found.items())}


def worst_window(rows: Iterable[Row], seed: int, window: int = 50) -> float:
    """Lowest success over ``window`` training episodes in a row; of all of them, if there are fewer."""
    successes = [row.success for row in rows if row.seed == seed]
    window = min(window, len(successes))
    return min(sum(successes[i : i + window]) / window for i in range(len(successes) - window + 1))


def describe_machine(root: Path) -> dict[str, Any]:
    """Versions, commit, processor and date."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True).stdout.strip()
    dirty = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True).stdout.strip()
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "commit": commit + ("+changes" if dirty else ""),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def write_json(path: Path, document: Any) -> None:
    """Replace the file as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(document, indent=2, default=asdict) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
