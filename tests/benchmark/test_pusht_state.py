"""Push-T's table and its planner, for the learning benchmarks."""

import numpy as np
import pytest
from study.pusht_planner import Planner, Table
from study.pusht_state import PushtState


def test_the_goal_is_solved_and_the_start_is_not():
    table = Table()
    assert table.coverage > 0.99
    assert table.distance == pytest.approx(0.0, abs=1e-9)
    env = PushtState()
    env.reset(seed=0)
    assert env.table.coverage < 0.95
    assert env.table.distance > 5


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


@pytest.mark.slow
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


def test_success_is_the_share_of_the_outline_that_was_asked_for():
    ends = []
    for coverage in (0.5, 0.95):
        env = PushtState(coverage=coverage)
        env.reset(seed=0)
        env.table.place(np.array([15.0, 0.0, 0.0]), env.np_random)
        assert 0.5 < env.table.coverage < 0.95
        ends.append(env.step(env.table.finger)[2])
    assert ends == [True, False]


def test_no_attempt_begins_nearly_solved():
    env = PushtState(coverage=0.7)
    starts = []
    for seed in range(40):
        env.reset(seed=seed)
        starts.append(env.table.coverage)
    assert max(starts) < 0.6
    assert max(starts) > 0.5


def test_starts_that_are_all_too_near_are_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match=r"within 1 px and 0 rad covers less than 85% .*Raise start_distance_px"):
        PushtState(start_distance_px=1.0, start_angle_rad=0.0).reset(seed=0)
