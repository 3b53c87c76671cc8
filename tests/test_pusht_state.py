"""Push-T with state observations and its planner, for the learning benchmarks."""

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.envs import make_env
from lerobot.utils.constants import ACTION
from study.pusht_planner import Planner, Table
from study.pusht_state import PushtState, PushtStateEnv, record_expert
from study.run import policy_features

from lerobot_serl.actor.env_world import EnvWorld


def test_the_goal_is_solved_and_the_start_is_not():
    table = Table()
    assert table.coverage > 0.99
    assert table.distance == pytest.approx(0.0, abs=1e-9)
    env = PushtState()
    env.reset(seed=0)
    assert env.table.coverage < 0.95
    assert env.table.distance > 5


def test_a_seed_gives_the_t_its_place():
    env = PushtState()
    first, again, other = (env.reset(seed=seed)[0] for seed in (3, 3, 4))
    assert np.array_equal(first["environment_state"], again["environment_state"])
    assert np.abs(first["environment_state"] - other["environment_state"]).max() > 1


def test_the_t_begins_within_its_bounds_and_the_finger_beside_it():
    env = PushtState(start_distance_px=20.0, start_angle_rad=0.1)
    for seed in range(20):
        observation, _ = env.reset(seed=seed)
        corners = observation["environment_state"].reshape(8, 2)
        # The farthest corner is 120 px from the T's place, so that 0.1 rad move it by up to 12.
        assert np.abs(corners - env.table.goal_corners).max() < 20 + 12 + 1
        assert env.table.distance > 0
        gap = np.linalg.norm(corners - observation["agent_pos"], axis=1).min()
        assert gap > 15


def test_a_copy_moves_as_the_table_does():
    env = PushtState()
    env.reset(seed=5)
    copy = Table()
    copy.copy_from(env.table)
    copy.lift_to(env.table.finger)
    planner = Planner(env.table, seed=5)
    for _ in range(15):
        action = planner.act()
        env.step(action)
        copy.move(np.asarray(action, np.float32))
    np.testing.assert_allclose(copy.corners, env.table.corners, atol=0.5)


def test_a_step_moves_as_gym_pusht_does():
    """Physics as LeRobot's own environment has it; only the reward is measured less often."""
    ours, theirs = Table(), Table()
    for table in (ours, theirs):
        table.lift_to(np.array([256.0, 400.0]))
    for action in ([256.0, 300.0], [256.0, 250.0], [200.0, 250.0]):
        ours.move(np.array(action))
        theirs._env.step(np.array(action))
    np.testing.assert_allclose(ours.corners, theirs.corners, atol=1e-9)
    np.testing.assert_allclose(ours.finger, theirs.finger, atol=1e-9)
    assert np.abs(ours.corners - ours.goal_corners).max() > 1


def test_an_attempt_ends_after_its_steps_and_actions_keep_their_bounds():
    env = PushtState(episode_length=3)
    env.reset(seed=0)
    steps = [env.step(np.array([600.0, -5.0])) for _ in range(3)]
    assert [step[2:4] for step in steps] == [(False, False), (False, False), (False, True)]
    assert steps[0][4]["executed_action"].tolist() == [512.0, 0.0]


def test_the_planner_solves_what_is_recorded_and_the_world_fits(tmp_path):
    config = PushtStateEnv()
    record_expert(config, "local/pusht", tmp_path / "data", demonstrations=3, seed=7)
    dataset = LeRobotDataset("local/pusht", root=tmp_path / "data")
    assert dataset.num_episodes == 3
    inputs, outputs = policy_features(dataset.meta)
    assert outputs[ACTION].shape == (2,)
    world = EnvWorld(config, inputs, 2, seed=7)
    observation = world.reset()
    frames = [frame for frame in (dataset[i] for i in range(len(dataset))) if frame["episode_index"] == 0]
    for frame in frames:
        np.testing.assert_allclose(observation["observation.environment_state"], frame["observation.environment_state"], atol=1e-3)
        result = world.step(frame[ACTION].numpy())
        observation = result.observation
    assert result.terminated
    assert result.reward == 1.0
    world.close()


def test_the_planner_solves_nearly_everything():
    env, solved = PushtState(), 0
    for seed in range(4):
        env.reset(seed=seed)
        planner, done = Planner(env.table, seed), False
        while not done:
            *_, terminated, truncated, _ = env.step(planner.act())
            done = terminated or truncated
        solved += terminated
    assert solved >= 3


def test_lerobot_makes_it():
    envs = make_env(PushtStateEnv(), n_envs=1)
    env = next(iter(next(iter(envs.values())).values()))
    observation, _ = env.reset(seed=[1])
    assert {key: value.shape for key, value in observation.items()} == {"agent_pos": (1, 2), "environment_state": (1, 16)}
    env.close()
