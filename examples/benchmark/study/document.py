"""Puts what has been measured into docs/benchmarks.md: each study's table, and what of its plan has not run."""

import re
import textwrap
from pathlib import Path

from .collect import evaluations_of
from .plan import Plan
from .results import read_rows

WIDTH = 150
TABLE, INCOMPLETE = "| variant | seeds |", "Seeds that have run so far: "


def with_results(text: str, plan: Plan, results: Path) -> str:
    """The document with the table of a study in the section that names it, and a sentence on variants that lack seeds before it.

    As it was, where it has no such section with a table: not every study is for the documentation.
    """
    found = re.search(
        rf"^### [^\n]*`{re.escape(plan.name)}`\)\n((?:(?!#)[^\n]*\n)*?)({re.escape(TABLE)}.*?)\n\n", text, re.MULTILINE | re.DOTALL
    )
    if found is None:
        return text
    before = re.sub(rf"^{INCOMPLETE}.*?\n\n", "", found[1], flags=re.MULTILINE | re.DOTALL)
    table = (results / plan.name / "summary.md").read_text(encoding="utf-8").rstrip("\n")
    return text[: found.start(1)] + before + _incomplete(plan, results / plan.name) + table + text[found.end(2) :]


def _incomplete(plan: Plan, directory: Path) -> str:
    missing = []
    for variant in plan.variants.values():
        file, wanted = evaluations_of(directory, variant.name), plan.seeds_of(variant)
        seeds = {row.seed for row in read_rows(file)} if file.is_file() else set()
        if not seeds >= set(wanted):
            missing.append(f"`{variant.name}` {len(seeds & set(wanted))} of {len(wanted)}")
    if not missing:
        return ""
    lines = textwrap.wrap(f"{INCOMPLETE}{', '.join(missing)}.", WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines) + "\n\n"
