"""Limits: whatever is asked for and whatever is measured, targets stay inside."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerobot_serl.actor.safety import Limiter, Limits, limits_from_demonstrations
from lerobot_serl.actor.world import WorldError

KEYS = ("shoulder", "elbow", "gripper")
LOW, HIGH, STEP = np.array([-1.0, 0.0, 0.0]), np.array([1.0, 2.0, 1.0]), np.array([0.2, 0.1, np.inf])
LIMITS = Limits(KEYS, LOW, HIGH, STEP)
BOX_LOW_M, BOX_HIGH_M = np.array([-1.2, -1.2, -0.5]), np.array([1.2, 0.9, 0.5])

targets = st.fixed_dictionaries({key: st.floats(-1e6, 1e6) | st.sampled_from([0.0, -1.0, 1.0, 2.0]) for key in KEYS})
inside = st.tuples(*(st.floats(low, high) for low, high in zip(LOW, HIGH, strict=True))).map(lambda v: dict(zip(KEYS, v, strict=True)))
anywhere = st.fixed_dictionaries({key: st.floats(-10, 10) for key in KEYS})


def planar_arm(numbers):
    """A tool on two links of 0.7 m and 0.5 m."""
    first, second = numbers["shoulder"], numbers["shoulder"] + numbers["elbow"]
    return 0.7 * math.cos(first) + 0.5 * math.cos(second), 0.7 * math.sin(first) + 0.5 * math.sin(second), 0.0


def boxed(**changes):
    values = dict(workspace_low_m=BOX_LOW_M, workspace_high_m=BOX_HIGH_M, kinematics=planar_arm)
    return Limits(KEYS, np.full(3, -10.0), np.full(3, 10.0), np.full(3, np.inf), **(values | changes))


def outside_m(numbers):
    tool = np.array(planar_arm(numbers))
    return float(np.maximum(np.maximum(BOX_LOW_M - tool, tool - BOX_HIGH_M), 0).max())


@settings(max_examples=300, deadline=None)
@given(action=targets, measured=inside)
def test_targets_stay_within_range_and_step(action, measured):
    safe = Limiter(LIMITS).apply(action, measured)
    assert set(safe) == set(action)
    for key, low, high, step in zip(KEYS, LOW, HIGH, STEP, strict=True):
        assert math.isfinite(safe[key])
        assert low - 1e-9 <= safe[key] <= high + 1e-9
        assert abs(safe[key] - measured[key]) <= step + 1e-9


@settings(max_examples=300, deadline=None)
@given(action=targets, measured=anywhere)
def test_an_arm_outside_its_range_comes_back_at_its_own_pace(action, measured):
    safe = Limiter(LIMITS).apply(action, measured)
    for key, low, high, step in zip(KEYS, LOW, HIGH, STEP, strict=True):
        nearest = min(max(measured[key], low), high)
        assert abs(safe[key] - measured[key]) <= step + 1e-9
        assert abs(safe[key] - min(max(safe[key], low), high)) <= abs(measured[key] - nearest) + 1e-9  # never farther out


@settings(max_examples=200, deadline=None)
@given(action=targets, measured=anywhere)
def test_limits_applied_twice_change_nothing_more(action, measured):
    once = Limiter(LIMITS).apply(action, measured)
    again = Limiter(LIMITS)
    assert again.apply(once, measured) == once
    assert not again.clamped


@settings(max_examples=200, deadline=None)
@given(measured=inside, share=st.tuples(*[st.floats(-0.99, 0.99)] * 3))
def test_what_is_within_the_limits_passes_unchanged(measured, share):
    action = {}
    for index, key in enumerate(KEYS):
        reach = min(STEP[index], 5.0)
        action[key] = float(np.clip(measured[key] + share[index] * reach, LOW[index], HIGH[index]))
    limiter = Limiter(LIMITS)
    assert limiter.apply(action, measured) == action
    assert not limiter.clamped


def test_changes_are_counted_by_entry():
    limiter = Limiter(LIMITS)
    here = dict.fromkeys(KEYS, 0.5)
    limiter.apply({"shoulder": 5.0, "elbow": 0.5, "gripper": 0.5}, here)
    limiter.apply({"shoulder": 5.0, "elbow": 0.7, "gripper": 0.5}, here)
    assert limiter.clamped == {"shoulder": 2, "elbow": 1}


def test_without_a_measured_value_only_the_range_holds():
    assert Limiter(LIMITS).apply({"shoulder": 0.9, "elbow": 9.0}, {}) == {"shoulder": 0.9, "elbow": 2.0}


def test_entries_without_a_limit_pass():
    assert Limiter(LIMITS).apply({"lamp": 77.0}, {"lamp": 0.0}) == {"lamp": 77.0}


@pytest.mark.parametrize("limits", [None, LIMITS])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("key", ["elbow", "lamp"])
def test_what_is_no_number_is_refused_also_without_limits(limits, value, key):
    with pytest.raises(WorldError, match=rf"'{key}' is {value}, expected a finite number; it was not sent"):
        Limiter(limits).apply({"shoulder": 0.0, key: value}, dict.fromkeys(KEYS, 0.0))


def test_limits_off_change_nothing():
    limiter = Limiter(None)
    assert limiter.apply({"elbow": 99.0}, {"elbow": 0.0}) == {"elbow": 99.0}
    assert not limiter.clamped


@settings(max_examples=200, deadline=None)
@given(action=anywhere, measured=anywhere)
def test_the_tool_never_leaves_its_box_and_from_outside_never_goes_farther(action, measured):
    safe = Limiter(boxed()).apply(action, measured)
    assert outside_m({**measured, **safe}) <= outside_m(measured) + 1e-9


@settings(max_examples=100, deadline=None)
@given(action=anywhere, measured=anywhere)
def test_the_box_applied_twice_changes_nothing_more(action, measured):
    once = Limiter(boxed()).apply(action, measured)
    assert Limiter(boxed()).apply(once, measured) == once


def test_the_tool_goes_as_far_as_its_box_allows():
    """Straight up the shoulder's circle: the target is outside, the border is reached to within a thousandth of the way."""
    limiter = Limiter(boxed())
    safe = limiter.apply({"shoulder": math.pi / 2, "elbow": 0.0, "gripper": 1.0}, dict.fromkeys(KEYS, 0.0))
    assert 0.9 - 2e-3 <= planar_arm(safe)[1] <= 0.9
    assert limiter.clamped == {"workspace": 1}


@pytest.mark.parametrize(("width", "wanted"), [(1.0, 0.0), (0.5, 0.0), (0.0, 1.0)])
def test_at_the_wall_the_gripper_still_closes_and_keeps_its_grip(width, wanted):
    """A floor just below what is to be picked up is a wall too; half open, the gripper holds something."""
    limiter, measured = Limiter(boxed()), {"shoulder": math.asin(0.75), "elbow": 0.0, "gripper": width}
    safe = limiter.apply({"shoulder": math.pi / 2, "elbow": 0.0, "gripper": wanted}, measured)
    assert safe == pytest.approx({**measured, "gripper": wanted}, abs=2e-3)
    assert limiter.clamped == {"workspace": 1}


def test_from_outside_the_box_the_way_back_is_open():
    measured = {"shoulder": math.pi / 2, "elbow": 0.0, "gripper": 0.0}
    assert outside_m(measured) == pytest.approx(0.3)
    back = {"shoulder": math.pi / 2 - 0.1, "elbow": 0.4, "gripper": 0.0}
    assert Limiter(boxed()).apply(back, measured) == back
    farther = {"shoulder": math.pi / 2, "elbow": 0.0, "gripper": 1.0}
    farther["shoulder"] += 1e-3
    assert outside_m({**measured, **Limiter(boxed()).apply(farther, measured)}) <= 0.3 + 1e-9


@pytest.mark.parametrize("returned", [(1.0, 2.0), (1.0, math.nan, 0.0), None, 3.0])
def test_kinematics_that_return_something_else_stop_the_robot(returned):
    with pytest.raises(WorldError, match="expected three finite numbers"):
        Limiter(boxed(kinematics=lambda numbers: returned)).apply(dict.fromkeys(KEYS, 0.0), dict.fromkeys(KEYS, 0.0))


def test_limits_of_demonstrations_are_widened_by_the_margins():
    limits = limits_from_demonstrations(("a", "b", "c"), [0.0, -1.0, 2.0], [10.0, 1.0, 2.0], [0.5, None, 0.0], 0.1, 1.5)
    assert limits.low.tolist() == [-1.0, -1.2, 2.0]
    assert limits.high.tolist() == [11.0, 1.2, 2.0]
    assert limits.step.tolist() == [0.75, math.inf, math.inf]


def test_limits_can_be_read_at_start():
    text = str(Limits(KEYS, LOW, HIGH, STEP, BOX_LOW_M, BOX_HIGH_M, planar_arm))
    assert text.splitlines() == [
        "  shoulder: -1 to 1, at most 0.2 from the measured value",
        "  elbow: 0 to 2, at most 0.1 from the measured value",
        "  gripper: 0 to 1",
        "  tool: [-1.2, -1.2, -0.5] to [1.2, 0.9, 0.5] m",
    ]


@settings(max_examples=100, deadline=None)
@given(
    demonstrated=st.lists(st.tuples(*[st.floats(-2, 2)] * 2), min_size=2, max_size=8),
    edit=st.tuples(*[st.floats(-5, 5)] * 2),
    measured=st.tuples(*[st.floats(-2, 2)] * 2),
)
def test_an_edit_never_moves_a_target_outside_the_limits_of_the_demonstrations(demonstrated, edit, measured):
    actions = np.array(demonstrated)
    low, high = actions.min(0), actions.max(0)
    limits = limits_from_demonstrations(("a", "b"), low, high, [0.3, None], 0.1, 1.5)
    here = dict(zip("ab", np.clip(measured, low, high).tolist(), strict=True))
    safe = Limiter(limits).apply(dict(zip("ab", (actions[0] + edit).tolist(), strict=True)), here)
    spare = 0.1 * (high - low) + 1e-9
    assert (np.array([safe["a"], safe["b"]]) >= low - spare).all()
    assert (np.array([safe["a"], safe["b"]]) <= high + spare).all()
    assert abs(safe["a"] - here["a"]) <= 0.45 + 1e-9
