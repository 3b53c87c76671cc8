"""Counts of a leader to angles, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerobot_serl.teleoperators.joint_mapping import COUNTS_PER_TURN, RAD_PER_COUNT, GripperMapping, JointMapping

N = 3
counts = st.lists(st.integers(-20_000, 20_000), min_size=N, max_size=N)
angles = st.lists(st.floats(-3.0, 3.0), min_size=N, max_size=N)
turns = st.lists(st.integers(-3, 3), min_size=N, max_size=N)
mappings = st.builds(
    lambda home, rad, signs, offset: JointMapping(np.array(home), np.array(rad), np.array(signs), np.array(offset)),
    counts,
    angles,
    st.lists(st.sampled_from([1, -1]), min_size=N, max_size=N),
    angles,
)


def test_a_quarter_turn_with_each_sign_and_an_offset():
    mapping = JointMapping(np.array([100, 200]), np.array([0.5, -0.5]), np.array([1, -1]), np.array([0.0, 0.1]))
    quarter = COUNTS_PER_TURN // 4
    assert mapping.radians([100, 200]) == pytest.approx([0.5, -0.4])
    assert mapping.radians([100 + quarter, 200 + quarter]) == pytest.approx([0.5 + np.pi / 2, -0.4 - np.pi / 2])


@given(mapping=mappings, at=counts)
def test_counts_survive_the_way_there_and_back(mapping, at):
    np.testing.assert_array_equal(mapping.counts(mapping.radians(at)), at)


@given(mapping=mappings, at=counts, by=st.integers(-3000, 3000))
def test_the_mapping_is_linear_with_the_given_sign(mapping, at, by):
    moved = mapping.radians(np.array(at) + by) - mapping.radians(at)
    np.testing.assert_allclose(moved, mapping.signs * by * RAD_PER_COUNT, atol=1e-9)


@given(mapping=mappings, swing=st.lists(st.floats(-3.1, 3.1), min_size=N, max_size=N), lost=turns)
def test_whole_turns_that_the_motors_forgot_change_no_angle(mapping, swing, lost):
    """Whatever turn the motors count on after power-up, a leader within half a turn of home gives the same angles."""
    at = mapping.counts(mapping.home_rad + mapping.offset_rad + np.array(swing))
    after_power_up = at + np.array(lost) * COUNTS_PER_TURN
    resumed = mapping.on_the_turn_of(after_power_up)
    np.testing.assert_allclose(resumed.radians(after_power_up), mapping.radians(at), atol=1e-9)


@given(ends=st.tuples(st.integers(-9000, 9000), st.integers(-9000, 9000)), share=st.floats(-0.5, 1.5), flip=st.booleans())
def test_the_gripper_stays_within_its_range_and_flips(ends, share, flip):
    if ends[0] == ends[1]:
        with pytest.raises(ValueError, match="calibrate it again"):
            GripperMapping(*ends, flip)
        return
    mapping = GripperMapping(*ends, flip)
    position = mapping.position(ends[0] + share * (ends[1] - ends[0]))
    closure = min(max(share, 0.0), 1.0)
    assert position == pytest.approx(1 - closure if flip else closure, abs=1e-9)
    assert (mapping.position(ends[0]), mapping.position(ends[1])) == ((1.0, 0.0) if flip else (0.0, 1.0))


@given(low=st.integers(-5000, 5000), width=st.integers(50, 1500), share=st.floats(0, 1), lost=st.integers(-3, 3))
def test_the_gripper_forgets_turns_too(low, width, share, lost):
    mapping = GripperMapping(low, low + width, False)
    at = low + round(share * width) + lost * COUNTS_PER_TURN
    assert mapping.on_the_turn_of(at).position(at) == pytest.approx(mapping.position(at - lost * COUNTS_PER_TURN))
