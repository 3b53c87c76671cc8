"""Who says that an attempt has succeeded: the robot, or a function of the user. Reward models have a file of their own."""

import os
import sys

import numpy as np
import pytest

from lerobot_serl.actor.judges import FunctionJudge, RobotJudge, Verdict, load_function
from lerobot_serl.actor.world import WorldError
from lerobot_serl.replay.episode import Decider

FUNCTIONS = """
NUMBER = 3

def lifted(observation):
    return observation["z"] > 0.1

def never(observation):
    return None

def number(observation):
    return 0.7

def careless(observation):
    return observation["cube"] > 0

def of_two(observation, mood):
    return True

def with_default(observation, height=0.1):
    return observation["z"] > height

class Judge:
    def __call__(self, observation):
        return True

judge = Judge()
"""


@pytest.fixture
def functions(tmp_path, monkeypatch):
    """A module that lies in the working directory, which an installed command does not search by itself."""
    (tmp_path / "judges_of_mine.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", os.getcwd())])
    yield "judges_of_mine"
    sys.modules.pop("judges_of_mine", None)


def verdicts(judge, heights):
    judge.begin()
    return [judge.judge({"z": height}) for height in heights]


def test_the_robot_knows():
    class Robot:
        success = False

    robot = Robot()
    judge = RobotJudge(robot)
    assert judge.judge({}) is None
    robot.success = True
    assert judge.judge({}) == Verdict(True, Decider.ROBOT)


def test_a_robot_may_set_its_success_when_it_is_made():
    class Robot:
        def __init__(self):
            self.success = True

    assert RobotJudge(Robot()).judge({}) == Verdict(True, Decider.ROBOT)


def test_a_robot_that_does_not_know_is_refused():
    with pytest.raises(ValueError, match=r"--reward.source=robot: object has no 'success' attribute. Use --reward.source=keys"):
        RobotJudge(object())


@pytest.mark.parametrize("name", ["lifted", "with_default"])
def test_a_function_of_the_observation(functions, name):
    assert verdicts(FunctionJudge(f"{functions}:{name}"), [0.0, 0.2]) == [None, Verdict(True, Decider.FUNCTION)]


def test_none_means_not_yet_and_a_callable_object_is_a_function(functions):
    assert verdicts(FunctionJudge(f"{functions}:never"), [0.0, 1.0]) == [None, None]
    assert verdicts(FunctionJudge(f"{functions}:judge"), [0.0]) == [Verdict(True, Decider.FUNCTION)]


def test_truth_values_of_numpy_count():
    judge = FunctionJudge("operator:truth")
    assert judge.judge({}) is None
    judge._function = lambda observation: np.bool_(True)
    assert judge.judge({}) == Verdict(True, Decider.FUNCTION)


def test_a_function_that_fails_is_named_with_its_line(functions):
    with pytest.raises(
        WorldError, match=r"--reward.function=judges_of_mine:careless failed: KeyError: 'cube' \(judges_of_mine.py, line \d+\)"
    ):
        verdicts(FunctionJudge(f"{functions}:careless"), [0.0])


def test_a_function_that_returns_a_number_is_refused(functions):
    """0.7 may be meant as a probability: counting it as success would be a guess."""
    with pytest.raises(WorldError, match=r"judges_of_mine:number returned 0.7, expected True \(success\), False or None"):
        verdicts(FunctionJudge(f"{functions}:number"), [0.0])


@pytest.mark.parametrize("name", ["", "math", "math:", ":sqrt", "math.sqrt"])
def test_a_name_without_module_and_function(name):
    with pytest.raises(ValueError, match=rf"--reward.function='{name}': expected MODULE:FUNCTION, for example"):
        load_function(name, "--reward.function")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("math:no_such", "no attribute 'no_such'"),
        ("..relative:f", "The module has to be importable"),
        ("math:pi", "is a float, expected a function"),
    ],
)
def test_what_is_not_there_is_named(name, said):
    with pytest.raises(ValueError, match=said) as caught:
        load_function(name, "--safety.kinematics")
    assert str(caught.value).startswith(f"--safety.kinematics='{name}'")


def test_a_function_of_two_arguments_is_refused_before_anything_moves(functions):
    with pytest.raises(ValueError, match=r"missing a required argument: 'mood'; expected a function of one argument"):
        load_function(f"{functions}:of_two", "--reward.function")
