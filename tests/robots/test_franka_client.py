"""The client of the franka robot, against our server, a legacy server, and things that are no server at all."""

import json
import socket
import threading

import numpy as np
import pytest
from scripted_arm import HOME_RAD, WRENCH, franka_server, legacy_server, wait_until

from lerobot_serl.franka.kinematics import pose7_of_matrix, tool_pose
from lerobot_serl.robots.franka_client import FrankaClient, FrankaError, FrankaFault, FrankaUnreachable, StaleStateError
from lerobot_serl.robots.keep_alive import ANSWER_BYTES, KeepAliveClient, RequestRefused, split_url

TOKEN = "a-token-of-more-than-16-letters"
HOME_POSE7 = pose7_of_matrix(tool_pose(HOME_RAD))
PATIENT = {"watchdog_s": 10.0, "watchdog_stop_s": 20.0, "state_timeout_s": 2.0}


def connected(server, **settings):
    client = FrankaClient(server.url, **{"timeout_s": 5.0, "state_timeout_s": 5.0, **settings})
    client.connect()
    return client


@pytest.fixture(scope="module")
def server():
    with franka_server(**PATIENT) as running:
        yield running


def test_reading_our_server(server):
    client = connected(server)
    assert not client.is_legacy
    assert client.capabilities["arm"] == "fr3"
    reading = client.read()
    np.testing.assert_allclose(reading.q_rad, HOME_RAD)
    np.testing.assert_allclose(reading.pose7, HOME_POSE7, atol=1e-9)
    np.testing.assert_array_equal(reading.wrench, WRENCH)
    np.testing.assert_array_equal(reading.tau_ext_nm, np.arange(7.0))
    assert (reading.opening, reading.mode, reading.fault) == (1.0, "idle", "")
    assert connected(server, has_gripper=False).read().opening is None


def test_commands_return_what_is_going_to_be_done(server):
    client = connected(server)
    epoch = client.read().epoch
    near = HOME_RAD + 0.02
    np.testing.assert_allclose(client.command_joints(near, 0.1, epoch), near)
    assert np.abs(client.command_joints(near + 1.0, 0.1, epoch) - near).max() < 0.2
    client.stop()
    client.reset_joints(HOME_RAD)
    np.testing.assert_allclose(server.arm.q_rad, HOME_RAD)
    np.testing.assert_allclose(client.command_pose(HOME_POSE7, 0.1, epoch), HOME_POSE7, atol=1e-6)
    client.command_gripper(0.5)
    wait_until(lambda: abs(server.gripper.width - 0.04) < 1e-9)
    client.home_gripper()
    wait_until(lambda: "homing" in server.gripper.calls)
    client.stop()


def test_old_epochs_and_faults_are_told_apart():
    with franka_server(auto_recover=False, **PATIENT) as server:
        client = connected(server)
        with pytest.raises(FrankaFault) as refused:
            client.command_joints(HOME_RAD, 0.1, client.read().epoch - 1)
        assert refused.value.fault == ""
        server.arm.errors = ("joint_reflex",)
        wait_until(lambda: client.read().fault)
        with pytest.raises(FrankaFault, match="joint_reflex") as refused:
            client.command_joints(HOME_RAD, 0.1, None)
        assert "joint_reflex" in refused.value.fault
        client.clear_errors()
        wait_until(lambda: not client.read().fault)


def test_a_legacy_server_is_recognised_and_read():
    with legacy_server() as server:
        client = connected(server)
        assert client.is_legacy
        reading = client.read()
        np.testing.assert_allclose(reading.q_rad, HOME_RAD)
        np.testing.assert_array_equal(reading.wrench, WRENCH)
        assert (reading.opening, reading.tau_ext_nm, reading.mode, reading.fault, reading.epoch) == (1.0, None, "", "", None)
        target = HOME_POSE7 + np.array([0.01, 0, 0, 0, 0, 0, 0])
        np.testing.assert_array_equal(client.command_pose(target, 0.1, None), target)
        assert server.requests[-1] == ("/pose", {"arr": target.tolist()})
        client.reset_joints(HOME_RAD)
        client.clear_errors()
        client.stop()
        assert server.routes_asked()[-2:] == ["/jointreset", "/clearerr"]


def test_a_legacy_server_without_gripper_is_read_route_by_route():
    with legacy_server(has_gripper=False) as server:
        client = connected(server, has_gripper=False)
        for _ in range(2):
            np.testing.assert_allclose(client.read().pose7, HOME_POSE7, atol=1e-9)
        assert server.routes_asked().count("/getstate") == 1
        assert server.routes_asked().count("/getq") == 2
        with pytest.raises(FrankaError, match="/get_gripper"):
            connected(server, has_gripper=True).read()


def test_a_legacy_gripper_is_moved_only_when_it_has_to_change():
    with legacy_server() as server:
        client = connected(server)
        for opening in (1.0, 0.9, 0.5, 0.1, 0.0, 0.6, 0.3, 0.8):
            client.command_gripper(opening)
        assert server.routes_asked()[1:] == ["/open_gripper", "/close_gripper", "/open_gripper"]


def test_the_token_opens_a_server_that_wants_one():
    with franka_server(token=TOKEN, **PATIENT) as server:
        assert connected(server, token=TOKEN).read().fault == ""
        for token in (None, "wrong"):
            with pytest.raises(FrankaError, match=r"wants its token.*--robot.token_file"):
                connected(server, token=token)


def test_no_server_names_the_command_that_starts_one():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(FrankaUnreachable, match=rf"no server for the arm at {url} .*lerobot-serl-franka-server --robot_ip"):
            FrankaClient(url).connect()


def test_a_server_that_was_started_again_is_found_again():
    with franka_server(**PATIENT) as first:
        client = connected(first)
        port = first.server_address[1]
        client.read()
    with pytest.raises((FrankaUnreachable, StaleStateError)):
        client.read()
    with franka_server(port=port, **PATIENT):
        np.testing.assert_allclose(client.read().q_rad, HOME_RAD)
        client.close()
        client.close()
        np.testing.assert_allclose(client.read().q_rad, HOME_RAD)


def test_a_state_that_is_not_renewed_is_stale():
    with franka_server(state_timeout_s=0.1) as server:
        client = connected(server)
        client.read()
        server.arm.is_gone = True

        def is_stale():
            try:
                client.read()
            except StaleStateError:
                return True
            return False

        wait_until(is_stale)


class Impostor:
    """A TCP server that answers every request with the same bytes; without any, it never answers."""

    def __init__(self, answer):
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._kept = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._kept.append(connection)
            try:
                connection.recv(65536)
                if self._answer:
                    connection.sendall(self._answer)
                    connection.shutdown(socket.SHUT_WR)  # closing with unread data would take the answer back
            except OSError:
                continue  # the client has gone

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._socket.close()
        for connection in self._kept:
            connection.close()


def http_answer(body, status="200 OK", kind="application/json"):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


ABLE = {"targets": ["joint", "pose"]}


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        http_answer({"hello": "world"}),
        http_answer([1, 2]),
        http_answer(b"{not json"),
        http_answer(b"[" * 10_000),
        http_answer(b" " * (ANSWER_BYTES + 1)),
        http_answer("<h1>It works</h1>", kind="text/html"),
        http_answer("no", status="500 Oops"),
    ],
)  # fmt: skip
def test_what_is_no_server_for_an_arm_is_refused(answer):
    with Impostor(answer) as impostor, pytest.raises(FrankaError, match=impostor.url):
        FrankaClient(impostor.url).connect()


@pytest.mark.parametrize(
    "change",
    [
        {"q": [0.0] * 6}, {"q": None}, {"q": [float("nan")] * 7}, {"q": [10**400] + [0.0] * 6}, {"pose": "home"}, {"force": [True] * 3},
        {"gripper_pos": "open"}, {"t": None},
    ],
)  # fmt: skip
def test_nonsense_in_a_state_is_refused(change):
    state = {"q": [0.0] * 7, "dq": [0.0] * 7, "pose": [0.0] * 7, "force": [0.0] * 3, "torque": [0.0] * 3, "gripper_pos": 1.0, "t": 1.0}
    with Impostor(http_answer(state | change)) as impostor:
        client = FrankaClient(impostor.url)
        client.capabilities = ABLE
        with pytest.raises(FrankaError, match=next(iter(change))):
            client.read()


def test_the_same_reading_again_and_again_is_stale():
    state = {"q": [0.0] * 7, "dq": [0.0] * 7, "pose": [0.0] * 7, "force": [0.0] * 3, "torque": [0.0] * 3, "t": 1.0}
    with Impostor(http_answer(state)) as impostor:
        client = FrankaClient(impostor.url, state_timeout_s=0.05, has_gripper=False)
        client.read()
        with pytest.raises(StaleStateError, match="the same state for"):
            wait_until(lambda: client.read() is None)


def test_a_server_that_does_not_answer_is_given_up_and_its_late_answer_forgotten():
    with Impostor(b"") as impostor:
        client = FrankaClient(impostor.url, timeout_s=0.1)
        for _ in range(2):
            with pytest.raises(FrankaUnreachable, match=r"no answer within 0.1 s"):
                client.read()


@pytest.mark.parametrize(
    "url", ["", "arm", "ftp://arm:5000", "http://", "http://arm:port", "http://arm:99999", "http://arm/path", "http://u:p@arm"]
)
def test_unusable_urls_are_explained(url):
    with pytest.raises(ValueError, match=r"server_url is .*expected http://HOST:PORT"):
        split_url(url)


def test_usable_urls():
    assert split_url("http://127.0.0.1:5000/") == ("http", "127.0.0.1", 5000)
    assert split_url("https://arm.lab") == ("https", "arm.lab", None)
    assert split_url("http://[::1]:5000") == ("http", "::1", 5000)


def test_slow_requests_do_not_hold_up_the_others(server):
    server.arm.move_s = 0.5
    client = connected(server)
    slow = threading.Thread(target=client.reset_joints, args=(HOME_RAD,))
    slow.start()
    reads = 0
    while slow.is_alive():
        client.read()
        reads += 1
    server.arm.move_s = 0.0
    assert reads > 10


def test_only_a_connection_that_was_kept_is_tried_again():
    """A server may close one that nobody has used for a while; anything else would send a command twice."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answered, requests = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue", []

        def serve():
            for answers in ((), (answered,), (answered,)):
                peer, _ = listener.accept()
                with peer:
                    for answer in answers:
                        requests.append(peer.recv(65536))
                        peer.sendall(answer)
                    if not answers:
                        requests.append(peer.recv(65536))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        client = KeepAliveClient(f"http://127.0.0.1:{listener.getsockname()[1]}", None, 5.0)
        with pytest.raises(ConnectionError):
            client.post("/joint", {})
        assert len(requests) == 1
        assert client.post("/joint", {}) == "true"
        assert client.post("/joint", {}) == "true"  # its connection was closed after the answer
        assert len(requests) == 3


def test_refusals_carry_status_and_details(server):
    with pytest.raises(RequestRefused, match="lacks 'arr'") as refused:
        KeepAliveClient(server.url, None, 5.0).post("/joint", {})
    assert refused.value.status == 400
