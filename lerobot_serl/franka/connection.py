"""One client's connection: how long it may take, how much it may send, and who it has to be."""

import io
import json
import logging
import select
import socket
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from ..access_token import is_right
from .controller import ArmRefused, StaleState
from .driver import ArmFault
from .messages import parse_body

if TYPE_CHECKING:
    from .arm_server import FrankaServer

logger = logging.getLogger(__name__)
# Refused for who asks or how much, not for what is asked: no token, a web page, a body that is too large.
STRANGERS = (401, 403, 413)


@dataclass(frozen=True)
class ConnectionLimits:
    """What one client, or all of them together, may use up.

    Attributes:
        body_bytes: largest body of a request.
        connections: open at the same time.
        idle_s: a connection without a request is closed after so long.
        request_s: a request has to be complete, and an answer taken, within so long.
    """

    body_bytes: int = 64 * 1024
    connections: int = 32
    idle_s: float = 60.0
    request_s: float = 5.0


class HttpError(Exception):
    """A request that is answered with an error status."""

    def __init__(self, status: int, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status, self.details = status, details


class Connection(BaseHTTPRequestHandler):
    """Answers the requests of one connection, one after the other.

    Without the two lines below, every answer on a kept connection waits for the client's delayed acknowledgement, about 40 ms.
    """

    server: "FrankaServer"
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server_version = "lerobot-serl-franka"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._reader = _DeadlineReader(self.connection, self.server.limits)
        self.rfile = io.BufferedReader(self._reader)

    def handle_one_request(self) -> None:
        self._reader.wait_for_request()
        super().handle_one_request()

    def do_POST(self) -> None:
        try:
            if self.server.closing:
                self.close_connection = True
                raise HttpError(503, "the server is shutting down")
            answer = self._carry_out()
        except HttpError as error:
            if error.status in STRANGERS:
                self.server.rejections.note(self.client_address[0], str(error))
            self._send(error.status, {"error": str(error), **error.details})
        else:
            self._send(200, answer)

    def do_GET(self) -> None:
        self.close_connection = True
        self._send(405, {"error": "every route of this server takes POST, also those that only read"})

    def _carry_out(self) -> str | dict[str, Any]:
        """Check the request from the cheapest test to the dearest, then hand it to the routes."""
        size = self._body_size()
        self._check_sender()
        body = self.rfile.read(size)
        if len(body) < size:
            self.close_connection = True
            raise HttpError(400, f"the body ended after {len(body)} of {size} bytes")
        routes = self.server.routes
        route = self.path.partition("?")[0]
        if route not in routes:
            raise HttpError(404, f"unknown route {route[:60]!r}")
        try:
            return routes.answer(route, parse_body(body), self._is_waiting)
        except ValueError as error:
            raise HttpError(400, str(error)) from error
        except ArmRefused as error:
            raise HttpError(409, str(error), **routes.condition()) from error
        except (StaleState, ArmFault) as error:
            raise HttpError(503, str(error)) from error
        except Exception as error:
            logger.exception("%s failed", route)
            raise HttpError(500, f"{route} failed in the server; see its log") from error

    def _is_waiting(self) -> bool:
        """Whether the client's side of the connection is open; where the system cannot tell (only Linux can), it is.

        The socket is not read: what lies there may be a next request, or the end of TLS. A cut network shows nothing for a long time.
        """
        if not hasattr(select, "POLLRDHUP"):
            return True
        poll = select.poll()
        poll.register(self.connection, select.POLLRDHUP)
        return not poll.poll(0)

    def _body_size(self) -> int:
        """Return the length of the body. Whatever is refused here leaves the body unread, so the connection ends."""
        lengths = set(self.headers.get_all("Content-Length", ["0"]))
        length = lengths.pop()
        if "Transfer-Encoding" in self.headers or lengths or not (length.isascii() and length.isdigit() and len(length) < 20):
            self.close_connection = True
            raise HttpError(400, "send the body with one Content-Length header and without Transfer-Encoding")
        if int(length) > self.server.limits.body_bytes:
            self.close_connection = True
            raise HttpError(413, f"the body has {length} bytes, at most {self.server.limits.body_bytes} are accepted")
        return int(length)

    def _check_sender(self) -> None:
        if "Origin" in self.headers:  # browsers send it, robots do not: a web page must not move the arm
            self.close_connection = True
            raise HttpError(403, "requests of web pages are refused")
        token = self.server.token
        if token is None:
            return
        if not is_right(self.headers.get("Authorization", ""), token):
            self.close_connection = True
            raise HttpError(401, "the token is missing or wrong; send the header 'Authorization: Bearer TOKEN' with this server's token")

    def _send(self, status: int, answer: str | dict[str, Any]) -> None:
        self.connection.settimeout(self.server.limits.request_s)
        text = answer if isinstance(answer, str) else json.dumps(answer, allow_nan=False)
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8" if isinstance(answer, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Requests that the base class finds malformed; its own answer would be a web page."""
        self.close_connection = True
        self._send(code, {"error": message or "malformed request"})

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug("%s: " + format, self.client_address[0], *args)


class _DeadlineReader(io.RawIOBase):
    """Reads a socket; a request that has begun has to end in time, however many pieces it comes in."""

    def __init__(self, connection: socket.socket, limits: ConnectionLimits) -> None:
        self._connection, self._limits = connection, limits
        self.wait_for_request()

    def wait_for_request(self) -> None:
        self._deadline_s = time.monotonic() + self._limits.idle_s
        self._has_begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        remaining_s = self._deadline_s - time.monotonic()
        if remaining_s <= 0:
            raise TimeoutError("the request was not complete in time")
        self._connection.settimeout(remaining_s)
        count = self._connection.recv_into(buffer)
        if not self._has_begun:
            self._has_begun = True
            self._deadline_s = time.monotonic() + self._limits.request_s
        return count
