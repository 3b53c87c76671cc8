"""Physics of a Panda with a Robotiq gripper and one block on the floor: no tasks, no rewards, no gymnasium.

The scene file and its meshes come from the gym_hil wheel and are edited in memory: the torque motors of the arm become
position servos and the arm carries its own weight, so one control period is a single call into MuJoCo.
"""

import atexit
import importlib.util
import math
import threading
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lerobot_serl.envs.gl_platform import apply_gl_platform

apply_gl_platform()

import mujoco  # noqa: E402 (reads the OpenGL platform when it is imported)

NO_GL = (
    "no OpenGL context for rendering; without a display set MUJOCO_GL=egl or MUJOCO_GL=osmesa "
    "(Debian packages: libegl1 libgl1-mesa-dri, or libosmesa6)"
)
# Set once a context could not be made: a second attempt in the same process may abort it.
_no_gl = threading.Event()
N_JOINTS = 7
MAX_TIMESTEP_S = 0.004
WORKSPACE_LOW_M = np.array([0.2, -0.3, 0.0])
WORKSPACE_HIGH_M = np.array([0.6, 0.3, 0.5])
HOME_TCP_M = np.array([0.4, 0.0, 0.25])
BLOCK_HALF_SIZE_M = 0.02
CAMERA_NAMES = {"front": "front", "wrist": "handcam_rgb"}

# Per camera: position and a point it looks at (metres, in the frame of the body it is mounted on: the world, the
# flange), the direction that is up in the image, and the vertical field of view in degrees.
_CAMERA_VIEWS = {
    "front": ((1.05, 0.0, 0.5), (0.42, 0.0, 0.13), (0.0, 0.0, 1.0), 40.0),
    "handcam_rgb": ((-0.09, 0.0, 0.03), (-0.005, 0.0, 0.16), (-1.0, 0.0, 0.0), 65.0),
}

_READY_POSTURE_RAD = np.array([0.0, -math.pi / 4, 0.0, -3 * math.pi / 4, 0.0, math.pi / 2, math.pi / 4])
# Stiffness per joint is 50^2 times the inertia seen by that joint, damping is critical: 2 / 50 of the stiffness. The
# arm then settles within one 10 Hz step.
_STIFFNESS_N_M_PER_RAD = np.array([3500.0, 4500.0, 3200.0, 3200.0, 320.0, 400.0, 260.0])
_DAMPING_TIME_S = 0.04
_TORQUE_LIMIT_N_M = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
# The finger links alone are so light (1e-5 kg m^2) that the linkage becomes unstable at this timestep.
_FINGER_ARMATURE_KG_M2 = 1e-3
_GRIPPER_CTRL_CLOSED = 255.0
_GRIPPER_CLOSED_RAD = 0.8

# Tool axes in the world frame: pointing down, fingers opening along y.
_TOOL_ROTATION = np.diag([1.0, -1.0, -1.0])
_IK_DAMPING = 1e-3
_IK_POSTURE_GAIN = 0.05

_DIVERGENCE = (
    int(mujoco.mjtWarning.mjWARN_BADQPOS),
    int(mujoco.mjtWarning.mjWARN_BADQVEL),
    int(mujoco.mjtWarning.mjWARN_BADQACC),
)

FloatArray = NDArray[np.float64]


def scene_file() -> Path:
    """Return the path of the Panda scene inside the gym_hil wheel, without importing gym_hil.

    Raises:
        ModuleNotFoundError: gym_hil is not installed.
    """
    spec = importlib.util.find_spec("gym_hil")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("franka_sim needs the scene of gym_hil: pip install 'lerobot[hilserl]'")
    return Path(spec.origin).parent / "assets" / "scene.xml"


def build_model(timestep_s: float) -> mujoco.MjModel:
    """Compile the scene with position servos, gravity compensation and cheap rendering.

    Args:
        timestep_s: physics step in seconds.
    """
    spec = mujoco.MjSpec.from_file(str(scene_file()))
    spec.option.timestep = timestep_s
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.noslip_iterations = 0
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_ISLAND
    spec.visual.quality.offsamples = 0
    spec.visual.quality.shadowsize = 0
    for sensor in list(spec.sensors):
        spec.delete(sensor)
    for body in spec.bodies:
        if body.name not in ("world", "block", "target"):
            body.gravcomp = 1
    for geom in spec.geoms:
        is_link = bool(geom.contype) and not geom.name
        if is_link:
            geom.contype = 0  # links still touch floor, block and finger pads, but not each other
    for finger_joint in spec.joints:
        if finger_joint.name.endswith(("coupler_joint", "spring_link_joint", "follower_joint")):
            finger_joint.armature = _FINGER_ARMATURE_KG_M2
    for joint in range(N_JOINTS):
        _make_position_servo(spec, joint)
    for camera in _CAMERA_VIEWS:
        _aim_camera(spec, camera)
    return spec.compile()


def _make_position_servo(spec: mujoco.MjSpec, joint: int) -> None:
    """Turn the torque motor of arm joint `joint` (0..6) into a critically damped position servo."""
    motor = spec.actuator(f"actuator{joint + 1}")
    stiffness, torque_limit = _STIFFNESS_N_M_PER_RAD[joint], _TORQUE_LIMIT_N_M[joint]
    motor.biastype = mujoco.mjtBias.mjBIAS_AFFINE
    motor.gainprm[0] = stiffness
    motor.biasprm[:3] = [0.0, -stiffness, -_DAMPING_TIME_S * stiffness]
    motor.ctrlrange = [-2 * math.pi, 2 * math.pi]
    motor.forcerange = [-torque_limit, torque_limit]


def _aim_camera(spec: mujoco.MjSpec, name: str) -> None:
    """Place the camera `name` as `_CAMERA_VIEWS` says."""
    position, looks_at, up, fovy_deg = _CAMERA_VIEWS[name]
    backward = np.subtract(position, looks_at)
    backward /= np.linalg.norm(backward)
    right = np.cross(up, backward)
    right /= np.linalg.norm(right)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.stack([right, np.cross(backward, right), backward], axis=1).ravel())
    camera = spec.camera(name)
    camera.pos = position
    camera.quat = quat
    camera.fovy = fovy_deg


class PandaScene:
    """Arm, gripper and block, stepped one control period at a time.

    Args:
        control_period_s: simulated time per `step`, in seconds.
    """

    def __init__(self, control_period_s: float) -> None:
        self.n_substeps = max(1, math.ceil(control_period_s / MAX_TIMESTEP_S - 1e-9))
        self.model = build_model(control_period_s / self.n_substeps)
        self.data = mujoco.MjData(self.model)
        self._scratch = mujoco.MjData(self.model)
        self._jacobian = np.zeros((6, self.model.nv))
        self._tcp = self.model.site("pinch").id
        self._block_qpos = int(self.model.joint("block").qposadr[0])
        self._fingers_qpos = [int(self.model.joint(f"{s}_driver_joint").qposadr[0]) for s in ("left", "right")]
        self.joint_low_rad, self.joint_high_rad = self.model.jnt_range[:N_JOINTS].T.copy()
        self._home_rad = self.solve_ik(_READY_POSTURE_RAD, HOME_TCP_M, iterations=50)
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}
        self._close = weakref.finalize(self, _close_renderers, self._renderers)

    def reset(self, block_xy_m: ArrayLike) -> None:
        """Put the arm at home with the gripper open, everything at rest, and the block on the floor.

        Args:
            block_xy_m: (2,) centre of the block in metres, in the frame of the robot's base.
        """
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:N_JOINTS] = self._home_rad
        self.data.qpos[self._block_qpos : self._block_qpos + 3] = (*np.asarray(block_xy_m), BLOCK_HALF_SIZE_M)
        self.data.ctrl[:N_JOINTS] = self._home_rad
        mujoco.mj_forward(self.model, self.data)

    def step(self, joint_targets_rad: ArrayLike, gripper_closure: float) -> None:
        """Simulate one control period with the servos holding these targets.

        Args:
            joint_targets_rad: (7,) absolute joint positions in radians, clipped to the joint limits.
            gripper_closure: 0 = open, 1 = closed.

        Raises:
            RuntimeError: the physics diverged; reset the scene.
        """
        self.data.ctrl[:N_JOINTS] = np.clip(joint_targets_rad, self.joint_low_rad, self.joint_high_rad)
        self.data.ctrl[N_JOINTS] = gripper_closure * _GRIPPER_CTRL_CLOSED
        mujoco.mj_step(self.model, self.data, nstep=self.n_substeps)
        if any(self.data.warning[kind].number for kind in _DIVERGENCE):
            raise RuntimeError(f"the physics diverged with joint targets {np.asarray(joint_targets_rad)}; call reset()")
        mujoco.mj_kinematics(self.model, self.data)

    def joint_targets_for_delta(self, delta_m: ArrayLike) -> FloatArray:
        """Return (7,) joint targets in radians that displace the tool by `delta_m`, kept inside the workspace.

        The displacement is added to the measured tool position, so the outcome depends on nothing but the present
        state. The tool always points straight down.

        Args:
            delta_m: (3,) displacement in metres, in the frame of the robot's base.
        """
        target_m = np.clip(self.tcp_position_m + np.asarray(delta_m), WORKSPACE_LOW_M, WORKSPACE_HIGH_M)
        return self.solve_ik(self.joint_positions_rad, target_m)

    def solve_ik(self, start_rad: ArrayLike, tcp_m: ArrayLike, iterations: int = 2) -> FloatArray:
        """Return (7,) joint angles in radians with the tool at `tcp_m`, pointing down: damped least squares.

        Args:
            start_rad: (7,) joint angles to start from, in radians.
            tcp_m: (3,) wanted tool position in metres.
            iterations: Newton-like steps; after two, a displacement of 25 mm is met to within 0.03 mm.
        """
        joints = np.array(start_rad, dtype=np.float64)
        for _ in range(iterations):
            self._scratch.qpos[:N_JOINTS] = joints
            mujoco.mj_kinematics(self.model, self._scratch)
            mujoco.mj_comPos(self.model, self._scratch)
            jac = self._jacobian
            mujoco.mj_jacSite(self.model, self._scratch, jac[:3], jac[3:], self._tcp)
            arm = jac[:, :N_JOINTS]
            error = np.concatenate([tcp_m - self._scratch.site_xpos[self._tcp], self._rotation_error()])
            posture = _IK_POSTURE_GAIN * (_READY_POSTURE_RAD - joints)
            gram = arm @ arm.T + _IK_DAMPING**2 * np.eye(6)
            joints += posture + arm.T @ np.linalg.solve(gram, error - arm @ posture)
            np.clip(joints, self.joint_low_rad, self.joint_high_rad, out=joints)
        return joints

    def _rotation_error(self) -> FloatArray:
        """Return (3,) small rotation, in radians about the world axes, from the scratch tool pose to pointing down."""
        rotation = self._scratch.site_xmat[self._tcp].reshape(3, 3)
        wanted = _TOOL_ROTATION
        axes = (_cross(rotation[:, axis], wanted[:, axis]) for axis in range(3))
        return 0.5 * sum(axes, start=np.zeros(3))

    @property
    def joint_positions_rad(self) -> FloatArray:
        """(7,) measured joint angles."""
        return self.data.qpos[:N_JOINTS].copy()

    @property
    def joint_velocities_rad_s(self) -> FloatArray:
        """(7,) measured joint velocities."""
        return self.data.qvel[:N_JOINTS].copy()

    @property
    def gripper_closure(self) -> float:
        """Measured gripper position: 0 = open, 1 = closed."""
        return float(np.clip(self.data.qpos[self._fingers_qpos].mean() / _GRIPPER_CLOSED_RAD, 0.0, 1.0))

    @property
    def tcp_position_m(self) -> FloatArray:
        """(3,) measured position of the point between the finger tips."""
        return self.data.site_xpos[self._tcp].copy()

    @property
    def block_position_m(self) -> FloatArray:
        """(3,) position of the centre of the block."""
        return self.data.qpos[self._block_qpos : self._block_qpos + 3].copy()

    def render(self, camera: str, height_px: int, width_px: int) -> NDArray[np.uint8]:
        """Return a (height_px, width_px, 3) RGB image; the first call for a size creates an OpenGL context.

        Args:
            camera: a key of `CAMERA_NAMES`.
            height_px: image height in pixels.
            width_px: image width in pixels.

        Raises:
            RuntimeError: no OpenGL context can be created here, or the scene has been closed.
        """
        renderer = self._renderers.get((height_px, width_px)) or self._create_renderer(height_px, width_px)
        renderer.update_scene(self.data, camera=CAMERA_NAMES[camera])
        return renderer.render()

    def _create_renderer(self, height_px: int, width_px: int) -> mujoco.Renderer:
        if not self._close.alive:
            raise RuntimeError("the scene is closed and can no longer be rendered; make a new environment")
        self.model.vis.global_.offheight = max(self.model.vis.global_.offheight, height_px)
        self.model.vis.global_.offwidth = max(self.model.vis.global_.offwidth, width_px)
        if _no_gl.is_set():
            raise RuntimeError(NO_GL)
        try:
            renderer = mujoco.Renderer(self.model, height_px, width_px)
        except Exception as error:  # each OpenGL platform raises its own type
            _no_gl.set()
            raise RuntimeError(NO_GL) from error
        if not self._renderers:
            # MuJoCo ends EGL at exit, and weakref.finalize would come after it: what is registered now comes before.
            atexit.register(self._close)
        self._renderers[height_px, width_px] = renderer
        return renderer

    def close(self) -> None:
        """Free the OpenGL contexts; calling it again does nothing."""
        self._close()
        atexit.unregister(self._close)


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    """Cross product of two (3,) vectors; numpy's own costs ten times as much for a single pair."""
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _close_renderers(renderers: dict[tuple[int, int], mujoco.Renderer]) -> None:
    """Close each renderer in its own OpenGL context: under osmesa, closing in another one corrupts that other."""
    while renderers:
        _, renderer = renderers.popitem()
        context = renderer._gl_context
        if context is not None:
            context.make_current()
        renderer.close()
