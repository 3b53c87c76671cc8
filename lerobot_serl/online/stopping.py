"""Ending the learner early: by SIGTERM, by Ctrl-C, or because learning cannot go on; a checkpoint is written first."""

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

from .train_loop import TrainLoop

SIGNALS = (signal.SIGINT, signal.SIGTERM)
FIRST = b"\nStopping: a checkpoint is written first. Once more stops at once, without one.\n"
FAILED = 1


class Stopping:
    """Takes the signals over while the learner runs, and ends the process between two updates.

    A stop takes three steps: it is asked for; after the update in progress LeRobot is made to save; when LeRobot asks for the next loss the
    checkpoint is on disk and the process ends, with code 128 + signal. Exit hooks run: actor processes are told, the online dataset completed.

    Args:
        loop: LeRobot's; None outside ``lerobot-train``, where signals are left alone.
    """

    def __init__(self, loop: TrainLoop | None) -> None:
        self._loop = loop
        self._code, self._reason = 0, ""
        self._saved = False
        self._previous: dict[int, Any] = {}
        if loop is not None and threading.current_thread() is threading.main_thread():
            # Also where a shell's background job ignores SIGINT: who sends it by hand means it.
            self._previous = {number: signal.signal(number, self._on_signal) for number in SIGNALS}

    @property
    def asked(self) -> bool:
        """Whether the learner is to end."""
        return self._code != 0

    @property
    def is_for_a_restart(self) -> bool:
        """Whether the stop was asked for by SIGTERM: whoever restarts a service or a machine sends it. Ctrl-C ends the session."""
        return self._code == 128 + signal.SIGTERM

    @property
    def last_step(self) -> bool:
        """Whether LeRobot makes no more steps after the one in progress."""
        return self._loop is not None and self._loop.steps_left <= 1

    def ask(self, reason: str) -> None:
        """Stop with an error.

        Args:
            reason: sentences for the person, said last.
        """
        self._code, self._reason = FAILED, reason

    def after_update(self) -> None:
        """LeRobot decides next whether it saves."""
        asked = self.asked  # once: a signal that comes in between waits for the next update
        if self._loop is not None:
            self._loop.stepped()
            if asked:
                self._loop.save_after_this_step()
            if self._loop.steps_left <= 0:
                self._release()  # the loop ends, and saves, by itself
        self._saved = asked

    def end_if_saved(self) -> None:
        """Before each update.

        Raises:
            SystemExit: a stop was asked for, and LeRobot had its chance to save.
        """
        if self._saved:
            self._end()

    def end_if_asked(self) -> None:
        """While there is nothing to save yet.

        Raises:
            SystemExit: a stop was asked for.
        """
        if self.asked:
            self._end()

    def _end(self) -> None:
        self._release()
        if self._reason:
            logging.error(self._reason)
        logging.info(self._outcome())
        raise SystemExit(self._code)

    def _outcome(self) -> str:
        if self._loop is None or not self._saved:
            return "Stopped before the first update: there was nothing new to save."
        self._loop.save_as_planned()
        if not self._loop.saves:
            return "Stopped without a checkpoint, as --save_checkpoint=false asks."
        written = self._loop.checkpoint_written
        if written is None:
            return "Stopped, but LeRobot wrote no checkpoint."
        return f"Checkpoint written to {written}; go on with: {self._loop.resume_command}"

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            self._release()
            raise SystemExit(128 + number)
        self._code = 128 + number
        os.write(2, FIRST)  # logging may be in use by the code that the signal interrupted

    def _release(self) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
        self._previous = {}
