"""One run in a process of its own: ``python -m study.run_one PLAN.yaml VARIANT SEED ROOT [--quick]``. Makes the base if it is not there yet."""

import fcntl
import logging
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from .base import load_base, make_base
from .methods import METHODS
from .plan import QUICK_ACT_STEPS, Plan, Variant, load_plan
from .practice import Logbook
from .run import MARKER, Run
from .tasks import TASKS, Task


def main() -> None:
    """Parse and run."""
    plan_path, variant_name, seed_text, root_text, *quick = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    plan, seed, root = load_plan(Path(plan_path), bool(quick)), int(seed_text), Path(root_text)
    variant, task = plan.variants[variant_name], TASKS[plan.task]
    if plan.quick:
        task = replace(task, demonstrations=5, act_steps=(QUICK_ACT_STEPS,), act_range=(0.0, 1.0))
    directory = root / plan.name / variant.name / f"seed{seed}"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another schedule with the same root may be at it, or have done it since ours began
        if not (directory / MARKER).is_file():
            carry_out(plan, variant, task, seed, root, directory)


def carry_out(plan: Plan, variant: Variant, task: Task, seed: int, root: Path, directory: Path) -> None:
    """The run, its base before it."""
    started = time.perf_counter()
    base_root = plan.base_root(root, seed)
    base_root.mkdir(parents=True, exist_ok=True)
    with (base_root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # runs of one seed share a base; the first one makes it
        base = load_base(base_root, task) or make_base(base_root, task, seed)
    run = Run(plan, variant, base, directory, Logbook(seed))
    METHODS[variant.method](run)
    run.finish(time.perf_counter() - started)


if __name__ == "__main__":
    main()
