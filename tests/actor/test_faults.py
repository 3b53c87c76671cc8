"""The table of faults: the same in the code and in the documents, and what each exception is taken for."""

import queue
import re
from ctypes import ArgumentError
from pathlib import Path

import pytest
from small_robots import TwoArms

from lerobot_serl.actor.faults import FAULTS, Watched, error_of
from lerobot_serl.actor.said import quoted
from lerobot_serl.actor.world import EpisodeSpoilt, WorldError

PAGE = (Path(__file__).parents[2] / "docs" / "robots.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| (.*?) \| (passes|ends) \|$", PAGE, re.MULTILINE))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_the_documents_have_the_table_of_the_code(fault):
    (row,) = [row for row in ROWS if row.startswith(fault.what)]
    assert ROWS[row] == ("passes" if fault.passes else "ends")


def test_the_documents_say_what_becomes_of_every_kind():
    assert len(ROWS) == len(FAULTS) + 1  # and what comes from elsewhere than the robot


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_what_is_raised_says_what_to_check(fault):
    error = error_of(fault, "It failed")
    assert isinstance(error, EpisodeSpoilt) == fault.passes
    assert str(error) == f"It failed. {fault.check}"
    assert str(error_of(fault, "No status packet!")) == f"No status packet! {fault.check}"


class CanError(Exception):
    """python-can's."""


class CanOperationError(CanError):
    pass


class NotConnectedError(Exception):
    pass


class StaleStateError(RuntimeError):
    pass


class MotorTimeout(Exception):  # noqa: N818
    pass


def raising(error):
    robot = TwoArms()
    robot.on_observe = lambda: (_ for _ in ()).throw(error)
    return Watched(robot, "robot")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("a"), ConnectionResetError("a"), TimeoutError("a"), OSError(5, "a"), BrokenPipeError("a"),
        CanOperationError("a"), NotConnectedError("a"), MotorTimeout("a"), queue.Empty(), StaleStateError("a"),
    ],
)  # fmt: skip
def test_what_may_pass(error):
    with pytest.raises(
        EpisodeSpoilt, match=rf"The robot two_arms does not answer: TwoArms.get_observation\(\) raised {type(error).__name__}"
    ):
        raising(error).get_observation()


@pytest.mark.parametrize(
    "error",
    [KeyError("a"), AttributeError("a"), TypeError("a"), ValueError("a"), RuntimeError("a"), IndexError("a"), ZeroDivisionError("a")],
)
def test_what_is_an_error_of_the_class(error):
    with pytest.raises(
        WorldError, match=r"TwoArms.get_observation\(\) raised .* \(test_faults.py, line \d+\)\. What it says comes from that class"
    ) as end:
        raising(error).get_observation()
    assert not isinstance(end.value, EpisodeSpoilt)
    assert end.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ArgumentError("argument 1: KeyboardInterrupt"), WorldError("it knows itself")])
def test_what_is_left_as_it_is(error):
    with pytest.raises(type(error)) as end:
        raising(error).get_observation()
    assert end.value is error
    assert error.__cause__ is None


def test_everything_else_is_the_robot_s_own():
    robot = TwoArms()
    watched = Watched(robot, "robot")
    assert watched.name == "two_arms"
    assert not hasattr(watched, "reset")
    watched.connected = True
    assert robot.is_connected


class Stopped(TwoArms):
    @property
    def success(self):
        raise ConnectionError("away")


def test_a_property_may_fail_too():
    with pytest.raises(EpisodeSpoilt, match=r"Stopped.success raised ConnectionError: away"):
        _ = Watched(Stopped(), "robot").success


@pytest.mark.parametrize(
    ("error", "words"),
    [(KeyError("a"), "KeyError: 'a'"), (ValueError(), "ValueError"), (OSError("\nno\x1b[31m\n port\n"), "OSError: no [31m port")],
)
def test_words_of_others_stay_on_one_line(error, words):
    assert quoted(error) == words
    assert len(quoted(ValueError("x" * 5000))) < 500
