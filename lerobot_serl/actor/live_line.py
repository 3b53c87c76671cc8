"""One line that tells the person at the robot who moves it now."""

import sys
import time
from typing import TextIO

from ..replay.episode import ActedAs

PERIOD_S = 0.25
MOVERS = {
    None: "YOU move the arm",
    ActedAs.EXPLORING: "the policy moves the arm, exploring",
    ActedAs.DEPLOYED: "the policy moves the arm, as deployed",
    ActedAs.ACT: "the policy moves the arm, as ACT alone",
}


class LiveLine:
    """Rewrites one line of a terminal a few times a second; anywhere else it is silent, so that logs stay readable.

    Args:
        period_s: of the control loop, to show steps as seconds.
        out: where to.
    """

    def __init__(self, period_s: float, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._is_terminal = self._out.isatty()
        self._period_s = period_s
        self._shown_s = -PERIOD_S

    def tick(self, episode: int, steps: int, mover: ActedAs | None, recent: str) -> None:
        """After each step of an episode.

        Args:
            episode: its number.
            steps: done in it.
            mover: what the policy is that moves the robot; None: a person does.
            recent: success of the last episodes, in words.
        """
        now_s = time.monotonic()
        if not self._is_terminal or now_s - self._shown_s < PERIOD_S:
            return
        self._shown_s = now_s
        self._write(f"Episode {episode}, {steps * self._period_s:4.1f} s: {MOVERS[mover]}; {recent or 'no episode finished yet'}")

    def clear(self) -> None:
        """Before anything else is printed."""
        if self._is_terminal:
            self._write("")

    def _write(self, text: str) -> None:
        print(f"\r\033[K{text}", end="", file=self._out, flush=True)
