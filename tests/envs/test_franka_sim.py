"""The simulated Panda environment: contract with gymnasium and LeRobot, reproducibility, physics, images."""

import os
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from lerobot.envs.factory import make_env
from lerobot.envs.utils import env_to_policy_features, preprocess_observation
from opengl import opengl_platform

from lerobot_serl.envs.config_franka_sim import FrankaSimEnv
from lerobot_serl.envs.expert_franka_sim import ScriptedExpert
from lerobot_serl.envs.franka_sim import FrankaSimGym
from lerobot_serl.envs.pick_cube import EE_SPEED_M_S
from lerobot_serl.setting_error import SettingError

N_ACTIONS = {"ee_delta": 4, "joint": 8}


def in_subprocess(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if key != "MUJOCO_GL"} | environment
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def env() -> FrankaSimGym:
    return FrankaSimGym()


@pytest.fixture(scope="module")
def joint_env() -> FrankaSimGym:
    return FrankaSimGym(control_mode="joint")


def rollout(env: FrankaSimGym, seed: int, actions: np.ndarray) -> np.ndarray:
    observation, _ = env.reset(seed=seed)
    observations = [observation, *(env.step(action)[0] for action in actions)]
    return np.stack([np.concatenate([o["agent_pos"], o["environment_state"]]) for o in observations])


@pytest.mark.parametrize("mode", ["ee_delta", "joint"])
def test_gymnasium_accepts_the_environment(mode: str, env: FrankaSimGym, joint_env: FrankaSimGym) -> None:
    checked = env if mode == "ee_delta" else joint_env
    check_env(checked, skip_render_check=True)
    assert checked.action_space.shape == (N_ACTIONS[mode],)
    assert checked.action_space.dtype == np.float32


@pytest.mark.parametrize("mode", ["ee_delta", "joint"])
def test_same_seed_and_actions_give_identical_bits(mode: str, env: FrankaSimGym, joint_env: FrankaSimGym) -> None:
    first = env if mode == "ee_delta" else joint_env
    second = FrankaSimGym(control_mode=mode)
    second.action_space.seed(3)
    actions = np.stack([second.action_space.sample() for _ in range(20)])
    expected = rollout(first, 5, actions)
    np.testing.assert_array_equal(rollout(second, 5, actions), expected)
    rollout(second, 6, actions)
    np.testing.assert_array_equal(rollout(second, 5, actions), expected)


def test_cube_is_placed_by_the_seed_alone(env: FrankaSimGym) -> None:
    np.random.seed(0)  # noqa: NPY002 (the global generator must have no influence)
    places = np.stack([env.reset(seed=seed)[0]["environment_state"] for seed in range(200)])
    np.random.seed(1)  # noqa: NPY002
    np.testing.assert_array_equal(places[7], env.reset(seed=7)[0]["environment_state"])
    assert (places[:, :2] >= [0.3, -0.15]).all()
    assert (places[:, :2] <= [0.5, 0.15]).all()
    assert places[:, :2].std(axis=0) == pytest.approx([0.2 / 12**0.5, 0.3 / 12**0.5], rel=0.15)


def test_tool_follows_the_commanded_displacement(env: FrankaSimGym) -> None:
    start = env.reset(seed=0)[0]["agent_pos"][15:]
    for _ in range(4):
        observation, *_ = env.step(np.array([0.0, 0.5, -1.0, 0.0]))
    step_m = EE_SPEED_M_S / 10
    np.testing.assert_allclose(observation["agent_pos"][15:] - start, [0.0, 2 * step_m, -4 * step_m], atol=0.008)


def test_tool_stays_inside_the_workspace(env: FrankaSimGym) -> None:
    env.reset(seed=0)
    for _ in range(20):
        observation, *_ = env.step(np.array([1.0, 1.0, 1.0, 0.0]))
    assert (observation["agent_pos"][15:] <= np.array([0.6, 0.3, 0.5]) + 0.01).all()


def test_still_arm_stays_still(env: FrankaSimGym) -> None:
    start = env.reset(seed=0)[0]["agent_pos"]
    for _ in range(50):
        observation, *_ = env.step(np.zeros(4))
    np.testing.assert_allclose(observation["agent_pos"], start, atol=0.005)


@pytest.mark.parametrize("mode", ["ee_delta", "joint"])
def test_action_outside_the_space_is_clipped(mode: str, env: FrankaSimGym, joint_env: FrankaSimGym) -> None:
    clipped_env = env if mode == "ee_delta" else joint_env
    space = clipped_env.action_space
    clipped_env.reset(seed=0)
    wild = clipped_env.step(np.full(space.shape, 9.0))
    clipped_env.reset(seed=0)
    tame = clipped_env.step(space.high)
    np.testing.assert_array_equal(wild[0]["agent_pos"], tame[0]["agent_pos"])
    assert space.contains(wild[4]["executed_action"])


def test_joint_target_is_rate_limited_and_reported(joint_env: FrankaSimGym) -> None:
    start = joint_env.reset(seed=0)[0]["agent_pos"][:7]
    _, _, _, _, info = joint_env.step(np.array([2.0, *start[1:], 1.0]))
    assert info["executed_action"][0] == pytest.approx(start[0] + 0.2, abs=1e-6)
    np.testing.assert_allclose(info["executed_action"][1:7], start[1:], atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_action_that_is_not_finite_is_refused(env: FrankaSimGym, value: float) -> None:
    env.reset(seed=0)
    with pytest.raises(ValueError, match=f"'delta_y' is {value}"):
        env.step(np.array([0.0, value, 0.0, 0.0]))


def test_action_of_wrong_shape_is_refused(env: FrankaSimGym) -> None:
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \(4,\)"):
        env.step(np.zeros(3))


def test_time_limit_truncates_and_never_terminates(env: FrankaSimGym) -> None:
    env.reset(seed=0)
    outcomes = [env.step(np.zeros(4))[1:] for _ in range(60)]
    assert not any(reward or terminated for reward, terminated, _, _ in outcomes)
    assert [truncated for _, _, truncated, _ in outcomes] == [False] * 59 + [True]


def test_lifting_the_cube_terminates_with_reward(env: FrankaSimGym) -> None:
    expert = ScriptedExpert()
    observation, info = env.reset(seed=2)
    start_z_m = observation["environment_state"][2]
    terminated = truncated = False
    while not (terminated or truncated):
        assert not info["is_success"]
        observation, reward, terminated, truncated, info = env.step(expert.act(observation))
        assert reward == float(terminated)
    assert terminated
    assert not truncated
    assert info["is_success"]
    assert observation["environment_state"][2] - start_z_m >= 0.1
    assert np.linalg.norm(observation["environment_state"] - observation["agent_pos"][15:]) < 0.05


def test_state_mode_needs_no_opengl() -> None:
    """Not even the library is loaded where none is to be used; where one is, no context is made."""
    code = (
        "import sys, gymnasium, numpy\n"
        "import lerobot_serl.envs.config_franka_sim as config\n"
        "assert 'mujoco' not in sys.modules\n"
        "env = gymnasium.make(config.FrankaSimEnv().gym_id)\n"
        "env.reset(seed=0); env.step(env.action_space.sample())\n"
        "assert not env.unwrapped.scene._renderers\n"
        "env.close()\n"
        "loaded = {'OpenGL', 'gym_hil', 'pygame'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    result = in_subprocess(code, MUJOCO_GL="disable")
    assert result.returncode == 0, result.stderr


def test_a_schematic_is_drawn_where_nothing_can_be_rendered() -> None:
    """Commands like lerobot-eval always make videos: state mode must not fail there, however often it is asked."""
    code = (
        "import numpy as np\n"
        "from lerobot_serl.envs.franka_sim import FrankaSimGym\n"
        "environments = [FrankaSimGym(), FrankaSimGym()]\n"
        "for environment in environments:\n"
        "    environment.reset(seed=0)\n"
        "    before = environment.render()\n"
        "    for _ in range(3): environment.step(np.array([1, 1, -1, 0]))\n"
        "    after = environment.render()\n"
        "    assert before.shape == (256, 256, 3) and before.dtype == np.uint8\n"
        "    assert (before != after).any() and before.std() > 1\n"
    )
    result = in_subprocess(code, MUJOCO_GL="disable")
    assert result.returncode == 0, result.stderr
    assert "Pictures are schematic" in result.stderr


def test_rendering_without_opengl_says_what_to_set() -> None:
    code = (
        "from lerobot_serl.envs.panda_scene import PandaScene\n"
        "scene = PandaScene(0.1); scene.reset([0.4, 0.0]); scene.step(scene.joint_positions_rad, 0.0)\n"
        "scene.render('front', 32, 32)"
    )
    result = in_subprocess(code, MUJOCO_GL="disable")
    assert result.returncode != 0
    assert "MUJOCO_GL=egl" in result.stderr


PIXELS = """
import numpy as np
from lerobot_serl.envs.franka_sim import FrankaSimGym
first = FrankaSimGym(obs_type="pixels", observation_height=64, observation_width=96)
second = FrankaSimGym(visualization_height=80, visualization_width=48)
observation, _ = first.reset(seed=0)
second.reset(seed=0)
assert first.observation_space.contains(observation)
assert set(observation) == {"agent_pos", "pixels"}
assert {k: (v.shape, v.dtype) for k, v in observation["pixels"].items()} == {
    "front": ((64, 96, 3), np.uint8), "wrist": ((64, 96, 3), np.uint8)}
assert all(image.std() > 10 for image in observation["pixels"].values())
moved = first.step(np.array([0, 1, -1, 0]))[0]["pixels"]
assert all((moved[k] != observation["pixels"][k]).any() for k in moved)
assert set(first.privileged_observation()) == {"agent_pos", "environment_state"}
frame = second.render()
assert frame.shape == (80, 48, 3) and frame.std() > 10
first.close(); first.close()
np.testing.assert_array_equal(second.render(), frame)
second.close()
one = FrankaSimGym(obs_type="pixels", cameras=("wrist",), observation_height=32, observation_width=32)
seen, _ = one.reset(seed=0)
assert list(seen["pixels"]) == ["wrist"] and one.observation_space.contains(seen)
one.close()
print("checked")
"""


UNCLOSED = """
import gymnasium
import lerobot_serl.envs.franka_sim
environment = gymnasium.make("lerobot_serl/FrankaSim-pick_cube-v0", obs_type="pixels", observation_height=16, observation_width=16)
environment.reset(seed=0)
print("rendered")
"""


@pytest.mark.slow
def test_images_show_the_scene_and_survive_another_closing() -> None:
    result = in_subprocess(PIXELS, MUJOCO_GL=opengl_platform())
    assert "checked" in result.stdout, result.stderr


@pytest.mark.slow
def test_images_are_rendered_although_another_plugin_has_imported_mujoco() -> None:
    """LeRobot imports every plugin before an environment is made; those of other simulated arms load MuJoCo, which has then chosen."""
    platform = opengl_platform()
    code = f"import os, mujoco\n{PIXELS}\nassert os.environ['MUJOCO_GL'] in ('egl', {platform!r})"
    result = in_subprocess(code, MUJOCO_GL="", DISPLAY="", WAYLAND_DISPLAY="")
    assert "checked" in result.stdout, result.stderr


@pytest.mark.slow
def test_a_script_that_forgets_to_close_ends_without_a_word() -> None:
    result = in_subprocess(UNCLOSED, MUJOCO_GL=opengl_platform())
    assert (result.returncode, result.stdout.strip()) == (0, "rendered"), result.stderr
    assert "Exception" not in result.stderr
    assert "Error" not in result.stderr


def test_lerobot_makes_the_vectorised_environment() -> None:
    config = FrankaSimEnv(fps=20, episode_length=7)
    vector = make_env(config, n_envs=2)["franka_sim"][0]
    observation, _ = vector.reset(seed=[0, 1])
    batch = preprocess_observation(observation)
    assert {key: tuple(value.shape[1:]) for key, value in batch.items()} == {
        key: feature.shape for key, feature in env_to_policy_features(config).items() if key != "action"
    }
    assert vector.call("_max_episode_steps") == (7, 7)
    assert vector.call("task_description")[0].startswith("Pick up the cube")
    assert vector.unwrapped.metadata["render_fps"] == 20
    assert not vector.step(vector.action_space.sample())[4]["is_success"].any()
    vector.close()


def test_one_camera_is_enough() -> None:
    features = env_to_policy_features(FrankaSimEnv(obs_type="pixels", cameras=("front",), observation_height=96, observation_width=96))
    assert {key: feature.shape for key, feature in features.items() if "images" in key} == {"observation.images.front": (3, 96, 96)}


@pytest.mark.parametrize("cameras", [(), ("side",), ("front", "front")])
def test_a_camera_that_is_not_there_is_refused(cameras) -> None:
    with pytest.raises(SettingError, match=r"env\.cameras is .*expected one or more of \('front', 'wrist'\)"):
        FrankaSimEnv(cameras=cameras)


def test_pixel_features_withhold_the_cube() -> None:
    features = env_to_policy_features(FrankaSimEnv(obs_type="pixels", control_mode="joint"))
    assert {key: feature.shape for key, feature in features.items()} == {
        "action": (8,),
        "observation.state": (18,),
        "observation.images.front": (3, 128, 128),
        "observation.images.wrist": (3, 128, 128),
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [("task", "stack"), ("obs_type", "both"), ("control_mode", "torque"), ("render_mode", "human"), ("fps", 0)],
)
def test_wrong_configuration_names_field_value_and_remedy(field: str, value: Any) -> None:
    with pytest.raises(SettingError, match=rf"env\.{field} is .*{value}.*expected .*--env\.{field}="):
        FrankaSimEnv(**{field: value})


def test_gymnasium_id_is_registered() -> None:
    made = gym.make(FrankaSimEnv().gym_id, episode_length=3)
    assert isinstance(made.unwrapped, FrankaSimGym)
    assert made.get_wrapper_attr("_max_episode_steps") == 3
    made.close()
