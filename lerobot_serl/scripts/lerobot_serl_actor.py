"""`lerobot-serl-actor --learner=HOST:PORT --robot.type=...` (or `--env.type=...`): collect episodes with the learner's newest policy."""

import logging
import signal
import sys
from dataclasses import dataclass, field

from lerobot.configs import parser
from lerobot.envs import EnvConfig
from lerobot.robots import RobotConfig
from lerobot.teleoperators import TeleoperatorConfig
from lerobot.utils.import_utils import register_third_party_plugins
from lerobot.utils.utils import init_logging

import lerobot_serl  # noqa: F401
from lerobot_serl.actor.collector import CollectorSettings, collect
from lerobot_serl.actor.display import DisplaySettings
from lerobot_serl.actor.robot_setup import RobotSettings
from lerobot_serl.actor.settings import ResetConfig, RewardConfig, SafetyConfig, TakeoverConfig
from lerobot_serl.transport import MessageError


@dataclass
class ActorProcessConfig:
    """Flags of `lerobot-serl-actor`. Everything else (policy, processors, weights) comes from the learner.

    Attributes:
        learner: where the learner listens, HOST:PORT.
        robot: LeRobot robot to act with; either this or `env`.
        env: LeRobot environment to act in.
        teleop: LeRobot teleoperator with which a person takes over.
        fps: control rate; the demonstrations' rate, which is also the default.
        task: in words; stored with every episode.
        episode_time_s: a robot's episodes are cut off after so long; empty: 1.5 times the longest demonstration.
        rename_map: robot's image key -> the policy's, as in lerobot-rollout.
        n_episodes: stop after so many episodes; empty: until the learner has finished.
        seed: of the exploration, and of an environment's first episode; every further episode adds one.
        name: of this actor process, in the metrics.
        reward: who decides success.
        reset: what happens between episodes of a robot.
        safety: limits of a robot's targets.
        takeover: how a person takes over.
        device: to run the policy on.
        patience_s: how long to try to reach the learner before giving up, in seconds.
        display_data, display_mode, display_ip, display_port, display_compressed_images: LeRobot's viewers.
        play_sounds: say the number of each episode aloud.
    """

    learner: str
    robot: RobotConfig | None = None
    env: EnvConfig | None = None
    teleop: TeleoperatorConfig | None = None
    fps: int | None = None
    task: str = ""
    episode_time_s: float | None = None
    rename_map: dict[str, str] = field(default_factory=dict)
    n_episodes: int | None = None
    seed: int = 1_000_000
    name: str = "actor"
    reward: RewardConfig = field(default_factory=RewardConfig)
    reset: ResetConfig = field(default_factory=ResetConfig)
    safety: SafetyConfig = field(default_factory=SafetyConfig)
    takeover: TakeoverConfig = field(default_factory=TakeoverConfig)
    device: str = "cpu"
    patience_s: float = 60.0
    display_data: bool = False
    display_mode: str = "rerun"
    display_ip: str | None = None
    display_port: int | None = None
    display_compressed_images: bool = False
    play_sounds: bool = False

    def __post_init__(self) -> None:
        if (self.robot is None) == (self.env is None):
            raise ValueError("Give either --robot.type=... or --env.type=...: where should the policy act?")
        if self.episode_time_s is not None and not 0 < self.episode_time_s <= 3600:
            raise ValueError(f"--episode_time_s={self.episode_time_s}: expected more than 0, at most 3600 seconds.")


@parser.wrap()
def run(config: ActorProcessConfig) -> int:
    """Collect until the learner has finished; the exit code."""
    init_logging()
    try:
        episodes = collect(_settings(config))
    except (OSError, RuntimeError, MessageError, ValueError, ImportError) as error:
        logging.error(error)
        return 1
    logging.info(f"Stopped after {episodes} episodes.")
    return 0


def _settings(config: ActorProcessConfig) -> CollectorSettings:
    robot = RobotSettings(
        config.fps, config.task, config.episode_time_s, config.rename_map, config.reward, config.reset, config.safety, config.device
    )
    display = DisplaySettings(
        config.display_data, config.display_mode, config.display_ip, config.display_port, config.display_compressed_images
    )
    return CollectorSettings(
        config.learner, config.env, config.robot, config.teleop, config.n_episodes, config.seed, config.name, config.patience_s,
        robot, config.takeover, display, config.play_sounds,
    )  # fmt: skip


def main() -> None:
    """Entry point."""
    # A job in a shell's background ignores SIGINT; SIGTERM stops the arm just as cleanly.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    register_third_party_plugins()
    sys.exit(run())


if __name__ == "__main__":
    main()
