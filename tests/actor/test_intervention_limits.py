"""The demonstrations' limits hold for a person too, whose device has keys of its own."""

import numpy as np
import pytest
from lerobot.teleoperators.gamepad.teleop_gamepad import GamepadTeleop, GamepadTeleopConfig
from scripted_arm import franka_server, wait_until
from small_robots import LeaderWithEvents

from lerobot_serl.actor.controls import Controls
from lerobot_serl.actor.pace import Pace
from lerobot_serl.actor.reset import Reset
from lerobot_serl.actor.robot_io import RobotIo
from lerobot_serl.actor.robot_setup import check_teleop
from lerobot_serl.actor.robot_world import RobotWorld
from lerobot_serl.actor.safety import Limiter, Limits
from lerobot_serl.actor.settings import ResetConfig, TakeoverConfig
from lerobot_serl.actor.takeover import Takeover
from lerobot_serl.robots.config_franka import FrankaConfig
from lerobot_serl.robots.franka import Franka
from lerobot_serl.robots.franka_sim_robot import FrankaSimRobot, FrankaSimRobotConfig
from lerobot_serl.teleoperators.serl_spacemouse import SerlSpacemouse, SerlSpacemouseConfig

PATIENT = {"watchdog_s": 10.0, "watchdog_stop_s": 20.0, "state_timeout_s": 2.0}
PUSH = {"delta_x": 1.0, "delta_y": 0.0, "delta_z": -1.0}
LIMITED = np.array([0.3, 0.0, -0.3], np.float32)


@pytest.fixture
def server():
    with franka_server(**PATIENT) as running:
        yield running


@pytest.fixture
def robot(server, tmp_path, request):
    changes = getattr(request, "param", {})
    config = dict(calibration_dir=tmp_path, server_url=server.url, control_mode="ee_delta", request_timeout_s=5.0, state_timeout_s=5.0)
    robot = Franka(FrankaConfig(**(config | changes)))
    robot.connect()
    yield robot
    robot.disconnect()


@pytest.fixture
def world(robot):
    """Displacements of at most 0.3; the gripper opens at least 0.2."""
    keys = tuple(robot.action_features)
    low, high = np.full(len(keys), -0.3), np.full(len(keys), 0.3)
    low[-1], high[-1] = 0.2, 1.0
    io = RobotIo(robot.name, robot.observation_features, robot.action_features, {}, len(keys), action_names=keys)
    return RobotWorld(robot, io, Limiter(Limits(keys, low, high, np.full(len(keys), np.inf))), [], Pace(50), 9, 60.0, "")


def test_a_gamepad_is_limited_as_the_policy_is(world):
    policy = world.step(np.array([1.0, 0.0, -1.0, 1.0])).executed
    person = world.step_intervention({**PUSH, "gripper": 2.0}).executed
    np.testing.assert_allclose(person, policy, atol=1e-6)
    np.testing.assert_allclose(person[:3], LIMITED, atol=1e-6)


@pytest.mark.parametrize("robot", [{"ee_rotation": True}], indirect=True)
def test_a_device_without_rotations_turns_nothing(world):
    np.testing.assert_allclose(world.step_intervention(PUSH).executed[:6], [*LIMITED, 0, 0, 0], atol=1e-6)


def test_wishes_of_the_gripper_are_limited_and_stay_means_what_it_was_told(world, server):
    assert world.step_intervention({**PUSH, "gripper": 1.0}).executed[3] == 1.0
    assert server.gripper.calls == []  # nothing was told yet: what it holds by itself is left alone
    assert world.step_intervention({**PUSH, "gripper": 0.0}).executed[3] == pytest.approx(0.2)
    wait_until(lambda: server.gripper.calls)
    server.gripper.width = 0.05
    assert world.step_intervention({**PUSH, "gripper": 1.0}).executed[3] == pytest.approx(0.2)


def test_the_way_back_between_episodes_is_limited_too(world, monkeypatch):
    device, controls, executed = LeaderWithEvents(**PUSH, gripper=1.0), Controls(), []
    device.takes_over = True
    takeover, send = Takeover(device, controls, TakeoverConfig(), 0.02), world.send
    monkeypatch.setattr(world, "send", lambda action: executed.append(send(action)))
    Reset(ResetConfig(mode="teleop", pause_s=0.2), {}, {}, takeover.poll, Pace(50), controls).run(world)
    assert executed
    assert np.abs([values[:3] for values in executed]).max() == pytest.approx(0.3)


def arm(kind, tmp_path):
    config = dict(calibration_dir=tmp_path, control_mode="ee_delta")
    return Franka(FrankaConfig(**config)) if kind == "franka" else FrankaSimRobot(FrankaSimRobotConfig(**config))


@pytest.mark.parametrize("kind", ["franka", "franka_sim"])
def test_keys_that_the_robot_would_reject_are_refused_before_anything_moves(kind, tmp_path):
    robot = arm(kind, tmp_path)
    check_teleop(GamepadTeleop(GamepadTeleopConfig(calibration_dir=tmp_path)), robot)
    check_teleop(SerlSpacemouse(SerlSpacemouseConfig(calibration_dir=tmp_path)), robot)
    check_teleop(SerlSpacemouse(SerlSpacemouseConfig(calibration_dir=tmp_path, gripper_key="gripper.pos", gripper_positions=[1, 0])), robot)
    turning = SerlSpacemouse(SerlSpacemouseConfig(calibration_dir=tmp_path, rotation=True))
    with pytest.raises(ValueError, match=r"serl_spacemouse gives \['delta_rx', 'delta_ry', 'delta_rz'\] beside.*--teleop.rotation=false"):
        check_teleop(turning, robot)


def test_rotations_under_the_robots_own_keys_are_taken(tmp_path):
    robot = Franka(FrankaConfig(calibration_dir=tmp_path, control_mode="ee_delta", ee_rotation=True))
    keys = list(robot.action_features)
    mouse = SerlSpacemouseConfig(
        calibration_dir=tmp_path, rotation=True, keys=keys[:6], gripper_key="gripper.pos", gripper_positions=[1.0, 0.0]
    )
    check_teleop(SerlSpacemouse(mouse), robot)
