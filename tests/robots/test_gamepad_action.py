"""LeRobot's gamepad and keyboard actions in the robot's keys, and the devices' own code behind them."""

import pytest
from lerobot.teleoperators.gamepad.teleop_gamepad import GripperAction

from lerobot_serl.robots import gamepad_action
from lerobot_serl.robots.config_franka_sim_robot import ACTION_KEYS
from lerobot_serl.robots.franka_sim_robot import GAMEPAD_KEYS, FrankaSimRobot, FrankaSimRobotConfig
from lerobot_serl.robots.gamepad_action import in_robot_keys

STILL = {"delta_x": 0.0, "delta_y": 0.0, "delta_z": 0.0}


@pytest.fixture
def robot(tmp_path):
    robot = FrankaSimRobot(FrankaSimRobotConfig(calibration_dir=tmp_path, control_mode="ee_delta"))
    robot.connect()
    yield robot
    robot.disconnect()


def test_the_gripper_codes_are_those_of_lerobot():
    assert (gamepad_action.CLOSE, gamepad_action.STAY, gamepad_action.OPEN) == (GripperAction.CLOSE, GripperAction.STAY, GripperAction.OPEN)


@pytest.mark.parametrize(("wish", "closure"), [(0, 1.0), (1, 0.25), (2, 0.0), (1.0, 0.25), (-1, 0.25)])
def test_wishes_of_the_gripper(wish, closure):
    translated = in_robot_keys({**STILL, "delta_x": 0.5, "gripper": wish}, GAMEPAD_KEYS, gripper_target=0.25)
    assert {key: translated[key] for key in ACTION_KEYS["ee_delta"]} == {
        "delta_x.pos": 0.5,
        "delta_y.pos": 0.0,
        "delta_z.pos": 0.0,
        "gripper.pos": closure,
    }


def test_own_keys_go_before_aliases_and_actions_without_aliases_are_untouched():
    own = {"delta_x.pos": 0.1, "gripper.pos": 0.4}
    assert in_robot_keys(own, GAMEPAD_KEYS, 0.0) is own
    assert in_robot_keys({**own, "delta_x": 0.9, "gripper": 0}, GAMEPAD_KEYS, 0.0).items() >= own.items()


@pytest.mark.parametrize("wish", [3, 0.5, float("nan")])
def test_an_unknown_wish_is_refused(wish):
    with pytest.raises(ValueError, match=r"'gripper' is .*expected 0 \(close\), 1 \(stay\) or 2 \(open\)"):
        in_robot_keys({**STILL, "gripper": wish}, GAMEPAD_KEYS, 0.0)


def test_the_robot_closes_stays_and_opens(robot):
    start = robot.get_observation()
    executed = robot.send_action({**STILL, "delta_z": 1.0, "gripper": 0})
    assert executed == {"delta_x.pos": 0.0, "delta_y.pos": 0.0, "delta_z.pos": 1.0, "gripper.pos": 1.0}
    assert robot.get_observation()["tcp_z.pos"] > start["tcp_z.pos"] + 0.01
    assert robot.send_action({**STILL, "gripper": 1})["gripper.pos"] == 1.0
    assert robot.send_action(STILL)["gripper.pos"] == 1.0  # a device without gripper
    assert robot.get_observation()["gripper.pos"] > 0.5
    assert robot.send_action({**STILL, "gripper": 2})["gripper.pos"] == 0.0
    robot.reset()
    assert robot.send_action({**STILL, "gripper": 1})["gripper.pos"] == 0.0


def test_incomplete_and_out_of_mode_actions_are_still_refused(robot, tmp_path):
    with pytest.raises(ValueError, match=r"lacks \['delta_y.pos', 'delta_z.pos'\]"):
        robot.send_action({"delta_x": 0.0, "gripper": 1})
    joint = FrankaSimRobot(FrankaSimRobotConfig(calibration_dir=tmp_path))
    joint.connect()
    with pytest.raises(ValueError, match=r"lacks \['joint_1.pos'"):
        joint.send_action({**STILL, "gripper": 1})
    joint.disconnect()
