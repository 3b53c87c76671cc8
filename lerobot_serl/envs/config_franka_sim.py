"""Configuration of the simulated Panda environment: `--env.type=franka_sim`.

Importing this module registers the LeRobot environment type and the gymnasium ids. MuJoCo is imported by gymnasium
only when an environment is made, so the module is cheap to import.
"""

from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs import EnvConfig
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_IMAGES, OBS_STATE

from ..setting_error import checks_settings

ENV_MODULE = "lerobot_serl.envs.franka_sim"
TASK_DESCRIPTIONS = {"pick_cube": "Pick up the cube and lift it."}
OBS_TYPES = ("state", "pixels")
CAMERAS = ("front", "wrist")

_JOINTS = tuple(f"joint_{i}" for i in range(1, 8))
ACTION_NAMES = {
    "ee_delta": ("delta_x", "delta_y", "delta_z", "gripper"),
    "joint": (*(f"{joint}.pos" for joint in _JOINTS), "gripper.pos"),
}
STATE_NAMES = (
    *(f"{joint}.pos" for joint in _JOINTS),
    *(f"{joint}.vel" for joint in _JOINTS),
    "gripper.pos",
    "tcp.x",
    "tcp.y",
    "tcp.z",
)
ENVIRONMENT_STATE_NAMES = ("block.x", "block.y", "block.z")


def gym_id_of(task: str) -> str:
    """Return the gymnasium id under which `task` is registered."""
    return f"lerobot_serl/FrankaSim-{task}-v0"


for _task in TASK_DESCRIPTIONS:
    gym.register(id=gym_id_of(_task), entry_point=f"{ENV_MODULE}:FrankaSimGym", kwargs={"task": _task})


@EnvConfig.register_subclass("franka_sim")
@dataclass
class FrankaSimEnv(EnvConfig):
    """A Franka Panda with a two-finger gripper in MuJoCo.

    Attributes:
        task: what has to be done; one of `TASK_DESCRIPTIONS`.
        fps: control frequency in Hz. One environment step simulates `1 / fps` seconds.
        episode_length: steps after which an unsolved episode is truncated.
        obs_type: "state" gives robot state and cube position; "pixels" gives robot state and two camera images, and
            withholds the cube position.
        control_mode: "ee_delta" moves the tool by a displacement, "joint" sets absolute joint targets.
        cameras: which of `CAMERAS` the "pixels" observations have.
        observation_height: height of each camera image, in pixels.
        observation_width: width of each camera image, in pixels.
        visualization_height: height of the frames of `render()`, in pixels.
        visualization_width: width of the frames of `render()`, in pixels.
        render_mode: "rgb_array", the only mode; nothing is drawn until `render()` is called.
        features: filled in from the fields above; what the environment gives and takes.
        features_map: the LeRobot name of each feature.

    Raises:
        SettingError: a field holds an unknown name or a number that is not positive.
    """

    task: str | None = "pick_cube"
    fps: int = 10
    episode_length: int = 60
    obs_type: str = "state"
    control_mode: str = "ee_delta"
    cameras: tuple[str, ...] = CAMERAS
    observation_height: int = 128
    observation_width: int = 128
    visualization_height: int = 256
    visualization_width: int = 256
    render_mode: str = "rgb_array"
    features: dict[str, PolicyFeature] = field(default_factory=dict)
    features_map: dict[str, str] = field(
        default_factory=lambda: {
            ACTION: ACTION,
            "agent_pos": OBS_STATE,
            "environment_state": OBS_ENV_STATE,
            **{f"pixels/{camera}": f"{OBS_IMAGES}.{camera}" for camera in CAMERAS},
        }
    )

    @checks_settings
    def __post_init__(self) -> None:
        self._require_choice("task", tuple(TASK_DESCRIPTIONS))
        self._require_choice("obs_type", OBS_TYPES)
        self._require_choice("control_mode", tuple(ACTION_NAMES))
        self._require_choice("render_mode", ("rgb_array",))
        if not self.cameras or not set(self.cameras) <= set(CAMERAS) or len(set(self.cameras)) != len(self.cameras):
            raise ValueError(f"env.cameras is {list(self.cameras)}, expected one or more of {CAMERAS}; set --env.cameras='[front]'")
        for name in (
            "fps",
            "episode_length",
            "observation_height",
            "observation_width",
            "visualization_height",
            "visualization_width",
        ):
            self._require_positive(name)
        self.features = self._build_features()

    def _require_choice(self, name: str, choices: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in choices:
            raise ValueError(f"env.{name} is {value!r}, expected one of {choices}; set --env.{name}={choices[0]}")

    def _require_positive(self, name: str) -> None:
        value = getattr(self, name)
        if value < 1:
            default = type(self).__dataclass_fields__[name].default
            raise ValueError(f"env.{name} is {value}, expected at least 1; the default is --env.{name}={default}")

    def _build_features(self) -> dict[str, PolicyFeature]:
        """Return the features that this observation type and control mode have, under the environment's own keys."""
        features = {
            ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(len(ACTION_NAMES[self.control_mode]),)),
            "agent_pos": PolicyFeature(type=FeatureType.STATE, shape=(len(STATE_NAMES),)),
        }
        if self.obs_type == "state":
            features["environment_state"] = PolicyFeature(type=FeatureType.ENV, shape=(len(ENVIRONMENT_STATE_NAMES),))
        else:
            shape = (self.observation_height, self.observation_width, 3)
            for camera in self.cameras:
                features[f"pixels/{camera}"] = PolicyFeature(type=FeatureType.VISUAL, shape=shape)
        return features

    @property
    def feature_names(self) -> dict[str, tuple[str, ...]]:
        """Names of the entries of each vector, as demonstrations have them."""
        return {OBS_STATE: STATE_NAMES, OBS_ENV_STATE: ENVIRONMENT_STATE_NAMES, ACTION: ACTION_NAMES[self.control_mode]}

    @property
    def package_name(self) -> str:
        """Module that holds the environment class."""
        return ENV_MODULE

    @property
    def gym_id(self) -> str:
        """Id to pass to `gymnasium.make`."""
        return gym_id_of(str(self.task))

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the environment class."""
        return {
            "fps": self.fps,
            "episode_length": self.episode_length,
            "obs_type": self.obs_type,
            "control_mode": self.control_mode,
            "cameras": tuple(self.cameras),
            "observation_height": self.observation_height,
            "observation_width": self.observation_width,
            "visualization_height": self.visualization_height,
            "visualization_width": self.visualization_width,
            "render_mode": self.render_mode,
        }
