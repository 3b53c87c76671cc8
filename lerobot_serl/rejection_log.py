"""A log of those who were turned away, which no flood of them can fill."""

import logging
import threading
import time

PERIOD_S = 60.0
LINES_PER_PERIOD = 10
MAX_REASON_CHARS = 300


class RejectionLog:
    """Warns of each refused peer by its address, at most `LINES_PER_PERIOD` times in `PERIOD_S`; the others are counted.

    Args:
        logger: to write to.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._since_s = time.monotonic()
        self._lines = self._unwritten = 0

    def note(self, peer: str, reason: str) -> None:
        """One refusal. What strangers chose of the reason cannot break out of its line."""
        text = "".join(letter if letter.isprintable() else "?" for letter in reason[:MAX_REASON_CHARS])
        with self._lock:
            if time.monotonic() - self._since_s > PERIOD_S:
                self._write_count()
                self._since_s, self._lines = time.monotonic(), 0
            self._lines += 1
            if self._lines <= LINES_PER_PERIOD:
                more = "; further ones of this minute are only counted" if self._lines == LINES_PER_PERIOD else ""
                self._logger.warning("Refused %s: %s%s", peer, text, more)
            else:
                self._unwritten += 1

    def close(self) -> None:
        """Write the count of what was not written."""
        with self._lock:
            self._write_count()

    def _write_count(self) -> None:
        if self._unwritten:
            self._logger.warning("Refused %d more in the %.0f s before", self._unwritten, time.monotonic() - self._since_s)
            self._unwritten = 0
