"""Two ViperX arms hand a cube over, state observations, as a LeRobot environment: scene, starts and success are `gym-aloha`'s."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from lerobot.configs import PolicyFeature
from lerobot.envs.configs import EnvConfig
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE

from .aloha_expert import Expert
from .demonstrate import record_solved
from .sparse_state import STATE, THINGS, SparseStateConfig, SparseStateEnv, feature_sizes

# As far from the origin as a cube is said to be.
FARTHEST_M = 1.0
GYM_ID = "lerobot_serl/AlohaTransferState-v0"
# Steps of the physics in a control step of 20 ms.
SUB_STEPS = 10
# Of the 16 joints and actuators: six of each arm and two fingers, which mirror each other. In an action the first finger stands for the gripper.
ENTRIES, FINGERS, MIRRORED, GRIPPERS = np.r_[0:7, 8:15], np.array([6, 14]), np.array([7, 15]), np.array([6, 13])
CUBE, TABLE, LEFT_FINGER = "red_box", "table", "vx300s_left/10_left_gripper_finger"
gym.register(id=GYM_ID, entry_point=f"{__name__}:AlohaTransferState")


@EnvConfig.register_subclass("aloha_transfer_state")
@dataclass
class AlohaTransferStateEnv(SparseStateConfig):
    """Settings of :class:`AlohaTransferState`.

    Attributes:
        task: in words.
        fps: control rate; gym-aloha's own.
    """

    environment: ClassVar[str] = GYM_ID

    task: str | None = "Hand the cube from the right arm to the left arm"
    fps: int = 50
    episode_length: int = 400
    features: dict[str, PolicyFeature] = field(default_factory=lambda: feature_sizes(action=14, state=14, things=7))

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the environment class."""
        return {"task": self.task, "episode_length": self.episode_length}


class AlohaTransferState(SparseStateEnv):
    """gym-aloha's table, without pictures: the action is where the joints go, radians, and how far the grippers open, about 0 to 1.

    Observations: the same 14 numbers as measured, and the cube's pose (metres, quaternion w, x, y, z).
    Success: gym-aloha's reward 4, the left arm's finger touches the cube, and the table does not.
    """

    def __init__(self, task: str = "", episode_length: int = 400, render_mode: str | None = None) -> None:
        import mujoco
        from gym_aloha import constants

        self._aloha = constants
        self.model = mujoco.MjModel.from_xml_path(str(constants.ASSETS_DIR / "bimanual_viperx_transfer_cube.xml"))
        self.data = mujoco.MjData(self.model)
        low, high = (self._as_entries(bound).astype(np.float32) for bound in self.model.actuator_ctrlrange.T)
        super().__init__(task, gym.spaces.Box(low, high), _unbounded(14), _unbounded(7), episode_length, render_mode)
        self._cube, self._table, self._finger = (self.model.geom(name).id for name in (CUBE, TABLE, LEFT_FINGER))

    @property
    def joints(self) -> np.ndarray:
        """As in an action: of each arm six angles, and how far its gripper is open."""
        return self._as_entries(self.data.qpos)

    @property
    def cube(self) -> np.ndarray:
        """Its pose: metres, and a quaternion w, x, y, z."""
        return self.data.qpos[16:].copy()

    def _begin(self) -> None:
        import mujoco
        from gym_aloha.utils import sample_box_pose

        start = self._aloha.START_ARM_POSE
        mujoco.mj_resetData(self.model, self.data)
        self.data.ctrl[:] = start
        self.data.qpos[:] = np.concatenate([start, sample_box_pose(int(self.np_random.integers(2**31)))])
        mujoco.mj_forward(self.model, self.data)

    def _move(self, action: np.ndarray) -> bool:
        import mujoco

        self.data.ctrl[ENTRIES] = action
        self.data.ctrl[FINGERS] = self._aloha.unnormalize_puppet_gripper_position(action[GRIPPERS])
        self.data.ctrl[MIRRORED] = -self.data.ctrl[FINGERS]
        # In the order of dm_control, on which gym-aloha runs: positions and contacts are of the same instant.
        mujoco.mj_step2(self.model, self.data)
        mujoco.mj_step(self.model, self.data, SUB_STEPS - 1)
        mujoco.mj_step1(self.model, self.data)
        pairs = self.data.contact.geom
        touched = set(pairs[(pairs == self._cube).any(axis=1)].flatten())
        return self._finger in touched and self._table not in touched

    def _observe(self) -> dict[str, np.ndarray]:
        cube = self.cube.astype(np.float32)
        cube[:3] = cube[:3].clip(-FARTHEST_M, FARTHEST_M)  # there is no floor: pushed off the table, it falls for ever
        return {STATE: self.joints.astype(np.float32), THINGS: cube}

    def _as_entries(self, joints: np.ndarray) -> np.ndarray:
        """Joints or controls, fingers in metres -> the 14 entries of an action."""
        entries = joints[ENTRIES].copy()
        entries[GRIPPERS] = self._aloha.normalize_puppet_gripper_position(entries[GRIPPERS])
        return entries


def record_expert(config: AlohaTransferStateEnv, repo_id: str, root: Path, demonstrations: int, seed: int) -> None:
    """Episodes that the scripted expert solves, as a LeRobotDataset."""
    from gym_aloha.constants import ACTIONS, JOINTS

    env = AlohaTransferState(**config.gym_kwargs)
    cube = [f"cube.{entry}" for entry in ("x", "y", "z", "qw", "qx", "qy", "qz")]
    names = {OBS_STATE: JOINTS, OBS_ENV_STATE: cube, ACTION: ACTIONS}
    record_solved(env, config, lambda attempt: Expert(env, attempt).act, names, repo_id, root, demonstrations, seed)


def _unbounded(size: int) -> gym.spaces.Box:
    return gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
