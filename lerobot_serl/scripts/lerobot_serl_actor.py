"""`lerobot-serl-actor --learner=HOST:PORT --robot.type=...` (or `--env.type=...`): collect episodes with the learner's newest policy.

With `--policy.path=...` in the place of the learner: count how often that policy succeeds.
"""

import logging
import math
import re
import signal
import socket
import sys
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from draccus.utils import ParsingError
from lerobot.envs import EnvConfig
from lerobot.robots import RobotConfig
from lerobot.teleoperators import TeleoperatorConfig
from lerobot.utils import get_safe_torch_device
from lerobot.utils.constants import HF_LEROBOT_HOME

import lerobot_serl  # noqa: F401
from lerobot_serl.actor.collector import CollectorSettings, collect
from lerobot_serl.actor.display import DisplaySettings
from lerobot_serl.actor.evaluation import EvaluationSettings, evaluate
from lerobot_serl.actor.leaving import StillPowered
from lerobot_serl.actor.planning import Planning
from lerobot_serl.actor.robot_setup import RobotSettings
from lerobot_serl.actor.settings import (
    DemonstrationsConfig,
    DeployedPolicyConfig,
    ResetConfig,
    RewardConfig,
    RobotKeysConfig,
    SafetyConfig,
    TakeoverConfig,
)
from lerobot_serl.actor.workplace import WorkplaceSettings
from lerobot_serl.lerobot_names import init_logging, parser, register_third_party_plugins
from lerobot_serl.one_line import shorten_torchcodec
from lerobot_serl.report.evaluations import EVALUATION_FILE
from lerobot_serl.report.interval import SuccessCount
from lerobot_serl.secure_channel import require_address
from lerobot_serl.setting_error import checks_settings
from lerobot_serl.stock_hardware import register_stock_hardware
from lerobot_serl.transport import MessageError

# What is said in a sentence; anything else is an error of ours, with a traceback.
EXPECTED = (OSError, RuntimeError, MessageError, ValueError, ImportError, ParsingError)
LONGEST_NAME = 64
LEAST_OUTBOX_GB = 0.1
EVALUATED_EPISODES = 50
PRACTICE_SEED, EVALUATION_SEED = 1_000_000, 100_000
# Flags that only a process with a learner obeys, and those that only one with a policy of its own does.
WITH_LEARNER = ("patience_s", "max_disconnected_s", "spool_dir", "spool_limit_gb", "token_file", "certificate")
WITH_POLICY = ("dataset", "output_dir")


def machine_name() -> str:
    """This machine's name, as far as it can name an actor process."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:LONGEST_NAME].lstrip(".") or "actor"


@dataclass
class ActorProcessConfig:
    """Flags of `lerobot-serl-actor`. With a learner everything else (policy, processors, weights) comes from it.

    Attributes:
        learner: where the learner listens, HOST:PORT; either this or `policy.path`.
        policy: the policy to evaluate, without a learner.
        dataset: its demonstrations, from which limits, start and rate come; empty: what the checkpoint says of them.
        output_dir: where an evaluation's results go; empty: a new directory in outputs/eval, as lerobot-eval makes it.
        robot: LeRobot robot to act with; either this or `env`.
        env: LeRobot environment to act in.
        teleop: LeRobot teleoperator with which a person takes over.
        fps: control rate; the demonstrations' rate, which is also the default.
        task: in words; stored with every episode; empty: an environment's own.
        episode_time_s: episodes are cut off after so long; empty: 1.5 times the longest demonstration on a robot, an environment's own limit.
        rename_map: image key of the robot, or any key of the environment -> the policy's, as in lerobot-rollout.
        n_episodes: stop after so many episodes; empty: until the learner has finished, and 50 in an evaluation.
        seed: of the exploration, and of an environment's first episode; every further episode adds one. Empty: 1000000, and 100000 in an
            evaluation, whose starts practice then has not seen.
        name: of this actor process, at the learner and in the metrics; each needs its own. Letters, digits, "-", "_" and ".", at most 64;
            empty: the machine's name.
        reward: who decides success.
        reset: what happens between episodes of a robot.
        safety: limits of a robot's targets.
        robot_keys: what the keys of the actions mean.
        takeover: how a person takes over.
        device: to run the policy on.
        planning: where the base policy plans: "in_loop", where the arm waits for each plan; "beside" the control loop, where it does not; "auto":
            in the loop if that is quick.
        plan_delay_s: that a simulation plays, so long a plan takes there.
        patience_s: how long to try to reach the learner at first before giving up, in seconds.
        max_disconnected_s: when the learner goes away, a robot collects for so long with the weights it has; a simulation waits.
        spool_dir: finished episodes stay there until the learner has them; empty: `serl_actor/<name>` in LeRobot's home.
        spool_limit_gb: collection stops before the outbox grows larger, in 10^9 bytes.
        token_file: with the learner's token; empty: the environment variable LEROBOT_SERL_TOKEN, if it is set.
        certificate: PEM file with the learner's certificate, or its authority's; turns TLS on.
        display_data, display_mode, display_ip, display_port, display_compressed_images: LeRobot's viewers.
        play_sounds: say the number of each episode aloud.
    """

    learner: str | None = None
    policy: DeployedPolicyConfig = field(default_factory=DeployedPolicyConfig)
    dataset: DemonstrationsConfig = field(default_factory=DemonstrationsConfig)
    output_dir: Path | None = None
    robot: RobotConfig | None = None
    env: EnvConfig | None = None
    teleop: TeleoperatorConfig | None = None
    fps: int | None = None
    task: str = ""
    episode_time_s: float | None = None
    rename_map: dict[str, str] = field(default_factory=dict)
    n_episodes: int | None = None
    seed: int | None = None
    name: str = field(default_factory=machine_name)
    reward: RewardConfig = field(default_factory=RewardConfig)
    reset: ResetConfig = field(default_factory=ResetConfig)
    safety: SafetyConfig = field(default_factory=SafetyConfig)
    robot_keys: RobotKeysConfig = field(default_factory=RobotKeysConfig)
    takeover: TakeoverConfig = field(default_factory=TakeoverConfig)
    device: str = "cpu"
    planning: str = "auto"
    plan_delay_s: float = 0.0
    patience_s: float = 60.0
    max_disconnected_s: float = 600.0
    spool_dir: Path | None = None
    spool_limit_gb: float = 10.0
    token_file: Path | None = None
    certificate: Path | None = None
    display_data: bool = False
    display_mode: str = "rerun"
    display_ip: str | None = None
    display_port: int | None = None
    display_compressed_images: bool = False
    play_sounds: bool = False

    @checks_settings
    def __post_init__(self) -> None:
        self._require_one_task()
        if (self.robot is None) == (self.env is None):
            raise ValueError("Give either --robot.type=... or --env.type=...: where should the policy act?")
        _require_obeyed(self)
        if self.fps is not None and self.fps < 1:
            raise ValueError(f"--fps={self.fps}: expected at least 1, or nothing: then the demonstrations' rate.")
        _require_device(self.device)
        Planning(self.planning, self.plan_delay_s)
        if self.episode_time_s is not None and not 0 < self.episode_time_s <= 3600:
            raise ValueError(f"--episode_time_s={self.episode_time_s}: expected more than 0, at most 3600 seconds.")
        if not re.fullmatch(rf"[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}", self.name):
            raise ValueError(
                f"--name={self.name!r}: expected 1 to {LONGEST_NAME} letters, digits, '-', '_' and '.', no '.' at the beginning."
            )
        if self.n_episodes is not None and self.n_episodes < 1:
            raise ValueError(f"--n_episodes={self.n_episodes}: expected at least 1.")
        if not 0 <= self.patience_s < math.inf:
            raise ValueError(f"--patience_s={self.patience_s}: expected 0 or more seconds.")
        if not self.max_disconnected_s >= 0:
            raise ValueError(f"--max_disconnected_s={self.max_disconnected_s}: expected 0 or more seconds.")
        if not self.spool_limit_gb >= LEAST_OUTBOX_GB:
            raise ValueError(f"--spool_limit_gb={self.spool_limit_gb}: expected at least {LEAST_OUTBOX_GB}.")

    def _require_one_task(self) -> None:
        """Either collect or evaluate, and no flag of the other."""
        if (self.learner is None) == (self.policy.path is None):
            raise ValueError(
                "Give either --learner=HOST:PORT, to collect for a learner, or --policy.path=CHECKPOINT, to count how often that policy succeeds."
            )
        if self.learner is not None:
            require_address(self.learner)
        plain = {item.name: item.default_factory() if callable(item.default_factory) else item.default for item in fields(self)}
        others, words = (WITH_LEARNER, "with --learner") if self.learner is None else (WITH_POLICY, "with --policy.path")
        if wrong := [name for name in others if getattr(self, name) != plain[name]]:
            raise ValueError(f"--{wrong[0]}: only {words} is it of any use. Leave it out.")


# Groups of flags that only robots, and only environments, obey; a group's name stands for all of it.
_OF_ROBOTS = ("reset", "safety", "reward.path", "reward.function", "reward.threshold", "reward.consecutive", "reward.veto_s")
_OF_ENVIRONMENTS = ("reward.success_key", "takeover.keys", "takeover.gripper_positions")


def _require_obeyed(config: ActorProcessConfig) -> None:
    """A flag that nobody would obey is refused, and not ignored."""
    groups: dict[str, Any] = {name: getattr(config, name) for name in ("reset", "safety", "robot_keys", "reward", "takeover")}
    given = [
        f"{group}.{item.name}"
        for group, settings in groups.items()
        for item in fields(settings)
        if getattr(settings, item.name) != getattr(type(settings)(), item.name)
    ]
    others, only, here = (_OF_ROBOTS, "robots", "env") if config.env is not None else (_OF_ENVIRONMENTS, "environments", "robot")
    if wrong := [f"--{flag}" for flag in given if flag in others or flag.partition(".")[0] in others]:
        raise ValueError(f"{', '.join(wrong)}: only {only} obey that, and here is --{here}.type. Leave it out.")
    if config.teleop is None and (idle := [f"--{flag}" for flag in given if flag.startswith("takeover.")]):
        raise ValueError(f"{', '.join(idle)}: takes a teleoperator to take over with, --teleop.type=...")


def _require_device(device: str) -> None:
    try:
        get_safe_torch_device(device)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"--device={device}: expected a device of this machine, for example cpu. {error}") from error


@parser.wrap()
def run(config: ActorProcessConfig) -> int:
    """Collect until the learner has finished, or evaluate; the exit code."""
    init_logging()
    try:
        words = _collect(config, config.learner) if config.learner is not None else _evaluate(config)
    except StillPowered as error:
        before = error.__context__
        if before is not None:
            logging.error(before, exc_info=None if isinstance(before, EXPECTED) else before)
        logging.error(error)  # the last line on the screen
        return 1
    except EXPECTED as error:
        logging.error(error)
        return 1
    logging.info(words)
    return 0


def _collect(config: ActorProcessConfig, learner: str) -> str:
    settings = CollectorSettings(
        **_workplace(config),
        learner=learner,
        n_episodes=config.n_episodes,
        name=config.name,
        patience_s=config.patience_s,
        spool_dir=config.spool_dir or HF_LEROBOT_HOME / "serl_actor" / config.name,
        spool_limit_bytes=int(config.spool_limit_gb * 1e9),
        max_disconnected_s=config.max_disconnected_s,
        token_file=config.token_file,
        certificate=config.certificate,
    )
    return f"Stopped after {collect(settings)} episodes."


def _evaluate(config: ActorProcessConfig) -> str:
    device = config.robot or config.env
    assert device is not None
    directory = config.output_dir or Path(f"outputs/eval/{datetime.now():%Y-%m-%d/%H-%M-%S}_{device.type}")
    settings = EvaluationSettings(
        **_workplace(config),
        policy=config.policy,
        dataset=config.dataset,
        n_episodes=config.n_episodes or EVALUATED_EPISODES,
        results=directory / EVALUATION_FILE,
    )
    successes, trials = evaluate(settings)
    if not trials:
        return "Stopped before an episode was finished; nothing was written."
    low, high = SuccessCount(successes, trials, "").interval
    share = f"{100 * successes / trials:.0f} % (95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
    return f"{successes} of {trials} episodes succeed without help, {share}: {settings.results}"


def _workplace(config: ActorProcessConfig) -> dict[str, Any]:
    """Settings that both have."""
    robot = RobotSettings(
        config.fps, config.task, config.episode_time_s, config.rename_map, config.reward, config.reset, config.safety, config.robot_keys,
        config.device,
    )  # fmt: skip
    seed = EVALUATION_SEED if config.learner is None else PRACTICE_SEED
    display = DisplaySettings(
        config.display_data, config.display_mode, config.display_ip, config.display_port, config.display_compressed_images
    )
    settings = WorkplaceSettings(
        env=config.env,
        robot_config=config.robot,
        teleop_config=config.teleop,
        seed=seed if config.seed is None else config.seed,
        robot=robot,
        takeover=config.takeover,
        display=display,
        play_sounds=config.play_sounds,
        planning=Planning(config.planning, config.plan_delay_s),
    )
    return vars(settings)


def main() -> None:
    """Entry point."""
    # A job in a shell's background ignores SIGINT; SIGTERM stops the arm just as cleanly.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # the terminal has gone; nohup means to go on
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    register_stock_hardware()
    shorten_torchcodec()
    register_third_party_plugins()
    sys.exit(run())


if __name__ == "__main__":
    main()
