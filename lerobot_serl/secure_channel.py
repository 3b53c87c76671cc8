"""A gRPC channel to the learner: plain or TLS, with the token on every call."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from .access_token import AUTHORIZATION_KEY, bearer
from .tls import client_context, read_pem
from .transport import LARGEST_PART_BYTES

# A learner that comes back is noticed within a second; the defaults back off to two minutes.
BACKOFF_MS = {"initial": 200, "min": 1000, "max": 1000}
# A learner whose machine is gone says nothing more: ask every few seconds while a call is open. What gRPC calls the keepalive's timeout has no
# effect (github.com/grpc/grpc/pull/39239: "never triggered"); the ping's has, and is a minute by itself.
KEEPALIVE_S, PING_TIMEOUT_S = 5, 10


def require_address(address: str) -> None:
    """Raise ValueError unless ``address`` is ``host:port``."""
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"--learner={address!r}: expected HOST:PORT, for example 127.0.0.1:50051.")


def open_channel(address: str, token: str | None, certificate: Path | None) -> grpc.Channel:
    """Return a channel; it connects by itself, again and again.

    Args:
        address: ``host:port``.
        token: sent with every call; None sends none.
        certificate: PEM file of the authority, or of the learner itself, that is trusted; None: no TLS.

    Raises:
        ValueError: the certificate is not usable.
        OSError: it cannot be read.
    """
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", LARGEST_PART_BYTES),
        ("grpc.max_send_message_length", LARGEST_PART_BYTES),
        ("grpc.enable_http_proxy", 0),
        # gRPC 1.85's own retry of a call that a learner's end cut off can leave it without an end, deadline or not. We call again ourselves.
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, also beside another channel to the same learner
        ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
        ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_S * 1000),
        ("grpc.http2.max_pings_without_data", 0),
        *((f"grpc.{name}_reconnect_backoff_ms", value) for name, value in BACKOFF_MS.items()),
    ]
    if certificate is None:
        channel = grpc.insecure_channel(address, options=options)
    else:
        client_context(certificate)  # only its checks: gRPC would say nothing but "handshake failed"
        credentials = grpc.ssl_channel_credentials(root_certificates=read_pem(certificate, "certificate"))
        channel = grpc.secure_channel(address, credentials, options=options)
    return channel if token is None else grpc.intercept_channel(channel, _Authorization(token))


class _CallDetails(NamedTuple):
    """What gRPC asks of an interceptor's details: these attributes."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Authorization(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamUnaryClientInterceptor):
    """Adds the token. gRPC's own call credentials would do so only under TLS; a tunnel has none."""

    def __init__(self, token: str) -> None:
        self._entry = (AUTHORIZATION_KEY, bearer(token))

    def intercept_unary_unary(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        return continuation(self._with_token(client_call_details), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], client_call_details: Any, request: Any) -> Any:
        return continuation(self._with_token(client_call_details), request)

    def intercept_stream_unary(self, continuation: Callable[..., Any], client_call_details: Any, request_iterator: Any) -> Any:
        return continuation(self._with_token(client_call_details), request_iterator)

    def _with_token(self, details: Any) -> _CallDetails:
        metadata = (*(details.metadata or ()), self._entry)
        return _CallDetails(
            details.method,
            details.timeout,
            metadata,
            details.credentials,
            getattr(details, "wait_for_ready", None),
            getattr(details, "compression", None),
        )
