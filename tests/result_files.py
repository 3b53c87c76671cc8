"""The committed result files and the documents that quote them."""

import csv
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"


def rows_of(name: str) -> list[dict[str, str]]:
    """The rows of a CSV file under docs/results."""
    with (RESULTS / name).open(newline="") as handle:
        return list(csv.DictReader(handle))
