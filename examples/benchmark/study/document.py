"""Puts what has been measured into docs/benchmarks.md: each study's table, what of its plan has not run, and what all of them cost."""

import json
import re
import textwrap
from pathlib import Path

from .collect import META, evaluations_of
from .plan import Plan
from .results import read_rows

WIDTH = 150
TABLE, INCOMPLETE = "| variant | seeds |", "Seeds that have run so far: "
COSTS, COST_ROW = "| study | runs | core hours | longest run, minutes |\n|---|---|---|---|\n", r"\| `\w+` \| [^\n]*\|\n"


def with_results(text: str, plan: Plan, results: Path) -> str:
    """The document with the table of a study in the section that names it, and a sentence on variants that lack seeds before it.

    As it was, where it has no such section with a table: not every study is for the documentation.
    """
    found = re.search(
        rf"^### [^\n]*`{re.escape(plan.name)}`\)\n((?:(?!^##).)*?)^({re.escape(TABLE)}.*?)\n\n", text, re.MULTILINE | re.DOTALL
    )
    if found is None:
        return text
    before = re.sub(rf"^{INCOMPLETE}.*?\n\n", "", found[1], flags=re.MULTILINE | re.DOTALL)
    table = (results / plan.name / "summary.md").read_text(encoding="utf-8").rstrip("\n")
    return text[: found.start(1)] + before + _incomplete(plan, results / plan.name) + table + text[found.end(2) :]


def with_costs(text: str, results: Path) -> str:
    """The document with the cost table of all studies, and the sums that it names; as it was, where it has no such table."""
    seconds = {
        file.parent.name: [run["seconds"] for run in json.loads(file.read_text(encoding="utf-8")).get("runs", [])]
        for file in sorted(results.glob(f"*/{META}"))
    }
    rows = "".join(
        f"| `{name}` | {len(runs)} | {sum(runs) / 3600:.1f} | {max(runs) / 60:.0f} |\n" for name, runs in seconds.items() if runs
    )
    hours = sum(map(sum, seconds.values())) / 3600
    text = re.sub(rf"{re.escape(COSTS)}(?:{COST_ROW})*", lambda _: COSTS + rows, text)
    text = re.sub(
        r"Together \d+ core hours: \d+ hours on two cores", f"Together {hours:.0f} core hours: {hours / 2:.0f} hours on two cores", text
    )
    return re.sub(r"(\| all runs of the studies in 15 hours on two cores \| no, )\d+", lambda found: f"{found[1]}{hours / 2:.0f}", text)


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
