"""Starts learner and actor, shows the live line, and stops both cleanly."""

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from .live_view import live_line
from .recipe import Recipe

POLL_S = 0.5
TERMINAL_PERIOD_S = 1.0
LOG_PERIOD_S = 15.0
# An actor process ends its step and says goodbye; the learner finishes its update and closes the dataset.
ACTOR_GRACE_S = 15.0
LEARNER_GRACE_S = 60.0
LAST_LINES = 15


@dataclass
class _Child:
    name: str
    process: subprocess.Popen[bytes]
    log: Path


def supervise(recipe: Recipe, log_dir: Path, out: TextIO = sys.stdout) -> int:
    """Run until the learner has finished, one of the two fails, or Ctrl-C; returns the exit code.

    Args:
        log_dir: for learner.log and actor.log.
        out: where the live line goes; on a terminal it stays on one line.
    """
    # A job in a shell's background ignores SIGINT, and so would its children; SIGTERM stops both just as cleanly.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    log_dir.mkdir(parents=True, exist_ok=True)
    learner = _start("learner", ["lerobot.scripts.lerobot_train", *recipe.learner_flags], log_dir)
    actor = _start("actor", ["lerobot_serl.scripts.lerobot_serl_actor", *recipe.actor_flags, "--patience_s=600"], log_dir)
    print(f"Learner at {recipe.address}; full output in {learner.log} and {actor.log}. Ctrl-C stops both.", file=out, flush=True)
    try:
        return _watch(learner, actor, recipe, out)
    except KeyboardInterrupt:
        print("\nStopping the actor, then the learner ...", file=out, flush=True)
        return 130
    finally:
        _stop(actor, ACTOR_GRACE_S)
        _stop(learner, LEARNER_GRACE_S)
        _show(live_line(recipe.output_dir, _steps(recipe)), out, final=True)


def _watch(learner: _Child, actor: _Child, recipe: Recipe, out: TextIO) -> int:
    steps, shown = _steps(recipe), 0.0
    period_s = TERMINAL_PERIOD_S if out.isatty() else LOG_PERIOD_S
    while True:
        if learner.process.poll() is not None:
            return _outcome(learner, out)
        if actor.process.poll() not in (None, 0):
            return _outcome(actor, out)
        if time.monotonic() - shown > period_s:
            _show(live_line(recipe.output_dir, steps), out)
            shown = time.monotonic()
        time.sleep(POLL_S)


def _outcome(child: _Child, out: TextIO) -> int:
    code = int(child.process.returncode)
    if code != 0:
        tail = child.log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()[-LAST_LINES:]
        print(f"\nThe {child.name} stopped with exit code {code}. The end of {child.log}:", *tail, sep="\n  ", file=out, flush=True)
    return 1 if code != 0 else 0


def _start(name: str, module_and_flags: list[str], log_dir: Path) -> _Child:
    log = log_dir / f"{name}.log"
    with log.open("ab") as handle:
        # A session of its own: Ctrl-C reaches the supervisor alone, which then stops both in order.
        process = subprocess.Popen(
            [sys.executable, "-m", *module_and_flags],
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return _Child(name, process, log)


def _stop(child: _Child, grace_s: float) -> None:
    if child.process.poll() is not None:
        return
    child.process.send_signal(signal.SIGINT)
    try:
        child.process.wait(grace_s)
    except subprocess.TimeoutExpired:
        child.process.kill()
        child.process.wait()


def _steps(recipe: Recipe) -> int | None:
    given = [flag.partition("=")[2] for flag in recipe.learner_flags if flag.startswith("--steps=")]
    return int(given[-1]) if given else None


def _show(line: str, out: TextIO, final: bool = False) -> None:
    if out.isatty():
        print(f"\r\033[K{line}", end="\n" if final else "", file=out, flush=True)
    else:
        print(line, file=out, flush=True)
