"""An arm and a gripper in memory that do at once what they are told, and faults on request. Servers for tests of the franka robot."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np

from lerobot_serl.franka.arm_server import FrankaServer
from lerobot_serl.franka.controller import ArmController, ControllerSettings
from lerobot_serl.franka.driver import ArmFault, ArmState
from lerobot_serl.franka.kinematics import jacobian, matrix_of_pose7, pose7_of_matrix, tool_pose
from lerobot_serl.franka.routes import Routes

HOME_RAD = np.array([0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785])
WRENCH = np.arange(1.0, 7.0)
MAX_WIDTH_M = 0.08


class ScriptedArm:
    """Follows joint targets at once. For pose targets it moves the Jacobian's least-squares step.

    Attributes:
        errors: of the arm; set them to bring it into a fault, `recover` clears them.
        is_gone: reading fails, as when the cable is pulled.
        move_s: how long `move_joints` takes.
        recover_s, stop_s: for so long `recover` and `stop_tracking` do not return, as on hardware.
    """

    def __init__(self, model="fr3"):
        self.model = model
        self.q_rad, self.errors, self.is_gone = HOME_RAD.copy(), (), False
        self.in_control, self.calls, self.load, self.impedance = False, [], None, None
        self.move_s, self._motion = 0.0, None
        self.recover_s = self.stop_s = 0.0

    def read(self):
        if self.is_gone:
            raise ArmFault("the connection to the arm is lost; check the cable")
        if self._motion is not None and time.monotonic() >= self._motion[1]:
            self.q_rad, self._motion, self.in_control = self._motion[0], None, False
        pose = tool_pose(self.q_rad)
        return ArmState(
            q_rad=self.q_rad.copy(), dq_rad_s=np.full(7, 0.01), pose=pose, jacobian=jacobian(self.q_rad), wrench=WRENCH.copy(),
            tau_ext_nm=np.arange(7.0), in_control=self.in_control and not self.errors, errors=self.errors, time_s=time.monotonic(),
        )  # fmt: skip

    def start_joint_tracking(self, impedance):
        self._start("joint", impedance)

    def start_pose_tracking(self, impedance):
        self._start("pose", impedance)

    def _start(self, mode, impedance):
        self.in_control, self.impedance = True, impedance
        self.calls.append(mode)

    def set_joint_target(self, q_rad, dq_rad_s):
        if not self.errors:
            self.q_rad = np.array(q_rad)

    def set_pose_target(self, pose, twist):
        if self.errors:
            return
        for _ in range(5):
            now = tool_pose(self.q_rad)
            turn = pose[:3, :3] @ now[:3, :3].T
            twist = np.concatenate([pose[:3, 3] - now[:3, 3], [turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]])
            twist[3:] /= 2
            self.q_rad = self.q_rad + np.linalg.pinv(jacobian(self.q_rad)) @ twist

    def stop_tracking(self):
        if self.in_control:
            time.sleep(self.stop_s)
        self.in_control, self._motion = False, None
        self.calls.append("stop")

    def move_joints(self, q_rad, speed_fraction):
        self.calls.append("move")
        self.in_control, self._motion = True, (np.array(q_rad), time.monotonic() + self.move_s)

    def recover(self):
        time.sleep(self.recover_s)
        self.calls.append("recover")
        self.errors = ()

    def set_load(self, mass_kg, centre_m, inertia_kg_m2):
        self.load = (mass_kg, list(centre_m), list(inertia_kg_m2))

    def close(self):
        self.in_control = False
        self.calls.append("close")


class ScriptedGripper:
    """Moves at once."""

    max_width_m = MAX_WIDTH_M

    def __init__(self):
        self.width, self.calls = MAX_WIDTH_M, []

    def width_m(self):
        return self.width

    def move(self, width_m, speed_m_s):
        self.calls.append("move")
        self.width = width_m
        return True

    def grasp(self, speed_m_s, force_n):
        self.calls.append("grasp")
        self.width = 0.0
        return True

    def homing(self):
        self.calls.append("homing")

    def close(self):
        self.calls.append("close")


@contextmanager
def franka_server(arm=None, gripper="scripted", token=None, limits=None, port=0, tls=None, **settings):
    """A running server of ours; yields it with `arm`, `gripper` and `controller` attached."""
    arm = arm or ScriptedArm()
    gripper = ScriptedGripper() if gripper == "scripted" else gripper
    controls = ControllerSettings(**settings)
    controller = ArmController(arm, gripper, controls)
    controller.start()
    routes = Routes(controller, controls, arm.model, "scripted", gripper is not None)
    try:
        server = FrankaServer("127.0.0.1", port, routes, token, limits, tls)
        server.arm, server.gripper, server.controller = arm, gripper, controller
        server.start()
        try:
            wait_until(lambda: _is_ready(controller, gripper))
            yield server
        finally:
            server.close()
    finally:
        controller.close()


def _is_ready(controller, gripper):
    try:
        return gripper is None or controller.snapshot().gripper_width_m is not None
    except RuntimeError:
        return False


def wait_until(condition, timeout_s=5.0):
    """Wait for something that happens in another thread."""
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s, "it did not happen"
        time.sleep(0.005)


class LegacyServer(ThreadingHTTPServer):
    """Answers as a SERL server does: no /capabilities, texts for commands, and HTTP 500 on /getstate without a gripper.

    Attributes:
        requests: (route, body) of everything that was asked.
        q_rad: joints, which a pose target does not change; `pose7` is where the arm says it is.
    """

    daemon_threads = True

    def __init__(self, has_gripper=True):
        super().__init__(("127.0.0.1", 0), _LegacyHandler)
        self.has_gripper, self.requests = has_gripper, []
        self.q_rad, self.pose7, self.opening = HOME_RAD.copy(), pose7_of_matrix(tool_pose(HOME_RAD)), 1.0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def state(self):
        return {
            "pose": self.pose7.tolist(), "vel": [0.0] * 6, "force": [1.0, 2.0, 3.0], "torque": [4.0, 5.0, 6.0],
            "q": self.q_rad.tolist(), "dq": [0.0] * 7, "jacobian": [[0.0] * 7] * 6,
        }  # fmt: skip

    def routes_asked(self):
        return [route for route, _ in self.requests]


class _LegacyHandler(BaseHTTPRequestHandler):
    READS: ClassVar = {"/getpos": "pose", "/getvel": "vel", "/getforce": "force", "/gettorque": "torque", "/getq": "q", "/getdq": "dq"}
    TEXTS: ClassVar = {"/clearerr": "Clear", "/jointreset": "Reset Joint", "/activate_gripper": "Activated", "/reset_gripper": "Reset"}

    def do_POST(self):
        legacy, data = self.server, self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.loads(data) if data else None
        legacy.requests.append((self.path, body))
        if self.path in self.READS:
            key = self.READS[self.path]
            return self.reply(200, {key: legacy.state()[key]})
        if self.path == "/getstate":
            return self.reply(200, legacy.state() | {"gripper_pos": legacy.opening}) if legacy.has_gripper else self.reply(500, "oops")
        if self.path == "/get_gripper" and legacy.has_gripper:
            return self.reply(200, {"gripper": legacy.opening})
        if self.path == "/pose":
            legacy.pose7 = pose7_of_matrix(matrix_of_pose7(body["arr"]))
            return self.reply(200, "Moved")
        if self.path in ("/open_gripper", "/close_gripper"):
            legacy.opening = float(self.path == "/open_gripper")
            return self.reply(200, "Opened" if legacy.opening else "Closed")
        return self.reply(200, self.TEXTS[self.path]) if self.path in self.TEXTS else self.reply(404, "<h1>Not Found</h1>")

    def reply(self, status, answer):
        data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(answer, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args):
        pass


@contextmanager
def legacy_server(has_gripper=True):
    """A running `LegacyServer`."""
    server = LegacyServer(has_gripper)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
