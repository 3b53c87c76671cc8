"""The robot side's connection to the learner."""

import json
import logging
import threading
import time
import uuid as uuid_module
from collections.abc import Mapping
from typing import Any

import grpc
from lerobot.transport import services_pb2, services_pb2_grpc
from torch import Tensor

from ..replay.recording import Recording
from ..replay.recording_message import encode_recording
from ..transport import (
    CHUNK_BYTES,
    PROTOCOL,
    PROTOCOL_KEY,
    RECEIPT_KEY,
    RUN_KEY,
    THROTTLE_KEY,
    VERSION_KEY,
    MessageError,
    decode,
    join,
    split,
)

Message = tuple[dict[str, Any], dict[str, Tensor]]
RETRY_S = 1.0
CALL_TIMEOUT_S = 30.0
EPISODE_TIMEOUT_S = 600.0


class LearnerUnreachable(ConnectionError):  # noqa: N818
    """No learner answered in time."""


class LearnerRefused(RuntimeError):  # noqa: N818
    """The learner answered, and said no."""


class LearnerClient:
    """Fetches weights in a thread of its own, sends episodes, waits for acknowledgements.

    Args:
        address: ``host:port``.
        patience_s: how long to go on trying to reach the learner.
    """

    def __init__(self, address: str, patience_s: float) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"--learner={address!r}: expected HOST:PORT, for example 127.0.0.1:50051.")
        self.address, self._patience_s = address, patience_s
        options = [("grpc.max_receive_message_length", 2 * CHUNK_BYTES), ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.insecure_channel(address, options=options)
        self._stub = services_pb2_grpc.LearnerServiceStub(self._channel)
        self._newest: Message | None = None
        self._run, self._version = "", 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.finished = threading.Event()
        self._thread = threading.Thread(target=self._fetch_weights, name="weights", daemon=True)

    def connect(self) -> Message:
        """Wait for the learner, compare protocol versions, fetch the whole policy, and begin to follow its weights.

        Raises:
            LearnerUnreachable: nobody answered within the patience.
            LearnerRefused: another protocol version.
        """
        self._patiently(lambda: self._stub.Ready(services_pb2.Empty(), metadata=self._metadata(), timeout=CALL_TIMEOUT_S))
        while True:
            message = self._patiently(self._fetch)
            if message is not None:
                break
        self._remember(message)
        self._thread.start()
        return message

    def newer_weights(self) -> Message | None:
        """The newest weights that arrived since the last call, if any."""
        with self._lock:
            newest, self._newest = self._newest, None
        return newest

    def send(self, recording: Recording, wait_for_learner: bool) -> None:
        """Send an episode and wait for its acknowledgement.

        Args:
            wait_for_learner: let the learner hold the acknowledgement back until it has caught up (simulation).

        Raises:
            LearnerUnreachable, LearnerRefused: as :meth:`connect`.
        """
        uuid = str(uuid_module.uuid4())
        data = encode_recording(recording, uuid)
        metadata = (*self._metadata(), (THROTTLE_KEY, "1" if wait_for_learner else "0"))

        def call() -> None:
            _, done = self._stub.SendTransitions.with_call(
                split(data, services_pb2.Transition), metadata=metadata, timeout=EPISODE_TIMEOUT_S
            )
            receipts = dict(done.trailing_metadata())
            if json.loads(receipts.get(RECEIPT_KEY, "{}")).get("uuid") != uuid:
                raise LearnerRefused("the learner did not acknowledge the episode")

        self._patiently(call)

    def close(self) -> None:
        """End the connection; may be called twice."""
        self._closed.set()
        self._channel.close()

    def _fetch_weights(self) -> None:
        while not self._closed.is_set():
            try:
                message = self._patiently(self._fetch)
            except (LearnerUnreachable, LearnerRefused, MessageError, ValueError) as error:
                if not self._closed.is_set():
                    logging.info(f"No more weights: {error}")
                    self.finished.set()
                return
            if message is not None:
                with self._lock:
                    self._newest = message
                self._remember(message)

    def _remember(self, message: Message) -> None:
        """Which weights are here. A restarted learner counts from 1 again: versions of another run say nothing."""
        self._run, self._version = str(message[0]["run"]), int(message[0]["version"])

    def _fetch(self) -> Message | None:
        metadata = (*self._metadata(), (RUN_KEY, self._run), (VERSION_KEY, str(self._version)))
        parts = self._stub.StreamParameters(services_pb2.Empty(), metadata=metadata, timeout=CALL_TIMEOUT_S)
        data = next(join(parts), None)
        return None if data is None else decode(data)

    def _patiently(self, call: Any) -> Any:
        """Repeat a call while nobody answers, for as long as the patience lasts."""
        until, told = time.monotonic() + self._patience_s, False
        while True:
            try:
                return call()
            except grpc.RpcError as error:
                code, details = error.code(), error.details()
                if code is grpc.StatusCode.CANCELLED:
                    raise LearnerRefused(details or "cancelled") from error
                if code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise LearnerRefused(f"{code.name}: {details}") from error
                if time.monotonic() > until or self._closed.is_set():
                    raise LearnerUnreachable(
                        f"No learner at {self.address} within {self._patience_s:.0f} s. Start lerobot-train --policy.type=serl_sac "
                        "--policy.online.repo_id=... first, and compare the port."
                    ) from error
                if not told:
                    logging.info(f"No learner at {self.address} yet; trying again for {self._patience_s:.0f} s.")
                    told = True
                time.sleep(RETRY_S)

    @staticmethod
    def _metadata() -> tuple[tuple[str, str], ...]:
        return ((PROTOCOL_KEY, str(PROTOCOL)),)


def describe(header: Mapping[str, Any]) -> str:
    """A few words on a policy message."""
    return f"weights {header['version']}, phase {header['phase']}, {header['updates']} updates"
