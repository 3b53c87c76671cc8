"""`lerobot-serl-record`: the dataset it writes, read back by LeRobot."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from counter_env import CounterEnv
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.envs.configs import PushtEnv
from opengl import opengl_platform

from lerobot_serl.actor.env_world import EnvWorld
from lerobot_serl.envs.config_franka_sim import FrankaSimEnv
from lerobot_serl.envs.franka_sim import FrankaSimGym
from lerobot_serl.record.own_expert import record_expert
from lerobot_serl.record.recorder import RecordSettings, dataset_features
from lerobot_serl.scripts.lerobot_serl_record import RecordConfig
from lerobot_serl.setting_error import SettingError

COMMAND = [sys.executable, "-m", "lerobot_serl.scripts.lerobot_serl_record", "--repo_id=me/pick_cube"]


def run_record(*flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.run([*COMMAND, *flags], env=env, capture_output=True, text=True, timeout=240)


def column(dataset: LeRobotDataset, name: str) -> np.ndarray:
    return np.stack([np.asarray(row) for row in dataset.hf_dataset[name]])


def assert_labels_mark_the_last_frames(dataset: LeRobotDataset) -> None:
    episode = column(dataset, "episode_index").ravel()
    is_last = np.append(episode[1:] != episode[:-1], True)
    for name in ("next.reward", "next.success", "next.done"):
        np.testing.assert_array_equal(column(dataset, name).ravel().astype(bool), is_last)


@pytest.mark.slow
def test_command_records_state_episodes_that_replay(tmp_path: Path) -> None:
    root = tmp_path / "data"
    flags = ["--env.type=franka_sim", f"--root={root}", "--n_episodes=3", "--seed=7", "--noise_std=0.1"]
    result = run_record(*flags)
    assert result.returncode == 0, result.stderr
    dataset = LeRobotDataset("me/pick_cube", root=root)
    assert dataset.num_episodes == 3
    assert dataset.fps == 10
    assert dataset.features["action"]["names"] == ["delta_x", "delta_y", "delta_z", "gripper"]
    assert {k: tuple(v["shape"]) for k, v in dataset.features.items() if k.startswith(("obs", "act", "next"))} == {
        "observation.state": (18,),
        "observation.environment_state": (3,),
        "action": (4,),
        "next.reward": (1,),
        "next.success": (1,),
        "next.done": (1,),
    }
    assert_labels_mark_the_last_frames(dataset)
    assert dataset[0]["task"] == "Pick up the cube and lift it."
    first = column(dataset, "episode_index").ravel() == 0
    env = FrankaSimGym()
    observation, _ = env.reset(seed=7)
    for state, action in zip(column(dataset, "observation.state")[first], column(dataset, "action")[first], strict=True):
        np.testing.assert_array_equal(observation["agent_pos"], state)
        observation, _, terminated, _, info = env.step(action)
        np.testing.assert_array_equal(info["executed_action"], action)
    assert terminated


@pytest.mark.slow
def test_command_records_images(tmp_path: Path) -> None:
    root = tmp_path / "data"
    flags = ["--env.type=franka_sim", f"--root={root}", "--n_episodes=1", "--env.obs_type=pixels"]
    sizes = ["--env.observation_height=64", "--env.observation_width=64"]
    result = run_record(*flags, *sizes, MUJOCO_GL=opengl_platform())
    assert result.returncode == 0, result.stderr
    dataset = LeRobotDataset("me/pick_cube", root=root)
    assert "observation.environment_state" not in dataset.features
    for camera in ("front", "wrist"):
        image = dataset[3][f"observation.images.{camera}"]
        assert tuple(image.shape) == (3, 64, 64)
        assert image.std() > 0.03


@pytest.mark.parametrize(("use_videos", "dtype"), [(True, "video"), (False, "image")])
def test_images_are_stored_as_asked(use_videos: bool, dtype: str) -> None:
    world = EnvWorld(CounterEnv(), None, None, seed=0)
    features = dataset_features(world, RecordSettings(env=CounterEnv(), repo_id="me/x", use_videos=use_videos))
    assert features["observation.image"] == {
        "dtype": dtype,
        "shape": (6, 5, 3),
        "names": ["height", "width", "channels"],
    }


def test_joint_actions_are_recorded_under_their_names(tmp_path: Path) -> None:
    summary = record_expert(FrankaSimEnv(control_mode="joint"), "me/joints", tmp_path / "data", n_episodes=2)
    dataset = LeRobotDataset("me/joints", root=tmp_path / "data")
    assert summary.n_episodes == dataset.num_episodes == 2
    assert summary.n_frames == len(dataset)
    assert dataset.features["action"]["names"] == [*(f"joint_{i}.pos" for i in range(1, 8)), "gripper.pos"]
    assert_labels_mark_the_last_frames(dataset)


@pytest.mark.slow
def test_interrupt_keeps_complete_episodes(tmp_path: Path) -> None:
    root = tmp_path / "data"
    flags = ["--env.type=franka_sim", f"--root={root}", "--n_episodes=100000"]
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen([*COMMAND, *flags], env=env, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 300
        while not any(root.glob("data/*/*.parquet")) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, stderr
    dataset = LeRobotDataset("me/pick_cube", root=root)
    assert 0 < dataset.num_episodes < 100000
    assert_labels_mark_the_last_frames(dataset)


def test_hopeless_settings_are_reported_and_leave_nothing_half_written(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"solved 0 of 10 episodes; lower --noise_std"):
        record_expert(FrankaSimEnv(episode_length=3), "me/x", tmp_path / "data", n_episodes=1)
    assert not (tmp_path / "data").exists()


def test_existing_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep")
    with pytest.raises(FileExistsError, match=f"{tmp_path} exists; choose another --root"):
        record_expert(FrankaSimEnv(), "me/x", tmp_path)
    assert (tmp_path / "precious").read_text() == "keep"


@pytest.mark.parametrize("flags", [{"n_episodes": 0}, {"seed": -1}, {"noise_std": -0.1}, {"noise_std": float("inf")}])
def test_numbers_have_limits(flags: dict[str, float]) -> None:
    ((name, value),) = flags.items()
    with pytest.raises(SettingError, match=f"{name} is {value}, expected"):
        RecordConfig(env=FrankaSimEnv(), repo_id="me/x", **flags)


def test_what_cannot_be_done_is_said_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "a_file"
    file.write_text("")
    done = run_record("--env.type=franka_sim", f"--root={file}/data")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"[Errno 20] Not a directory: '{file}/data'"
    assert "Traceback" not in done.stderr


def test_other_environments_need_an_expert_or_a_device() -> None:
    with pytest.raises(SettingError, match=r"env.type is 'pusht'.*--expert=module:function .*--teleop.type="):
        RecordConfig(env=PushtEnv(), repo_id="me/x")
