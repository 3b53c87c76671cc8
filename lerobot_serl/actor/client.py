"""The robot side's connection to the learner."""

import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
from torch import Tensor

from ..lerobot_names import services_pb2, services_pb2_grpc
from ..rejection_log import RejectionLog
from ..secure_channel import open_channel, require_address
from ..transport import (
    ACTOR_KEY,
    POLICY,
    PROTOCOL,
    PROTOCOL_KEY,
    RECEIPT_KEY,
    RUN_KEY,
    SESSION_KEY,
    THROTTLE_KEY,
    VERSION_KEY,
    DamagedMessage,
    MessageError,
    decode,
    join,
    split,
)
from ..words import printable
from .call_watchdog import CallWatchdog
from .outbox import OnlineDataset
from .policy_message import WeightsHeader, check_tensors, claims_of
from .rpc_errors import (
    LearnerAway,
    LearnerDoubted,
    LearnerFinished,
    LearnerRefused,
    LearnerSilent,
    LearnerUnreachable,
    NamePatience,
    RefusalDoubt,
    WeightsLost,
    WeightsUnusable,
    answer,
    failure,
    parts_acknowledged,
)

Message = tuple[dict[str, Any], dict[str, Tensor]]
RETRY_S = 0.25
# From a call for weights that brought nothing to the next. A learner keeps such a call for a second; one may end it at once.
EMPTY_CALL_S = 0.05
# Until an answer begins; a learner that comes back may have to put a whole policy together first.
CALL_TIMEOUT_S, POLICY_TIMEOUT_S = 10.0, 60.0
# Between two parts of a message, either way: 26 kB/s are enough.
PART_TIMEOUT_S = 10.0
# From an episode's last part to its acknowledgement: a simulated one may be held back; what the system has buffered goes at least so fast.
ACKNOWLEDGEMENT_TIMEOUT_S, THROTTLED_TIMEOUT_S = 20.0, 600.0
SLOWEST_BYTES_PER_S = 1e6
# To read weights that have just come.
THREAD_PATIENCE_S = 10.0


class LearnerClient:
    """Follows the learner's weights in a thread of its own, also over its restarts; sends episodes.

    Args:
        address: ``host:port``.
        patience_s: how long to go on trying to reach the learner at first.
        name: of this actor process.
        token: that the learner asks for.
        certificate: PEM file to trust; with it the connection is TLS.
        on_lost: called when the learner does not answer any more, with the reason; by the thread that follows it.
        on_back: called when it answers again; if it is another one, its policy is here by then.

    Attributes:
        finished: the learner has said that it is done.
        dataset: that the learner collects for now.

    Raises:
        ValueError: the address is none.
    """

    def __init__(
        self,
        address: str,
        patience_s: float,
        name: str = "actor",
        token: str | None = None,
        certificate: Path | None = None,
        on_lost: Callable[[str], None] = lambda reason: None,
        on_back: Callable[[], None] = lambda: None,
    ) -> None:
        require_address(address)
        self.address = address
        self._patience_s = patience_s
        self._on_lost, self._on_back = on_lost, on_back
        self._identity = ((ACTOR_KEY, name), (SESSION_KEY, uuid.uuid4().hex))
        self._open_channel = lambda: open_channel(address, token, certificate)
        self._channel = self._open_channel()
        self._fetch_doubt, self._send_doubt = RefusalDoubt(), RefusalDoubt()
        self._unusable = RejectionLog(logging.getLogger(__name__), "Unusable weights from")
        self._newest: Message | None = None
        self._run, self._version = "", 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._away_since_s: float | None = time.monotonic()
        self._failure: LearnerRefused | None = None
        self.finished = threading.Event()
        self.dataset = OnlineDataset()
        self._thread = threading.Thread(target=self._follow, name="weights", daemon=True)

    @property
    def reachable(self) -> bool:
        """Whether the learner answered the last call for weights. Then :attr:`dataset` is that of the learner that is there now."""
        return self._away_since_s is None

    @property
    def away_s(self) -> float:
        """For how long the learner has not answered; 0 while it does."""
        since_s = self._away_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def connect(self) -> Message:
        """Wait for the learner, compare protocol versions, fetch the whole policy, and begin to follow its weights.

        Raises:
            LearnerUnreachable: nobody answered within the patience.
            LearnerRefused: another protocol version, no access, or the name is taken.
            MessageError: the learner does not speak this protocol.
        """
        self._patiently(self._greet)
        n_empty = 0
        while (message := self._patiently(self._fetch)) is None:
            if (n_empty := n_empty + 1) == 3:
                logging.info(f"The learner at {self.address} has no policy to send yet; waiting for it.")
        self._remember(message)
        self._newest = None  # returned here
        self._away_since_s = None
        self._thread.start()
        return message

    def newer_weights(self) -> Message | None:
        """The newest weights that arrived since the last call, if any; the whole policy if the learner was started anew in between."""
        with self._lock:
            newest, self._newest = self._newest, None
        return newest

    def ask_again(self, version: int, reason: MessageError) -> None:
        """Told that newer weights are of no use: says so, and asks once more for what is newer than ``version``."""
        self._unusable.note(self.address, f"{reason}; weights {version} go on")
        with self._lock:
            self._version = version

    def check(self) -> None:
        """Raises:
        LearnerRefused: the learner does not let this actor process in any more.
        """
        if self._failure is not None:
            raise self._failure

    def send(self, uuid: str, data: bytes, wait_for_learner: bool) -> int:
        """Send an episode, or a part of it, once and wait for its acknowledgement; returns how many parts of it the learner has.

        Args:
            uuid: of the episode; it makes sending again harmless.
            data: message of the episode, or of the part.
            wait_for_learner: let the learner hold the acknowledgement back until it has caught up (simulation).

        Raises:
            LearnerAway: not acknowledged; try again.
            LearnerRefused: as :meth:`connect`; EpisodeRefused: this episode is bad; LearnerFinished: no learner will take it any more.
        """
        metadata = (*self._metadata(), (THROTTLE_KEY, "1" if wait_for_learner else "0"))
        acknowledged_s = (THROTTLED_TIMEOUT_S if wait_for_learner else ACKNOWLEDGEMENT_TIMEOUT_S) + len(data) / SLOWEST_BYTES_PER_S
        channel, watch = self._channel, CallWatchdog(PART_TIMEOUT_S)

        def parts() -> Iterator[Any]:
            yield from watch.over(split(data, services_pb2.Transition), PART_TIMEOUT_S)
            watch.expect(acknowledged_s)

        try:
            with watch.of(_stub(channel).SendTransitions.future(parts(), metadata=metadata)) as call:
                call.result()
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            raise self._after(self._send_doubt.of(failure(error, watch.was_silent), channel), channel) from error
        except ValueError as error:
            raise LearnerAway(f"the connection is closed: {error}") from error
        receipt = str(dict(call.trailing_metadata() or ()).get(RECEIPT_KEY))
        if (n_parts := parts_acknowledged(receipt, uuid)) is None:
            wrong = f"the learner acknowledged {printable(receipt, 200)}, expected episode {uuid}; it has another version of lerobot_serl"
            raise self._after(self._send_doubt.of(LearnerRefused(wrong), channel), channel)
        self._send_doubt.went_well()
        return n_parts

    def close(self) -> None:
        """End the connection, and following; may be called twice."""
        with self._lock:
            self._closed.set()
        self._channel.close()
        self._unusable.close()
        # A thread that is in PyTorch when the interpreter exits aborts the process ("terminate called without an active exception").
        if self._thread.is_alive():
            self._thread.join(THREAD_PATIENCE_S)

    def _follow(self) -> None:
        name = NamePatience()
        while not self._closed.is_set():
            try:
                message = self._fetch()
                if message is not None:
                    self._remember(message)
            except LearnerRefused as error:
                self._stopped(error)
                return
            except WeightsLost as error:
                if isinstance(error, WeightsUnusable):
                    self._unusable.note(self.address, f"{error}; asking again")
                logging.debug(str(error))
                self._back()
                self._closed.wait(RETRY_S)
            except (LearnerAway, MessageError, ValueError) as error:  # ValueError: the channel was closed
                if self._closed.is_set():
                    return
                if (refused := name.after(error)) is not None:
                    self._stopped(refused)
                    return
                self._lost(str(error))
                self._closed.wait(RETRY_S)
            else:
                name.after(None)
                self._back()

    def _stopped(self, error: LearnerRefused) -> None:
        if isinstance(error, LearnerFinished):
            logging.info(f"No more weights: {error}")
            self.finished.set()
        else:
            self._failure = error

    def _lost(self, reason: str) -> None:
        if self._away_since_s is None:
            self._away_since_s = time.monotonic()
            self._on_lost(reason)

    def _back(self) -> None:
        if self._away_since_s is not None:
            self._away_since_s = None
            self._on_back()

    def _remember(self, message: Message) -> None:
        header, tensors = message
        said = WeightsHeader.of(header)
        if said.kind == POLICY:
            self.dataset = OnlineDataset.of(header)
        with self._lock:
            if self._newest is not None and self._newest[0]["kind"] == POLICY != said.kind:
                # A whole policy that nobody has taken yet is not lost over weights that came after it.
                header, tensors = {**self._newest[0], **header, "kind": POLICY}, {**self._newest[1], **tensors}
            self._newest = (header, tensors)
            # A restarted learner counts from 1 again: versions of another run say nothing.
            self._run, self._version = said.run, said.version

    def _greet(self) -> None:
        channel = self._channel
        try:
            _stub(channel).Ready(services_pb2.Empty(), metadata=self._metadata(), timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            raise self._after(answer(error), channel) from error

    def _fetch(self) -> Message | None:
        metadata = (*self._metadata(), (RUN_KEY, self._run), (VERSION_KEY, str(self._version)))
        began_s = time.monotonic()
        # Whoever has weights gets an answer within a second or so.
        channel, watch = self._channel, CallWatchdog(CALL_TIMEOUT_S if self.reachable else POLICY_TIMEOUT_S)
        try:
            with watch.of(_stub(channel).StreamParameters(services_pb2.Empty(), metadata=metadata)) as parts:
                data = next(join(watch.over(parts, PART_TIMEOUT_S)), None)
            message = None if data is None else decode(data)
            self._check(message)
        except grpc.RpcError as error:
            said = self._after(self._fetch_doubt.of(failure(error, watch.was_silent), channel), channel)
            if isinstance(said, LearnerAway) and self._is_there(parts):
                raise WeightsLost(str(said)) from error
            raise said from error
        except DamagedMessage as error:
            raise (WeightsLost if self._is_there(parts) else LearnerAway)(str(error)) from error
        except MessageError as error:
            if self._is_there(parts):
                raise WeightsUnusable(str(error)) from error
            raise
        self._fetch_doubt.went_well()
        if message is None:
            self._closed.wait(max(0.0, EMPTY_CALL_S - (time.monotonic() - began_s)))
        return message

    def _check(self, message: Message | None) -> None:
        """Raise unless this client can go on from here with a message; whether somebody can act on it is for the policy to say."""
        if message is None or (said := WeightsHeader.of(message[0])).kind == POLICY:
            return
        if said.run != self._run:
            raise MessageError(f"the learner sent newer weights of run {said.run} without their policy")
        waiting = self._newest
        if waiting is not None and waiting[0]["kind"] == POLICY:
            check_tensors(message[1], claims_of(waiting[1]), whole=False)

    def _is_there(self, parts: Any) -> bool:
        """Whether a call for weights, which begins with the learner's run, was answered by the learner whose weights are here."""
        return bool(self._run) and dict(parts.initial_metadata() or ()).get(RUN_KEY) == self._run

    def _after(self, said: LearnerAway | LearnerRefused, channel: Any) -> LearnerAway | LearnerRefused:
        """What to raise. On a connection that lost or changed bytes on the way nothing else may arrive; begin another."""
        if isinstance(said, LearnerSilent | LearnerDoubted):
            with self._lock:
                if not self._closed.is_set() and self._channel is channel:
                    self._channel = self._open_channel()
            channel.close()  # calls in progress on it end, and are made again
        return said

    def _patiently(self, call: Callable[[], Any]) -> Any:
        """Repeat a call while nobody answers, for as long as the patience lasts."""
        until_s, told, name = time.monotonic() + self._patience_s, False, NamePatience()
        while True:
            try:
                return call()
            except LearnerAway as error:
                reason = error
            if (refused := name.after(reason)) is not None:
                raise refused from reason
            if time.monotonic() > until_s or self._closed.is_set():
                raise LearnerUnreachable(
                    f"No learner at {self.address} within {math.floor(self._patience_s)} s. Start lerobot-train --policy.type=serl_sac "
                    f"--policy.online.repo_id=... first, and compare the port. ({reason})"
                ) from reason
            if not told:
                logging.info(f"No learner at {self.address} yet; trying again for {self._patience_s:.0f} s.")
                told = True
            time.sleep(RETRY_S)

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return ((PROTOCOL_KEY, str(PROTOCOL)), *self._identity)


def _stub(channel: Any) -> Any:
    return services_pb2_grpc.LearnerServiceStub(channel)
