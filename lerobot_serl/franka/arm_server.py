"""The HTTP server beside the arm: SERL's and HIL-SERL's routes, and our own, on the standard library alone."""

import json
import logging
import socket
import socketserver
import ssl
import sys
import threading
from http.server import HTTPServer
from typing import Any

from ..access_token import FRANKA_TOKEN_VARIABLE, is_loopback, require_token
from ..rejection_log import RejectionLog
from .connection import Connection, ConnectionLimits
from .routes import Routes

logger = logging.getLogger(__name__)


class FrankaServer(socketserver.ThreadingMixIn, HTTPServer):
    """Serves one arm, with one thread for each connection.

    Args:
        host, port: where to listen; port 0 takes any free one.
        routes: carry the requests out.
        token: every request has to bring it; None asks for none, which only loopback addresses permit.
        limits: of the connections.
        tls: context with the certificate to show; None serves plain HTTP.

    Attributes:
        rejections: where those who are turned away are noted.

    Raises:
        ValueError: others could reach the address and there is no token.
        OSError: the address cannot be listened at; the message says what to do.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self,
        host: str,
        port: int,
        routes: Routes,
        token: str | None,
        limits: ConnectionLimits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        check_host(host, token)
        if tls is None and not is_loopback(host):
            logger.warning(
                "Listening at %s without a certificate: the token travels in clear. On a network that others use, give --certificate and "
                "--certificate_key (docs/security.md), or use an SSH tunnel.",
                host,
            )
        self._tls, self.rejections = tls, RejectionLog(logger)
        self.routes, self.token = routes, token
        self.limits = limits or ConnectionLimits()
        self.closing = False
        self._slots = threading.BoundedSemaphore(self.limits.connections)
        self._thread: threading.Thread | None = None
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), Connection)
        except OSError as error:
            raise OSError(
                f"cannot listen at {host}:{port} ({error.strerror or error}); stop the program that uses this port, "
                "or choose another --port (0: any free one)"
            ) from error

    @property
    def url(self) -> str:
        """Where clients find the server."""
        host = str(self.server_address[0])
        return f"http{'s' if self._tls else ''}://{f'[{host}]' if ':' in host else host}:{self.server_address[1]}"

    def start(self) -> None:
        """Serve in a thread, until `close`."""
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="franka-http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer nothing any more; may be called twice."""
        self.closing = True
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
            self._thread = None
        self.server_close()
        self.rejections.close()

    def server_bind(self) -> None:
        """As the base class, without its look-up of the host's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a connection, or refuse it while there are too many."""
        if self._slots.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except BaseException:
                self._slots.release()
                raise
            return
        self.rejections.note(client_address[0], f"{self.limits.connections} connections are open")
        if self._tls is None:  # a handshake would keep everybody waiting
            _refuse(request, f"{self.limits.connections} connections are open; close some, or keep one open instead of many")
        self.shutdown_request(request)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """As the base class, after the handshake of TLS: in the connection's own thread, and in limited time."""
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(self.limits.request_s)
        try:
            secured = self._tls.wrap_socket(request, server_side=True)
            try:
                super().finish_request(secured, client_address)
            finally:
                self.shutdown_request(secured)
        except (ssl.SSLError, TimeoutError) as error:
            self.rejections.note(client_address[0], f"no TLS connection: {getattr(error, 'reason', None) or error}")

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients vanish: that is no error of the server."""
        if isinstance(sys.exception(), OSError):
            logger.debug("%s: connection lost", client_address[0])
        else:
            logger.exception("A request of %s failed", client_address[0])


def check_host(host: str, token: str | None) -> None:
    """Raise ValueError where others could reach the address and there is no token."""
    require_token(host, token, "move the arm", "--token_file", FRANKA_TOKEN_VARIABLE)


def _refuse(connection: socket.socket, message: str) -> None:
    data = json.dumps({"error": message}).encode()
    head = f"HTTP/1.1 503 Busy\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    try:
        connection.settimeout(0.1)
        connection.sendall(head.encode() + data)
    except OSError:
        logger.debug("a refused client was gone already")
