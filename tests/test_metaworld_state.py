"""Meta-World with state observations, for the learning benchmarks."""

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.envs import make_env
from lerobot.utils.constants import ACTION
from study.metaworld_state import MetaworldState, MetaworldStateEnv, record_expert
from study.run import policy_features

from lerobot_serl.actor.env_world import EnvWorld

pytestmark = pytest.mark.filterwarnings("ignore:Constant")


def test_a_seed_gives_object_and_goal_their_places():
    env = MetaworldState("push-v3")
    first, again, other = (env.reset(seed=seed)[0] for seed in (3, 3, 4))
    assert np.array_equal(first["environment_state"], again["environment_state"])
    assert np.abs(first["environment_state"] - other["environment_state"]).max() > 0.01


def test_an_attempt_ends_after_its_steps():
    env = MetaworldState("push-v3", episode_length=5)
    env.reset(seed=0)
    ends = [env.step(np.zeros(4, np.float32))[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]


def test_actions_are_executed_within_their_bounds():
    env = MetaworldState("push-v3")
    env.reset(seed=0)
    assert env.step(np.array([5.0, -5.0, 0.5, 0.0]))[4]["executed_action"].tolist() == [1.0, -1.0, 0.5, 0.0]


def test_the_expert_solves_what_is_recorded_and_the_world_fits(tmp_path):
    """Recorded actions, played again from the recorded seeds' start, succeed: what is recorded is what was executed."""
    config = MetaworldStateEnv(task="push-v3")
    record_expert(config, "local/push", tmp_path / "data", demonstrations=2, seed=7)
    dataset = LeRobotDataset("local/push", root=tmp_path / "data")
    inputs, outputs = policy_features(dataset.meta)
    assert outputs[ACTION].shape == (4,)
    world = EnvWorld(config, inputs, 4, seed=7)
    observation = world.reset()
    frames = [frame for frame in (dataset[i] for i in range(len(dataset))) if frame["episode_index"] == 0]
    for frame in frames:
        np.testing.assert_allclose(observation["observation.environment_state"], frame["observation.environment_state"], atol=1e-6)
        result = world.step(frame[ACTION].numpy())
        observation = result.observation
    assert result.terminated
    assert result.reward == 1.0
    world.close()


def test_lerobot_makes_it():
    envs = make_env(MetaworldStateEnv(task="pick-place-v3"), n_envs=1)
    env = next(iter(next(iter(envs.values())).values()))
    observation, _ = env.reset(seed=[1])
    assert {key: value.shape for key, value in observation.items()} == {"agent_pos": (1, 4), "environment_state": (1, 6)}
    env.close()
