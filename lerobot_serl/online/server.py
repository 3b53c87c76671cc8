"""The learner's gRPC server: LeRobot's LearnerService with safetensors payloads.

``Ready`` checks the protocol version. ``StreamParameters`` answers with weights newer than the caller's, or with nothing after a second, and
is called again. ``SendTransitions`` takes one episode; its reply is the acknowledgement.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import grpc
from lerobot.transport import services_pb2, services_pb2_grpc

from ..transport import PROTOCOL, PROTOCOL_KEY, RECEIPT_KEY, RUN_KEY, THROTTLE_KEY, VERSION_KEY, MessageError, join, split
from .weights import WeightPublisher

POLL_S = 1.0
GOODBYE_S = 1.5 * POLL_S
MAX_CALLS = 16
FINISHED = "the learner has finished"


@dataclass(frozen=True)
class EpisodeReceipt:
    """Acknowledgement of an episode that is on disk."""

    uuid: str
    frames: int


class LearnerServer(services_pb2_grpc.LearnerServiceServicer):
    """Serves actor processes.

    Args:
        host, port: where to listen; port 0 takes any free one.
        publisher: of the weights.
        receive: stores an episode and returns its receipt; called in server threads.
        at_exit: called when the server has stopped.

    Raises:
        OSError: the port is in use.
    """

    def __init__(
        self,
        host: str,
        port: int,
        publisher: WeightPublisher,
        receive: Callable[[bytes], EpisodeReceipt],
        at_exit: Callable[[], None],
    ) -> None:
        self._publisher, self._receive, self._at_exit = publisher, receive, at_exit
        self._closing = threading.Event()
        self._may_go_on = threading.Event()
        self._may_go_on.set()
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 4 * 1024 * 1024)]
        self._server = grpc.server(_started_pool(), options=options)
        services_pb2_grpc.add_LearnerServiceServicer_to_server(self, self._server)
        try:
            bound = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise OSError(
                f"policy.online.port={port}: cannot listen at {host}:{port}, probably another learner runs there. "
                "Stop it or choose another --policy.online.port (0: any free port)."
            ) from error
        self.address = f"{host}:{bound}"

    def start(self) -> None:
        """Accept calls until the interpreter exits or :meth:`stop`."""
        self._server.start()
        # The executor's threads are joined when the interpreter exits; calls in progress must end first.
        threading._register_atexit(self.stop)  # type: ignore[attr-defined]

    def stop(self) -> None:
        """End calls in progress; actor processes learn that the learner has finished. May be called twice."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._may_go_on.set()
        # gRPC's own grace period needs a new thread, which cannot be had while the interpreter exits.
        time.sleep(GOODBYE_S)
        self._server.stop(grace=None)
        self._at_exit()

    def progressed(self, actors_must_wait: bool) -> None:
        """Tell waiting simulated actors whether the learner has caught up."""
        if actors_must_wait:
            self._may_go_on.clear()
        else:
            self._may_go_on.set()

    def Ready(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._metadata(context)
        return services_pb2.Empty()

    def StreamParameters(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        metadata = self._metadata(context)
        same_run = metadata.get(RUN_KEY) == self._publisher.run
        version = int(metadata.get(VERSION_KEY, "0")) if same_run else 0
        snapshot = self._publisher.wait_for_newer(version, POLL_S)
        if self._closing.is_set():
            context.abort(grpc.StatusCode.CANCELLED, FINISHED)
        if snapshot is not None:
            yield from split(self._publisher.message(snapshot, whole_policy=version == 0), services_pb2.Parameters)

    def SendTransitions(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Any:  # noqa: N802
        if self._closing.is_set():
            context.abort(grpc.StatusCode.CANCELLED, FINISHED)
        throttled = self._metadata(context).get(THROTTLE_KEY) == "1"
        if throttled:
            self._may_go_on.clear()  # until the training thread has taken this episode in
        try:
            data = next(join(request_iterator), b"")
            receipt = self._receive(data)
        except MessageError as error:
            self._may_go_on.set()
            logging.warning(f"Refused an episode from {context.peer()}: {error}")
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        context.set_trailing_metadata(((RECEIPT_KEY, json.dumps({"uuid": receipt.uuid, "frames": receipt.frames})),))
        if throttled:
            while not self._may_go_on.wait(POLL_S) and context.is_active() and not self._closing.is_set():
                pass
        return services_pb2.Empty()

    def _metadata(self, context: grpc.ServicerContext) -> dict[str, str]:
        """Metadata of a call; ends it if the protocol versions differ."""
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        theirs = metadata.get(PROTOCOL_KEY, "none")
        if theirs != str(PROTOCOL):
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"learner speaks protocol {PROTOCOL}, this actor process {theirs}: install the same lerobot_policy_serl_sac on both machines",
            )
        return metadata


def _started_pool() -> futures.ThreadPoolExecutor:
    """All threads started: while the interpreter exits none can be started, and a call that needs one would kill the server's own thread."""
    pool = futures.ThreadPoolExecutor(MAX_CALLS, thread_name_prefix="learner")
    together = threading.Barrier(MAX_CALLS)
    futures.wait([pool.submit(together.wait) for _ in range(MAX_CALLS)])
    return pool
