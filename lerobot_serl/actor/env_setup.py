"""From flags and what the policy needs to an environment, with everything checked before its first step."""

from lerobot.envs import EnvConfig
from lerobot.teleoperators import Teleoperator

from .devices import action_keys, gripper_is_wish
from .env_world import EnvSettings, EnvWorld
from .pace import Pace
from .robot_setup import PolicyNeeds, RobotSettings, check_fps
from .settings import ENVIRONMENT_REWARDS, TakeoverConfig
from .teleop_keys import TeleopKeySettings
from .world import Observer


def environment_reward(source: str) -> str:
    """What counts as success, with "auto" decided.

    Raises:
        ValueError: somebody whom only a robot has.
    """
    if source not in ENVIRONMENT_REWARDS:
        raise ValueError(f"--reward.source={source} is for robots. With --env.type: {', '.join(ENVIRONMENT_REWARDS[1:])}.")
    return "success" if source == "auto" else source


def make_env_world(
    config: EnvConfig, settings: RobotSettings, needs: PolicyNeeds, seed: int, for_person: bool, show: Observer | None
) -> EnvWorld:
    """A world around an environment; says what counts as success, and the time limit if a flag sets one.

    Args:
        for_person: somebody looks at it, who needs real time.

    Raises:
        ValueError: environment and policy, or flags, do not fit each other.
        WorldError: the environment cannot be reset.
    """
    check_fps(settings.fps, needs.fps)
    seconds = settings.episode_time_s
    options = EnvSettings(
        success_key=settings.reward.success_key,
        task=settings.task,
        rename_map=settings.rename_map,
        time_limit_steps=None if seconds is None else max(1, round(seconds * needs.fps)),
        action_names=() if needs.demo_stats is None else needs.demo_stats.action_names,
        robot_keys=settings.robot_keys,
        pace=Pace(needs.fps) if for_person else None,
        show=show,
    )
    return EnvWorld(config, needs.inputs, needs.action_dim, seed, environment_reward(settings.reward.source), options)


def expect_teleop(world: EnvWorld, teleop: Teleoperator, flag: str, settings: TakeoverConfig) -> None:
    """Decide which of the teleoperator's numbers is which entry of the environment's action.

    Raises:
        ValueError: they do not fit.
    """
    keys = TeleopKeySettings(settings.keys, settings.gripper_positions, gripper_is_wish(teleop, flag))
    world.expect_teleop(flag, action_keys(teleop, flag), keys)
