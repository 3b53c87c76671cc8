"""Flags of the robot side: rewards, resets, limits, takeover."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from ..label_settings import AUTO, LabelSettings
from ..setting_error import checks_settings

ENVIRONMENT_REWARDS = ("auto", "success", "environment", "termination", "keys")
ROBOT_REWARDS = ("auto", "robot", "keys", "model", "function")
REWARD_SOURCES = tuple(dict.fromkeys((*ENVIRONMENT_REWARDS, *ROBOT_REWARDS)))
RESET_MODES = ("auto", "robot", "pose", "teleop", "none")


def _require(flag: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"--{flag}={value}: expected {expected}.")


@dataclass
class RewardConfig:
    """Who decides success. The keys s (success) and f (failure) work with every source.

    Attributes:
        source: "auto": "model" if `path` is given, "function" if `function` is, for a robot "robot" if it knows success itself and else
            "keys", for an environment "success". "success": 1 when the environment reports success; "environment": the environment's own
            reward; "termination": 1 when the environment terminates with a reward above 0; "robot": the robot's `success` attribute; "keys":
            the person alone; "model": a LeRobot reward model; "function".
        success_key: entry of an environment's `info` that says success, with dots for entries of entries; empty: whichever is called
            is_success, success, succeed or the like.
        path: local directory or Hub id of a LeRobot reward model.
        function: `module:function` that takes the robot's observation and returns True at success.
        threshold: smallest probability, or reward, of the model that counts as success.
        consecutive: so many observations in a row must be above the threshold.
        veto_s: after the model's success the arm holds for so long, and the key f turns it into a failure; 0 = no veto.
    """

    source: str = "auto"
    success_key: str = ""
    path: str | None = None
    function: str | None = None
    threshold: float = 0.5
    consecutive: int = 3
    veto_s: float = 0.0

    @checks_settings
    def __post_init__(self) -> None:
        _require("reward.source", self.source, self.source in REWARD_SOURCES, f"one of {', '.join(REWARD_SOURCES)}")
        _require("reward.path", self.path, self.source != "model" or bool(self.path), "a directory or Hub id, as --reward.source=model")
        wanted = self.source != "function" or bool(self.function)
        _require("reward.function", self.function, wanted, "MODULE:FUNCTION, as --reward.source=function")
        _require("reward.threshold", self.threshold, math.isfinite(self.threshold), "a finite number")
        _require("reward.consecutive", self.consecutive, self.consecutive >= 1, "at least 1")
        _require("reward.veto_s", self.veto_s, 0 <= self.veto_s <= 60, "0 to 60 seconds")
        both = bool(self.path) and bool(self.function)
        _require("reward.function", self.function, not both, "either --reward.path or --reward.function, not both")
        for name, value, user in (("path", self.path, "model"), ("function", self.function, "function")):
            used = not value or self.source in ("auto", user)
            _require(f"reward.{name}", value, used, f"nothing beside --reward.source={self.source}, or --reward.source={user}")


@dataclass
class ResetConfig:
    """What happens between episodes. The arm holds still whenever nothing moves it.

    Attributes:
        mode: "robot": the robot's own `reset`; "pose": a speed-limited motion to `pose`; "teleop": the person drives with the
            teleoperator; "none": the arm stays. "auto": "robot" if it has one, else "pose" if the demonstrations tell one, else "none".
        pose: robot's action key -> position; empty: where the demonstrations begin (median).
        speed: of that motion, units of the pose per second (rad/s, or LeRobot's normalised units); empty: each joint crosses its range in
            the demonstrations in four seconds.
        pause_s: then wait so long, for the person to prepare the scene; Enter ends the wait. With "teleop", its longest duration.
    """

    mode: str = "auto"
    pose: dict[str, float] = field(default_factory=dict)
    speed: float | None = None
    pause_s: float = 0.0

    @checks_settings
    def __post_init__(self) -> None:
        _require("reset.mode", self.mode, self.mode in RESET_MODES, f"one of {', '.join(RESET_MODES)}")
        _require("reset.speed", self.speed, self.speed is None or 0 < self.speed < math.inf, "more than 0")
        _require("reset.pause_s", self.pause_s, 0 <= self.pause_s <= 3600, "0 to 3600 seconds")
        finite = all(math.isfinite(value) for value in self.pose.values())
        _require("reset.pose", self.pose, finite, "finite numbers")
        teleop_time = self.mode != "teleop" or self.pause_s > 0
        _require("reset.pause_s", self.pause_s, teleop_time, "more than 0 with --reset.mode=teleop: the person's time")


@dataclass
class SafetyConfig:
    """Limits of every target, whoever asks for it: the policy, a person, a reset.

    Attributes:
        enabled: False sends targets as they are; NaN is refused all the same.
        range_margin: each entry may leave the demonstrations' range by this fraction of it.
        step_margin: a target may be this many times as far from the measured value as the demonstrations' farthest.
        low, high: robot's action key -> limit, instead of the demonstrations'.
        kinematics: `module:function`, the robot's numbers -> the tool's xyz in metres.
        workspace_low_m, workspace_high_m: box for the tool, with `kinematics`.
        max_observation_age_s: an observation that took longer ends the episode and is not learnt from.
        far_start: True moves a robot that stands far outside the demonstrations' range at the start, without asking.
    """

    enabled: bool = True
    range_margin: float = 0.1
    step_margin: float = 1.5
    low: dict[str, float] = field(default_factory=dict)
    high: dict[str, float] = field(default_factory=dict)
    kinematics: str | None = None
    workspace_low_m: list[float] = field(default_factory=list)
    workspace_high_m: list[float] = field(default_factory=list)
    max_observation_age_s: float = 0.5
    far_start: bool = False

    @checks_settings
    def __post_init__(self) -> None:
        _require("safety.range_margin", self.range_margin, 0 <= self.range_margin <= 10, "0 to 10")
        _require("safety.step_margin", self.step_margin, 1 <= self.step_margin <= 100, "1 to 100")
        age = self.max_observation_age_s
        _require("safety.max_observation_age_s", age, 0 < age <= 60, "more than 0, at most 60 seconds")
        low, high = self.workspace_low_m, self.workspace_high_m
        if self.kinematics or low or high:
            _require("safety.kinematics", self.kinematics, bool(self.kinematics), "MODULE:FUNCTION, as a workspace is given")
            ordered = len(low) == len(high) == 3 and all(a < b for a, b in zip(low, high, strict=True))
            _require("safety.workspace_low_m", low, ordered, f"three numbers, each below those of workspace_high_m={high}")
        for flag, given in (("safety.low", self.low), ("safety.high", self.high)):
            _require(flag, given, all(math.isfinite(value) for value in given.values()), "finite numbers")
        for key in self.low.keys() & self.high.keys():
            _require("safety.low", self.low, self.low[key] < self.high[key], f"{key} below safety.high's {self.high[key]}")


@dataclass
class RobotKeysConfig:
    """What the keys of the actions mean, where neither robot or environment nor their names say it; `*` stands for anything.

    Attributes:
        positions: keep their last target while the robot holds still.
        grippers: as positions, and left alone by the tool's workspace and by a takeover.
        velocities: hold still with 0.
        displacements: from where the robot is; hold still with 0.
    """

    positions: list[str] = field(default_factory=list)
    grippers: list[str] = field(default_factory=list)
    velocities: list[str] = field(default_factory=list)
    displacements: list[str] = field(default_factory=list)

    @property
    def lists(self) -> dict[str, list[str]]:
        """The lists by their names."""
        return asdict(self)


@dataclass
class TakeoverConfig:
    """How a person takes over, with `--teleop.type=...`. A teleoperator's own intervention events always count.

    Attributes:
        key: toggles the takeover, for leaders without buttons; LeRobot's key names.
        motion_threshold: a device moved by more than this (its own units) takes over; 0 = never.
        release_after_s: after a takeover by motion, a device at rest for so long gives back.
        speed: at which a leader with motors is driven to the arm, units of the joint per second; empty: each joint crosses its range in the
            demonstrations in four seconds. Its trigger takes one second for the gripper's range.
        handover_s: time in which the arm then slides to the leader.
        max_difference: refuse when a leader is farther than this from the arm on any joint (units of the joint); empty: a quarter of the
            joint's range in the demonstrations. A leader with motors is not driven if it is four times as far.
        keys: for environments, teleoperator's key -> name in the action (a number where the demonstrations have no names).
        gripper_positions: for environments, closed and open, where the teleoperator's `gripper` is a wish (0 close, 1 stay, 2 open).
    """

    key: str = "space"
    motion_threshold: float = 0.0
    release_after_s: float = 1.0
    speed: float | None = None
    handover_s: float = 0.5
    max_difference: float | None = None
    keys: dict[str, str] = field(default_factory=dict)
    gripper_positions: list[float] = field(default_factory=list)

    @checks_settings
    def __post_init__(self) -> None:
        _require("takeover.key", self.key, bool(self.key), "a key, for example space")
        _require("takeover.motion_threshold", self.motion_threshold, 0 <= self.motion_threshold < math.inf, "at least 0")
        _require("takeover.release_after_s", self.release_after_s, 0 < self.release_after_s <= 60, "more than 0, at most 60")
        _require("takeover.speed", self.speed, self.speed is None or 0 < self.speed < math.inf, "more than 0")
        _require("takeover.handover_s", self.handover_s, 0 <= self.handover_s <= 10, "0 to 10 seconds")
        difference = self.max_difference
        _require("takeover.max_difference", self.max_difference, difference is None or 0 < difference < math.inf, "more than 0")
        positions = self.gripper_positions
        two = not positions or (len(positions) == 2 and all(map(math.isfinite, positions)))
        _require("takeover.gripper_positions", positions, two, "two numbers, closed and open")


@dataclass
class DeployedPolicyConfig:
    """The policy of an evaluation, with `--policy.path=...`.

    Attributes:
        path: directory or Hub id of a `serl_sac` checkpoint, or of a LeRobot policy of type act.
        n_action_steps: of ACT, instead of its own: how many steps of a plan are carried out.
        temporal_ensemble_coeff: of ACT, instead of its own; with `n_action_steps` 1.
    """

    path: str | None = None
    n_action_steps: int | None = None
    temporal_ensemble_coeff: float | None = None

    @checks_settings
    def __post_init__(self) -> None:
        steps = self.n_action_steps
        _require("policy.n_action_steps", steps, steps is None or steps >= 1, "at least 1, or nothing: ACT's own")
        _require("policy.path", self.path, self.path is not None or not self.changes, "a checkpoint, as other flags of it are given")

    @property
    def changes(self) -> dict[str, Any]:
        """Of ACT's configuration."""
        given = {name: getattr(self, name) for name in ("n_action_steps", "temporal_ensemble_coeff")}
        return {name: value for name, value in given.items() if value is not None}


@dataclass
class DemonstrationsConfig:
    """The demonstrations of an evaluation, from which limits, start and rate come; with a checkpoint that says them itself none are needed.

    Attributes:
        repo_id: of the dataset, `user/name`.
        root: its directory; empty: LeRobot's own place for `repo_id`, or the Hub.
        labels: how rewards and ends are understood, as `--policy.labels` of the learner; the longest demonstration depends on it.
    """

    repo_id: str | None = None
    root: str | None = None
    labels: LabelSettings = AUTO

    @checks_settings
    def __post_init__(self) -> None:
        _require("dataset.repo_id", self.repo_id, bool(self.repo_id) or self.root is None, "a name, as --dataset.root is given")
