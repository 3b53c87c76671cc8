"""The tasks: environment, expert, and how its ACT is trained."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.envs import EnvConfig

from lerobot_serl.envs.config_franka_sim import FrankaSimEnv
from lerobot_serl.record.own_expert import record_expert

from . import aloha_state, metaworld_state, pusht_state, so101_state
from .late_grip import delay_entry

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
        act_range: the first checkpoint whose share of successes is within this is taken; None: the last one, whatever it has.
        horizon: steps of a chunk that are executed.
        base_type: LeRobot's type of the policy to start from, in the place of ACT.
    """

    env: Callable[[], EnvConfig]
    record: Callable[[Path, int, int], object]
    demonstrations: int
    act_flags: tuple[str, ...]
    act_steps: tuple[int, ...]
    act_range: tuple[float, float] | None = (0.2, 0.7)
    horizon: int = 10
    base_type: str = "act"

    @property
    def path_setting(self) -> str:
        """The setting of `serl_sac` that takes the checkpoint."""
        return "act_path" if self.base_type == "act" else "base_path"

    def takes(self, act_steps: int, share: float) -> bool:
        """Whether the checkpoint after so many training steps, with this share of successes, is the one to start from."""
        if self.act_range is None:
            return act_steps == self.act_steps[-1]
        return self.act_range[0] <= share <= self.act_range[1]


# ACT with a camera: LeRobot's ResNet-18, from random weights.
CAMERA_ACT = (
    "--policy.dim_model=128", "--policy.n_heads=4", "--policy.dim_feedforward=512", "--policy.n_encoder_layers=1", "--policy.use_vae=false",
    "--policy.optimizer_lr=3e-4", "--policy.optimizer_lr_backbone=1e-4", NORMALISED, "--batch_size=16", "--num_workers=0",
)  # fmt: skip


def _pick_cube(
    demonstrations: int, act: tuple[str, ...], act_steps: tuple[int, ...], act_range: tuple[float, float], grip_late: int = 0,
    chunk: tuple[int, int, int] = (10, 10, 10), **env: Any,
) -> Task:  # fmt: skip
    """``grip_late``: by so many steps the demonstrations' gripper comes too late; ``chunk``: ACT's chunk_size and n_action_steps, our horizon."""

    def make_env() -> FrankaSimEnv:
        return FrankaSimEnv(**env)

    def record(root: Path, count: int, seed: int) -> object:
        summary = record_expert(make_env(), "local/pick_cube", root, count, seed, use_videos=False)
        if grip_late:
            delay_entry(LeRobotDatasetMetadata("local/pick_cube", root=root), "gripper", grip_late)
        return summary

    flags = (*act, f"--policy.chunk_size={chunk[0]}", f"--policy.n_action_steps={chunk[1]}")
    return Task(make_env, record, demonstrations, flags, act_steps, act_range, chunk[2])


# Stock Diffusion Policy, small: five denoising steps (DDIM), two frames of state.
SMALL_DIFFUSION = (
    "--policy.n_obs_steps=2", "--policy.horizon=16", "--policy.n_action_steps=10", "--policy.down_dims=[32,64]",
    "--policy.diffusion_step_embed_dim=16", "--policy.noise_scheduler_type=DDIM", "--policy.num_train_timesteps=50",
    "--policy.num_inference_steps=5", "--policy.optimizer_lr=1e-3", "--policy.scheduler_warmup_steps=100",
    '--policy.normalization_mapping={"VISUAL":"MEAN_STD","STATE":"MIN_MAX","ENV":"MIN_MAX","ACTION":"MIN_MAX"}',
    "--batch_size=64", "--num_workers=0",
)  # fmt: skip


def _camera(*cameras: str) -> Task:
    """Pictures of 96x96 pixels in the place of the cube's position."""
    pixels = {"obs_type": "pixels", "cameras": cameras, "observation_height": 96, "observation_width": 96}
    return _pick_cube(60, CAMERA_ACT, (1500, 1200, 1800, 900, 2100, 600, 2700, 3300, 3900), (0.2, 0.7), **pixels)


def _metaworld(name: str, act_steps: tuple[int, ...], act_range: tuple[float, float] | None, episode_length: int = 120) -> Task:
    env = partial(metaworld_state.MetaworldStateEnv, task=name, episode_length=episode_length)

    def record(root: Path, demonstrations: int, seed: int) -> object:
        return metaworld_state.record_expert(env(), "local/metaworld", root, demonstrations, seed)

    flags = (*SMALL_ACT, "--policy.chunk_size=20", "--policy.n_action_steps=10")
    return Task(env, record, 20, flags, act_steps, act_range)


def _pusht() -> Task:
    env = partial(pusht_state.PushtStateEnv, coverage=0.9, episode_length=120)

    def record(root: Path, demonstrations: int, seed: int) -> object:
        return pusht_state.record_expert(env(), "local/pusht", root, demonstrations, seed)

    flags = (*SMALL_ACT, "--policy.chunk_size=20", "--policy.n_action_steps=10")
    return Task(env, record, 150, flags, (8000, 6000, 4000))


def _so101() -> Task:
    env = so101_state.So101StateEnv

    def record(root: Path, demonstrations: int, seed: int) -> object:
        return so101_state.record_expert(env(), "local/so101", root, demonstrations, seed)

    flags = (*SMALL_ACT, "--policy.chunk_size=10", "--policy.n_action_steps=10")
    return Task(env, record, 20, flags, (700,), None)


def _aloha() -> Task:
    """ACT as its owners run it: chunks of 100 steps, two seconds, carried out to their end."""
    env = aloha_state.AlohaTransferStateEnv

    def record(root: Path, demonstrations: int, seed: int) -> object:
        return aloha_state.record_expert(env(), "local/aloha", root, demonstrations, seed)

    # A batch is a hundred actions for each of its frames, most of whose time LeRobot's dataset takes: small batches, as is LeRobot's default.
    flags = (*SMALL_ACT, "--batch_size=8", "--policy.optimizer_lr=5e-4", "--policy.chunk_size=100", "--policy.n_action_steps=100")
    return Task(env, record, 50, flags, (5000,), None)


TASKS: dict[str, Task] = {
    "pick_cube_ee": _pick_cube(20, SMALL_ACT, (300, 200, 400, 100, 500, 600, 700), (0.45, 0.65)),
    # Whatever ACT has after its steps: with the fault in its demonstrations it does not come far.
    "pick_cube_ee_late_grip": replace(_pick_cube(20, SMALL_ACT, (700,), (0.0, 1.0), grip_late=3), act_range=None),
    "pick_cube_joint": _pick_cube(20, SMALL_ACT, (300, 400, 500, 600, 800, 1000, 200, 100), (0.2, 0.7), control_mode="joint"),
    "pick_cube_camera": _camera("front"),
    "metaworld_push": _metaworld("push-v3", (1000, 700, 1500, 500, 2000, 400, 300), (0.2, 0.65)),
    "metaworld_pick_place": _metaworld("pick-place-v3", (1000, 1500, 700, 2000, 500, 400, 300, 200), (0.2, 0.6)),
    "pusht": _pusht(),
    # Tasks that nobody chose: whatever ACT has after its steps is what practice starts from.
    "so101_lift": _so101(),
    "aloha_transfer": _aloha(),
}
# ACT plans for two seconds: its plans outlive decisions.
_LONGER = (500, 400, 300, 600, 700, 800, 1000, 200, 100, 1200, 1500)
TASKS["pick_cube_ee_plans_10hz"] = _pick_cube(20, SMALL_ACT, _LONGER, (0.3, 0.7), chunk=(30, 20, 5))
TASKS["pick_cube_ee_plans_30hz"] = _pick_cube(20, SMALL_ACT, _LONGER, (0.3, 0.7), chunk=(90, 60, 10), fps=30, episode_length=180)
_cube = TASKS["pick_cube_ee"]
TASKS["pick_cube_ee_diffusion"] = replace(
    _cube, base_type="diffusion", act_flags=SMALL_DIFFUSION, act_steps=(3000, 2000, 4000, 1000, 5000, 6000), act_range=(0.2, 0.7)
)
for _name in ("assembly", "peg-insert-side", "box-close"):
    TASKS[f"metaworld_{_name.replace('-', '_')}"] = _metaworld(f"{_name}-v3", (3000,), None, episode_length=160)
for _name, _cameras in (("one_camera", ("front",)), ("two_cameras", ("front", "wrist"))):
    TASKS[f"pick_cube_{_name}"] = replace(_camera(*_cameras), act_steps=(3900,), act_range=None)
# ACT trained for as long as it gets better: on as many demonstrations it has next to nothing left to learn, on half of them it stays where it is.
TASKS["pick_cube_ee_trained_out"] = replace(TASKS["pick_cube_ee"], act_steps=(3000,), act_range=None)
TASKS["pick_cube_ee_plateau"] = replace(TASKS["pick_cube_ee"], demonstrations=10, act_steps=(1000, 2000, 3000, 5000), act_range=None)
