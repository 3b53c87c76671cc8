"""In ee_delta: no displacement means hold, also under a load, and also after somebody moved the arm."""

import time

import numpy as np
import pytest
from scripted_arm import HOME_RAD, ScriptedArm, franka_server, wait_until

from lerobot_serl.actor.pace import Pace
from lerobot_serl.actor.robot_io import RobotIo
from lerobot_serl.actor.robot_world import RobotWorld
from lerobot_serl.actor.safety import Limiter
from lerobot_serl.franka.kinematics import tool_pose
from lerobot_serl.robots.config_franka import FrankaConfig
from lerobot_serl.robots.franka import Franka

PATIENT = {"watchdog_s": 10.0, "watchdog_stop_s": 20.0, "state_timeout_s": 2.0}
SAG_M = 0.002  # 2 N on a spring of 1000 N/m
HOME_M = tool_pose(HOME_RAD)[:3, 3]


class LoadedArm(ScriptedArm):
    """Comes to rest below its target."""

    def set_pose_target(self, pose, twist):
        lower = np.array(pose)
        lower[2, 3] -= SAG_M
        super().set_pose_target(lower, twist)


@pytest.fixture
def server():
    with franka_server(LoadedArm(), **PATIENT) as running:
        yield running


@pytest.fixture
def connect(server, tmp_path):
    """``connect(**settings)``: a robot in ee_delta; disconnected in the end."""
    made = []

    def make(**settings):
        config = dict(calibration_dir=tmp_path, server_url=server.url, control_mode="ee_delta", request_timeout_s=5.0, state_timeout_s=5.0)
        made.append(Franka(FrankaConfig(**(config | settings))))
        made[-1].connect()
        return made[-1]

    yield make
    for robot in made:
        robot.disconnect()


def action(robot, **values):
    return {**dict.fromkeys(robot.action_features, 0.0), "gripper.pos": 1.0} | values


def repeat(work, times=25):
    for _ in range(times):
        work()
        time.sleep(0.02)


def height_m(server):
    return server.controller.snapshot().state.pose[2, 3]


@pytest.mark.parametrize("ee_rotation", [False, True])
def test_a_loaded_arm_sags_once_and_is_not_followed_down(server, connect, ee_rotation):
    robot = connect(ee_rotation=ee_rotation)
    robot.get_observation()
    still = action(robot)
    repeat(lambda: robot.send_action(still))
    assert HOME_M[2] - height_m(server) == pytest.approx(SAG_M, abs=5e-4)
    assert robot.send_action(still) == still  # and not the way up to where it holds
    assert robot.n_clamped == 0


def test_a_pause_between_two_episodes_holds_a_loaded_arm(server, connect):
    robot = connect()
    io = RobotIo(robot.name, robot.observation_features, robot.action_features, {}, 4, action_names=tuple(robot.action_features))
    world = RobotWorld(robot, io, Limiter(None), [], Pace(100), 5, 60.0, "")
    world.step(np.array([0.0, 0.0, 1.0, 1.0]))
    repeat(world.hold)
    assert height_m(server) > HOME_M[2] - 2.5 * SAG_M


def test_every_displacement_gives_a_new_place_to_hold(server, connect):
    robot = connect()
    robot.send_action(action(robot))
    for _ in range(3):
        robot.send_action(action(robot, **{"ee_dz.vel": 1.0}))
        time.sleep(0.1)
    risen_m = height_m(server)
    assert risen_m > HOME_M[2] + 0.005
    repeat(lambda: robot.send_action(action(robot)))
    assert height_m(server) == pytest.approx(risen_m - SAG_M, abs=3e-3)


@pytest.mark.parametrize("how", ["tracking ended", "joints"])
def test_an_arm_that_was_moved_in_another_way_is_held_there(server, connect, how):
    robot = connect()
    repeat(lambda: robot.send_action(action(robot)), 3)
    elsewhere = HOME_RAD + np.array([0.0, -0.05, 0.0, 0.0, 0.0, 0.0, 0.0])
    if how == "joints":
        joints = dict(zip((f"joint_{i + 1}.pos" for i in range(7)), elsewhere.tolist(), strict=True))
        robot.send_action({**joints, "gripper.pos": 1.0})
    else:
        server.controller.stop_impedance()
        server.controller.reset_joints(elsewhere)
    wait_until(lambda: np.allclose(server.controller.snapshot().state.q_rad, elsewhere, atol=1e-3))
    goal_m = server.controller.snapshot().state.pose[:3, 3]
    assert np.linalg.norm(goal_m - HOME_M) > 0.015
    repeat(lambda: robot.send_action(action(robot)))
    assert np.linalg.norm(server.controller.snapshot().state.pose[:3, 3] - goal_m) < 2 * SAG_M
