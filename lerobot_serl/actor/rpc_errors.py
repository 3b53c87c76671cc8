"""What the learner may answer to a call, and what follows from it."""

import json
import time

import grpc

from ..access_token import TOKEN_VARIABLE
from ..transport import FINISHED
from ..words import printable

# Of what a learner says in a status.
MOST_CHARACTERS = 500
# A killed predecessor's session expires on the learner's side; a name that is taken for longer is taken.
NAME_PATIENCE_S = 15.0
# A refusal of somebody who was let in before is believed when so many connections in a row have brought it.
CONNECTIONS_BELIEVED = 3
_TRY_AGAIN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DATA_LOSS,
)


class LearnerUnreachable(ConnectionError):  # noqa: N818
    """No learner answered in time."""


class LearnerAway(ConnectionError):  # noqa: N818
    """No learner answered this call, or it is busy: try again."""


class LearnerSilent(LearnerAway):
    """Nothing of a call moved for too long."""


class LearnerDoubted(LearnerAway):
    """Refused, perhaps because the call was changed on the way: ask again on another connection."""


class WeightsLost(LearnerAway):
    """The learner whose weights are here is there, but its newest did not come through: go on with those, and ask again."""


class WeightsUnusable(WeightsLost):
    """They did come through, but nobody can act on them."""


class NameTaken(LearnerAway):
    """Another actor process has this name: try again for :data:`NAME_PATIENCE_S`."""


class LearnerRefused(RuntimeError):  # noqa: N818
    """The learner answered, and said no."""


class EpisodeRefused(LearnerRefused):
    """This episode will never be accepted; others may be."""


class LearnerFinished(LearnerRefused):
    """There will be no more updates."""


def failure(error: grpc.RpcError | grpc.FutureCancelledError, was_silent: bool) -> LearnerAway | LearnerRefused:
    """What a call that failed means; ``was_silent``: it was ended because nothing came or went."""
    if was_silent:
        return LearnerSilent("nothing came or went for too long")
    return answer(error) if isinstance(error, grpc.RpcError) else LearnerAway("the call was cancelled")


def answer(error: grpc.RpcError) -> LearnerAway | LearnerRefused:
    """The exception that says what a failed call means."""
    code, details = error.code(), printable(error.details() or "", MOST_CHARACTERS)
    said = f"{code.name}: {details}"
    if code is grpc.StatusCode.CANCELLED and details == FINISHED:
        return LearnerFinished(details)
    if code is grpc.StatusCode.ALREADY_EXISTS:
        return NameTaken(said)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return LearnerSilent(said)
    if code in _TRY_AGAIN:
        return LearnerAway(said)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return EpisodeRefused(said)
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return LearnerRefused(f"{said}. Give the learner's token: --token_file=FILE, or the environment variable {TOKEN_VARIABLE}.")
    return LearnerRefused(said)


def parts_acknowledged(receipt: str, uuid: str) -> int | None:
    """How many parts of an episode its receipt says are there; None if it is not for this episode."""
    try:
        document = json.loads(receipt)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("uuid") != uuid:
        return None
    n_parts = document.get("parts", 0)
    return n_parts if type(n_parts) is int else None


class RefusalDoubt:
    """Whether to believe a refusal of one kind of call of somebody who was let in.

    Episodes and weights have a checksum, the head of a call has none; and HTTP/2 sends it once, so that what was changed on the way to the
    learner (name, session, token, protocol) stays changed until the connection ends.
    """

    def __init__(self) -> None:
        self._refused_on: list[object] = []

    def went_well(self) -> None:
        """Told that a call was not refused."""
        self._refused_on = []

    def of(self, said: LearnerAway | LearnerRefused, connection: object) -> LearnerAway | LearnerRefused:
        """Told what a failed call came to; returns what to make of it. Silence shows that bytes are lost: what was refused before says less."""
        if isinstance(said, LearnerSilent | EpisodeRefused):
            self.went_well()
        if not isinstance(said, LearnerRefused) or isinstance(said, EpisodeRefused | LearnerFinished):
            return said
        if connection not in self._refused_on:
            self._refused_on = [*self._refused_on, connection]
        if len(self._refused_on) >= CONNECTIONS_BELIEVED:
            return said
        return LearnerDoubted(f"{said} (asking again on another connection)")


class NamePatience:
    """How long a name has been taken without a break."""

    def __init__(self) -> None:
        self._until_s: float | None = None

    def after(self, error: Exception | None) -> LearnerRefused | None:
        """Told the outcome of each call (None: it went well); returns why to give up, when the name has been taken for too long."""
        if not isinstance(error, NameTaken):
            self._until_s = None
        elif self._until_s is None:
            self._until_s = time.monotonic() + NAME_PATIENCE_S
        elif time.monotonic() > self._until_s:
            return LearnerRefused(str(error))
        return None
