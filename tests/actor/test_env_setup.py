"""Environments of other people: made in sentences, in real time where a person looks, and every flag obeyed."""

import time
from ctypes import ArgumentError
from types import SimpleNamespace

import numpy as np
import pytest
from lerobot.envs.configs import EnvConfig, PushtEnv
from small_envs import INPUTS, SmallEnv, SmallGym, SuiteEnv

from lerobot_serl.actor.env_maker import make_one
from lerobot_serl.actor.env_setup import make_env_world
from lerobot_serl.actor.env_world import EnvWorld
from lerobot_serl.actor.pace import Pace
from lerobot_serl.actor.robot_setup import RobotSettings
from lerobot_serl.actor.settings import RewardConfig
from lerobot_serl.actor.world import WorldError
from lerobot_serl.replay.episode import Decider

FPS = 50
POLICY = SimpleNamespace(inputs=INPUTS, action_dim=4, fps=FPS, demo_stats=None)
ZERO = np.zeros(4, np.float32)


def world(config=None, for_person=False, show=None, **flags):
    made = make_env_world(config or SmallEnv(), RobotSettings(**flags), POLICY, 0, for_person, show)
    made.reset()
    return made


def refusal(config):
    with pytest.raises(ValueError, match=r"env.type") as caught:
        make_one(config)
    return str(caught.value)


def test_one_that_is_not_installed_is_named_with_lerobots_text():
    said = refusal(EnvConfig.get_choice_class("libero")())
    assert said.startswith("--env.type=libero --env.task=libero_10 cannot be made: ")
    assert "libero" in said.partition("cannot be made")[2]


def test_a_task_that_does_not_exist_is_named():
    said = refusal(PushtEnv(task="NoSuchTask-v0"))
    assert said.startswith("--env.type=pusht --env.task=NoSuchTask-v0 cannot be made: ")
    assert "NoSuchTask" in said.partition("cannot be made")[2]
    assert "--env.task=... chooses another" in said


@pytest.mark.parametrize(
    "error", [TypeError("unexpected keyword argument 'reward_type'"), KeyError("push-v2"), OSError("no scene.xml"), Exception()]
)
def test_whatever_it_raises_becomes_a_sentence(monkeypatch, error):
    def failing(self, **settings):
        raise error

    monkeypatch.setattr(SmallGym, "__init__", failing)
    said = refusal(SmallEnv())
    assert f"--env.type=serl_test_small --env.task=Small-v0 cannot be made: {type(error).__name__}" in said
    assert str(error).strip("'") in said


def test_metaworlds_own_default_task_is_stale_and_that_is_said():
    pytest.importorskip("metaworld")
    said = refusal(EnvConfig.get_choice_class("metaworld")())
    assert said.startswith("--env.type=metaworld --env.task=metaworld-push-v2 cannot be made: KeyError: 'push-v2'")


def test_one_task_of_a_suite_has_to_be_chosen():
    said = refusal(SuiteEnv())
    assert (
        "is 2 tasks, and one policy practises one: 0 (push the cube), 1 (reach the goal). Choose it with --env.task_ids='[NUMBER]'." in said
    )
    assert make_one(SuiteEnv(task_ids=[1])).unwrapped.task == "reach the goal"


def test_hil_serls_loop_is_not_an_environment():
    assert "Give the arm itself, --robot.type=... and --teleop.type=..." in refusal(EnvConfig.get_choice_class("gym_manipulator")())


@pytest.mark.parametrize(("at", "what"), [(0, "to be reset"), (2, "to make a step")])
def test_a_failure_of_its_program_is_a_sentence_that_says_where(at, what):
    def run():
        here = world(SmallEnv(fails_at=at))
        for _ in range(2):
            here.step(ZERO)

    where = r"KeyError: 'cube_joint' \(small_envs.py, line \d+\)"
    with pytest.raises(WorldError, match=rf"--env.type=serl_test_small was asked {what} and failed: {where}"):
        run()


def test_ctrl_c_within_it_stays_ctrl_c(monkeypatch):
    here = world()
    for error in (KeyboardInterrupt, ArgumentError):
        monkeypatch.setattr(SmallGym, "step", lambda self, action, error=error: (_ for _ in ()).throw(error("KeyboardInterrupt")))
        with pytest.raises(error):
            here.step(ZERO)


def test_without_a_person_it_is_as_fast_as_it_goes_and_with_one_it_keeps_time():
    def seconds(here):
        began = time.perf_counter()
        for _ in range(25):
            here.step(ZERO)
        return time.perf_counter() - began

    assert world()._settings.pace is None
    with_person = world(for_person=True)
    assert seconds(with_person) >= 0.45
    assert {"seed", "late_ticks", "worst_lateness_s"} == set(with_person.report())
    assert isinstance(with_person._settings.pace, Pace)
    assert with_person.simulated  # it waits for its learner all the same


def test_the_time_limit_of_a_flag_is_obeyed():
    here = world(episode_time_s=0.06)
    results = [here.step(ZERO) for _ in range(3)]
    assert [result.truncated for result in results] == [False, False, True]
    assert results[-1].decided_by is Decider.TIME_LIMIT
    here.reset()
    assert not here.step(ZERO).truncated
    assert not world(SmallEnv(succeed_at=3), episode_time_s=0.06).step(ZERO).terminated


def test_a_success_at_the_time_limit_is_a_success():
    here = world(SmallEnv(succeed_at=3), episode_time_s=0.06)
    last = [here.step(ZERO) for _ in range(3)][-1]
    assert (last.terminated, last.truncated, last.reward) == (True, False, 1.0)


def test_another_rate_is_refused():
    with pytest.raises(ValueError, match=r"--fps=30: the demonstrations, and with them the policy, run at 50 Hz"):
        world(fps=30)
    world(fps=FPS)


def test_the_task_of_a_flag_goes_before_the_environments():
    assert world().task == "Small-v0"
    assert world(task="lift it").task == "lift it"


def test_observations_are_renamed():
    inputs = {"observation.state": INPUTS["observation.state"], "observation.images.top": INPUTS["observation.images.front"]}
    policy = SimpleNamespace(inputs=inputs, action_dim=4, fps=FPS, demo_stats=None)
    settings = RobotSettings(rename_map={"observation.images.front": "observation.images.top"})
    made = make_env_world(SmallEnv(), settings, policy, 0, False, None)
    assert set(made.reset()) == set(inputs)
    with pytest.raises(ValueError, match=r"needs 'observation.images.top', which this environment does not give.*--rename_map"):
        make_env_world(SmallEnv(), RobotSettings(), policy, 0, False, None)
    with pytest.raises(
        ValueError, match=r"--rename_map names \['observation.images.wrist'\], which --env.type=serl_test_small does not give"
    ):
        world(rename_map={"observation.images.wrist": "observation.images.left"})


def test_what_it_does_is_shown():
    shown = []
    here = world(show=lambda observation, action: shown.append((observation, action)))
    here.step(np.full(4, 0.5, np.float32))
    ((observation, action),) = shown
    assert observation["observation.images.front"].shape == (6, 5, 3)
    assert observation["observation.state"].tolist() == [1, 0, 0, 0]
    assert list(action.values()) == [0.5] * 4


@pytest.mark.parametrize("source", ["robot", "model", "function"])
def test_a_judge_of_robots_is_refused(source):
    extra = {"model": {"path": "x"}, "function": {"function": "a:b"}}.get(source, {})
    with pytest.raises(
        ValueError, match=rf"--reward.source={source} is for robots. With --env.type: success, environment, termination, keys\."
    ):
        world(reward=RewardConfig(source=source, **extra))


def test_the_constructor_alone_is_enough():
    assert EnvWorld(SmallEnv(), INPUTS, 4, 0).reset()["observation.state"].tolist() == [0, 0, 0, 0]
