"""The learner's gRPC server: LeRobot's LearnerService with safetensors payloads.

``Ready`` checks the protocol version. ``StreamParameters`` answers with weights newer than the caller's, or with nothing after a second, and
is called again. ``SendTransitions`` takes one episode, or a part of one; its reply is the acknowledgement. Who may
call, and how much: admission.py, limits.py.
"""

import errno
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from ..lerobot_names import services_pb2
from ..rejection_log import RejectionLog
from ..transport import (
    FINISHED,
    MAX_MESSAGE_BYTES,
    RECEIPT_KEY,
    RUN_KEY,
    STOPPED,
    THROTTLE_KEY,
    VERSION_KEY,
    DamagedMessage,
    MessageError,
    join,
    split,
)
from .access import Access, check_host
from .admission import Admission
from .limits import ServerLimits
from .sessions import Refused
from .transfers import Transfer, Transfers
from .weights import WeightPublisher

POLL_S = 1.0
GOODBYE_S = 1.5 * POLL_S
SERVICE = "transport.LearnerService"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Parts = Iterator[Any]
Metadata = Mapping[str, str]
# Answers a call that was let in: its peer, its metadata, what comes, and gRPC's own. What it raises, _answered turns into a status.
Handler = Callable[[str, Metadata, Parts, grpc.ServicerContext], Iterator[Any]]


class Busy(RuntimeError):  # noqa: N818
    """Nothing is wrong with the episode, but it cannot be taken now: the actor process keeps it and tries again."""


@dataclass(frozen=True)
class EpisodeReceipt:
    """Acknowledgement of an episode, or of one of its parts, that is on disk.

    Attributes:
        uuid: of the episode.
        frames: of the episode; 0 for a part.
        is_new: an episode that had not come before.
        parts: of it that are here; those from there on are still wanted.
    """

    uuid: str
    frames: int
    is_new: bool = True
    parts: int = 0


class LearnerServer:
    """Serves actor processes.

    Args:
        host, port: where to listen; port 0 takes any free one.
        publisher: of the weights.
        receive: stores an episode and returns its receipt; called in server threads. Raises MessageError for an episode that is no good,
            Busy or OSError for one that has to come again.
        at_exit: called when the server has stopped.
        access: token and certificate.
        largest_message_bytes: of one episode.
        limits: of connections and calls.
        comes_back: whether, when it stops, actor processes are to wait for it; otherwise they are told that it has finished.

    Raises:
        ValueError: other machines could connect, and there is no token.
        OSError: the port is in use.
    """

    def __init__(
        self,
        host: str,
        port: int,
        publisher: WeightPublisher,
        receive: Callable[[bytes], EpisodeReceipt],
        at_exit: Callable[[], None],
        access: Access | None = None,
        largest_message_bytes: int = MAX_MESSAGE_BYTES,
        limits: ServerLimits | None = None,
        comes_back: Callable[[], bool] = lambda: False,
    ) -> None:
        access, limits = access or Access(), limits or ServerLimits()
        check_host(host, access.token)
        self._publisher = publisher
        self._receive = receive
        self._at_exit = at_exit
        self._comes_back = comes_back
        self._largest_message_bytes = largest_message_bytes
        self._admission, logger = Admission(access.token, limits), logging.getLogger(__name__)
        # Two of them: a flood of strangers must not hide that the disk is full.
        self._rejections, self._failures = RejectionLog(logger), RejectionLog(logger, "Could not serve", logging.ERROR)
        rate = (limits.grace_s, limits.bytes_per_s, limits.stalled_s)
        self._uploads, self._policies = Transfers(limits.uploads, *rate), Transfers(limits.downloads, *rate)
        self._updates = Transfers(limits.calls, *rate)
        self._closing = threading.Event()
        self._may_go_on = threading.Event()
        self._may_go_on.set()
        self._threads = _started_pool(limits.threads)
        self._server = grpc.server(self._threads, options=limits.options(), maximum_concurrent_rpcs=limits.waiting)
        self._server.add_generic_rpc_handlers((self._handlers(),))
        self.address = f"{_bracketed(host)}:{self._bind(host, port, access.credentials)}"

    def start(self) -> None:
        """Accept calls until the interpreter exits or :meth:`stop`."""
        for transfers in (self._uploads, self._policies, self._updates):
            transfers.start()
        self._server.start()
        # The executor's threads are joined when the interpreter exits; calls in progress must end first.
        threading._register_atexit(self.stop)  # type: ignore[attr-defined]

    def stop(self) -> None:
        """End calls in progress; actor processes learn that the learner has finished, or comes back. May be called twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._may_go_on.set()
        # gRPC's own grace period needs a new thread, which cannot be had while the interpreter exits.
        time.sleep(GOODBYE_S)
        ended = self._server.stop(grace=None)
        for transfers in (self._uploads, self._policies, self._updates):
            transfers.close()
        self._rejections.close()
        self._failures.close()
        self._at_exit()
        if ended.wait(GOODBYE_S):  # gRPC needs the threads until then, and leaves them behind
            self._threads.shutdown(wait=False)

    def progressed(self, actors_must_wait: bool) -> None:
        """Tell waiting simulated actors whether the learner has caught up."""
        if actors_must_wait:
            self._may_go_on.clear()
        else:
            self._may_go_on.set()

    def _answered(self, handler: Handler) -> Callable[[Parts, grpc.ServicerContext], Iterator[Any]]:
        """The one place where calls begin and end: whatever a handler raises becomes a status, and a line of a log that cannot be filled."""

        def answer(parts: Parts, context: grpc.ServicerContext) -> Iterator[Any]:
            peer = context.peer()  # once a call is cancelled, gRPC does not know it any more
            try:
                yield from handler(peer, self._admit(peer, context), parts, context)
                return
            except grpc.RpcError:  # the caller has gone, as gRPC itself says
                raise
            except Refused as refusal:
                end = (refusal.code, str(refusal))  # and no more of it: what raised it holds the episode
                if refusal.by_fault:
                    self._rejections.note(peer, str(refusal))
                if refusal.unusable:
                    self._admission.unusable(peer)
            except Exception as error:
                self._failures.failure(peer, "a call failed", error)
                end = (grpc.StatusCode.UNAVAILABLE, "the learner could not answer; see its log")
            context.abort(*end)  # raises

        return answer

    def _admit(self, peer: str, context: grpc.ServicerContext) -> Metadata:
        """Metadata of a call that may go on."""
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        caller = self._admission.enter(peer, metadata)
        if not context.add_callback(lambda: self._admission.leave(caller)):
            self._admission.leave(caller)
        return metadata

    def _ready(self, peer: str, metadata: Metadata, parts: Parts, context: grpc.ServicerContext) -> Iterator[Any]:
        yield services_pb2.Empty()

    def _stream_parameters(self, peer: str, metadata: Metadata, parts: Parts, context: grpc.ServicerContext) -> Iterator[Any]:
        known = int(metadata.get(VERSION_KEY) or 0) if metadata.get(RUN_KEY) == self._publisher.run else 0
        snapshot = self._publisher.wait_for_newer(known, POLL_S)
        self._end_if_closing()
        context.send_initial_metadata(((RUN_KEY, self._publisher.run),))
        if snapshot is None:
            return
        transfer = self._begin(self._policies if known == 0 else self._updates, context)
        for part in split(self._publisher.message(snapshot, whole_policy=known == 0), services_pb2.Parameters):
            transfer.moved(len(part.data))
            yield part

    def _send_transitions(self, peer: str, metadata: Metadata, parts: Parts, context: grpc.ServicerContext) -> Iterator[Any]:
        self._end_if_closing()
        transfer = self._begin(self._uploads, context)
        throttled = metadata.get(THROTTLE_KEY) == "1"
        try:
            data = next(join(self._counted(parts, transfer), self._largest_message_bytes), None)
            if data is None:
                raise DamagedMessage("a call without a message")
            transfer.arrived()
            receipt = self._store(peer, data, throttled)
        except MessageError as error:
            if transfer.was_cut:  # this end of the stream is our own doing
                raise Refused(grpc.StatusCode.DEADLINE_EXCEEDED, "the episode came too slowly", by_fault=False) from error
            damaged = isinstance(error, DamagedMessage)  # no fault of the episode
            code = grpc.StatusCode.DATA_LOSS if damaged else grpc.StatusCode.INVALID_ARGUMENT
            raise Refused(code, str(error), unusable=True) from error
        finally:
            self._uploads.finish(transfer)
            if transfer.was_cut:
                self._rejections.note(peer, f"an episode came too slowly, {transfer.n_bytes} bytes of it")
        del data  # a held-back acknowledgement must not hold the episode
        said = {"uuid": receipt.uuid, "frames": receipt.frames, "parts": receipt.parts}
        context.set_trailing_metadata(((RECEIPT_KEY, json.dumps(said)),))
        if throttled:
            while not self._may_go_on.wait(POLL_S) and context.is_active() and not self._closing.is_set():
                pass
        yield services_pb2.Empty()

    def _end_if_closing(self) -> None:
        if self._closing.is_set():
            if self._comes_back():
                raise Refused(grpc.StatusCode.UNAVAILABLE, STOPPED, by_fault=False)
            raise Refused(grpc.StatusCode.CANCELLED, FINISHED, by_fault=False)

    def _counted(self, parts: Iterator[Any], transfer: Transfer) -> Iterator[Any]:
        """The parts of an episode, as long as there are not too many of them, here and in all uploads together."""
        for part in parts:
            transfer.moved(len(part.data))
            if transfer.n_bytes > self._largest_message_bytes:
                raise MessageError(f"message larger than {self._largest_message_bytes} bytes")
            if self._uploads.n_bytes() > 2 * self._largest_message_bytes:
                raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "other large episodes are coming in; try again")
            yield part

    def _store(self, peer: str, data: bytes, throttled: bool) -> EpisodeReceipt:
        """Hand an episode on; where that is new, simulated actors wait until the training thread has taken it in.

        Raises:
            MessageError: it is no good.
            Refused: it cannot be taken now.
        """
        may_go_on = self._may_go_on.is_set()
        if throttled:
            self._may_go_on.clear()
        receipt: EpisodeReceipt | None = None
        try:
            receipt = self._receive(data)
        except MessageError:
            raise
        except Busy as error:
            raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error), by_fault=False) from error
        except OSError as error:
            self._failures.note(peer, f"an episode could not be stored: {error}. The actor process keeps it and tries again.")
            if error.errno in DISK_FULL:
                raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "the learner's disk is full", by_fault=False) from error
            said = f"the learner cannot write: {error.strerror or type(error).__name__}"
            raise Refused(grpc.StatusCode.UNAVAILABLE, said, by_fault=False) from error
        except Exception as error:
            self._failures.failure(peer, "an episode could not be taken in; the actor process keeps it and tries again", error)
            said = "the learner could not take the episode in; see its log"
            raise Refused(grpc.StatusCode.UNAVAILABLE, said, by_fault=False) from error
        finally:
            if may_go_on and (receipt is None or not receipt.is_new):
                self._may_go_on.set()
        return receipt

    def _begin(self, transfers: Transfers, context: grpc.ServicerContext) -> Transfer:
        """A place among the transfers until the call ends.

        Raises:
            Refused: there is none.
        """
        transfer = transfers.begin(context.cancel)
        if transfer is None:
            raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many transfers are in progress; try again")
        if not context.add_callback(lambda: transfers.finish(transfer)):
            transfers.finish(transfer)
        return transfer

    def _handlers(self) -> grpc.GenericRpcHandler:
        """All with a stream of requests, also where one comes: for a single request gRPC would wait by itself, in our thread, for ever."""
        empty, part = services_pb2.Empty, services_pb2.Parameters
        ready, weights, episode = map(self._answered, (self._ready, self._stream_parameters, self._send_transitions))
        handlers = {
            "Ready": grpc.stream_unary_rpc_method_handler(_only(ready), None, empty.SerializeToString),
            "StreamParameters": grpc.stream_stream_rpc_method_handler(weights, None, part.SerializeToString),
            "SendTransitions": grpc.stream_unary_rpc_method_handler(_only(episode), _part, empty.SerializeToString),
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _bind(self, host: str, port: int, credentials: grpc.ServerCredentials | None) -> int:
        target = f"{_bracketed(host)}:{port}"
        try:
            return self._server.add_secure_port(target, credentials) if credentials else self._server.add_insecure_port(target)
        except RuntimeError as error:
            raise OSError(
                f"policy.online.port={port}: cannot listen at {target}, probably another learner runs there. "
                "Stop it or choose another --policy.online.port (0: any free port)."
            ) from error


def _only(answer: Callable[[Parts, grpc.ServicerContext], Iterator[Any]]) -> Callable[[Parts, grpc.ServicerContext], Any]:
    """The same with one answer, for the calls that have one."""
    return lambda parts, context: next(answer(parts, context))


def _part(data: bytes) -> Any:
    """One part; nonsense becomes an empty one, which is refused as such. (gRPC would log a traceback for each.)"""
    try:
        return services_pb2.Transition.FromString(data)
    except DecodeError:
        return services_pb2.Transition()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _started_pool(threads: int) -> futures.ThreadPoolExecutor:
    """All threads started: while the interpreter exits none can be started, and a call that needs one would kill the server's own thread."""
    pool = futures.ThreadPoolExecutor(threads, thread_name_prefix="learner")
    together = threading.Barrier(threads)
    futures.wait([pool.submit(together.wait) for _ in range(threads)])
    return pool
