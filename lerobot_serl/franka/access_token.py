"""The word that a client has to know before it may move the arm."""

import logging
import os
import re
import stat
from pathlib import Path

TOKEN_VARIABLE = "LEROBOT_SERL_FRANKA_TOKEN"
SHORTEST_TOKEN = 16

logger = logging.getLogger(__name__)


def read_token(file: Path | None) -> str | None:
    """Read the token from a file, else from the environment; None where there is neither.

    Raises:
        ValueError: the token is too short or contains white space.
        OSError: the file cannot be read.
    """
    source = f"the environment variable {TOKEN_VARIABLE}"
    token = os.environ.get(TOKEN_VARIABLE)
    if file is not None:
        source = f"token_file {file}"
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            logger.warning("Other users may read %s; run: chmod 600 %s", file, file)
        with file.open(encoding="utf-8") as handle:
            token = handle.read(4096).strip()
    if token is not None and not re.fullmatch(rf"[!-~]{{{SHORTEST_TOKEN},1024}}", token):
        raise ValueError(
            f"{source} holds no usable token: expected {SHORTEST_TOKEN} to 1024 printable ASCII characters without spaces; "
            'make one with: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    return token
