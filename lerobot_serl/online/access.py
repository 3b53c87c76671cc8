"""Who may connect to the learner, decided before it listens: the token, and the certificate that it shows."""

import logging
from dataclasses import dataclass
from pathlib import Path

import grpc

from ..access_token import TOKEN_VARIABLE, is_loopback, read_token, require_token
from ..policy.parts import OnlineConfig
from ..tls import read_pem, server_context


@dataclass(frozen=True)
class Access:
    """``token``: every call has to bring it, None asks for none. ``credentials``: of TLS, None for plain connections."""

    token: str | None = None
    credentials: grpc.ServerCredentials | None = None

    @classmethod
    def of(cls, online: OnlineConfig) -> "Access":
        """Read token and certificate.

        Raises:
            ValueError: other machines could connect without a token, or a file holds something unusable.
            OSError: a file cannot be read.
        """
        token = read_token(Path(online.token_file) if online.token_file else None, TOKEN_VARIABLE)
        check_host(online.host, token)
        if online.certificate is None or online.certificate_key is None:
            if not is_loopback(online.host):
                logging.warning(
                    f"policy.online.host={online.host}: token, episodes and weights travel in clear. On a network that others use, set "
                    "--policy.online.certificate and --policy.online.certificate_key (docs/security.md), or use an SSH tunnel."
                )
            return cls(token)
        certificate, key = Path(online.certificate), Path(online.certificate_key)
        server_context(certificate, key)  # only its checks: gRPC would fail at each connection, and say so to nobody
        pair = (read_pem(key, "certificate_key"), read_pem(certificate, "certificate"))
        return cls(token, grpc.ssl_server_credentials([pair]))


def check_host(host: str, token: str | None) -> None:
    """Raise ValueError where other machines could reach the learner and there is no token."""
    require_token(host, token, "send episodes and read the policy", "--policy.online.token_file", TOKEN_VARIABLE)
