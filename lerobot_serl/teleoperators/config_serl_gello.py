"""Configuration of a GELLO-style joint leader as a LeRobot teleoperator: `--teleop.type=serl_gello`.

Importing this module registers the type; it is cheap to import.
"""

import math
from dataclasses import dataclass, field

from lerobot.teleoperators import TeleoperatorConfig

from ..setting_error import checks_settings

N_JOINTS = 7


@TeleoperatorConfig.register_subclass("serl_gello")
@dataclass(kw_only=True)
class SerlGelloConfig(TeleoperatorConfig):
    """A small copy of the arm with a Dynamixel motor in every joint, which a person moves by hand.

    The lists have one entry per joint of the arm, in the arm's order; their defaults are those of the GELLO for a Franka arm.

    Attributes:
        port: serial port of the motors, for example /dev/ttyUSB0.
        baud_rate: of the motors; 57600 as they leave the factory.
        motor_ids: of the motor at each joint; their order is the mapping from motors to joints.
        motor_model: of those motors, in LeRobot's spelling.
        signs: 1 where motor and joint turn alike, -1 where they do not.
        home_rad: the arm's joint angles in the pose in which the leader is calibrated.
        offset_rad: added to each angle.
        keys: of the action, one per joint.
        gripper_id: motor of the trigger; None if there is none.
        gripper_model: of that motor.
        gripper_key: of the action.
        gripper_flip: False gives 0 open to 1 closed, as `franka_sim` has it; True gives 1 open to 0 closed, as `franka` has it.

    Raises:
        SettingError: lists of different lengths, ids or keys that occur twice, a sign other than 1 and -1, or a number that is not finite.
    """

    port: str
    baud_rate: int = 57600
    motor_ids: list[int] = field(default_factory=lambda: list(range(1, N_JOINTS + 1)))
    motor_model: str = "xl330-m288"
    signs: list[int] = field(default_factory=lambda: [1, -1, 1, 1, 1, -1, 1])
    home_rad: list[float] = field(default_factory=lambda: [0.0, -math.pi / 4, 0.0, -3 * math.pi / 4, 0.0, math.pi / 2, math.pi / 4])
    offset_rad: list[float] = field(default_factory=lambda: [0.0] * N_JOINTS)
    keys: list[str] = field(default_factory=lambda: [f"joint_{i}.pos" for i in range(1, N_JOINTS + 1)])
    gripper_id: int | None = N_JOINTS + 1
    gripper_model: str = "xl330-m077"
    gripper_key: str = "gripper.pos"
    gripper_flip: bool = False

    @checks_settings
    def __post_init__(self) -> None:
        n_joints = len(self.motor_ids)
        for name in ("signs", "home_rad", "offset_rad", "keys"):
            if len(getattr(self, name)) != n_joints:
                raise ValueError(f"teleop.{name} has {len(getattr(self, name))} entries, expected {n_joints} as in teleop.motor_ids")
        has_gripper = self.gripper_id is not None
        for name, values in (
            ("motor_ids and teleop.gripper_id", [*self.motor_ids, *([self.gripper_id] if has_gripper else [])]),
            ("keys and teleop.gripper_key", [*self.keys, *([self.gripper_key] if has_gripper else [])]),
        ):
            if len(set(values)) < len(values):
                raise ValueError(f"teleop.{name} are {values}, expected different ones")
        if not set(self.signs) <= {1, -1}:
            raise ValueError(f"teleop.signs is {self.signs}, expected 1 or -1 for each joint")
        if not all(map(math.isfinite, [*self.home_rad, *self.offset_rad])):
            raise ValueError(f"teleop.home_rad is {self.home_rad} and teleop.offset_rad {self.offset_rad}, expected finite numbers")
        if self.baud_rate < 1:
            raise ValueError(f"teleop.baud_rate is {self.baud_rate}, expected a positive number such as 57600")
