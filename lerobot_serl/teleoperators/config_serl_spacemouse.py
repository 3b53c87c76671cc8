"""Configuration of a 3Dconnexion SpaceMouse as a LeRobot teleoperator: `--teleop.type=serl_spacemouse`.

Importing this module registers the type; it is cheap to import.
"""

import math
from dataclasses import dataclass, field

from lerobot.teleoperators import TeleoperatorConfig

from ..setting_error import checks_settings

DEVICE_AXES = ("x", "y", "z", "roll", "pitch", "yaw")
N_TRANSLATIONS = 3


@TeleoperatorConfig.register_subclass("serl_spacemouse")
@dataclass(kw_only=True)
class SerlSpacemouseConfig(TeleoperatorConfig):
    """A SpaceMouse: push the cap to move the tool, left button to close the gripper, right button to open it.

    Attributes:
        device: name of the model, as pyspacemouse knows it, for example "SpaceMouse Compact"; None takes the first one found.
        path: of the device, for example /dev/hidraw3; None finds it. For two of the same model.
        axes: which axis of the cap gives each entry of `keys`; "-y" turns the sign of y. Axes are those of REP 103: x forward, y left,
            z up, and roll, pitch, yaw about them.
        keys: of the action, for as many of `axes` as are used: three, or six with `rotation`.
        rotation: give the rotations too.
        gripper_key: of the gripper; an empty one leaves the gripper out.
        gripper_positions: None gives LeRobot's wishes 0 (close), 1 (stay), 2 (open). Two numbers, open and closed, give a position, which
            is held until the other button is pressed; lerobot-record can store that with `--robot.type=franka_sim`.
        deadzone: share of an axis' range, 0 to 1, around its rest that counts as rest.
        intervention_threshold: the cap takes over when the norm of the used axes exceeds this; a button always does.
        left_button: index of the button that closes the gripper.
        right_button: index of the button that opens it; -1 is the last one.

    Raises:
        SettingError: a setting is out of range, or names an unknown axis.
    """

    device: str | None = None
    path: str | None = None
    axes: list[str] = field(default_factory=lambda: list(DEVICE_AXES))
    keys: list[str] = field(default_factory=lambda: ["delta_x", "delta_y", "delta_z", "delta_rx", "delta_ry", "delta_rz"])
    rotation: bool = False
    gripper_key: str = "gripper"
    gripper_positions: list[float] | None = None
    deadzone: float = 0.0
    intervention_threshold: float = 0.001
    left_button: int = 0
    right_button: int = -1

    @checks_settings
    def __post_init__(self) -> None:
        n_axes = len(DEVICE_AXES) if self.rotation else N_TRANSLATIONS
        for name in ("axes", "keys"):
            if len(getattr(self, name)) < n_axes:
                raise ValueError(f"teleop.{name} has {len(getattr(self, name))} entries, expected {n_axes} with rotation={self.rotation}")
        unknown = [axis for axis in self.axes if axis.removeprefix("-") not in DEVICE_AXES]
        if unknown:
            raise ValueError(f"teleop.axes contains {unknown}, expected {DEVICE_AXES}, each also with a minus sign, for example -y")
        used = [*self.keys[:n_axes], *([self.gripper_key] if self.gripper_key else [])]
        if len(set(used)) < len(used):
            raise ValueError(f"teleop.keys and teleop.gripper_key are {used}, expected different names")
        if not 0 <= self.deadzone < 1:
            raise ValueError(f"teleop.deadzone is {self.deadzone}, expected at least 0 and less than 1, for example 0.05")
        if not 0 <= self.intervention_threshold < math.inf:
            raise ValueError(f"teleop.intervention_threshold is {self.intervention_threshold}, expected at least 0, for example 0.001")
        if self.gripper_positions is not None and not (
            len(self.gripper_positions) == 2 and all(map(math.isfinite, self.gripper_positions))
        ):
            raise ValueError(f"teleop.gripper_positions is {self.gripper_positions}, expected two numbers, open and closed: [0.0, 1.0]")

    @property
    def used_axes(self) -> dict[str, tuple[str, int]]:
        """Of each action key, the axis and its sign."""
        n_axes = len(DEVICE_AXES) if self.rotation else N_TRANSLATIONS
        pairs = zip(self.keys[:n_axes], self.axes[:n_axes], strict=True)
        return {key: (axis.removeprefix("-"), -1 if axis.startswith("-") else 1) for key, axis in pairs}
