"""JSON over one kept HTTP connection: a round trip of a fraction of a millisecond."""

import http.client
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..tls import client_context

ANSWER_BYTES = 256 * 1024
# The other side closed a kept connection, for example because it was started again: nothing has been carried out.
GONE = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


class RequestRefused(RuntimeError):  # noqa: N818
    """The server answered with an error.

    Attributes:
        status: HTTP status.
        details: the JSON object of the answer; empty for anything else.
    """

    def __init__(self, status: int, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status, self.details = status, dict(details)


def split_url(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port (None: the scheme's own).

    Raises:
        ValueError: it is no URL of a server.
    """
    hint = "expected http://HOST:PORT such as http://127.0.0.1:5000"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"server_url is {url!r} ({error}), {hint}") from error
    if parts.scheme not in ("http", "https") or not host or parts.path not in ("", "/") or parts.query or parts.username:
        raise ValueError(f"server_url is {url!r}, {hint}")
    return parts.scheme, host, port


class KeepAliveClient:
    """Posts JSON; any thread may, one after the other.

    Args:
        url: http or https, host, and port.
        token: sent with each request; None sends none.
        timeout_s: of connecting, and of each answer.
        certificate: PEM file to trust on https; None: what this machine trusts.

    Raises:
        ValueError: the URL or the certificate is not usable.
        OSError: the certificate cannot be read.
    """

    def __init__(self, url: str, token: str | None, timeout_s: float, certificate: Path | None = None) -> None:
        self._scheme, self._host, self._port = split_url(url)
        if certificate is not None and self._scheme != "https":
            raise ValueError(f"server_url is {url!r}, expected https://... beside a certificate")
        self._tls = client_context(certificate) if self._scheme == "https" else None
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None

    def post(self, route: str, body: Mapping[str, Any] | None = None, patience_s: float = 0.0) -> Any:
        """Return the answer: what its JSON says, or its text.

        Args:
            route: of the server.
            body: sent as JSON.
            patience_s: wait so long for the answer, where that is longer than the ordinary time.

        Raises:
            RequestRefused: the server answered with an error.
            OSError: there is no connection, or no answer in time.
            ValueError: the answer makes no sense.
        """
        with self._lock:
            is_kept = self._connection is not None and self._connection.sock is not None
            if self._connection is None:
                self._connection = self._new_connection(self._timeout_s)
            self._connection.timeout = max(self._timeout_s, patience_s)
            if self._connection.sock is not None:
                self._connection.sock.settimeout(self._connection.timeout)
            try:
                return self._exchange(self._connection, route, body)
            except GONE:
                self._connection.close()
                if not is_kept:
                    raise
                return self._exchange(self._connection, route, body)

    def post_slowly(self, route: str, body: Mapping[str, Any] | None, timeout_s: float) -> Any:
        """Return the answer to a request that may take long, on a connection of its own; errors as in `post`."""
        connection = self._new_connection(timeout_s)
        try:
            return self._exchange(connection, route, body)
        finally:
            connection.close()

    def close(self) -> None:
        """End the connection; the next `post` opens another. May be called twice."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _new_connection(self, timeout_s: float) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)

    def _exchange(self, connection: http.client.HTTPConnection, route: str, body: Mapping[str, Any] | None) -> Any:
        try:
            connection.request("POST", route, json.dumps(body or {}, allow_nan=False).encode(), self._headers)
            response = connection.getresponse()
            data = response.read(ANSWER_BYTES + 1)
        except http.client.HTTPException as error:
            connection.close()
            if isinstance(error, OSError):
                raise
            raise ValueError(f"{route}: the server does not speak HTTP ({type(error).__name__})") from error
        except OSError:
            connection.close()  # a late answer must not be taken for that of the next request
            raise
        if len(data) > ANSWER_BYTES:
            connection.close()
            raise ValueError(f"{route}: the answer has more than {ANSWER_BYTES} bytes")
        answer = _parse(data, response.headers.get_content_type())
        if response.status != 200:
            details = answer if isinstance(answer, dict) else {}
            raise RequestRefused(response.status, str(details.get("error", f"HTTP status {response.status}")), details)
        return answer


def _parse(data: bytes, content_type: str) -> Any:
    text = data.decode("utf-8", "replace")
    if content_type != "application/json":
        return text
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError("the server's answer is no JSON") from error
