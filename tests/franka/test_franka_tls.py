"""The arm's server with a certificate: who trusts it gets in, nobody else, and nobody holds it up."""

import http.client
import socket
import ssl

import pytest
from certificates import make_certificate
from scripted_arm import franka_server, wait_until

from lerobot_serl.franka.connection import ConnectionLimits
from lerobot_serl.robots.config_franka import FrankaConfig
from lerobot_serl.robots.franka_client import FrankaClient, FrankaError, FrankaUnreachable
from lerobot_serl.scripts.lerobot_serl_franka_server import FrankaServerConfig, serve
from lerobot_serl.tls import client_context, server_context

TOKEN = "a-token-of-more-than-16-letters"
PATIENT = {"watchdog_s": 10.0, "watchdog_stop_s": 20.0, "state_timeout_s": 2.0}


@pytest.fixture
def pair(tmp_path):
    return make_certificate(tmp_path)


@pytest.fixture
def server(pair):
    with franka_server(token=TOKEN, tls=server_context(*pair), limits=ConnectionLimits(connections=2, request_s=1.0), **PATIENT) as server:
        yield server


def reading(server, certificate, token=TOKEN):
    client = FrankaClient(server.url, token, 5.0, 5.0, certificate=certificate)
    try:
        client.connect()
        return client.read()
    finally:
        client.close()


def test_the_robot_reaches_an_arm_with_a_certificate(server, pair):
    assert server.url.startswith("https://127.0.0.1:")
    for _ in range(3):
        assert reading(server, pair.certificate).fault == ""


def test_a_motion_ends_when_its_client_has_gone(server, pair):
    server.arm.move_s = 60.0
    connection = http.client.HTTPSConnection(*server.server_address[:2], timeout=10, context=client_context(pair.certificate))
    connection.request("POST", "/jointreset", b"{}", {"Authorization": f"Bearer {TOKEN}"})
    wait_until(lambda: server.controller.snapshot().mode == "moving")
    connection.close()
    wait_until(lambda: server.controller.snapshot().mode == "idle")


def test_another_certificate_is_not_trusted_and_the_token_is_still_needed(server, pair, tmp_path, caplog):
    other = make_certificate(tmp_path, "other").certificate
    for certificate in (other, None):
        with pytest.raises(FrankaError, match=r"is not trusted \(self-signed certificate\).*--robot.certificate"):
            reading(server, certificate)
    with pytest.raises(FrankaError, match=r"wants its token"):
        reading(server, pair.certificate, "wrong-token-of-some-length")
    assert "Refused 127.0.0.1: no TLS connection" in caplog.text
    assert "Refused 127.0.0.1: the token is missing or wrong" in caplog.text
    assert TOKEN not in caplog.text


def test_plain_text_and_silence_hold_nobody_up(server, pair, caplog):
    silent = [socket.create_connection(server.server_address[:2]) for _ in range(2)]
    assert [one.recv(1) for one in silent] == [b"", b""]  # closed, when the handshake's time was over
    plain = FrankaClient(server.url.replace("https", "http"), TOKEN, 5.0, 5.0)
    with pytest.raises(FrankaUnreachable, match=r"a server with a certificate begins with https://"):
        plain.connect()
    for one in silent:
        one.close()
    assert reading(server, pair.certificate).fault == ""
    assert "Refused 127.0.0.1: no TLS connection" in caplog.text


def test_a_request_that_never_ends_is_cut_off_under_tls(server, pair):
    context = ssl.create_default_context(cafile=str(pair.certificate))
    connection = http.client.HTTPSConnection("127.0.0.1", server.server_address[1], context=context, timeout=20)
    connection.putrequest("POST", "/getstate")
    connection.endheaders()
    assert connection.getresponse().status == 401
    raw = context.wrap_socket(socket.create_connection(server.server_address[:2], timeout=20), server_hostname="127.0.0.1")
    raw.sendall(b"POST /getstate HTTP/1.1\r\nX")
    assert raw.recv(100) == b""
    raw.close()
    connection.close()


def test_what_does_not_fit_together_is_said_before_anything_starts(tmp_path, pair):
    with pytest.raises(ValueError, match="expected https://"):
        FrankaClient("http://127.0.0.1:1", certificate=pair.certificate)
    with pytest.raises(OSError, match="absent cannot be read"):
        FrankaClient("https://127.0.0.1:1", certificate=tmp_path / "absent")
    assert FrankaConfig(server_url="https://arm.lab", certificate=pair.certificate).certificate == pair.certificate
    expired = make_certificate(tmp_path, "old", days=(-9, -2))
    for settings, said in (
        ({"certificate": pair.certificate}, "give both --certificate and --certificate_key"),
        ({"certificate": pair.certificate, "certificate_key": expired.key}, "the key belongs to another certificate"),
        ({"certificate": expired.certificate, "certificate_key": expired.key}, "has expired"),
    ):
        with pytest.raises(ValueError, match=said):
            serve(FrankaServerConfig(driver="sim", **settings), None)
