"""The word that a client has to know, where one is needed, and where it is kept."""

import hmac
import ipaddress
import logging
import os
import re
import socket
import stat
from pathlib import Path

TOKEN_VARIABLE = "LEROBOT_SERL_TOKEN"
FRANKA_TOKEN_VARIABLE = "LEROBOT_SERL_FRANKA_TOKEN"
SHORTEST_TOKEN = 16
AUTHORIZATION_KEY = "authorization"

logger = logging.getLogger(__name__)


def read_token(file: Path | None, variable: str) -> str | None:
    """Read the token from a file, else from an environment variable; None where there is neither.

    Raises:
        ValueError: the token is too short or contains white space.
        OSError: the file cannot be read; the message names the setting.
    """
    source = f"the environment variable {variable}"
    token = os.environ.get(variable)
    if file is not None:
        source = f"token_file {file}"
        token = _token_in(file)
    if token is not None and not re.fullmatch(rf"[!-~]{{{SHORTEST_TOKEN},1024}}", token):
        raise ValueError(
            f"{source} holds no usable token: expected {SHORTEST_TOKEN} to 1024 printable ASCII characters without spaces; "
            'make one with: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    return token


def _token_in(file: Path) -> str:
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            logger.warning("Other users may read %s; run: chmod 600 %s", file, file)
        with file.open(encoding="utf-8", errors="replace") as handle:
            return handle.read(4096).strip()
    except OSError as error:
        raise OSError(f"token_file {file} cannot be read: {error.strerror or error}.") from error


def bearer(token: str) -> str:
    """How a token travels: the value of an authorization header."""
    return f"Bearer {token}"


def is_right(given: str, token: str) -> bool:
    """Whether an authorization header carries the token; takes the same time however much of it is right."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), bearer(token).encode())


def require_token(host: str, token: str | None, danger: str, flag: str, variable: str) -> None:
    """Raise ValueError where other machines could reach ``host`` and no token keeps them out.

    Args:
        danger: what they could do, as the end of "lets other machines".
        flag, variable: where a token can be given.
    """
    if token is None and not is_loopback(host):
        raise ValueError(
            f"host {host!r} lets other machines {danger}: set a token ({flag}, or the environment variable {variable}), "
            "or listen at 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address; a name counts if all its addresses do."""
    try:
        addresses = {str(found[4][0]) for found in socket.getaddrinfo(host, None)} if host else set()
    except (OSError, UnicodeError):
        return False
    return bool(addresses) and all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)
