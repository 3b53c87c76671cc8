"""The end of a call in which nothing happens any more."""

import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self


class CallWatchdog:
    """Cancels a call in which nothing has moved for too long. A limit on the whole call would have to know how fast the network is.

    A context around the call, with a thread of its own meanwhile.

    Args:
        patience_s: for the first thing that moves.

    Attributes:
        was_silent: the call was cancelled.
    """

    def __init__(self, patience_s: float) -> None:
        self.was_silent = False
        self._due_s = time.monotonic() + patience_s
        self._changed, self._has_ended = threading.Condition(), False
        self._call: Any = None
        self._thread = threading.Thread(target=self._watch, name="call watchdog", daemon=True)

    def of(self, call: Any) -> Self:
        """Which call, of those of gRPC, to cancel."""
        self._call = call
        return self

    def __enter__(self) -> Any:
        """The call."""
        self._thread.start()
        return self._call

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._changed:
            self._has_ended = True
            self._changed.notify()

    def expect(self, patience_s: float) -> None:
        """Something has moved, and the next thing does within so long."""
        with self._changed:
            self._due_s = time.monotonic() + patience_s
            self._changed.notify()  # it may be sooner than before

    def over(self, parts: Iterable[Any], patience_s: float) -> Iterator[Any]:
        """The parts as they pass, each of which moves the call."""
        for part in parts:
            self.expect(patience_s)
            yield part

    def _watch(self) -> None:
        with self._changed:
            while not self._has_ended and (left_s := self._due_s - time.monotonic()) > 0:
                self._changed.wait(left_s)
            self.was_silent = not self._has_ended
        if self.was_silent:
            self._call.cancel()
