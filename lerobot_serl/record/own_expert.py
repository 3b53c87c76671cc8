"""The simulated Panda's own expert, which records its demonstrations unless another one is named."""

from pathlib import Path
from typing import Any

from ..envs.config_franka_sim import FrankaSimEnv
from .expert import NewExpert
from .recorder import RecordingSummary, RecordSettings, record


def own_expert(env: FrankaSimEnv, noise_std: float, seed: int) -> NewExpert:
    """One expert for all attempts: its noise goes on from one to the next.

    Raises:
        ValueError: noise_std is not allowed.
    """
    from ..envs.expert_franka_sim import ScriptedExpert  # loads MuJoCo

    expert = ScriptedExpert(env.control_mode, env.fps, noise_std, seed)
    return lambda gym: lambda observation: expert.act(gym.privileged_observation())


def own_settings(env: FrankaSimEnv, repo_id: str, noise_std: float, seed: int, **settings: Any) -> RecordSettings:
    """For :func:`.record`, with this expert."""
    new_expert = own_expert(env, noise_std, seed)
    remedy = "lower --noise_std or raise --env.episode_length"
    return RecordSettings(env=env, repo_id=repo_id, seed=seed, new_expert=new_expert, remedy=remedy, **settings)


def record_expert(
    config: FrankaSimEnv,
    repo_id: str,
    root: str | Path | None = None,
    n_episodes: int = 20,
    seed: int = 0,
    noise_std: float = 0.0,
    use_videos: bool = True,
) -> RecordingSummary:
    """Record `n_episodes` successful episodes.

    Args:
        config: the environment.
        repo_id: name of the dataset, `user/name`.
        root: folder to create; None means LeRobot's own place for `repo_id`.
        n_episodes: successful episodes to record; failed attempts are dropped.
        seed: attempt `i` resets the environment with `seed + i`; also seeds the expert's noise.
        noise_std: the expert's noise, see `ScriptedExpert`.
        use_videos: store images as video instead of one file per image.

    Raises:
        FileExistsError, ValueError, RuntimeError: see :func:`.record`.
    """
    place = None if root is None else Path(root)
    return record(own_settings(config, repo_id, noise_std, seed, root=place, n_episodes=n_episodes, use_videos=use_videos))
