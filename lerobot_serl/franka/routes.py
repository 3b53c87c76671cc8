"""What each route of the server does: SERL's and HIL-SERL's routes with the same JSON and texts, and our own.

Differences on purpose: limits are enforced, nothing moves in a fault, and `/clearerr` does nothing while there is none.
"""

import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import __version__
from . import messages
from .arm_limits import limits_of
from .controller import ArmController, ArmSnapshot, ControllerSettings, StaleState
from .driver import Vector
from .kinematics import pose7_of_matrix

Answer = str | dict[str, Any]
DEFAULT_PERIOD_S = 0.1
API_VERSION = 1
SLOW_ROUTE = "/jointreset"
SINGULAR = 1e-7
# Names of SERL's update_param that have no counterpart here: damping is critical, and the trackers need no other term.
IGNORED_PARAMETERS = (
    "translational_damping", "rotational_damping", "nullspace_stiffness", "joint1_nullspace_stiffness", "translational_Ki", "rotational_Ki",
)  # fmt: skip
STIFFNESS_PARAMETERS = {
    "translational_stiffness": "translational_stiffness_n_m",
    "rotational_stiffness": "rotational_stiffness_nm_rad",
    "translational_stiffness_n_m": "translational_stiffness_n_m",
    "rotational_stiffness_nm_rad": "rotational_stiffness_nm_rad",
}
CLIP_PARAMETERS = {"translational_clip": "translational_clip_m", "rotational_clip": "rotational_clip_rad"}

logger = logging.getLogger(__name__)


class Routes:
    """Answers requests with the help of one controller; every method may be called from any thread.

    Args:
        controller: of the arm.
        settings: the controller's, for `/capabilities`.
        arm: "fer" or "fr3".
        driver: name of the driver, for `/capabilities`.
        has_gripper: a gripper is there.
    """

    def __init__(self, controller: ArmController, settings: ControllerSettings, arm: str, driver: str, has_gripper: bool) -> None:
        self._controller, self._settings, self._arm, self._driver = controller, settings, arm, driver
        self._has_gripper = has_gripper
        self._routes: dict[str, Callable[[messages.Body], Answer]] = {
            "/getstate": self._get_state,
            "/getpos": lambda _: {"pose": _pose7(self._snapshot())},
            "/getpos_euler": self._get_pose_euler,
            "/getvel": lambda _: {"vel": self._snapshot().velocity.tolist()},
            "/getforce": lambda _: {"force": self._snapshot().state.wrench[:3].tolist()},
            "/gettorque": lambda _: {"torque": self._snapshot().state.wrench[3:].tolist()},
            "/getq": lambda _: {"q": self._snapshot().state.q_rad.tolist()},
            "/getdq": lambda _: {"dq": self._snapshot().state.dq_rad_s.tolist()},
            "/getjacobian": lambda _: {"jacobian": self._snapshot().state.jacobian.tolist()},
            "/get_gripper": self._get_gripper,
            "/pose": self._pose,
            "/joint": self._joint,
            "/startimp": self._start_impedance,
            "/stopimp": self._stop_impedance,
            "/stop": self._stop,
            "/clearerr": self._clear_errors,
            SLOW_ROUTE: self._reset_joints,
            "/update_param": self._update_parameters,
            "/set_load": self._set_load,
            "/open_gripper": lambda _: self._move_gripper_to(1.0, "Opened"),
            "/close_gripper": lambda _: self._move_gripper_to(0.0, "Closed"),
            "/close_gripper_slow": lambda _: self._move_gripper_to(0.0, "Closed"),
            "/move_gripper": self._move_gripper,
            "/move_gripper_width": self._move_gripper_width,
            "/activate_gripper": self._activate_gripper,
            "/reset_gripper": self._reset_gripper,
            "/capabilities": self._capabilities,
            "/health": self._health,
        }

    def __contains__(self, route: str) -> bool:
        return route in self._routes

    def answer(self, route: str, body: messages.Body, is_waiting: Callable[[], bool] = lambda: True) -> Answer:
        """Carry out a request; a text or a JSON object.

        Args:
            route: one that is `in` here.
            body: of the request.
            is_waiting: whether the client still listens; a slow motion ends where it does not.

        Raises:
            KeyError: no such route.
            ValueError: bad input.
            ArmRefused: a fault, a motion in progress, or an old epoch.
            StaleState: there is no young state of the arm.
            ArmFault: the arm does not obey.
        """
        if route == SLOW_ROUTE:
            return self._reset_joints(body, is_waiting)
        return self._routes[route](body)

    def condition(self) -> dict[str, Any]:
        """Return what a refusal tells beside its reason: fault, mode and epoch; nothing while there is no state."""
        try:
            snapshot = self._snapshot()
        except StaleState:
            return {}
        return {"fault": snapshot.fault, "mode": snapshot.mode, "epoch": snapshot.epoch}

    def _snapshot(self) -> ArmSnapshot:
        return self._controller.snapshot()

    def _get_state(self, body: messages.Body) -> Answer:
        snapshot = self._snapshot()
        state = snapshot.state
        return {
            "pose": _pose7(snapshot),
            "vel": snapshot.velocity.tolist(),
            "force": state.wrench[:3].tolist(),
            "torque": state.wrench[3:].tolist(),
            "q": state.q_rad.tolist(),
            "dq": state.dq_rad_s.tolist(),
            "jacobian": state.jacobian.tolist(),
            "gripper_pos": _opening(snapshot),
            "tau_ext": state.tau_ext_nm.tolist(),
            "gripper_width_m": snapshot.gripper_width_m,
            "gripper_fault": snapshot.gripper_fault,
            "mode": snapshot.mode,
            "fault": snapshot.fault,
            "epoch": snapshot.epoch,
            "clamps": snapshot.clamps,
            "t": state.time_s,
        }

    def _get_pose_euler(self, body: messages.Body) -> Answer:
        pose = self._snapshot().state.pose
        return {"pose": [*pose[:3, 3].tolist(), *_euler_xyz(pose[:3, :3])]}

    def _get_gripper(self, body: messages.Body) -> Answer:
        self._check_gripper()
        return {"gripper": _opening(self._snapshot())}

    def _pose(self, body: messages.Body) -> Answer:
        target = self._controller.command_pose(*_target_of(body))
        return _target(target) if "period_s" in body else "Moved"

    def _joint(self, body: messages.Body) -> Answer:
        target = self._controller.command_joints(*_target_of(body))
        return _target(target)

    def _start_impedance(self, body: messages.Body) -> Answer:
        self._controller.start_impedance()
        return "Started impedance"

    def _stop_impedance(self, body: messages.Body) -> Answer:
        self._controller.stop_impedance()
        return "Stopped impedance"

    def _stop(self, body: messages.Body) -> Answer:
        self._controller.stop_impedance()
        return "Stopped"

    def _clear_errors(self, body: messages.Body) -> Answer:
        """HIL-SERL's environment calls this before every pose: only a fault may interrupt the tracking."""
        try:
            fault = self._snapshot().fault
        except StaleState as error:
            fault = str(error)
        if fault:
            logger.warning("A client clears the fault: %s", fault)
            self._controller.clear_errors()
        return "Clear"

    def _reset_joints(self, body: messages.Body, is_waiting: Callable[[], bool] = lambda: True) -> Answer:
        self._controller.reset_joints(messages.vector(body, "arr", 7) if "arr" in body else None, is_waiting)
        return "Reset Joint"

    def _update_parameters(self, body: messages.Body) -> Answer:
        changes: dict[str, Any] = {}
        clips: dict[str, list[float]] = {}
        for name in body:
            prefix = name.partition("_clip")[0] + "_clip"
            if name in STIFFNESS_PARAMETERS:
                changes[STIFFNESS_PARAMETERS[name]] = messages.number(body, name)
            elif name == "joint_stiffness_nm_rad":
                changes[name] = messages.vector(body, name, 7).tolist()
            elif prefix in CLIP_PARAMETERS and _is_clip(name.removeprefix(prefix)):
                clips.setdefault(CLIP_PARAMETERS[prefix], []).append(messages.number(body, name))
            elif name in IGNORED_PARAMETERS:
                logger.debug("update_param: %s is not used here", name)
            else:
                known = [*STIFFNESS_PARAMETERS, "joint_stiffness_nm_rad", *(f"{prefix}_x" for prefix in CLIP_PARAMETERS)]
                raise ValueError(f"update_param: unknown name {name[:60]!r}, expected SERL's names or {known}")
        # SERL has a clip for each direction; here one number serves all of them, so the smallest is the safe one.
        changes |= {name: min(values) for name, values in clips.items()}
        if changes:
            self._controller.update_impedance(**changes)
        return "Updated compliance parameters"

    def _set_load(self, body: messages.Body) -> Answer:
        mass_kg = messages.number(body, "mass")
        self._controller.set_load(mass_kg, messages.vector(body, "F_x_center_load", 3), messages.vector(body, "load_inertia", 9))
        return "Load set"

    def _move_gripper(self, body: messages.Body) -> Answer:
        """SERL's Franka Hand: 0 to 255 are tenths of a millimetre scaled to 0.1 m, more than the hand can open."""
        opening = int(np.clip(messages.number(body, "gripper_pos"), 0, 255))
        self._check_gripper()
        self._controller.command_gripper(min(opening / 2550, self._controller.max_width_m))
        return "Moved Gripper"

    def _move_gripper_width(self, body: messages.Body) -> Answer:
        wanted_m = messages.number(body, "width_m")
        self._check_gripper()
        width_m = float(np.clip(wanted_m, 0.0, self._controller.max_width_m))
        self._controller.command_gripper(width_m)
        return {"width_m": width_m}

    def _move_gripper_to(self, opening: float, text: str) -> Answer:
        self._check_gripper()
        self._controller.command_gripper(opening * self._controller.max_width_m)
        return text

    def _activate_gripper(self, body: messages.Body) -> Answer:
        """A Robotiq gripper needs this, the Franka Hand does not."""
        self._check_gripper()
        return "Activated"

    def _reset_gripper(self, body: messages.Body) -> Answer:
        self._check_gripper()
        self._controller.home_gripper()
        return "Reset"

    def _check_gripper(self) -> None:
        if not self._has_gripper:
            raise ValueError("this server drives no gripper; start it with --gripper=franka, or use the robot with --robot.gripper=none")

    def _capabilities(self, body: messages.Body) -> Answer:
        settings, limits = self._settings, limits_of(self._arm)
        margin_rad = settings.joint_limit_margin_rad
        return {
            "server": "lerobot-serl-franka-server",
            "version": __version__,
            "api": API_VERSION,
            "arm": self._arm,
            "driver": self._driver,
            "gripper": "franka" if self._has_gripper else "none",
            "gripper_max_width_m": self._controller.max_width_m,
            "targets": ["joint", "pose"],
            "joint_low_rad": (limits.low_rad + margin_rad).tolist(),
            "joint_high_rad": (limits.high_rad - margin_rad).tolist(),
            "workspace_min_m": list(settings.workspace_min_m),
            "workspace_max_m": list(settings.workspace_max_m),
            "max_joint_velocity_rad_s": settings.max_joint_velocity_rad_s,
            "max_step_rad": settings.max_step_rad,
            "max_step_m": settings.max_step_m,
            "watchdog_s": settings.watchdog_s,
            "watchdog_stop_s": settings.watchdog_stop_s,
            "home_rad": list(settings.home_rad),
        }

    def _health(self, body: messages.Body) -> Answer:
        snapshot = self._snapshot()
        return {"ok": not snapshot.fault, "fault": snapshot.fault, "mode": snapshot.mode, "epoch": snapshot.epoch}


def _pose7(snapshot: ArmSnapshot) -> list[float]:
    values: list[float] = pose7_of_matrix(snapshot.state.pose).tolist()
    return values


def _euler_xyz(rotation: Vector) -> list[float]:
    """Roll, pitch, yaw of a (3, 3) rotation, about the fixed axes x, y, z in this order, as SciPy's "xyz"."""
    level = math.hypot(rotation[0, 0], rotation[1, 0])
    pitch = math.atan2(-rotation[2, 0], level)
    if level < SINGULAR:  # only one angle is defined: all of it is called roll
        return [math.atan2(-rotation[1, 2], rotation[1, 1]), pitch, 0.0]
    return [math.atan2(rotation[2, 1], rotation[2, 2]), pitch, math.atan2(rotation[1, 0], rotation[0, 0])]


def _opening(snapshot: ArmSnapshot) -> float | None:
    """0 closed to 1 open; None without a gripper or before its first reading."""
    if snapshot.gripper_width_m is None or snapshot.max_width_m <= 0:
        return None
    return float(np.clip(snapshot.gripper_width_m / snapshot.max_width_m, 0.0, 1.0))


def _target_of(body: messages.Body) -> tuple[Vector, float, int | None]:
    """Target (7,), period in seconds, and epoch."""
    return messages.vector(body, "arr", 7), messages.number(body, "period_s", DEFAULT_PERIOD_S), messages.whole_number(body, "epoch")


def _is_clip(direction: str) -> bool:
    """`_x` and `_neg_x` as SERL names them, `_m` and `_rad` as we do."""
    return direction in ("_x", "_y", "_z", "_neg_x", "_neg_y", "_neg_z", "_m", "_rad")


def _target(target: Vector) -> dict[str, Any]:
    return {"target": target.tolist()}
