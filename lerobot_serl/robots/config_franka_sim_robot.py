"""Configuration of the simulated Panda as a LeRobot robot: `--robot.type=franka_sim`.

Importing this module registers the type. MuJoCo is imported only when the robot is made, so the module is cheap to import.
"""

import math
from dataclasses import dataclass

from lerobot.robots import RobotConfig

from ..envs.config_franka_sim import CAMERAS
from ..setting_error import checks_settings

_JOINTS = tuple(f"joint_{i}" for i in range(1, 8))
# lerobot-rollout hands a policy only keys that end in .pos or .vel. In both control modes the last entry is the gripper.
ACTION_KEYS = {
    "joint": (*(f"{joint}.pos" for joint in _JOINTS), "gripper.pos"),
    "ee_delta": ("delta_x.pos", "delta_y.pos", "delta_z.pos", "gripper.pos"),
}
STATE_KEYS = (
    *(f"{joint}.pos" for joint in _JOINTS),
    *(f"{joint}.vel" for joint in _JOINTS),
    "gripper.pos",
    "tcp_x.pos",
    "tcp_y.pos",
    "tcp_z.pos",
)
BLOCK_KEYS = ("block_x.pos", "block_y.pos", "block_z.pos")


@RobotConfig.register_subclass("franka_sim")
@dataclass(kw_only=True)
class FrankaSimRobotConfig(RobotConfig):
    """A simulated Panda with a two-finger gripper, and a cube to pick up.

    Attributes:
        fps: control frequency in Hz; give the commands the same number (`--dataset.fps` of lerobot-record, `--fps` of lerobot-rollout).
        control_mode: "joint" takes absolute joint positions (rad), "ee_delta" a displacement of the tool, where 1 is `0.25 / fps` metres.
        lockstep: True: each action simulates `1 / fps` seconds and nothing else does, so that runs can be repeated to the bit.
            False: the simulation follows the wall clock, and the last action is held until the next one.
        expose_block: also observe the position of the cube, `block_x.pos` and so on, in metres.
        cameras: also observe the images `front` and `wrist`; needs OpenGL.
        image_height_px: height of each image.
        image_width_px: width of each image.
        seed: the `n`-th placing of the cube depends only on `seed + n`.
        reset_with_episodes: begin anew whenever the command announces that it is recording an episode (lerobot-record and
            lerobot-rollout --strategy.type=episodic do).
        reset_after_success_s: begin anew when the cube has been lifted for this many simulated seconds; 0 = never. For commands
            without episodes, such as lerobot-rollout --strategy.type=base.
        reset_after_s: begin anew when an attempt has lasted this many simulated seconds; 0 = never. The attempts are counted and logged;
            so that lerobot-rollout's way home is not among them, give it --return_to_initial_position=false.

    Raises:
        SettingError: an unknown control mode, or a number out of range.
    """

    fps: int = 10
    control_mode: str = "joint"
    lockstep: bool = True
    expose_block: bool = False
    cameras: bool = False
    image_height_px: int = 128
    image_width_px: int = 128
    seed: int = 0
    reset_with_episodes: bool = True
    reset_after_success_s: float = 0.0
    reset_after_s: float = 0.0

    @checks_settings
    def __post_init__(self) -> None:
        # LeRobot's own check expects camera devices in `cameras`; there are none here.
        if self.control_mode not in ACTION_KEYS:
            choices = tuple(ACTION_KEYS)
            raise ValueError(
                f"robot.control_mode is {self.control_mode!r}, expected one of {choices}; set --robot.control_mode={choices[0]}"
            )
        for name, least in (("fps", 1), ("image_height_px", 1), ("image_width_px", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"robot.{name} is {getattr(self, name)}, expected at least {least}")
        for name in ("reset_after_success_s", "reset_after_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"robot.{name} is {getattr(self, name)}, expected a finite number of at least 0; 0 means never")

    @property
    def action_keys(self) -> tuple[str, ...]:
        """Keys of an action, in the order of the environment's action vector."""
        return ACTION_KEYS[self.control_mode]

    @property
    def observation_keys(self) -> tuple[str, ...]:
        """Keys of an observation that hold a number."""
        return STATE_KEYS + (BLOCK_KEYS if self.expose_block else ())

    @property
    def camera_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Shape (height, width, 3) of each camera's images; empty without cameras."""
        shape = (self.image_height_px, self.image_width_px, 3)
        return dict.fromkeys(CAMERAS, shape) if self.cameras else {}
