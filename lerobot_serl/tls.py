"""Certificates, checked before anything starts: a bad one would show itself only as connections that never come about."""

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_PEM_BYTES = 1024 * 1024
HOW = "docs/security.md says how to make a pair"


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the context of a server that shows ``certificate`` (PEM, with the chain above it if there is one).

    Raises:
        ValueError: a file is no PEM, the key belongs to another certificate or has a password, or the certificate is not valid today.
        OSError: a file cannot be read.
    """
    read_pem(certificate, "certificate")
    read_pem(key, "certificate_key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with _explained(f"certificate {certificate} with certificate_key {key}"):
        context.load_cert_chain(certificate, key, password=_no_password)
    _check_dates(certificate, context)
    return context


def client_context(certificate: Path | None) -> ssl.SSLContext:
    """Return the context of a client that trusts ``certificate`` and nothing else; None: what this machine trusts.

    Raises:
        ValueError: the file holds no certificate, or one that has expired.
        OSError: it cannot be read.
    """
    if certificate is None:
        return ssl.create_default_context()
    read_pem(certificate, "certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the server's own certificate may be what is trusted
    with _explained(f"certificate {certificate}"):
        context.load_verify_locations(certificate)
    for known in context.get_ca_certs():
        _check_date(certificate, str(known["notAfter"]))
    return context


def read_pem(file: Path, name: str) -> bytes:
    """Return the file's bytes.

    Raises:
        OSError: it cannot be read; the message names the setting.
        ValueError: it is far larger than certificates are.
    """
    try:
        with file.open("rb") as handle:
            data = handle.read(MAX_PEM_BYTES + 1)
    except OSError as error:
        raise OSError(f"{name} {file} cannot be read: {error.strerror or error}; {HOW}.") from error
    if len(data) > MAX_PEM_BYTES:
        raise ValueError(f"{name} {file} has more than {MAX_PEM_BYTES} bytes, expected a PEM file; {HOW}.")
    return data


def _check_dates(certificate: Path, server: ssl.SSLContext) -> None:
    """Shake hands with ourselves, in memory: OpenSSL then judges the certificate as a client will."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    with _explained(f"certificate {certificate}"):
        client.load_verify_locations(certificate)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one, two = client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)
    with _explained(f"certificate {certificate}"):
        for _ in range(4):
            for side in (one, two):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue


def _check_date(certificate: Path, not_after: str) -> None:
    if ssl.cert_time_to_seconds(not_after) < time.time():
        raise ValueError(f"certificate {certificate} has expired ({not_after}); get a new one: {HOW}.")


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """One sentence instead of OpenSSL's codes."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise ValueError(f"{what} is not usable: {error.verify_message}; {HOW}.") from error
    except ssl.SSLError as error:
        reason = {
            "KEY_VALUES_MISMATCH": "the key belongs to another certificate",
            "NO_START_LINE": "no certificate or key in PEM format in it",
            "NO_CERTIFICATE_OR_CRL_FOUND": "no certificate in PEM format in it",
        }.get(error.reason or "", error.reason or str(error))
        raise ValueError(f"{what} is not usable: {reason.lower() if reason.isupper() else reason}; {HOW}.") from error


def _no_password() -> str:
    raise ValueError(f"certificate_key is encrypted with a password, which a process without a keyboard cannot give; {HOW}.")
