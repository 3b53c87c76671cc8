"""Record demonstrations in a LeRobot environment, by a scripted expert or by a person with a teleoperator.

Example, twenty episodes of state observations, by the expert of the simulated Panda:

    lerobot-serl-record --env.type=franka_sim --repo_id=me/pick_cube --root=data/pick_cube --noise_std=0.2

In any other environment `--expert=module:function` names an expert, or `--teleop.type=...` a device. With `--env.obs_type=pixels` images are
recorded too; without a display that needs MUJOCO_GL=egl (or osmesa).
"""

import logging
import math
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from datasets import disable_progress_bars
from draccus.utils import ParsingError
from lerobot.envs import EnvConfig
from lerobot.teleoperators import TeleoperatorConfig

from lerobot_serl.actor.settings import RewardConfig
from lerobot_serl.envs.config_franka_sim import FrankaSimEnv
from lerobot_serl.lerobot_names import init_logging, parser, register_third_party_plugins
from lerobot_serl.one_line import shorten_torchcodec
from lerobot_serl.setting_error import checks_settings
from lerobot_serl.stock_hardware import register_stock_hardware

if TYPE_CHECKING:
    from lerobot_serl.record.recorder import RecordSettings

logger = logging.getLogger(__name__)


@dataclass
class RecordConfig:
    """Flags of `lerobot-serl-record`.

    Attributes:
        env: the environment.
        repo_id: name of the dataset, `user/name`.
        root: folder to create; by default LeRobot's own place for `repo_id`.
        expert: `module:function` of a scripted expert; franka_sim has its own.
        teleop: LeRobot teleoperator of a person, in the place of an expert.
        n_episodes: successful episodes to record.
        keep_failures: record failed attempts too, as failures; they count among `n_episodes`.
        seed: seed of the first attempt; every further attempt adds one.
        noise_std: noise on the motion of franka_sim's own expert, as a fraction of the largest displacement per step.
        use_videos: store images as video; false stores one PNG per image.
        task: in words, stored with every episode; empty: what the environment says.
        reward: of the environment; see `lerobot-serl-actor`.
    """

    env: EnvConfig
    repo_id: str
    root: Path | None = None
    expert: str | None = None
    teleop: TeleoperatorConfig | None = None
    n_episodes: int = 20
    keep_failures: bool = False
    seed: int = 0
    noise_std: float = 0.0
    use_videos: bool = True
    task: str = ""
    reward: RewardConfig = field(default_factory=RewardConfig)

    @checks_settings
    def __post_init__(self) -> None:
        if self.expert is not None and self.teleop is not None:
            raise ValueError("Give either --expert=module:function or --teleop.type=...: who moves the environment?")
        if self.expert is None and self.teleop is None and not isinstance(self.env, FrankaSimEnv):
            raise ValueError(
                f"env.type is {self.env.type!r}, for which nobody knows an expert. Name one with --expert=module:function (docs/data.md has an "
                "example), or a device with --teleop.type=..."
            )
        if self.noise_std and (self.expert is not None or self.teleop is not None):
            raise ValueError(
                f"noise_std is {self.noise_std}, which only franka_sim's own expert obeys; let your expert add its noise itself"
            )
        if self.n_episodes < 1:
            raise ValueError(f"n_episodes is {self.n_episodes}, expected at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected 0 or more")
        if not 0 <= self.noise_std < math.inf:
            raise ValueError(f"noise_std is {self.noise_std}, expected a finite number of at least 0, for example 0.2")


@parser.wrap()
def run(config: RecordConfig) -> None:
    """Record what the flags say and log a summary."""
    from lerobot_serl.record.recorder import record

    disable_progress_bars()  # one bar per saved episode would bury our own
    summary = record(_settings(config))
    logger.info(
        "recorded %d episodes (%d frames, %d attempts) in %s",
        summary.n_episodes,
        summary.n_frames,
        summary.n_attempts,
        summary.root,
    )


def _settings(config: RecordConfig) -> "RecordSettings":
    from lerobot_serl.actor.judges import load_function
    from lerobot_serl.record.own_expert import own_settings
    from lerobot_serl.record.recorder import RecordSettings

    names = ("root", "n_episodes", "use_videos", "keep_failures", "task", "reward")
    wanted = {name: getattr(config, name) for name in names}
    if config.expert is None and config.teleop is None:
        assert isinstance(config.env, FrankaSimEnv)
        return own_settings(config.env, config.repo_id, config.noise_std, config.seed, **wanted)
    new_expert = None if config.expert is None else load_function(config.expert, "--expert", "the environment")
    return RecordSettings(
        env=config.env, repo_id=config.repo_id, seed=config.seed, teleop=config.teleop, expert_name=f"--expert={config.expert}",
        new_expert=new_expert, **wanted,
    )  # fmt: skip


def main() -> None:
    """Entry point of `lerobot-serl-record`; exits with status 1 and one line where the flags cannot be met."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background ignores it
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    init_logging()
    register_stock_hardware()
    shorten_torchcodec()
    register_third_party_plugins()
    try:
        run()
    except (OSError, ValueError, RuntimeError, ImportError, ParsingError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit("interrupted before anything was recorded") from None


if __name__ == "__main__":
    main()
