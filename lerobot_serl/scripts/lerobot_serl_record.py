"""Record demonstrations of a simulated task with its scripted expert.

Example, twenty episodes of state observations:

    lerobot-serl-record --env.type=franka_sim --repo_id=me/pick_cube --root=data/pick_cube --noise_std=0.2

With `--env.obs_type=pixels` images are recorded too; without a display that needs MUJOCO_GL=egl (or osmesa).
"""

import logging
import math
from dataclasses import dataclass
from pathlib import Path

from datasets import disable_progress_bars
from lerobot.configs import parser
from lerobot.envs.configs import EnvConfig
from lerobot.utils.import_utils import register_third_party_plugins
from lerobot.utils.utils import init_logging

from lerobot_serl.envs.config_franka_sim import FrankaSimEnv
from lerobot_serl.one_line import shorten_torchcodec
from lerobot_serl.setting_error import checks_settings

logger = logging.getLogger(__name__)


@dataclass
class RecordExpertConfig:
    """Flags of `lerobot-serl-record`.

    Attributes:
        env: the environment; its type has to be franka_sim.
        repo_id: name of the dataset, `user/name`.
        root: folder to create; by default LeRobot's own place for `repo_id`.
        n_episodes: successful episodes to record.
        seed: seed of the first attempt; every further attempt adds one.
        noise_std: noise on the expert's motion, as a fraction of the largest displacement per step.
        use_videos: store images as video; false stores one PNG per image.
    """

    env: EnvConfig
    repo_id: str
    root: Path | None = None
    n_episodes: int = 20
    seed: int = 0
    noise_std: float = 0.0
    use_videos: bool = True

    @checks_settings
    def __post_init__(self) -> None:
        if not isinstance(self.env, FrankaSimEnv):
            raise ValueError(f"env.type is {self.env.type!r}, which has no scripted expert; use --env.type=franka_sim")
        if self.n_episodes < 1:
            raise ValueError(f"n_episodes is {self.n_episodes}, expected at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected 0 or more")
        if not 0 <= self.noise_std < math.inf:
            raise ValueError(f"noise_std is {self.noise_std}, expected a finite number of at least 0, for example 0.2")


@parser.wrap()
def record(cfg: RecordExpertConfig) -> None:
    """Record what the flags say and log a summary."""
    from lerobot_serl.envs.record_expert import record_expert  # MuJoCo is not needed to show --help

    disable_progress_bars()  # one bar per saved episode would bury our own
    assert isinstance(cfg.env, FrankaSimEnv)
    summary = record_expert(cfg.env, cfg.repo_id, cfg.root, cfg.n_episodes, cfg.seed, cfg.noise_std, cfg.use_videos)
    logger.info(
        "recorded %d episodes (%d frames, %d attempts) in %s",
        summary.n_episodes,
        summary.n_frames,
        summary.n_attempts,
        summary.root,
    )


def main() -> None:
    """Entry point of `lerobot-serl-record`; exits with status 1 and one line where the flags cannot be met."""
    init_logging()
    shorten_torchcodec()
    register_third_party_plugins()
    try:
        record()
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
