"""A log of calls that came to nothing, which no flood of them can fill."""

import logging
import threading
import time
import traceback

from .words import printable

PERIOD_S = 60.0
LINES_PER_PERIOD = 10
MAX_REASON_CHARS = 300
# Calls of a traceback that are written, and kinds of exception and place of which one is.
MOST_CALLS, MOST_KINDS = 12, 100


class RejectionLog:
    """One line for each, with the peer's address, at most `LINES_PER_PERIOD` in `PERIOD_S`; the others are counted.

    Args:
        logger: to write to.
        did: what each line begins with.
        level: of the lines.
    """

    def __init__(self, logger: logging.Logger, did: str = "Refused", level: int = logging.WARNING) -> None:
        self._logger = logger
        self._did = did
        self._level = level
        self._lock = threading.Lock()
        self._since_s = time.monotonic()
        self._lines = self._unwritten = 0
        self._kinds: set[tuple[type[BaseException], str, int]] = set()

    def note(self, peer: str, reason: str) -> None:
        """One of them. What strangers chose of the reason cannot break out of its line."""
        self._write(peer, reason)

    def failure(self, peer: str, what: str, error: BaseException) -> None:
        """One that ended in an exception: with its message, and the first time that this kind comes from that place, with the calls."""
        self._write(peer, f"{what}: {type(error).__name__}: {error}", error)

    def close(self) -> None:
        """Write the count of what was not written."""
        with self._lock:
            self._write_count()

    def _write(self, peer: str, reason: str, error: BaseException | None = None) -> None:
        with self._lock:
            if time.monotonic() - self._since_s > PERIOD_S:
                self._write_count()
                self._since_s, self._lines = time.monotonic(), 0
            self._lines += 1
            if self._lines > LINES_PER_PERIOD:
                self._unwritten += 1
                return
            more = "; further ones of this minute are only counted" if self._lines == LINES_PER_PERIOD else ""
            calls = "" if error is None else self._new_calls(error)
            self._logger.log(self._level, "%s %s: %s%s%s", self._did, peer, printable(reason, MAX_REASON_CHARS), more, calls)

    def _new_calls(self, error: BaseException) -> str:
        """The innermost calls of a traceback, unless they were written before."""
        places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
        kind = (type(error), *(places[-1] if places else ("", 0)))
        if kind in self._kinds or len(self._kinds) == MOST_KINDS:
            return ""
        self._kinds.add(kind)
        return "\n" + "".join(traceback.format_tb(error.__traceback__, limit=-MOST_CALLS)).rstrip()

    def _write_count(self) -> None:
        if self._unwritten:
            seconds = time.monotonic() - self._since_s
            self._logger.log(self._level, "%s %d more in the %.0f s before", self._did, self._unwritten, seconds)
            self._unwritten = 0
