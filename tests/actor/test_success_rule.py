"""What counts as success in an environment of somebody else, and what is said when nothing does."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_envs import INPUTS, SmallEnv

from lerobot_serl.actor.chunk import Chunk
from lerobot_serl.actor.env_world import EnvSettings, EnvWorld
from lerobot_serl.actor.rollout import Rollout
from lerobot_serl.actor.success_rule import SuccessRule
from lerobot_serl.actor.world import WorldError
from lerobot_serl.replay.episode import Decider

NAMES = [
    "is_success", "success", "succeed", "succeeded", "is_succeeded", "isSuccess", "task_success", "taskSuccess", "episode-success",
    "Successful", "goal_achieved", "is_solved", "final_info.is_success", "final_info.succeed",
]  # fmt: skip
NOT_NAMES = ["", "success_rate", "n_successes", "unsuccessful", "reward_success", "cube_joint", "successor", "episode_time"]


def world(reward="success", settings=None, **changes):
    made = EnvWorld(SmallEnv(**changes), INPUTS, 4, 0, reward, settings)
    made.reset()
    return made


def steps(world, number):
    """``(reward, terminated)`` of each."""
    return [(result.reward, result.terminated) for result in (world.step(np.zeros(4, np.float32)) for _ in range(number))]


@pytest.mark.parametrize("name", NAMES)
def test_success_is_found_under_its_many_names(name, caplog):
    caplog.set_level(logging.INFO)
    here = world(says=name, succeed_at=3)
    assert steps(here, 3) == [(0.0, False), (0.0, False), (1.0, True)]
    assert f"success is what its info says as '{name}'" in caplog.text


@pytest.mark.parametrize("name", NAMES)
def test_an_episode_that_ends_with_a_reward_and_without_success_is_a_failure(name):
    here = world(says=name, pushed_off_at=2)
    assert steps(here, 2) == [(0.0, False), (0.0, True)]


@pytest.mark.parametrize("name", NOT_NAMES)
def test_a_termination_without_a_word_stops_instead_of_teaching_something(name, caplog):
    here = world(says=name, pushed_off_at=2)
    here.step(np.zeros(4, np.float32))
    assert "does not say whether a step was a success" in caplog.text
    with pytest.raises(
        WorldError, match=r"nothing says whether.* a success.*--reward.success_key=ENTRY.*--reward.source=termination"
    ) as caught:
        here.step(np.zeros(4, np.float32))
    assert "episode_time" in str(caught.value)  # what it does say


def test_what_counts_is_said_at_the_start(caplog):
    caplog.set_level(logging.INFO)
    said = {}
    for source in ("success", "environment", "termination", "keys"):
        caplog.clear()
        world(source)
        said[source] = caplog.text
    assert "success is what its info calls is_success, success, succeed or the like." in said["success"]
    assert "; the rewards are the environment's own" in said["environment"]
    assert "success is a termination with a reward above 0." in said["termination"]
    assert "success is what the person says (keys: s success, f failure)." in said["keys"]


def test_the_time_limit_without_a_word_is_no_success_and_goes_on(caplog):
    here = world(says="", truncate_at=2)
    results = [here.step(np.zeros(4, np.float32)) for _ in range(2)]
    assert [(result.terminated, result.truncated, result.reward) for result in results] == [(False, False, 0.0), (False, True, 0.0)]
    assert caplog.text.count("does not say whether a step was a success") == 1


def test_a_termination_with_a_reward_counts_if_a_flag_says_so():
    assert steps(world("termination", says="", pushed_off_at=2), 2) == [(0.0, False), (1.0, True)]


def test_another_entry_can_be_named():
    here = world(says="cube_lifted", succeed_at=2, settings=EnvSettings(success_key="cube_lifted"))
    assert steps(here, 2) == [(0.0, False), (1.0, True)]
    here = world(says="final_info.cube_lifted", succeed_at=2, settings=EnvSettings(success_key="final_info.cube_lifted"))
    assert steps(here, 2) == [(0.0, False), (1.0, True)]
    here = world(says="is_success", succeed_at=1, settings=EnvSettings(success_key="cube_lifted"))
    with pytest.raises(WorldError, match="Looked for 'cube_lifted' in its info"):
        steps(here, 1)


def test_an_entry_that_says_neither_yes_nor_no_is_named():
    here = world(says="", settings=EnvSettings(success_key="episode_time"))
    with pytest.raises(WorldError, match=r"--reward.success_key=episode_time reads 0.1, expected True or False"):
        steps(here, 1)


def test_the_environments_rewards_and_its_own_word_on_success():
    here = world("environment", says="succeed", pushed_off_at=2)
    results = [here.step(np.zeros(4, np.float32)) for _ in range(2)]
    assert [round(result.reward, 3) for result in results] == [0.1, 0.1]
    assert (results[1].terminated, results[1].success) == (True, False)
    results = [here.step(np.zeros(4, np.float32)) for here in [world("environment", says="", pushed_off_at=1)]]
    assert (results[0].terminated, results[0].success) == (True, None)


def test_a_person_decides_alone():
    assert steps(world("keys", says="is_success", succeed_at=2, truncate_at=99), 1) == [(0.0, False)]
    here = world("keys", says="", pushed_off_at=1)
    result = here.step(np.zeros(4, np.float32))
    assert (result.terminated, result.reward, result.decided_by) == (True, 0.0, Decider.ENVIRONMENT)


TRUE = [True, 1, 1.0, np.True_, np.array([True]), np.array([[1.0]]), np.float32(1), torch.tensor(True), torch.tensor([1.0])]


@pytest.mark.parametrize("value", TRUE, ids=repr)
def test_yes_has_many_types(value):
    assert SuccessRule("success", "", "x").reported({"success": value}) is True


@pytest.mark.parametrize("value", [False, 0, 0.0, np.False_, np.array([0.0]), torch.tensor([False])], ids=repr)
def test_no_too(value):
    assert SuccessRule("success", "", "x").reported({"success": value}) is False


@pytest.mark.parametrize("value", [None, 0.5, float("nan"), "yes", [True, False], np.zeros(2), {}, -1], ids=repr)
def test_what_is_neither_says_nothing(value):
    assert SuccessRule("success", "", "x").reported({"success": value}) is None


def test_lerobots_name_goes_before_all_others_and_the_step_s_before_the_final_info_s():
    rule = SuccessRule("success", "", "x")
    assert rule.reported({"success": False, "is_success": True}) is True
    assert rule.reported({"final_info": {"is_success": True}, "succeed": False}) is False
    assert rule.reported({"final_info": [{"is_success": True}]}) is True
    assert rule.reported({"success": None, "final_info": {"final_info": {"success": True}, "succeed": True}}) is True


def test_what_the_environment_says_travels_with_the_episode():
    """With rewards of its own, a termination with a reward above 0 is not yet a success."""

    def recorded(**changes):
        policy = Chunk(np.zeros((3, 4), np.float32), 0, 0.0)
        return Rollout(world("environment", **changes), lambda observation: policy).run_episode()

    lost = recorded(says="succeed", pushed_off_at=3)
    assert (lost.terminated, bool(lost.reward[-1] > 0), lost.success) == (True, True, False)
    assert recorded(says="succeed", succeed_at=3).success
    assert replace(lost, info={}).success  # nobody says anything: the reward does
    assert recorded(says="", pushed_off_at=3).success
