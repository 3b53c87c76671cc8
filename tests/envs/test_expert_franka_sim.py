"""The scripted expert: it solves the task, sees only the observation, and remembers nothing."""

import copy

import numpy as np
import pytest

from lerobot_serl.envs.expert_franka_sim import ScriptedExpert
from lerobot_serl.envs.franka_sim import FrankaSimGym

MODES = ["ee_delta", "joint"]


def play(env: FrankaSimGym, expert: ScriptedExpert, seed: int) -> tuple[bool, list[tuple[dict, np.ndarray]]]:
    """Return whether the episode succeeded, and its observations and actions."""
    observation, _ = env.reset(seed=seed)
    history = []
    while True:
        action = expert.act(observation)
        history.append((copy.deepcopy(observation), action))
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            return terminated, history


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("noise_std", "least_success"), [(0.0, 0.95), (0.2, 0.9)])
def test_expert_solves_the_task(mode: str, noise_std: float, least_success: float) -> None:
    env, expert = FrankaSimGym(control_mode=mode), ScriptedExpert(mode, noise_std=noise_std)
    episodes = [play(env, expert, seed) for seed in range(40)]
    assert np.mean([succeeded for succeeded, _ in episodes]) >= least_success
    assert 15 <= np.mean([len(history) for _, history in episodes]) <= 40
    assert all(env.action_space.contains(action) for _, history in episodes for _, action in history)


@pytest.mark.parametrize("mode", MODES)
def test_expert_is_a_pure_function_of_the_observation(mode: str) -> None:
    _, history = play(FrankaSimGym(control_mode=mode), ScriptedExpert(mode), seed=3)
    fresh = ScriptedExpert(mode)
    order = np.random.default_rng(0).permutation(len(history))
    for index in order:
        observation, action = history[index]
        before = copy.deepcopy(observation)
        np.testing.assert_array_equal(fresh.act(observation), action)
        np.testing.assert_array_equal(fresh.act(observation), action)
        for key in before:
            np.testing.assert_array_equal(observation[key], before[key])


def test_noise_is_seeded_and_moves_only_the_tool() -> None:
    observation, _ = FrankaSimGym().reset(seed=0)
    noisy = [ScriptedExpert(noise_std=0.2, seed=seed).act(observation) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(noisy[0], noisy[1])
    assert (noisy[0] != noisy[2]).any()
    assert noisy[0][3] == ScriptedExpert().act(observation)[3]


def test_expert_retries_after_a_lost_grasp() -> None:
    env, expert = FrankaSimGym(episode_length=120), ScriptedExpert()
    observation, _ = env.reset(seed=1)
    while observation["environment_state"][2] < 0.06:
        observation, *_ = env.step(expert.act(observation))
    for _ in range(4):
        observation, *_ = env.step(np.zeros(4))  # opens the gripper: the cube falls
    assert observation["environment_state"][2] < 0.04
    terminated = truncated = False
    while not (terminated or truncated):
        observation, _, terminated, truncated, _ = env.step(expert.act(observation))
    assert terminated


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"control_mode": "torque"}, "control_mode is 'torque'"), ({"noise_std": -0.1}, "noise_std is -0.1")],
)
def test_wrong_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScriptedExpert(**arguments)
