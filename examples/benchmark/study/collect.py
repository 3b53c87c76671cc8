"""From the runs' files to the committed result tables."""

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .base import MARKER as BASE
from .plan import Plan
from .results import Row, read_rows, replace_measured, write_json, write_rows
from .run import CONTROL, EVALUATIONS, MARKER, TRAINING

META = "meta.json"


def finished(plan: Plan, root: Path) -> list[dict[str, Any]]:
    """What the finished runs of a study say of themselves."""
    markers = [root / plan.name / variant.name / f"seed{seed}" / MARKER for variant, seed in plan.jobs()]
    return [json.loads(marker.read_text(encoding="utf-8")) for marker in markers if marker.is_file()]


def collect(plan: Plan, root: Path, results: Path) -> None:
    """Write ``<variant>.csv`` (evaluations), ``<variant>.training.csv``, perhaps ``<variant>.control.csv``, and ``meta.json`` of all finished runs.

    ``meta.json`` has the plan, versions, machine and time of each run, and which checkpoints of ACT were tried when the seed was
    first collected. Runs that are in the tables already, and whose own files are gone, stay.
    """
    directory = results / plan.name
    done = finished(plan, root)
    if not done:
        return
    for variant in plan.variants.values():
        seeds = sorted(run["seed"] for run in done if run["variant"] == variant.name)
        if not seeds:
            continue
        for source, target in ((EVALUATIONS, evaluations_of(directory, variant.name)), (TRAINING, training_of(directory, variant.name))):
            rows: list[Row] = [row for row in read_rows(target) if row.seed not in seeds] if target.is_file() else []
            for seed in seeds:
                rows += read_rows(root / plan.name / variant.name / f"seed{seed}" / source)
            write_rows(target, sorted(rows, key=lambda row: (row.seed, row.step, row.episode)))
        for seed in seeds:
            measured = root / plan.name / variant.name / f"seed{seed}" / CONTROL
            if measured.is_file():
                with measured.open(encoding="utf-8", newline="") as file:
                    replace_measured(control_of(directory, variant.name), list(csv.DictReader(file)), ("seed",))
    meta_file = directory / META
    before = json.loads(meta_file.read_text(encoding="utf-8")) if meta_file.is_file() else {}
    runs = {(run["variant"], run["seed"]): run for run in [*before.get("runs", []), *done]}
    act = {**checkpoints_tried(plan, root), **before.get("act", {})}  # trained anew on another processor, ACT is another one
    write_json(meta_file, {"plan": asdict(plan), "act": dict(sorted(act.items())), "runs": [runs[key] for key in sorted(runs)]})


def checkpoints_tried(plan: Plan, root: Path) -> dict[str, dict[str, float]]:
    """Of each seed: share of successes by ACT's training steps, in the order in which checkpoints were tried; the last one was taken."""
    markers = {str(seed): plan.base_root(root, seed) / BASE for seed in sorted({seed for _, seed in plan.jobs()})}
    return {seed: json.loads(marker.read_text(encoding="utf-8"))["tried"] for seed, marker in markers.items() if marker.is_file()}


def act_tried(directory: Path, variant: str) -> dict[int, dict[str, float]]:
    """The same from a study's ``meta.json``, by seed; where a run of the variant had an ACT of its own, that one's."""
    file = directory / META
    document = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"act": {}, "runs": []}
    own = {run["seed"]: run["act"] for run in document["runs"] if run["variant"] == variant and "act" in run}
    return {int(seed): tried for seed, tried in document["act"].items()} | own


def evaluations_of(directory: Path, variant: str) -> Path:
    """The table of a variant's evaluation episodes."""
    return directory / f"{variant}.csv"


def control_of(directory: Path, variant: str) -> Path:
    """The table of a variant's weights, deployed in different ways."""
    return directory / f"{variant}.control.csv"


def training_of(directory: Path, variant: str) -> Path:
    """The table of the episodes that a variant learnt from."""
    return directory / f"{variant}.training.csv"
