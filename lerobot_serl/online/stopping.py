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

    When LeRobot asks for the next update after a stop was asked for, the last one is saved and the process ends, with code 128 + signal. Exit
    hooks run: actor processes are told, the online dataset is completed.

    Args:
        loop: LeRobot's; None outside ``lerobot-train``, where signals are left alone.
    """

    def __init__(self, loop: TrainLoop | None) -> None:
        self._loop = loop
        self._code, self._reason = 0, ""
        self._previous: dict[int, Any] = {}
        self._first_step = self._saved_step = 0 if loop is None else loop.step
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
        return self._loop is not None and self._loop.step + 1 >= self._loop.steps

    def ask(self, reason: str) -> None:
        """Stop with an error.

        Args:
            reason: sentences for the person, said last.
        """
        self._code, self._reason = FAILED, reason

    def after_update(self) -> None:
        """LeRobot finishes its step next; after the last one it saves by itself."""
        if self.last_step:
            self._release()

    def saved(self) -> None:
        """A checkpoint of the last finished step was written."""
        if self._loop is not None:
            self._saved_step = self._loop.step

    def end_if_asked(self) -> None:
        """Before each update, and while there is nothing to save yet.

        Raises:
            SystemExit: a stop was asked for; what was learnt is on the disk.
        """
        if self.asked:
            self._end()

    def _end(self) -> None:
        outcome = self._outcome()
        self._release()
        if self._reason:
            logging.error(self._reason)
        logging.info(outcome)
        raise SystemExit(self._code)

    def _outcome(self) -> str:
        loop = self._loop
        if loop is None or loop.step == self._first_step:
            return "Stopped before the first update: there was nothing new to save."
        if not loop.saves:
            return "Stopped without a checkpoint, as --save_checkpoint=false asks."
        if loop.step != self._saved_step:
            loop.save()
        return f"Checkpoint written to {loop.checkpoint}; go on with: {loop.resume_command}"

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
