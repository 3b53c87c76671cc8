"""Which actor processes are connected: one life of a process for each name."""

import threading
import time
from dataclasses import dataclass, field

import grpc


class Refused(Exception):  # noqa: N818
    """A call is turned away, with a status and a reason.

    Args:
        by_fault: the peer's, and so it is logged as a refusal.
        unusable: what came makes no sense; who sends many of them is not listened to.
    """

    def __init__(self, code: grpc.StatusCode, reason: str, by_fault: bool = True, unusable: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.by_fault = by_fault
        self.unusable = unusable


@dataclass
class _Session:
    session: str
    peer: str
    calls: int = 0
    heard_s: float = field(default_factory=time.monotonic)


class Sessions:
    """The registry. A process is alive while a call of it is in progress, and a few seconds longer.

    Args:
        limit: of live processes.
        silent_s: after so long without a call a name is free again.
    """

    def __init__(self, limit: int, silent_s: float) -> None:
        self._limit, self._silent_s = limit, silent_s
        self._by_name: dict[str, _Session] = {}
        self._lock = threading.Lock()

    def enter(self, name: str, session: str, peer: str) -> None:
        """A call begins; :meth:`leave` has to follow.

        Raises:
            Refused: the name is in use, or as many processes as may be are connected; the message says by whom, and what to do.
        """
        with self._lock:
            known = self._by_name.get(name)
            if known is not None and known.session == session:
                known.calls = known.calls + 1
                known.heard_s = time.monotonic()
                known.peer = peer
                return
            if known is not None and self._is_live(known):
                raise Refused(
                    grpc.StatusCode.ALREADY_EXISTS,
                    f"an actor process named '{name}' is connected from {known.peer}: start this one with another --name, or stop that one; "
                    f"after its end the name is free again in {self._silent_s:g} s",
                )
            self._by_name = {other: entry for other, entry in self._by_name.items() if self._is_live(entry)}
            if len(self._by_name) >= self._limit:
                raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._limit} actor processes are connected, which is the limit")
            self._by_name[name] = _Session(session, peer, calls=1)

    def leave(self, name: str, session: str) -> None:
        """A call has ended."""
        with self._lock:
            known = self._by_name.get(name)
            if known is not None and known.session == session:
                known.calls, known.heard_s = known.calls - 1, time.monotonic()

    def names(self) -> list[str]:
        """Of the live processes, in order."""
        with self._lock:
            return sorted(name for name, entry in self._by_name.items() if self._is_live(entry))

    def _is_live(self, entry: _Session) -> bool:
        return entry.calls > 0 or time.monotonic() - entry.heard_s < self._silent_s
