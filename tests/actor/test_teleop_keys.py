"""A teleoperator's numbers go to the entries of an environment's action by name, and what does not fit is said at the start."""

import logging
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lerobot.teleoperators.gamepad import GamepadTeleop, GamepadTeleopConfig
from small_envs import INPUTS, SmallEnv, SmallGym
from small_robots import Leader

from lerobot_serl.actor.devices import action_keys, gripper_is_wish
from lerobot_serl.actor.env_setup import expect_teleop
from lerobot_serl.actor.env_world import EnvSettings, EnvWorld
from lerobot_serl.actor.settings import TakeoverConfig
from lerobot_serl.actor.teleop_keys import TeleopKeys, TeleopKeySettings
from lerobot_serl.envs.config_franka_sim import ACTION_NAMES
from lerobot_serl.robots.config_franka_sim_robot import ACTION_KEYS

DX = ("dx", "dy", "dz", "grasp")
DELTA = ("delta_x", "delta_y", "delta_z", "gripper")


def keys(offered, names=DX, high=1.0, **settings):
    return TeleopKeys("--teleop.type=hand", offered, names, np.full(4, high), TeleopKeySettings(**settings))


def values(hand, last=None, **wanted):
    return hand.action(wanted, last).tolist()


@given(st.permutations(DELTA))
def test_their_order_does_not_matter(order):
    hand = keys(order, names=DELTA)
    assert values(hand, **{key: float(DELTA.index(key)) for key in order}) == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "names", [DX, DELTA, ("delta_x.pos", "delta_y.pos", "delta_z.pos", "gripper.pos"), ("Delta_X", "D_Y", "delta_z.vel", "jaw")]
)
def test_names_may_differ_a_little_and_the_last_one_that_is_left_belongs_to_the_last_one(names):
    order = random.Random(1).sample(DELTA, 4)
    hand = keys(order, names=names)
    assert values(hand, **{key: float(DELTA.index(key)) for key in order}) == [0.0, 1.0, 2.0, 3.0]
    assert f"gripper -> {names[3]}" in str(hand)


@pytest.mark.parametrize("mode", ACTION_NAMES)
def test_the_scripted_expert_fits_our_own_environment(mode):
    names, offered = ACTION_NAMES[mode], list(reversed(ACTION_KEYS[mode]))
    hand = TeleopKeys("expert", offered, names, np.full(len(names), 1.0), TeleopKeySettings())
    wanted = {key: float(index) for index, key in enumerate(ACTION_KEYS[mode])}
    assert hand.action(wanted, None).tolist() == list(wanted.values())


@pytest.mark.parametrize(
    ("offered", "names"),
    [
        (DELTA[:3], DX),
        ((*DELTA, "button"), DX),
        (("pan", "lift", "elbow", "jaw"), DX),
        (("delta_x", "lift", "elbow", "jaw"), DX),
        (DELTA[:3], ()),
        (("left_x.pos", "left_x.vel", "b", "c"), ("left_x.pos", "left_x.eff", "b", "c", "d")),
    ],
)
def test_another_number_or_other_names_are_refused(offered, names):
    with pytest.raises(
        ValueError, match=r"--teleop.type=hand gives \d numbers .* but an action of this environment has 4: .*--takeover.keys"
    ):
        keys(offered, names=names[:4])


def test_positions_and_velocities_of_one_joint_are_kept_apart():
    names = ("x.pos", "x.vel", "y.pos", "y.vel")
    hand = keys(tuple(reversed(names)), names=names)
    assert values(hand, **{name: float(index) for index, name in enumerate(names)}) == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("names", [(), ("0", "1", "2", "3"), ("action_0", "action_1", "action_2", "action_3")])
def test_by_order_only_where_nothing_names_them_and_that_is_said(names):
    hand = keys(("c", "a", "d", "b"), names=names)
    assert values(hand, a=1.0, b=2.0, c=3.0, d=4.0) == [3.0, 1.0, 4.0, 2.0]
    assert "by their order" in str(hand)


def test_a_flag_says_which_is_which():
    hand = keys(("jaw", "up", "left", "ahead"), keys={"ahead": "dx", "left": "dy", "up": "dz", "jaw": "grasp"})
    assert values(hand, jaw=4.0, up=3.0, left=2.0, ahead=1.0) == [1.0, 2.0, 3.0, 4.0]
    hand = keys(("jaw", "up", "left", "ahead"), names=(), keys={"ahead": "0", "left": "1", "up": "2", "jaw": "3"})
    assert values(hand, jaw=4.0, up=3.0, left=2.0, ahead=1.0) == [1.0, 2.0, 3.0, 4.0]
    with pytest.raises(ValueError, match=r"--takeover.keys names \['wheel'\], which --teleop.type=hand does not give"):
        keys(DELTA, keys={"wheel": "dx"})
    with pytest.raises(ValueError, match="gives 4 numbers"):
        keys(("jaw", "up", "left", "ahead"), keys={"ahead": "dx", "left": "dx", "up": "dz", "jaw": "grasp"})


def test_a_wish_is_not_a_position():
    with pytest.raises(ValueError, match=r"'gripper' is a wish .* takes a number of at most 1 there.*--takeover.gripper_positions"):
        keys(DELTA, is_wish=True)
    keys(DELTA, high=2.0, is_wish=True)  # an environment for wishes
    hand = keys(DELTA, is_wish=True, gripper_positions=[-1.0, 0.75])
    still = dict(delta_x=0.0, delta_y=0.0, delta_z=0.0)
    last = np.array([0, 0, 0, 0.25], np.float32)
    assert [values(hand, last, **still, gripper=wish)[3] for wish in (0, 1, 2, -1)] == [-1.0, 0.25, 0.75, 0.25]
    assert values(hand, None, **still, gripper=1)[3] == 0.75  # nothing was executed yet
    assert values(keys(DELTA), **still, gripper=1)[3] == 1.0  # a device that gives positions


def test_lerobots_gamepad_gives_wishes_and_its_entries_have_names(tmp_path):
    gamepad = GamepadTeleop(GamepadTeleopConfig(calibration_dir=tmp_path))
    assert action_keys(gamepad, "gamepad") == list(DELTA)
    assert gripper_is_wish(gamepad, "gamepad")
    assert not gripper_is_wish(Leader(gripper=0.0), "leader")


def test_a_world_takes_the_demonstrations_names_and_says_so(caplog):
    caplog.set_level(logging.INFO)
    world = EnvWorld(SmallEnv(), INPUTS, 4, 0, settings=EnvSettings(action_names=DX))
    world.reset()
    hand = Leader(gripper=1.0, delta_z=0.0, delta_y=0.0, delta_x=0.5)
    expect_teleop(world, hand, "--teleop.type=hand", TakeoverConfig())
    assert "By hand, --teleop.type=hand: gripper -> grasp, delta_z -> dz, delta_y -> dy, delta_x -> dx." in caplog.text
    assert world.step_intervention(hand.values).executed.tolist() == [0.5, 0.0, 0.0, 1.0]
    with pytest.raises(ValueError, match="gives 3 numbers"):
        expect_teleop(world, Leader(delta_x=0.0, delta_y=0.0, delta_z=0.0), "--teleop.type=hand", TakeoverConfig())


def test_an_environment_may_name_its_entries_itself(monkeypatch):
    monkeypatch.setattr(SmallGym, "action_names", ["grasp", "dx", "dy", "dz"], raising=False)
    world = EnvWorld(SmallEnv(), INPUTS, 4, 0, settings=EnvSettings(action_names=DX))
    world.reset()
    assert world.step_intervention(dict(zip(DELTA, (0.1, 0.2, 0.3, 0.4), strict=True))).executed.tolist() == pytest.approx(
        [0.4, 0.1, 0.2, 0.3]
    )
