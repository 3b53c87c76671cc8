"""Which calls get in. Looked at before anything of a call's message is read, from the cheapest test to the dearest."""

import re
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass

import grpc

from ..access_token import AUTHORIZATION_KEY, TOKEN_VARIABLE, is_right
from ..transport import ACTOR_KEY, OLDER_PROTOCOLS, PROTOCOL, PROTOCOL_KEY, RUN_KEY, SESSION_KEY, THROTTLE_KEY, VERSION_KEY
from .limits import ServerLimits
from .sessions import Refused, Sessions

MAX_REMEMBERED = 1024
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SESSION = re.compile(r"[0-9a-f]{32}")
# What else a call may say of itself, or leave out.
_MORE = {
    RUN_KEY: (re.compile(r"[A-Za-z0-9_.-]{0,64}"), "at most 64 letters, digits and '_.-'"),
    VERSION_KEY: (re.compile(r"[0-9]{0,18}"), "a number of at most 18 digits"),
    THROTTLE_KEY: (re.compile(r"[01]?"), "0 or 1"),
}


@dataclass(frozen=True)
class Caller:
    """Of a call in progress: the connection, and the actor process behind it."""

    peer: str
    name: str
    session: str


class Admission:
    """Lets calls in, and counts them.

    Args:
        token: every call has to bring it; None asks for none.
        limits: of the server.
    """

    def __init__(self, token: str | None, limits: ServerLimits) -> None:
        self._token, self._limits = token, limits
        self._sessions = Sessions(limits.actors, limits.session_s)
        self._calls: Counter[str] = Counter()
        # connection -> times of its newest unusable messages; the connections heard of longest ago are forgotten
        self._unusable: OrderedDict[str, deque[float]] = OrderedDict()
        self._lock = threading.Lock()

    def enter(self, peer: str, metadata: Mapping[str, str]) -> Caller:
        """A call begins; :meth:`leave` has to follow.

        Raises:
            Refused: it does not.
        """
        if self._token is not None and not is_right(metadata.get(AUTHORIZATION_KEY, ""), self._token):
            raise Refused(
                grpc.StatusCode.UNAUTHENTICATED,
                f"the token is missing or wrong: give the learner's with --token_file, or the environment variable {TOKEN_VARIABLE}",
            )
        caller = Caller(peer, metadata.get(ACTOR_KEY, ""), metadata.get(SESSION_KEY, ""))
        _check_protocol(metadata, caller)
        with self._lock:
            self._check_counts(peer)
            self._calls[peer] += 1
        try:
            self._sessions.enter(caller.name, caller.session, peer)
        except Refused:
            self._uncount(peer)
            raise
        return caller

    def leave(self, caller: Caller) -> None:
        """A call has ended."""
        self._uncount(caller.peer)
        self._sessions.leave(caller.name, caller.session)

    def unusable(self, peer: str) -> None:
        """A message was no good. Many of them, and the connection is not listened to for a while."""
        with self._lock:
            times = self._unusable.setdefault(peer, deque(maxlen=self._limits.refusals))
            times.append(time.monotonic())
            self._unusable.move_to_end(peer)
            while len(self._unusable) > MAX_REMEMBERED:
                self._unusable.popitem(last=False)

    def _check_counts(self, peer: str) -> None:
        limits = self._limits
        times = self._unusable.get(peer) or deque()
        if len(times) == limits.refusals and time.monotonic() - times[0] < limits.penalty_s:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{limits.refusals} unusable messages within {limits.penalty_s:g} s came from here; wait for as long",
            )
        if self._calls[peer] >= limits.calls_per_connection:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{limits.calls_per_connection} calls of this connection are in progress, which is the limit",
            )
        if self._calls.total() >= limits.calls:
            raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{limits.calls} calls are in progress, which is the limit; try again")

    def _uncount(self, peer: str) -> None:
        with self._lock:
            self._calls[peer] -= 1
            if self._calls[peer] <= 0:
                del self._calls[peer]


def _check_protocol(metadata: Mapping[str, str], caller: Caller) -> None:
    theirs = metadata.get(PROTOCOL_KEY, "none")
    if theirs not in map(str, (PROTOCOL, *OLDER_PROTOCOLS)):
        raise Refused(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"learner speaks protocol {PROTOCOL}, this actor process {theirs[:20]}: "
            "install the same lerobot_policy_serl_sac on both machines",
        )
    if not _NAME.fullmatch(caller.name):
        raise Refused(
            grpc.StatusCode.FAILED_PRECONDITION, f"actor name {caller.name[:70]!r}: expected 1 to 64 letters, digits and '_.-' (--name)"
        )
    if not _SESSION.fullmatch(caller.session):
        raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"session {caller.session[:40]!r}: expected 32 hexadecimal digits")
    for key, (pattern, expected) in _MORE.items():
        if not pattern.fullmatch(value := metadata.get(key, "")):
            # Not INVALID_ARGUMENT, which is said of episodes: the head of a call may have been changed on the way, and is asked again then.
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"{key} {value[:40]!r}: expected {expected}", unusable=True)
