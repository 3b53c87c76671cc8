"""Starts learner and actor, shows the live line, and stops both cleanly."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TextIO

from ..child_process import child_environment, module_command
from ..transport import WAITS_FOR_THE_ROBOT
from .live_view import live_line
from .recipe import Recipe

LEARNER, ACTOR = "lerobot.scripts.lerobot_train", "lerobot_serl.scripts.lerobot_serl_actor"
POLL_S = 0.5
TERMINAL_PERIOD_S = 1.0
LOG_PERIOD_S = 15.0
# An actor process ends its step and says goodbye; the learner finishes its update and closes the dataset.
ACTOR_GRACE_S = 15.0
LEARNER_GRACE_S = 60.0
LAST_LINES = 15
AGAIN = b"\nAlready stopping: the arm first, then the learner, which writes its checkpoint.\n"


@dataclass
class _Child:
    name: str
    process: subprocess.Popen[bytes]
    log: Path


class _StopRequest:
    """Ctrl-C, SIGTERM, and the end of the terminal. A handler that raised could do so within the stopping, and leave a child behind."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # A job in a shell's background ignores SIGINT; who sends it by hand means it. nohup ignores SIGHUP, and means that.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number != signal.SIGHUP:  # after which there is nobody to tell
            os.write(2, AGAIN)
        self.asked = True


def supervise(recipe: Recipe, log_dir: Path, out: TextIO = sys.stdout) -> int:
    """Run until the learner has finished or has used up what an actor left that is done, one of the two fails, or Ctrl-C; returns the exit code.

    Args:
        log_dir: for learner.log and actor.log.
        out: where the live line goes; on a terminal it stays on one line.
    """
    stop = _StopRequest()
    log_dir.mkdir(parents=True, exist_ok=True)
    started: list[_Child] = []
    try:
        started.append(learner := _start("learner", module_command(LEARNER, *recipe.learner_flags), log_dir))
        started.append(actor := _start("actor", module_command(ACTOR, *recipe.actor_flags), log_dir))
        print(f"Learner at {recipe.address}; full output in {learner.log} and {actor.log}. Ctrl-C stops both.", file=out, flush=True)
        return _watch(learner, actor, stop, recipe, out)
    finally:
        for child in reversed(started):  # the arm first
            _stop(child, ACTOR_GRACE_S if child.name == "actor" else LEARNER_GRACE_S)
        _show(live_line(recipe.output_dir, _steps(recipe)), out, final=True)


def _watch(learner: _Child, actor: _Child, stop: _StopRequest, recipe: Recipe, out: TextIO) -> int:
    steps, shown = _steps(recipe), 0.0
    said: int | None = None  # size of the learner's log when the actor had ended
    period_s = TERMINAL_PERIOD_S if out.isatty() else LOG_PERIOD_S
    while True:
        if stop.asked:
            print("\nStopping the actor, then the learner ...", file=out, flush=True)
            return 130
        if learner.process.poll() is not None:
            return _outcome(learner, out)
        if actor.process.poll() not in (None, 0):
            return _outcome(actor, out)
        if actor.process.poll() == 0 and said is None:
            said = learner.log.stat().st_size
            print("\nThe actor has ended; the learner goes on with what there is.", file=out, flush=True)
        if said is not None and WAITS_FOR_THE_ROBOT in learner.log.read_bytes()[said:].decode(errors="replace"):
            print("\nThe learner has used up what the robot gave it: stopping it.", file=out, flush=True)
            return 0
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


def _start(name: str, command: Sequence[str], log_dir: Path) -> _Child:
    log = log_dir / f"{name}.log"
    with log.open("ab") as handle:
        # A session of its own: Ctrl-C reaches the supervisor alone, which then stops both in order.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=child_environment(),
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
