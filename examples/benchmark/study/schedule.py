"""Runs a study's jobs side by side, each in a process of its own, and shows what is left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .base import MARKER as BASE_MARKER
from .collect import finished
from .plan import Plan, Variant
from .run import MARKER

POLL_S = 2.0
TAIL_LINES = 15
RUN_ONE = (sys.executable, "-m", "study.run_one")


@dataclass
class _Job:
    plan_path: Path
    plan: Plan
    variant: Variant
    seed: int
    directory: Path
    base_root: Path
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.plan.name}/{self.variant.name} seed {self.seed}"


class Schedule:
    """All jobs of some studies; those that are finished already are left out.

    Args:
        plans: files and what they say.
        root: of everything that runs leave.
        parallel: jobs at a time.
        quick: see :meth:`Plan.quick`.
        program: that carries a job out, given plan, variant, seed and root.
    """

    def __init__(self, plans: dict[Path, Plan], root: Path, parallel: int, quick: bool, program: Sequence[str] = RUN_ONE) -> None:
        self._root, self._parallel, self._quick, self._program = root, parallel, quick, program
        jobs = [
            _Job(path, plan, variant, seed, root / plan.name / variant.name / f"seed{seed}", plan.base_root(root, seed))
            for path, plan in plans.items()
            for variant, seed in plan.jobs()
        ]
        self._waiting = [job for job in jobs if not (job.directory / MARKER).is_file()]
        self._total, self._running, self.failed = len(jobs), list[_Job](), list[str]()
        self._seconds = [run["seconds"] for plan in plans.values() for run in finished(plan, root)]

    def run(self, on_finish: Callable[[Plan], None] = lambda plan: None) -> None:
        """Everything that is waiting; ``on_finish(plan)`` after each job."""
        try:
            while self._waiting or self._running:
                while self._waiting and len(self._running) < self._parallel:
                    self._start(self._waiting.pop(self._next()))
                time.sleep(POLL_S)
                for job in [job for job in self._running if job.process is not None and job.process.poll() is not None]:
                    self._running.remove(job)
                    self._end(job)
                    on_finish(job.plan)
                self._show()
        finally:
            for job in self._running:
                if job.process is not None:
                    job.process.send_signal(signal.SIGTERM)
                    job.process.wait()
            if sys.stderr.isatty():
                print(file=sys.stderr)

    def _next(self) -> int:
        """Which of the waiting jobs: the first that need not wait for a base that another one is making."""
        in_the_making = {job.base_root for job in self._running if not (job.base_root / BASE_MARKER).is_file()}
        return next((index for index, job in enumerate(self._waiting) if job.base_root not in in_the_making), 0)

    def _start(self, job: _Job) -> None:
        job.directory.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [environment.get("PYTHONPATH")])])
        command = [*self._program, str(job.plan_path), job.variant.name, str(job.seed), str(self._root)]
        with (job.directory / "run.log").open("ab") as log:
            job.process = subprocess.Popen(
                command + ["--quick"] * self._quick, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
            )
        job.started_s = time.monotonic()
        self._running.append(job)

    def _end(self, job: _Job) -> None:
        assert job.process is not None
        log = job.directory / "run.log"
        if job.process.returncode != 0:
            self.failed.append(job.name)
            tail = log.read_text(errors="replace").replace("\r", "\n").splitlines()[-TAIL_LINES:]
            print("\n".join([f"FAILED: {job.name} (exit code {job.process.returncode}); the whole output is in {log}", *tail]), flush=True)
            return
        seconds = json.loads((job.directory / MARKER).read_text(encoding="utf-8"))["seconds"]
        self._seconds.append(seconds)
        last = [line for line in log.read_text(errors="replace").replace("\r", "\n").splitlines() if " steps, " in line][-1:]
        print(f"{_now()} {job.name}: {seconds / 60:.0f} min. {''.join(last)}", flush=True)

    def _show(self) -> None:
        """One line that is written over, where there is a terminal."""
        if not sys.stderr.isatty():
            return
        left = len(self._waiting) + len(self._running)
        done = self._total - left
        running = ", ".join(f"{job.name} {(time.monotonic() - job.started_s) / 60:.0f} min" for job in self._running)
        estimate = ""
        if self._seconds:
            spent = sum(time.monotonic() - job.started_s for job in self._running)
            mean = sum(self._seconds) / len(self._seconds)
            estimate = f", about {max(left * mean - spent, 0) / self._parallel / 60:.0f} min left"
        print(f"\r\033[K{done} of {self._total} runs done{estimate}; now: {running}", end="", file=sys.stderr, flush=True)


def _now() -> str:
    return time.strftime("%H:%M")
