"""The server beside the arm: every route and its JSON, bad input, strangers, and clients that take their time."""

import http.client
import json
import socket
import statistics
import threading
import time

import numpy as np
import pytest
from scripted_arm import HOME_RAD, MAX_WIDTH_M, WRENCH, ScriptedArm, franka_server, wait_until

from lerobot_serl.access_token import FRANKA_TOKEN_VARIABLE as TOKEN_VARIABLE
from lerobot_serl.franka.arm_server import FrankaServer
from lerobot_serl.franka.connection import ConnectionLimits
from lerobot_serl.franka.kinematics import jacobian, matrix_of_pose7, matrix_of_rotvec, pose7_of_matrix, tool_pose
from lerobot_serl.franka.routes import Routes

TOKEN = "a-token-of-more-than-16-letters"
HOME_POSE7 = pose7_of_matrix(tool_pose(HOME_RAD))
PATIENT = {"watchdog_s": 10.0, "watchdog_stop_s": 20.0, "state_timeout_s": 2.0}


class Client:
    """Posts on one kept connection."""

    def __init__(self, server, **headers):
        self.headers = headers
        self.connection = http.client.HTTPConnection(*server.server_address[:2], timeout=10)

    def post(self, route, body=None, **headers):
        """Status, and the answer: parsed if it says that it is JSON."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.connection.request("POST", route, data, {**self.headers, **headers})
        response = self.connection.getresponse()
        text = response.read().decode()
        is_json = response.headers["Content-Type"] == "application/json"
        return response.status, json.loads(text) if is_json else text


@pytest.fixture(scope="module")
def shared():
    with franka_server(**PATIENT) as server:
        yield server


@pytest.fixture
def server(shared):
    """The shared server with the arm at home, open gripper, and nothing wrong."""
    shared.controller.stop_impedance()
    shared.arm.errors = ()
    shared.controller.clear_errors()
    shared.controller.reset_joints(HOME_RAD)
    shared.controller.command_gripper(MAX_WIDTH_M)
    shared.arm.calls.clear()
    wait_until(lambda: np.allclose(shared.controller.snapshot().state.q_rad, HOME_RAD) and shared.gripper.width == MAX_WIDTH_M)
    wait_until(lambda: shared.controller.snapshot().gripper_width_m == MAX_WIDTH_M)
    return shared


@pytest.fixture
def client(server):
    return Client(server)


def arm_is_at(server, q_rad):
    wait_until(lambda: np.allclose(server.controller.snapshot().state.q_rad, q_rad, atol=1e-3))


def test_the_state_has_every_entry_of_serl_and_ours(client):
    status, state = client.post("/getstate")
    assert status == 200
    shapes = {key: np.shape(value) for key, value in state.items() if isinstance(value, list)}
    assert shapes == {
        "pose": (7,), "vel": (6,), "force": (3,), "torque": (3,), "q": (7,), "dq": (7,), "jacobian": (6, 7), "tau_ext": (7,),
    }  # fmt: skip
    np.testing.assert_allclose(state["pose"], HOME_POSE7, atol=1e-9)
    np.testing.assert_allclose(state["q"], HOME_RAD)
    np.testing.assert_allclose(state["vel"], jacobian(HOME_RAD) @ np.full(7, 0.01))
    assert (state["force"], state["torque"]) == (WRENCH[:3].tolist(), WRENCH[3:].tolist())
    assert (state["gripper_pos"], state["gripper_width_m"]) == (1.0, MAX_WIDTH_M)
    assert (state["mode"], state["fault"], state["gripper_fault"]) == ("idle", "", "")
    assert isinstance(state["epoch"], int)
    assert isinstance(state["t"], float)


@pytest.mark.parametrize(
    ("route", "key", "shape"),
    [
        ("/getpos", "pose", (7,)), ("/getpos_euler", "pose", (6,)), ("/getvel", "vel", (6,)), ("/getforce", "force", (3,)),
        ("/gettorque", "torque", (3,)), ("/getq", "q", (7,)), ("/getdq", "dq", (7,)), ("/getjacobian", "jacobian", (6, 7)),
        ("/get_gripper", "gripper", ()),
    ],
)  # fmt: skip
def test_single_reads(client, route, key, shape):
    status, answer = client.post(route)
    assert status == 200
    assert list(answer) == [key]
    assert np.shape(answer[key]) == shape
    whole = client.post("/getstate")[1]
    if route != "/getpos_euler":
        np.testing.assert_allclose(answer[key], whole["gripper_pos" if key == "gripper" else key])


def test_euler_angles_turn_about_the_fixed_axes(server, client):
    x, y, z = np.eye(3)
    for q_rad in (HOME_RAD, HOME_RAD + 0.3, HOME_RAD - 0.1):
        server.controller.reset_joints(q_rad)
        arm_is_at(server, q_rad)
        roll, pitch, yaw = client.post("/getpos_euler")[1]["pose"][3:]
        rotation = matrix_of_rotvec(yaw * z) @ matrix_of_rotvec(pitch * y) @ matrix_of_rotvec(roll * x)
        np.testing.assert_allclose(rotation, tool_pose(q_rad)[:3, :3], atol=1e-9)


def test_a_session_of_serls_environment_gets_serls_answers(server, client):
    """The requests of FrankaEnv's construction, reset, a few steps and the end, in its order and with its float32 numbers."""
    reset = {"translational_stiffness": 2000, "translational_damping": 89, "rotational_stiffness": 150, "rotational_damping": 7,
             "translational_Ki": 0, "translational_clip_x": 0.008, "translational_clip_y": 0.005, "translational_clip_z": 0.005,
             "translational_clip_neg_x": 0.008, "rotational_clip_x": 0.05, "rotational_Ki": 0}  # fmt: skip
    lower = matrix_of_pose7(HOME_POSE7)
    lower[2, 3] -= 0.02
    pose = {"arr": pose7_of_matrix(lower).astype(np.float32).tolist()}
    session = [
        ("/getstate", None, dict), ("/update_param", reset, "Updated compliance parameters"), ("/clearerr", None, "Clear"),
        ("/getpos", None, dict), ("/pose", {"arr": HOME_POSE7.tolist()}, "Moved"), ("/stopimp", None, "Stopped impedance"),
        ("/jointreset", None, "Reset Joint"), ("/startimp", None, "Started impedance"), ("/getstate", None, dict),
        *[step for _ in range(4) for step in (
            ("/clearerr", None, "Clear"), ("/pose", pose, "Moved"), ("/close_gripper", None, "Closed"), ("/getstate", None, dict))],
        ("/open_gripper", None, "Opened"), ("/move_gripper", {"gripper_pos": 128}, "Moved Gripper"),
        ("/close_gripper_slow", None, "Closed"), ("/activate_gripper", None, "Activated"), ("/reset_gripper", None, "Reset"),
        ("/set_load", {"mass": 0.5, "F_x_center_load": [0, 0, 0.1], "load_inertia": [0.001, 0, 0, 0, 0.001, 0, 0, 0, 0.001]}, str),
    ]  # fmt: skip
    for route, body, expected in session:
        status, answer = client.post(route, body)
        assert status == 200, (route, answer)
        assert isinstance(answer, expected) if isinstance(expected, type) else answer == expected
        if route == "/startimp":
            wait_until(lambda: client.post("/getstate")[1]["mode"] == "pose")
        if route == "/open_gripper":
            wait_until(lambda: abs(client.post("/getpos")[1]["pose"][2] - lower[2, 3]) < 2e-3)
    assert server.arm.impedance.translational_stiffness_n_m == 2000
    assert server.arm.impedance.translational_clip_m == 0.005
    assert server.arm.load == (0.5, [0, 0, 0.1], [0.001, 0, 0, 0, 0.001, 0, 0, 0, 0.001])
    assert "homing" in server.gripper.calls
    assert "recover" not in server.arm.calls  # /clearerr without a fault interrupts nothing


def test_joint_targets_are_followed_and_clamped(server, client):
    near = (HOME_RAD + 0.05).tolist()
    assert client.post("/joint", {"arr": near, "period_s": 0.05})[1] == {"target": pytest.approx(near)}
    arm_is_at(server, near)
    assert client.post("/getstate")[1]["mode"] == "joint"
    far = client.post("/joint", {"arr": (HOME_RAD + 3.0).tolist(), "period_s": 0.05})[1]["target"]
    assert np.abs(np.array(far) - near).max() <= 0.1 + 1e-3
    assert client.post("/getstate")[1]["clamps"] > 0


def test_pose_answers_its_target_to_those_who_give_a_period(client):
    far = HOME_POSE7.copy()
    far[0] += 1.0
    status, answer = client.post("/pose", {"arr": far.tolist(), "period_s": 0.05})
    assert status == 200
    assert HOME_POSE7[0] <= answer["target"][0] < 0.75


def test_old_epochs_are_refused_with_the_present_one(server, client):
    epoch = client.post("/getstate")[1]["epoch"]
    body = {"arr": HOME_RAD.tolist(), "period_s": 0.1}
    assert client.post("/joint", {**body, "epoch": epoch})[0] == 200
    status, answer = client.post("/joint", {**body, "epoch": epoch - 1})
    assert status == 409
    assert answer["epoch"] == epoch
    assert answer["fault"] == ""
    assert client.post("/pose", {"arr": HOME_POSE7.tolist(), "epoch": epoch - 1})[0] == 409


def test_a_client_cannot_widen_the_clips():
    with franka_server(**PATIENT) as server:
        client = Client(server)
        assert client.post("/update_param", {"translational_clip_x": 0.1, "rotational_clip_z": 0.3})[0] == 200
        assert client.post("/startimp")[0] == 200
        assert (server.arm.impedance.translational_clip_m, server.arm.impedance.rotational_clip_rad) == (0.02, 0.1)


def test_who_only_reads_is_served_while_the_watchdog_stops_the_arm():
    with franka_server(watchdog_s=0.1, watchdog_stop_s=0.5, state_timeout_s=0.4) as server:
        client = Client(server)
        assert client.post("/joint", {"arr": HOME_RAD.tolist()})[0] == 200
        server.arm.stop_s = 0.8
        while "stop" not in server.arm.calls:
            status, answer = client.post("/getstate")
            assert status == 200, answer
            time.sleep(0.05)
        assert client.post("/getstate")[1]["mode"] == "idle"


def test_parameters_change_while_the_arm_tracks_however_long_stopping_takes():
    with franka_server(watchdog_s=10.0, watchdog_stop_s=20.0, state_timeout_s=0.4) as server:
        client = Client(server)
        assert client.post("/startimp")[0] == 200
        server.arm.stop_s = 0.8
        assert client.post("/update_param", {"translational_stiffness": 500}) == (200, "Updated compliance parameters")
        assert (server.controller.snapshot().mode, server.arm.impedance.translational_stiffness_n_m) == ("pose", 500)


def test_in_a_fault_nothing_moves_until_it_is_cleared():
    with franka_server(auto_recover=False, **PATIENT) as server:
        client = Client(server)
        assert client.post("/joint", {"arr": HOME_RAD.tolist()})[0] == 200
        epoch = client.post("/getstate")[1]["epoch"]
        server.arm.errors = ("cartesian_reflex",)
        wait_until(lambda: client.post("/getstate")[1]["mode"] == "fault")
        health = client.post("/health")[1]
        assert not health["ok"]
        assert "cartesian_reflex" in health["fault"]
        for route, arr in (("/joint", HOME_RAD), ("/pose", HOME_POSE7)):
            status, answer = client.post(route, {"arr": arr.tolist()})
            assert status == 409
            assert "cartesian_reflex" in answer["fault"]
        assert client.post("/clearerr") == (200, "Clear")
        wait_until(lambda: client.post("/health")[1]["ok"])
        assert client.post("/getstate")[1]["epoch"] > epoch
        assert client.post("/joint", {"arr": HOME_RAD.tolist()})[0] == 200


def test_without_an_arm_there_is_no_state_and_no_motion():
    with franka_server(state_timeout_s=0.1) as server:
        client = Client(server)
        assert client.post("/getstate")[0] == 200
        server.arm.is_gone = True
        wait_until(lambda: client.post("/getstate")[0] == 503)
        assert client.post("/capabilities")[0] == 200  # what the server can do does not depend on it
        for route, body in (
            ("/getq", None),
            ("/health", None),
            ("/joint", {"arr": HOME_RAD.tolist()}),
            ("/pose", {"arr": HOME_POSE7.tolist()}),
        ):
            status, answer = client.post(route, body)
            assert status in (409, 503), route
            assert answer["error"]


def test_stop_ends_the_tracking(server, client):
    client.post("/joint", {"arr": HOME_RAD.tolist()})
    wait_until(lambda: client.post("/getstate")[1]["mode"] == "joint")
    assert client.post("/stop") == (200, "Stopped")
    wait_until(lambda: client.post("/getstate")[1]["mode"] == "idle" and not server.arm.in_control)


def test_joint_reset_goes_home_or_where_it_is_told(server, client):
    there = HOME_RAD + 0.2
    assert client.post("/jointreset", {"arr": there.tolist()}) == (200, "Reset Joint")
    arm_is_at(server, there)
    client.post("/jointreset")
    arm_is_at(server, client.post("/capabilities")[1]["home_rad"])


def test_a_joint_reset_ends_when_its_client_has_gone():
    with franka_server(**PATIENT) as server:
        server.arm.move_s = 60.0
        client = Client(server)
        client.connection.request("POST", "/jointreset", b"{}")
        wait_until(lambda: server.controller.snapshot().mode == "moving")
        time.sleep(0.3)
        assert server.controller.snapshot().mode == "moving"
        client.connection.close()
        wait_until(lambda: server.controller.snapshot().mode == "idle" and not server.arm.in_control)
        np.testing.assert_allclose(server.controller.snapshot().state.q_rad, HOME_RAD)


def test_gripper_routes_move_the_gripper(server, client):
    def width_is(width_m):
        wait_until(lambda: abs(server.gripper.width - width_m) < 1e-6)

    assert client.post("/close_gripper") == (200, "Closed")
    width_is(0.0)
    assert server.gripper.calls[-1] == "grasp"
    assert client.post("/move_gripper", {"gripper_pos": 102}) == (200, "Moved Gripper")
    width_is(0.04)
    assert client.post("/move_gripper_width", {"width_m": 0.5}) == (200, {"width_m": MAX_WIDTH_M})
    width_is(MAX_WIDTH_M)
    wait_until(lambda: client.post("/get_gripper")[1]["gripper"] == 1.0)


def test_a_server_without_a_gripper_says_so():
    with franka_server(gripper=None) as server:
        client = Client(server)
        assert client.post("/capabilities")[1]["gripper"] == "none"
        assert client.post("/getstate")[1]["gripper_pos"] is None
        for route in ("/get_gripper", "/open_gripper", "/close_gripper", "/reset_gripper", "/activate_gripper"):
            status, answer = client.post(route)
            assert (status, "--gripper=franka" in answer["error"]) == (400, True)


def test_capabilities_tell_the_limits(client):
    able = client.post("/capabilities")[1]
    assert (able["arm"], able["driver"], able["gripper"], able["targets"]) == ("fr3", "scripted", "franka", ["joint", "pose"])
    assert able["gripper_max_width_m"] == MAX_WIDTH_M
    assert np.shape(able["joint_low_rad"]) == np.shape(able["joint_high_rad"]) == (7,)
    assert able["joint_low_rad"][5] == pytest.approx(0.5445 + 0.05)
    assert able["workspace_min_m"] == [0.2, -0.45, 0.02]


@pytest.mark.parametrize(
    ("route", "body", "message"),
    [
        ("/joint", None, "lacks 'arr'"),
        ("/joint", {"arr": [0.0] * 6}, "a list of 6, expected a list of 7 numbers"),
        ("/joint", {"arr": "0000000"}, "expected a list of 7 numbers"),
        ("/joint", {"arr": [0.0] * 6 + [True]}, r"arr[6] is True"),
        ("/joint", {"arr": [0.0] * 6 + [None]}, r"arr[6] is None"),
        ("/joint", {"arr": [0.0] * 6 + [[]]}, r"arr[6] is a JSON list"),
        ("/joint", {"arr": [0.0] * 6 + [10**400]}, r"arr[6] is a JSON int"),
        ("/joint", b'{"arr": [0, 0, 0, 0, 0, 0, NaN]}', "contains NaN"),
        ("/joint", b'{"arr": [0, 0, 0, 0, 0, 0, -Infinity]}', "contains -Infinity"),
        ("/joint", b'{"arr": [0, 0, 0, 0, 0, 0, 1e999]}', "arr[6] is inf"),
        ("/joint", b'{"arr": [0, 0, 0, 0, 0, 0, ' + b"9" * 5000 + b"]}", "a number of 5000 digits"),
        ("/joint", {"arr": HOME_RAD.tolist(), "period_s": 0}, "period_s"),
        ("/joint", {"arr": HOME_RAD.tolist(), "period_s": "soon"}, "period_s is 'soon'"),
        ("/joint", {"arr": HOME_RAD.tolist(), "epoch": 1.5}, "epoch is 1.5, expected a whole number"),
        ("/joint", b"{", "not JSON"),
        ("/joint", b"\xff\xfe", "not JSON"),
        ("/joint", b"[" * 60_000, "not JSON"),
        ("/joint", b"[1, 2]", "JSON list, expected an object"),
        ("/pose", {"arr": [0.4, 0.0, 0.4, 0.0, 0.0, 0.0, 0.0]}, "quaternion"),
        ("/jointreset", {"arr": [9.0] * 7}, ""),
        ("/jointreset", {"arr": [0.0, 0.7, 0.0, -2.0, 0.0, 2.7, 0.785]}, "bring the end effector to"),
        ("/update_param", {"translational_stiffnes": 100}, "unknown name 'translational_stiffnes'"),
        ("/update_param", {"translational_stiffness": 1e6}, "translational_stiffness"),
        ("/update_param", {"translational_clip_w": 0.01}, "unknown name"),
        ("/update_param", {"translational_clip_x": -0.01}, "clip"),
        ("/set_load", {"mass": -1, "F_x_center_load": [0] * 3, "load_inertia": [0] * 9}, ""),
        ("/set_load", {"mass": 1}, "lacks 'F_x_center_load'"),
        ("/move_gripper", {"gripper_pos": "wide"}, "gripper_pos is 'wide'"),
        ("/move_gripper_width", {}, "lacks 'width_m'"),
    ],
)  # fmt: skip
def test_bad_input_is_explained_and_moves_nothing(server, client, route, body, message):
    status, answer = client.post(route, body)
    assert status == 400
    assert message in answer["error"]
    assert client.post("/getstate")[0] == 200  # on the same connection
    assert "move" not in server.arm.calls
    np.testing.assert_allclose(server.arm.q_rad, HOME_RAD, atol=1e-6)


def test_unknown_routes_methods_and_web_pages_are_refused(server):
    assert Client(server).post("/wrench")[0] == 404
    assert Client(server).post("/getstate/../joint")[0] == 404
    status, answer = Client(server).post("/getstate", None, Origin="http://example.com")
    assert (status, answer["error"]) == (403, "requests of web pages are refused")
    for method, expected in (("GET", 405), ("PUT", 501), ("DELETE", 501)):
        connection = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
        connection.request(method, "/getstate")
        response = connection.getresponse()
        assert response.status == expected
        assert "error" in json.loads(response.read())


def test_the_token_is_needed_for_everything():
    with franka_server(token=TOKEN) as server:
        for headers in (
            {},
            {"Authorization": TOKEN},
            {"Authorization": f"Bearer {TOKEN}x"},
            {"Authorization": "Bearer \xff"},
            {"Token": TOKEN},
        ):
            for route in ("/getstate", "/stop", "/health", "/capabilities", "/nowhere"):
                status, answer = Client(server, **headers).post(route)
                assert status == 401
                assert "Authorization: Bearer" in answer["error"]
                assert TOKEN not in json.dumps(answer)
        assert Client(server, Authorization=f"Bearer {TOKEN}").post("/getstate")[0] == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.0.2.1", "no.such.host.invalid"])
def test_others_can_reach_the_server_only_with_a_token(shared, host):
    with pytest.raises(ValueError, match=f"{host}.*--token_file.*{TOKEN_VARIABLE}.*127.0.0.1"):
        FrankaServer(host, 0, shared.routes, None)


def test_loopback_needs_no_token_and_a_token_opens_the_rest(shared):
    for host in ("127.0.0.1", "127.0.0.2", "localhost"):
        FrankaServer(host, 0, shared.routes, None).close()
    server = FrankaServer("0.0.0.0", 0, shared.routes, TOKEN)
    server.close()
    server.close()


def test_a_port_in_use_is_explained(shared):
    with pytest.raises(OSError, match=r"cannot listen at 127.0.0.1:\d+.*choose another --port"):
        FrankaServer("127.0.0.1", shared.server_address[1], shared.routes, None)


def is_cut_off(server, *pieces):
    """Send pieces with pauses; whether the server closes before the last one is sent."""
    with socket.create_connection(server.server_address[:2], timeout=10) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.05)
        except OSError:
            return True
    return False


def raw_exchange(server, *pieces):
    """Send pieces as they are; everything that comes back until the server closes."""
    with socket.create_connection(server.server_address[:2], timeout=10) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except OSError:
            pass
        answer = b""
        try:
            while data := connection.recv(65536):
                answer += data
        except ConnectionResetError:
            pass
        return answer


def test_oversize_and_malformed_requests_end_the_connection(server):
    head = b"POST /joint HTTP/1.1\r\nHost: x\r\n"
    assert raw_exchange(server, head + b"Content-Length: 65537\r\n\r\n").startswith(b"HTTP/1.1 413")
    assert raw_exchange(server, head + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n").startswith(b"HTTP/1.1 400")
    for lengths in (b"-1", b"1e3", "٣".encode(), b"2\r\nContent-Length: 3"):
        assert raw_exchange(server, head + b"Content-Length: " + lengths + b"\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert raw_exchange(server, head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert b"Bad request" in raw_exchange(server, b"hello\r\n\r\n")
    assert b"414" in raw_exchange(server, b"POST /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n")
    assert b"431" in raw_exchange(server, head + b"".join(b"X-%d: 1\r\n" % i for i in range(200)) + b"\r\n")
    status, answer = Client(server).post("/joint", b" " * 65_536)
    assert (status, "lacks 'arr'" in answer["error"]) == (400, True)


def test_slow_senders_are_cut_off_and_idle_connections_end():
    limits = ConnectionLimits(idle_s=0.5, request_s=0.4)
    with franka_server(limits=limits, **PATIENT) as server:
        pieces = [b"POST /getstate HTTP/1.1\r\nX-Slow: ", *[b"a"] * 100]
        assert is_cut_off(server, *pieces)
        body = [b"POST /joint HTTP/1.1\r\nContent-Length: 1000\r\n\r\n", *[b" "] * 100]
        assert is_cut_off(server, *body)
        assert raw_exchange(server) == b""
        assert Client(server).post("/getstate")[0] == 200


def test_too_many_connections_are_turned_away_and_places_become_free():
    with franka_server(limits=ConnectionLimits(connections=3), **PATIENT) as server:
        kept = [Client(server) for _ in range(3)]
        for client in kept:
            assert client.post("/getstate")[0] == 200
        answer = raw_exchange(server)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"3 connections are open" in answer
        assert kept[0].post("/getstate")[0] == 200
        for client in kept:
            client.connection.close()

        def is_served():
            try:
                return Client(server).post("/getstate")[0] == 200
            except OSError:
                return False

        wait_until(is_served)


def test_clients_that_vanish_harm_nobody(server, client):
    for _ in range(20):
        with socket.create_connection(server.server_address[:2]) as connection:
            connection.sendall(b"POST /getstate HTTP/1.1\r\nContent-Length: 5\r\n\r\n")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    assert client.post("/getstate")[0] == 200


def test_many_threads_are_served_at_once(server):
    failures = []

    def work():
        client = Client(server)
        for i in range(30):
            route, body = ("/joint", {"arr": (HOME_RAD + 0.001 * i).tolist()}) if i % 2 else ("/getstate", None)
            status, answer = client.post(route, body)
            if status != 200:
                failures.append((route, answer))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_kept_connection_does_not_wait_for_acknowledgements(client):
    """With Nagle's algorithm each answer takes 40 ms; the bound is far from both."""
    times_s = []
    for _ in range(40):
        start_s = time.perf_counter()
        client.post("/getstate", {})
        times_s.append(time.perf_counter() - start_s)
    assert statistics.median(times_s) < 0.02


def test_a_failure_inside_is_logged_and_not_told(server, client, monkeypatch, caplog):
    def explode(self, body):
        raise KeyError("secret detail")

    monkeypatch.setitem(server.routes._routes, "/getq", lambda body: explode(server, body))
    status, answer = client.post("/getq")
    assert status == 500
    assert "secret" not in answer["error"]
    assert "secret detail" in caplog.text


def test_after_close_nothing_is_carried_out():
    with franka_server(**PATIENT) as server:
        client = Client(server)
        assert client.post("/getstate")[0] == 200
        server.close()
        status, answer = client.post("/joint", {"arr": HOME_RAD.tolist()})
        assert (status, "shutting down" in answer["error"]) == (503, True)
        with pytest.raises(OSError, match="refused"):
            Client(server).post("/getstate")


def test_fer_and_fr3_have_their_own_limits():
    with franka_server(arm=ScriptedArm("fer")) as server:
        assert isinstance(server.routes, Routes)
        assert Client(server).post("/capabilities")[1]["joint_low_rad"][5] == pytest.approx(-0.0175 + 0.05)
