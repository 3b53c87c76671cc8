"""Which entries of an action are grippers, and which of them have two positions."""

import numpy as np
import pytest

from lerobot_serl.policy.grippers import find_grippers, require_two_positions, two_positions
from lerobot_serl.robots.bi_franka_sim_robot import BiFrankaSimRobot
from lerobot_serl.robots.config_bi_franka_sim_robot import BiFrankaSimRobotConfig

ARM = ["joint_1.pos", "joint_2.pos"]


@pytest.mark.parametrize(
    ("names", "wanted", "found"),
    [
        ([*ARM, "gripper.pos"], None, (2,)),
        (["gripper.pos", *ARM], None, (0,)),
        ([*ARM, "main_Gripper"], None, (2,)),
        (["left_joint.pos", "left_gripper.pos", "right_joint.pos", "right_gripper.pos"], None, (1, 3)),
        ([*ARM, "jaw.pos"], ("jaw.pos",), (2,)),
        (["left_gripper.pos", *ARM, "right_gripper.pos"], ("right_gripper.pos",), (3,)),
        (["action[0]", "action[1]"], ("action[1]",), (1,)),
    ],
)
def test_grippers_are_found_by_name_or_given(names, wanted, found):
    assert find_grippers(names, wanted) == found


@pytest.mark.parametrize(
    ("names", "wanted", "said"),
    [
        ([*ARM, "gripper.pos"], ("jaw.pos",), "jaw.pos"),
        ([*ARM, "gripper.pos"], ("gripper.pos", "griper.pos"), r"policy.grasp.names=\['griper.pos'\]"),
        ([*ARM, "jaw.pos"], None, "none of the action's entries, .*jaw.pos.*Name it, or set --policy.gripper=edit"),
        (["gripper.pos"], None, "no gripper"),
    ],
)
def test_names_that_do_not_fit_are_refused(names, wanted, said):
    with pytest.raises(ValueError, match=said):
        find_grippers(names, wanted)


def closing(open_at, closed_at, frames=200, moving=5, noise=0.0):
    """Commands of episodes that open, close over some frames, and stay closed."""
    one = np.r_[np.full(30, open_at), np.linspace(open_at, closed_at, moving + 2)[1:-1], np.full(15, closed_at)]
    values = np.resize(one, frames)
    return values + noise * np.random.default_rng(0).standard_normal(frames)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (2.5, 40.0), (-1.0, 0.08)])
def test_the_two_positions_are_where_the_gripper_usually_is(low, high):
    found = two_positions(closing(high, low, noise=0.01 * (high - low)))
    assert found.low == pytest.approx(low, abs=0.03 * (high - low))
    assert found.high == pytest.approx(high, abs=0.03 * (high - low))
    assert found.share > 0.9


def test_a_gripper_once_opened_wide_keeps_its_usual_positions():
    """Measured from end to end, 40 of 100 would be neither open nor closed."""
    commands = closing(40.0, 2.0)
    commands[7] = 100.0
    assert require_two_positions(commands[:, None], ["gripper.pos"])[0].high == 40.0


def test_all_grippers_are_looked_at():
    both = np.stack([closing(0.0, 1.0), closing(70.0, 5.0)], axis=1)
    found = require_two_positions(both, ["left_gripper.pos", "right_gripper.pos"])
    assert [(one.low, one.high) for one in found] == [(0.0, 1.0), (5.0, 70.0)]
    both[:, 1] = 3.0
    with pytest.raises(ValueError, match=r"'right_gripper.pos' is always 3 in the demonstrations"):
        require_two_positions(both, ["left_gripper.pos", "right_gripper.pos"])


@pytest.mark.parametrize(
    ("name", "commands", "said"),
    [
        ("gripper.pos", np.linspace(0, 1, 1000), r"in (49|50|51)% of the demonstrations' frames, expected 80%: its width is controlled"),
        ("gripper.pos", np.random.default_rng(0).standard_normal(1000), r"in 4\d% of the demonstrations' frames"),
        ("gripper.pos", np.full(100, 0.5), "always 0.5"),
        ("gripper", np.tile([1.0] * 50 + [0.0, 2.0], 20), "has a third beside 0 and 1: commands go from 0 to 2"),
        ("gripper", np.tile([0.0] * 50 + [-0.95, -0.92, 0.93, 0.98], 20), "has a third beside"),
        ("gripper.vel", closing(0.0, 1.0), "a velocity by its name"),
        ("delta_gripper", closing(-1.0, 1.0), "a displacement by its name"),
    ],
)
def test_a_gripper_without_two_positions_is_refused(name, commands, said):
    with pytest.raises(ValueError, match=said) as refused:
        require_two_positions(commands[:, None], [name])
    assert "--policy.gripper=edit" in str(refused.value)


@pytest.mark.parametrize(("mode", "found"), [("joint", (7, 15)), ("ee_delta", (3, 7))])
def test_both_grippers_of_two_arms_are_found(mode, found):
    names = list(BiFrankaSimRobot(BiFrankaSimRobotConfig(control_mode=mode)).action_features)
    assert find_grippers(names, None) == found
    require_two_positions(np.stack([closing(0.0, 1.0)] * 2, axis=1), [names[entry] for entry in found])
