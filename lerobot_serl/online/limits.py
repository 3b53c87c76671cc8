"""What the learner's server grants to one connection, and to all of them together. docs/security.md has the table."""

from dataclasses import dataclass
from typing import Any

from ..secure_channel import PING_TIMEOUT_S
from ..transport import LARGEST_PART_BYTES


@dataclass(frozen=True)
class ServerLimits:
    """Numbers of the learner's server.

    Attributes:
        actors: actor processes that are connected at the same time.
        calls: in progress at the same time, of all connections.
        calls_per_connection: of one connection.
        waiting: calls that have arrived, in progress or about to be looked at; further ones are refused unseen.
        uploads: episodes that come in at the same time.
        downloads: whole policies that go out at the same time.
        grace_s: a transfer may pause for so long in all ...
        bytes_per_s: ... beyond the time that its bytes take at this rate.
        stalled_s: with all uploads taken, one that has brought nothing for so long makes room.
        refusals: unusable messages of one connection within `penalty_s` after which it is refused for so long.
        penalty_s: see `refusals`.
        session_s: the name of an actor process is free again when it has been silent for so long.
        metadata_bytes: of one call.
        handshake_s: a connection has to be established within so long.
        idle_s: a connection without calls is closed after so long.
        keepalive_s: a silent connection is asked after so long whether it lives, ...
        ping_s: ... and closed if it does not answer within this.
    """

    actors: int = 24
    calls: int = 72
    calls_per_connection: int = 8
    waiting: int = 256
    uploads: int = 24
    downloads: int = 4
    grace_s: float = 40.0
    bytes_per_s: float = 64 * 1024
    stalled_s: float = 2.0
    refusals: int = 20
    penalty_s: float = 10.0
    session_s: float = 5.0
    metadata_bytes: int = 8 * 1024
    handshake_s: float = 10.0
    idle_s: float = 60.0
    keepalive_s: float = 4.0
    ping_s: float = PING_TIMEOUT_S

    @property
    def threads(self) -> int:
        """Some more than calls: whoever has to be refused never waits for a thread."""
        return self.calls + 8

    def options(self) -> list[tuple[str, Any]]:
        """Those that gRPC itself watches over."""
        return [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", LARGEST_PART_BYTES),
            ("grpc.max_concurrent_streams", 2 * self.calls_per_connection),
            ("grpc.max_metadata_size", self.metadata_bytes),
            ("grpc.absolute_max_metadata_size", self.metadata_bytes),
            ("grpc.server_handshake_timeout_ms", int(self.handshake_s * 1000)),
            ("grpc.max_connection_idle_ms", int(self.idle_s * 1000)),
            ("grpc.keepalive_time_ms", int(self.keepalive_s * 1000)),
            ("grpc.http2.ping_timeout_ms", int(self.ping_s * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 2000),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 2000),
            ("grpc.http2.max_ping_strikes", 4),
        ]
