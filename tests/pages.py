"""The documents, and what a table of theirs names."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
SECTION = re.compile(r"^## (\w+)\.csv.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def documents():
    return {path.name: path.read_text(encoding="utf-8") for path in sorted([*DOCS.glob("*.md"), DOCS.parent / "README.md"])}


def columns_in(section):
    """Names in the first column of the tables, or in the text, of a section of docs/metrics.md."""
    text = next(match.group(0) for match in SECTION.finditer(documents()["metrics.md"]) if match.group(1) == section)
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return sorted(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", " ".join(rows) or text))))
