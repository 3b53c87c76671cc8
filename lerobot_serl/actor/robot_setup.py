"""From flags, the learner's policy and a connected robot to a world, with everything checked before anything moves."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import getattr_static
from typing import Any

import numpy as np
from lerobot.configs import PolicyFeature
from lerobot.robots import Robot
from lerobot.teleoperators import Teleoperator

from ..key_names import Kind
from ..replay.demonstration_stats import DemonstrationStats
from .controls import Controls
from .devices import action_keys
from .judges import FunctionJudge, Judge, RewardModelJudge, RobotJudge, load_function
from .key_kinds import KeyKinds
from .pace import Pace
from .reset import Reset
from .robot_io import RobotIo
from .robot_world import RobotWorld
from .safety import Limiter, Limits, limits_from_demonstrations
from .settings import ROBOT_REWARDS, ResetConfig, RewardConfig, RobotKeysConfig, SafetyConfig
from .start_check import HomeCheck, check_start
from .stillness import Stillness
from .takeover import Moved, Takeover
from .world import Observer

AUTO_TIME_LIMIT = 1.5
SMALLEST_RANGE = 0.1
_NOT_THERE = object()


@dataclass
class RobotSettings:
    """Flags of `lerobot-serl-actor` that concern a robot; meanings as there."""

    fps: int | None = None
    task: str = ""
    episode_time_s: float | None = None
    rename_map: dict[str, str] = field(default_factory=dict)
    reward: RewardConfig = field(default_factory=RewardConfig)
    reset: ResetConfig = field(default_factory=ResetConfig)
    safety: SafetyConfig = field(default_factory=SafetyConfig)
    robot_keys: RobotKeysConfig = field(default_factory=RobotKeysConfig)
    device: str = "cpu"


@dataclass(frozen=True)
class PolicyNeeds:
    """What a policy needs of a robot or an environment.

    Attributes:
        inputs: features; None, without a policy: whatever an environment gives.
        action_dim: ``D``; None, without a policy: what an environment takes.
        fps: control rate.
        demo_stats: what the demonstrations say about the robot; environments need none.
    """

    inputs: Mapping[str, PolicyFeature] | None
    action_dim: int | None
    fps: int
    demo_stats: DemonstrationStats | None = None


def make_robot_world(
    robot: Robot,
    settings: RobotSettings,
    needs: PolicyNeeds,
    controls: Controls,
    new_takeover: Callable[[Moved], Takeover] | None,
    show: Observer | None,
) -> tuple[RobotWorld, Takeover | None]:
    """A world around a connected robot, and who may take over; says which limits, reset, reward and time limit hold.

    Args:
        new_takeover: makes the takeover of a person, who has a teleoperator; None: there is none.

    Raises:
        ValueError: robot and policy, or flags, do not fit each other.
        WorldError: the robot's first observation is incomplete.
    """
    demo_stats = needs.demo_stats
    assert demo_stats is not None
    assert needs.inputs is not None
    assert needs.action_dim is not None
    io = RobotIo(
        robot.name, robot.observation_features, robot.action_features, needs.inputs, needs.action_dim,
        demo_stats.state_names, demo_stats.action_names, settings.rename_map,
    )  # fmt: skip
    kinds = KeyKinds(robot, io.action_keys, io.positions, settings.robot_keys)
    limits = _limits(io, kinds, demo_stats, settings.safety)
    seconds = settings.episode_time_s or AUTO_TIME_LIMIT * demo_stats.longest / needs.fps
    pace = None if is_in_lockstep(robot) else Pace(needs.fps)
    _check_own_rate(robot, needs.fps)
    judges, source = _judges(robot, settings)
    reset = _decide_reset(robot, io, kinds, demo_stats, settings.reset, new_takeover is not None)
    ranges = _ranges(demo_stats, io.action_keys)
    stillness = Stillness(kinds, io.action_keys)
    takeover = None if new_takeover is None else new_takeover(Moved(kinds.__getitem__, ranges, lambda: stillness.told))
    automatic = settings.reset.mode == "auto" and pace is not None
    home = HomeCheck(robot.name, dict(zip(io.action_keys, demo_stats.starts, strict=True)), ranges, kinds, fatal=automatic)
    procedure = Reset(
        reset, reset.pose if reset.mode == "pose" else {}, ranges, takeover.poll if takeover else lambda measured: None,
        pace or Pace(needs.fps), controls, kinds.zeros, home.check,
    )  # fmt: skip
    limiter = Limiter(limits, lambda key: kinds[key] is Kind.GRIPPER)
    world = RobotWorld(
        robot, io, limiter, judges, pace, max(1, round(seconds * needs.fps)),
        settings.safety.max_observation_age_s, settings.task, show, stillness, procedure.run,
    )  # fmt: skip
    rate = "in lockstep" if pace is None else f"at {needs.fps} Hz"
    logging.info(
        f"Robot {robot.name} {rate}; episodes of at most {seconds:.1f} s; success decided by: {source}; reset: {reset.mode}.\n"
        + (f"Limits of every target:\n{limits}\n" if limits else "Limits are off (--safety.enabled=false).\n")
        + _how_it_holds(kinds, io)
    )
    check_start(robot.name, world.measured, io.state, demo_stats, kinds, settings.safety.far_start, pace is None)
    return world, takeover


def _how_it_holds(kinds: KeyKinds, io: RobotIo) -> str:
    unknown = [key for key in io.action_keys if key not in kinds.zeros and key not in io.positions]
    before = f" Before the first action nothing is sent, since the robot does not measure {', '.join(unknown)}." if unknown else ""
    return kinds.holding + before


def check_fps(asked: int | None, policy_fps: int) -> None:
    """Raise if the loop would run at another rate than the demonstrations.

    Raises:
        ValueError: naming both rates.
    """
    if asked is not None and asked != policy_fps:
        raise ValueError(
            f"--fps={asked}: the demonstrations, and with them the policy, run at {policy_fps} Hz. Leave --fps out, or record "
            "demonstrations at the other rate and train ACT again."
        )


def check_teleop(teleop: Teleoperator, robot: Robot, teleop_flag: str = "", robot_flag: str = "") -> None:
    """Raise if a teleoperator's action is not one that the robot takes.

    A robot may take other teleoperators' keys too, and then says so in ``action_aliases``: an iterable of tuples of keys.

    Args:
        teleop_flag, robot_flag: their types as they were typed; else by their names.

    Raises:
        ValueError: naming the keys of both.
    """
    teleop_flag, robot_flag = teleop_flag or f"--teleop.type={teleop.name}", robot_flag or f"--robot.type={robot.name}"
    given, wanted = set(action_keys(teleop, teleop_flag)), set(robot.action_features)
    aliases: Sequence[Any] = getattr(robot, "action_aliases", ())
    if not wanted <= given and not any(set(keys) <= given for keys in aliases):
        raise ValueError(
            f"{teleop_flag} gives {sorted(given)}, but {robot_flag} takes {sorted(wanted)}; missing: "
            f"{sorted(wanted - given)}. Use a teleoperator made for this robot, or another control mode of the robot."
        )
    understood = wanted.union(*aliases)
    if not wanted <= given and not given <= understood:
        raise ValueError(
            f"{teleop_flag} gives {sorted(given - understood)} beside keys that {robot_flag} understands "
            f"({sorted(understood)}). Leave them out at the teleoperator (serl_spacemouse: --teleop.rotation=false), or give it the robot's own "
            "keys for all of them."
        )


def is_in_lockstep(robot: Robot) -> bool:
    """Whether this is a simulation in which nothing happens between two actions; its configuration then has ``lockstep: true``."""
    return bool(getattr(robot.config, "lockstep", False)) if hasattr(robot, "config") else False


def _check_own_rate(robot: Robot, policy_fps: int) -> None:
    """A simulation in lockstep advances by its own period, whatever the loop does."""
    own_fps = getattr(robot.config, "fps", policy_fps) if is_in_lockstep(robot) else policy_fps
    if own_fps != policy_fps:
        raise ValueError(
            f"--robot.fps={own_fps}: the demonstrations, and with them the policy, run at {policy_fps} Hz. Set --robot.fps={policy_fps}."
        )


def _limits(io: RobotIo, kinds: KeyKinds, demo_stats: DemonstrationStats, safety: SafetyConfig) -> Limits | None:
    if not safety.enabled:
        return None
    limits = limits_from_demonstrations(
        io.action_keys, demo_stats.action_low, demo_stats.action_high, demo_stats.action_step, safety.range_margin, safety.step_margin
    ).with_zero(kinds.zeros)
    for flag, given in (("safety.low", safety.low), ("safety.high", safety.high)):
        if unknown := sorted(set(given) - set(io.action_keys)):
            raise ValueError(f"--{flag} names {unknown}, expected some of {list(io.action_keys)}.")
    low = np.array([safety.low.get(key, value) for key, value in zip(limits.keys, limits.low, strict=True)])
    high = np.array([safety.high.get(key, value) for key, value in zip(limits.keys, limits.high, strict=True)])
    if excluded := [key for key, a, b in zip(limits.keys, low, high, strict=True) if key in kinds.zeros and not a <= 0 <= b]:
        raise ValueError(
            f"--safety.low and --safety.high leave out 0 for '{excluded[0]}', one of the {kinds[excluded[0]]}: then it could not be stopped. "
            "Let them include 0, or say with --robot_keys.positions that it is a position."
        )
    if crossed := [key for key, a, b in zip(limits.keys, low, high, strict=True) if a > b]:
        raise ValueError(
            f"--safety.low and --safety.high: with the demonstrations' range nothing is left for {crossed}; give both limits of each."
        )
    limits = replace(limits, low=low, high=high)
    if safety.kinematics is None:
        return limits
    if not any(kinds[key] is Kind.POSITION for key in io.positions):
        raise ValueError(
            f"--safety.kinematics: the robot measures none of what its actions {list(io.action_keys)} set, so no target has a place in "
            "the workspace. Set limits at the robot itself."
        )
    return replace(
        limits,
        kinematics=load_function(safety.kinematics, "--safety.kinematics"),
        workspace_low_m=np.array(safety.workspace_low_m),
        workspace_high_m=np.array(safety.workspace_high_m),
    )


def reward_source(robot: Robot, reward: RewardConfig) -> str:
    """Who decides success, with "auto" decided.

    Raises:
        ValueError: somebody whom only an environment has.
    """
    source = reward.source
    if source not in ROBOT_REWARDS:
        raise ValueError(f"--reward.source={source} is for --env.type. With a robot: robot, keys, model or function.")
    if source != "auto":
        return source
    known = "robot" if getattr_static(robot, "success", _NOT_THERE) is not _NOT_THERE else "keys"  # a robot may know it only once connected
    return "model" if reward.path else "function" if reward.function else known


def _judges(robot: Robot, settings: RobotSettings) -> tuple[list[Judge], str]:
    """The judges, and in words who decides. The person's keys work besides every judge."""
    reward = settings.reward
    source = reward_source(robot, reward)
    if source == "robot":
        return [RobotJudge(robot)], "the robot (keys s and f too)"
    if source == "function":
        assert reward.function is not None
        return [FunctionJudge(reward.function)], f"{reward.function} (keys s and f too)"
    if source == "model":
        assert reward.path is not None
        judge = RewardModelJudge(
            reward.path, robot.name, robot.observation_features, reward.threshold, reward.consecutive, settings.rename_map, settings.device
        )
        return [judge], f"the reward model {reward.path}, {reward.consecutive} times in a row at {reward.threshold:g} (keys s and f too)"
    return [], "the person (keys: s success, f failure)"


def _decide_reset(
    robot: Robot, io: RobotIo, kinds: KeyKinds, demo_stats: DemonstrationStats, reset: ResetConfig, has_teleop: bool
) -> ResetConfig:
    """The reset with "auto" decided and the pose filled in: of positions, since velocities are 0 in a reset."""
    measured = set(io.positions)
    starts = {key: value for key, value in zip(io.action_keys, demo_stats.start, strict=True) if value is not None and key in measured}
    own = callable(getattr(robot, "reset", None))
    posed = [key for key in io.action_keys if kinds[key] is not Kind.VELOCITY]
    missing = [key for key in posed if key not in measured or kinds[key].stops_at_zero or (key not in reset.pose and key not in starts)]
    known = not missing and any(kinds[key] is Kind.POSITION for key in posed)
    mode = reset.mode if reset.mode != "auto" else "robot" if own else "pose" if known else "none"
    if mode == "robot" and not own:
        raise ValueError(f"--reset.mode=robot: {robot.name} has no reset of its own. Use --reset.mode=pose, teleop or none.")
    if mode == "teleop" and not has_teleop:
        raise ValueError("--reset.mode=teleop needs a teleoperator: --teleop.type=...")
    if mode != "pose":
        return replace(reset, mode=mode)
    if unknown := sorted(set(reset.pose) - set(posed)):
        raise ValueError(f"--reset.pose names {unknown}, expected some of {posed}; velocities are 0 in a reset.")
    if not known:
        raise ValueError(
            f"--reset.mode=pose: no position known for {missing or list(io.action_keys)}: the robot does not measure what these actions set, or the "
            "demonstrations do not name it, or they set no position (--robot_keys says otherwise). Use --reset.mode=teleop or none."
        )
    return replace(reset, mode=mode, pose={key: float(reset.pose.get(key, starts.get(key, 0.0))) for key in posed})


def _ranges(demo_stats: DemonstrationStats, keys: Sequence[str]) -> dict[str, float]:
    """Width of each entry's range in the demonstrations; an entry that hardly moved counts as a tenth of the widest."""
    widths = {key: high - low for key, low, high in zip(keys, demo_stats.action_low, demo_stats.action_high, strict=True)}
    least = SMALLEST_RANGE * (max(widths.values(), default=0.0) or 1.0)
    return {key: max(width, least) for key, width in widths.items()}
