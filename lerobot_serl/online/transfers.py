"""Messages on their way in or out, and the end of those that hardly move: a thread of the server waits in each of them."""

import math
import threading
import time
from collections.abc import Callable

LOOK_EVERY_S = 0.25


class Transfer:
    """One message; :meth:`moved` says that bytes of it passed, and buys it time.

    Attributes:
        n_bytes: that have passed.
        was_cut: it was ended for being too slow.
    """

    def __init__(self, end: Callable[[], None], grace_s: float, bytes_per_s: float) -> None:
        self._end, self._bytes_per_s = end, bytes_per_s
        self._moved_s = time.monotonic()
        self._due_s = self._moved_s + grace_s
        self.n_bytes = 0
        self.was_cut = False

    def moved(self, n_bytes: int) -> None:
        """Bytes passed."""
        self.n_bytes += n_bytes
        self._moved_s = time.monotonic()
        self._due_s += n_bytes / self._bytes_per_s

    def arrived(self) -> None:
        """All is here: what takes time now is not the peer's fault."""
        self._moved_s = self._due_s = math.inf

    @property
    def still_s(self) -> float:
        """Seconds since bytes passed."""
        return time.monotonic() - self._moved_s

    @property
    def is_due(self) -> bool:
        """Whether it has used up its time."""
        return time.monotonic() > self._due_s

    def cut(self) -> None:
        """End the call."""
        self.was_cut = True
        self._end()


class Transfers:
    """Transfers in progress, and one thread that ends those that are too slow.

    Args:
        limit: of transfers at the same time.
        grace_s: a transfer may pause for so long in all ...
        bytes_per_s: ... beyond the time that its bytes take at this rate.
        stalled_s: where all places are taken, a transfer without bytes for so long makes room.
    """

    def __init__(self, limit: int, grace_s: float, bytes_per_s: float, stalled_s: float) -> None:
        self._limit = limit
        self._grace_s = grace_s
        self._bytes_per_s = bytes_per_s
        self._stalled_s = stalled_s
        self._open: set[Transfer] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="transfers", daemon=True)

    def start(self) -> None:
        """Watch, until :meth:`close`."""
        self._thread.start()

    def begin(self, end: Callable[[], None]) -> Transfer | None:
        """A transfer begins, which ``end`` can end; None where all places are taken. :meth:`finish` has to follow."""
        with self._lock:
            if len(self._open) < self._limit:
                transfer = Transfer(end, self._grace_s, self._bytes_per_s)
                self._open.add(transfer)
                return transfer
            stillest = max(self._open, key=lambda transfer: transfer.still_s)
        if stillest.still_s > self._stalled_s:
            stillest.cut()
        return None

    def finish(self, transfer: Transfer) -> None:
        """It has ended; may be called twice."""
        with self._lock:
            self._open.discard(transfer)

    def n_bytes(self) -> int:
        """Of all transfers in progress together."""
        with self._lock:
            return sum(transfer.n_bytes for transfer in self._open)

    def close(self) -> None:
        """End the thread."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(LOOK_EVERY_S):
            with self._lock:
                due = [transfer for transfer in self._open if transfer.is_due and not transfer.was_cut]
            for transfer in due:
                transfer.cut()
