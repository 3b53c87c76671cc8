"""The tasks: environment, expert, and how its ACT is trained."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lerobot.envs import EnvConfig

from lerobot_serl.envs.config_franka_sim import FrankaSimEnv
from lerobot_serl.envs.record_expert import record_expert

from . import metaworld_state

NORMALISED = '--policy.normalization_mapping={"VISUAL":"MEAN_STD","STATE":"MEAN_STD","ENV":"MEAN_STD","ACTION":"MEAN_STD"}'
SMALL_ACT = (
    "--policy.dim_model=64", "--policy.n_heads=4", "--policy.dim_feedforward=256", "--policy.n_encoder_layers=1",
    "--policy.n_decoder_layers=1", "--policy.n_vae_encoder_layers=1", "--policy.latent_dim=8", "--policy.optimizer_lr=1e-3", NORMALISED,
    "--batch_size=32", "--num_workers=0",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        env: makes its environment's configuration.
        record: (directory, number of demonstrations, seed) -> writes a LeRobotDataset.
        demonstrations: how many.
        act_flags: of ``lerobot-train``.
        act_steps: ACT's training steps, in the order in which checkpoints are tried.
        act_range: share of successes that the chosen checkpoint has.
        horizon: steps of a chunk that are executed.
    """

    env: Callable[[], EnvConfig]
    record: Callable[[Path, int, int], object]
    demonstrations: int
    act_flags: tuple[str, ...]
    act_steps: tuple[int, ...]
    act_range: tuple[float, float] = (0.2, 0.7)
    horizon: int = 10


def _pick_cube(control_mode: str, act_steps: tuple[int, ...], act_range: tuple[float, float]) -> Task:
    def env() -> EnvConfig:
        return FrankaSimEnv(control_mode=control_mode)

    def record(root: Path, demonstrations: int, seed: int) -> object:
        return record_expert(FrankaSimEnv(control_mode=control_mode), "local/pick_cube", root, demonstrations, seed)

    flags = (*SMALL_ACT, "--policy.chunk_size=10", "--policy.n_action_steps=10")
    return Task(env, record, 20, flags, act_steps, act_range)


def _metaworld(name: str, act_steps: tuple[int, ...], act_range: tuple[float, float]) -> Task:
    def env() -> EnvConfig:
        return metaworld_state.MetaworldStateEnv(task=name)

    def record(root: Path, demonstrations: int, seed: int) -> object:
        return metaworld_state.record_expert(metaworld_state.MetaworldStateEnv(task=name), "local/metaworld", root, demonstrations, seed)

    flags = (*SMALL_ACT, "--policy.chunk_size=20", "--policy.n_action_steps=10")
    return Task(env, record, 20, flags, act_steps, act_range)


TASKS: dict[str, Task] = {
    "pick_cube_ee": _pick_cube("ee_delta", (300, 200, 400, 100, 500, 600, 700), (0.45, 0.65)),
    "pick_cube_joint": _pick_cube("joint", (300, 400, 500, 600, 800, 1000, 200, 100), (0.2, 0.7)),
    "metaworld_push": _metaworld("push-v3", (1000, 700, 1500, 500, 2000), (0.2, 0.65)),
    "metaworld_pick_place": _metaworld("pick-place-v3", (1000, 1500, 700, 2000), (0.2, 0.6)),
}
