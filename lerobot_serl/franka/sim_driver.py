"""A MuJoCo Panda that moves in real time, so that the server can be tried without an arm.

Its joints are stiff position servos: the impedance is accepted and has no effect, and there are no reflexes.
"""

import threading
import time
from collections.abc import Callable

import numpy as np

from lerobot_serl.franka import kinematics
from lerobot_serl.franka.arm_limits import N_JOINTS, limits_of
from lerobot_serl.franka.driver import ArmFault, ArmState, Impedance, Vector

STEP_S = 0.004
# After a pause of the whole process the simulation does not try to make up for it.
MAX_BEHIND_S = 0.1
MAX_WIDTH_M = 0.085
BLOCK_XY_M = (0.45, 0.0)
_IK_STEPS = 3
_IK_DAMPING = 1e-2
_MOVE_SPEED_RAD_S = 2.0
_SETTLED_M = 0.0005
_SETTLE_TIMEOUT_S = 3.0
_POLL_S = 0.02


class SimWorld:
    """The scene of one arm and one gripper; follows the wall clock whenever somebody looks.

    Args:
        clock: seconds of the world's time.

    Raises:
        ArmFault: MuJoCo or the scene is not installed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        try:
            from lerobot_serl.envs.panda_scene import PandaScene

            self.scene = PandaScene(STEP_S)
        except ImportError as error:
            raise ArmFault(f"the simulated arm needs MuJoCo and gym_hil: pip install 'lerobot[hilserl]' ({error})") from None
        self.lock = threading.RLock()
        self.scene.reset(BLOCK_XY_M)
        self._clock = clock
        self._simulated_s = clock()
        self.q_target_rad: Vector = self.scene.joint_positions_rad
        self.closure_target = 0.0
        self.before_step: Callable[[], None] | None = None

    def advance(self) -> None:
        """Simulate up to the present.

        Raises:
            ArmFault: the physics diverged.
        """
        with self.lock:
            now_s = self._clock()
            self._simulated_s = max(self._simulated_s, now_s - MAX_BEHIND_S)
            try:
                while self._simulated_s + STEP_S <= now_s:
                    self._simulated_s += STEP_S
                    if self.before_step is not None:
                        self.before_step()
                    self.scene.step(self.q_target_rad, self.closure_target)
            except RuntimeError as error:
                self.scene.reset(BLOCK_XY_M)
                self.q_target_rad = self.scene.joint_positions_rad
                raise ArmFault(f"simulation: {error}; the scene was reset") from error


class SimArm:
    """The arm of a `SimWorld`; an `ArmDriver` of a FER.

    Args:
        world: shared with the gripper.
    """

    model = "fer"

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self._mode = ""
        self._goal_rad: Vector | None = None
        self._move_step_rad = 0.0
        self._tool = self._measured_tool()
        world.before_step = self._move_on

    def read(self) -> ArmState:
        """Simulate up to the present, and look."""
        with self._world.lock:
            self._world.advance()
            scene = self._world.scene
            q, dq = scene.joint_positions_rad, scene.joint_velocities_rad_s
        return ArmState(
            q_rad=q,
            dq_rad_s=dq,
            pose=kinematics.tool_pose(q, self._tool),
            jacobian=kinematics.jacobian(q, self._tool),
            wrench=np.zeros(6),
            tau_ext_nm=np.zeros(N_JOINTS),
            in_control=bool(self._mode),
            errors=(),
            time_s=time.monotonic(),
        )

    def start_joint_tracking(self, impedance: Impedance) -> None:
        """Hold, and follow `set_joint_target`; the impedance has no effect."""
        self._hold("joint")

    def set_joint_target(self, q_rad: Vector, dq_rad_s: Vector) -> None:
        """Newest reference (7,)."""
        with self._world.lock:
            self._world.q_target_rad = np.array(q_rad, dtype=np.float64)

    def start_pose_tracking(self, impedance: Impedance) -> None:
        """Hold, and follow `set_pose_target`; the impedance has no effect."""
        self._hold("pose")

    def set_pose_target(self, pose: Vector, twist: Vector) -> None:
        """Newest reference (4, 4); joints by damped least squares from the present target."""
        limits = limits_of(self.model)
        with self._world.lock:
            q = self._world.q_target_rad
            for _ in range(_IK_STEPS):
                here = kinematics.tool_pose(q, self._tool)
                turn = kinematics.rotvec_of_matrix(pose[:3, :3] @ here[:3, :3].T)
                error = np.concatenate([pose[:3, 3] - here[:3, 3], turn])
                jacobian = kinematics.jacobian(q, self._tool)
                gram = jacobian @ jacobian.T + _IK_DAMPING**2 * np.eye(6)
                q = np.clip(q + jacobian.T @ np.linalg.solve(gram, error), limits.low_rad, limits.high_rad)
            self._world.q_target_rad = q

    def stop_tracking(self) -> None:
        """Hold where the arm is."""
        if self._mode:
            self._hold("")

    def move_joints(self, q_rad: Vector, speed_fraction: float) -> None:
        """Begin a slow motion to (7,) joint positions."""
        with self._world.lock:
            self._hold("move")
            self._move_step_rad = speed_fraction * _MOVE_SPEED_RAD_S * STEP_S
            self._goal_rad = np.array(q_rad, dtype=np.float64)

    def recover(self) -> None:
        """There are no errors to clear."""

    def set_load(self, mass_kg: float, centre_m: Vector, inertia_kg_m2: Vector) -> None:
        """Accepted without effect: the servos compensate any weight."""

    def close(self) -> None:
        """Hold."""
        self.stop_tracking()

    def _hold(self, mode: str) -> None:
        with self._world.lock:
            self._world.q_target_rad = self._world.scene.joint_positions_rad
            self._goal_rad, self._mode = None, mode

    def _move_on(self) -> None:
        """One simulation step of a slow motion; it has ended when the arm stands at its goal."""
        if self._goal_rad is None:
            return
        world = self._world
        way = self._goal_rad - world.q_target_rad
        furthest = float(np.max(np.abs(way)))
        world.q_target_rad = world.q_target_rad + way * min(1.0, self._move_step_rad / max(furthest, 1e-9))
        scene = world.scene
        arrived = float(np.max(np.abs(scene.joint_positions_rad - self._goal_rad))) < 2 * _IK_DAMPING
        if furthest < 1e-6 and arrived and float(np.max(np.abs(scene.joint_velocities_rad_s))) < 2 * _IK_DAMPING:
            self._goal_rad, self._mode = None, ""

    def _measured_tool(self) -> Vector:
        """The point between the finger tips in the flange's frame, with the axes of the Franka Hand."""
        scene = self._world.scene
        tool = kinematics.HAND.copy()
        flange = kinematics.flange_pose(scene.joint_positions_rad)
        tool[:3, 3] = flange[:3, :3].T @ (scene.tcp_position_m - flange[:3, 3])
        return tool


class SimGripper:
    """The Robotiq gripper of a `SimWorld`; a `GripperDriver`.

    Args:
        world: shared with the arm.
    """

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self.max_width_m = MAX_WIDTH_M

    def width_m(self) -> float:
        """Distance of the fingers now."""
        with self._world.lock:
            self._world.advance()
            return MAX_WIDTH_M * (1.0 - self._world.scene.gripper_closure)

    def move(self, width_m: float, speed_m_s: float) -> bool:
        """Open or close to a width, at the gripper's own speed; returns when the fingers stand, also at an object, and whether they do."""
        return self._go_to(1.0 - width_m / MAX_WIDTH_M)

    def grasp(self, speed_m_s: float, force_n: float) -> bool:
        """Close with the gripper's own force; returns when the fingers stand, and whether they do."""
        return self._go_to(1.0)

    def homing(self) -> None:
        """Open fully."""
        self._go_to(0.0)

    def close(self) -> None:
        """Nothing to disconnect."""

    def _go_to(self, closure: float) -> bool:
        with self._world.lock:
            self._world.closure_target = float(np.clip(closure, 0.0, 1.0))
        deadline_s = time.monotonic() + _SETTLE_TIMEOUT_S
        before_m = np.inf
        time.sleep(5 * _POLL_S)
        while time.monotonic() < deadline_s:
            width_m = self.width_m()
            if abs(width_m - before_m) < _SETTLED_M:
                return True
            before_m = width_m
            time.sleep(_POLL_S)
        return False
