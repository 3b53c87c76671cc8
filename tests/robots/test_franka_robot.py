"""The franka robot: LeRobot's contract, limits, what it says was executed, and what goes wrong between robot and server."""

import math
import socket
import subprocess
import sys
import threading
import time

import draccus
import numpy as np
import pytest
import torch
from lerobot.cameras.opencv import OpenCVCameraConfig
from lerobot.robots import RobotConfig, make_robot_from_config
from lerobot.utils.errors import DeviceAlreadyConnectedError, DeviceNotConnectedError
from scripted_arm import HOME_RAD, MAX_WIDTH_M, WRENCH, franka_server, legacy_server, wait_until

from lerobot_serl.access_token import FRANKA_TOKEN_VARIABLE as TOKEN_VARIABLE
from lerobot_serl.franka.kinematics import matrix_of_pose7, matrix_of_rotvec, pose7_of_matrix, tool_pose
from lerobot_serl.robots.config_franka import EE_KEYS, EFFORT_KEYS, JOINT_KEYS, VELOCITY_KEYS, FrankaConfig
from lerobot_serl.robots.franka import Franka
from lerobot_serl.robots.franka_client import FrankaError, FrankaFault, FrankaUnreachable, StaleStateError
from lerobot_serl.setting_error import SettingError

TOKEN = "a-token-of-more-than-16-letters"
PATIENT = {"watchdog_s": 10.0, "watchdog_stop_s": 20.0, "state_timeout_s": 2.0}
HOME_M = tool_pose(HOME_RAD)[:3, 3]


@pytest.fixture(scope="module")
def shared():
    with franka_server(**PATIENT) as running:
        yield running


@pytest.fixture
def server(shared):
    """The shared server with the arm at home and the gripper open."""
    shared.controller.stop_impedance()
    shared.controller.reset_joints(HOME_RAD)
    shared.controller.command_gripper(MAX_WIDTH_M)
    wait_until(lambda: np.allclose(shared.controller.snapshot().state.q_rad, HOME_RAD) and shared.gripper.width == MAX_WIDTH_M)
    wait_until(lambda: shared.controller.snapshot().gripper_width_m == MAX_WIDTH_M)
    return shared


@pytest.fixture
def connect(tmp_path):
    """``connect(server, **settings)``: a connected robot; all are disconnected in the end."""
    made = []

    def make(server, **settings):
        patience = {"request_timeout_s": 5.0, "state_timeout_s": 5.0}
        robot = Franka(FrankaConfig(calibration_dir=tmp_path, server_url=server.url, **(patience | settings)))
        made.append(robot)
        robot.connect()
        return robot

    yield make
    for robot in made:
        robot.disconnect()


def joint_action(q_rad=HOME_RAD, opening=1.0):
    return dict(zip(JOINT_KEYS, map(float, q_rad), strict=True)) | {"gripper.pos": opening}


def delta_action(x=0.0, y=0.0, z=0.0, opening=1.0):
    return {"ee_dx.vel": x, "ee_dy.vel": y, "ee_dz.vel": z, "gripper.pos": opening}


@pytest.mark.parametrize("name", ["franka", "serl_franka"])
def test_lerobot_makes_it_from_either_name(tmp_path, name):
    config = RobotConfig.get_choice_class(name)(id="arm", calibration_dir=tmp_path)
    robot = make_robot_from_config(config)
    assert isinstance(robot, Franka)
    assert robot.is_calibrated
    assert not robot.is_connected
    assert (robot.name, config.type) == ("franka", "franka")


@pytest.mark.slow
def test_a_name_that_another_plugin_has_taken_costs_nothing_else():
    """In a process of its own: the other plugin is imported first."""
    code = """
from dataclasses import dataclass
from lerobot.robots import RobotConfig, make_robot_from_config
@RobotConfig.register_subclass("franka")
@dataclass(kw_only=True)
class TheirsConfig(RobotConfig):
    pass
import lerobot_serl.robots.config_franka as ours
from lerobot_serl import SerlSacConfig
assert RobotConfig.get_choice_class("franka") is TheirsConfig
config = RobotConfig.get_choice_class("serl_franka")()
assert config.type == "serl_franka", config.type
print(type(make_robot_from_config(config)).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.split() == ["Franka"], done.stderr
    assert "--robot.type=franka belongs to another plugin here; use --robot.type=serl_franka" in done.stderr


def test_features_are_known_before_connecting_and_rollout_accepts_their_keys():
    plain = Franka(FrankaConfig())
    assert list(plain.observation_features) == list(plain.action_features) == [*JOINT_KEYS, "gripper.pos"]
    assert list(Franka(FrankaConfig(gripper="none")).action_features) == list(JOINT_KEYS)
    cartesian = Franka(FrankaConfig(control_mode="ee_delta", ee_rotation=True, observe_velocities=True, observe_ee_pose=True))
    assert list(cartesian.action_features) == [
        "ee_dx.vel", "ee_dy.vel", "ee_dz.vel", "ee_drx.vel", "ee_dry.vel", "ee_drz.vel", "gripper.pos",
    ]  # fmt: skip
    assert list(cartesian.observation_features) == [*JOINT_KEYS, "gripper.pos", *VELOCITY_KEYS, *EE_KEYS]
    for robot in (plain, cartesian):
        assert set(robot.observation_features.values()) | set(robot.action_features.values()) == {float}
        assert all(key.endswith((".pos", ".vel")) for key in [*robot.observation_features, *robot.action_features])


def test_cameras_are_lerobots(tmp_path):
    cameras = {"front": OpenCVCameraConfig(index_or_path=0, width=64, height=48, fps=30)}
    robot = Franka(FrankaConfig(calibration_dir=tmp_path, cameras=cameras))
    assert len(robot.cameras) == 1
    assert robot.observation_features["front"] == (48, 64, 3)
    with pytest.raises(SettingError, match="width"):
        FrankaConfig(cameras={"front": OpenCVCameraConfig(index_or_path=0, fps=30)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"server_url": "172.16.0.1:5000"}, r"server_url is '172.16.0.1:5000'.*http://HOST:PORT"),
        ({"control_mode": "torque"}, r"robot.control_mode is 'torque'.*--robot.control_mode=joint"),
        ({"gripper": "hand"}, r"robot.gripper is 'hand'.*'franka', 'robotiq', 'none'"),
        ({"arm": "panda"}, r"'panda'.*fer.*fr3"),
        ({"home_joints": [0.0] * 6}, "robot.home_joints is .*expected 7"),
        ({"home_joints": [0.0, -0.785, 0.0, -2.356, 0.0, math.nan, 0.785]}, "robot.home_joints is .*expected 7 finite"),
        ({"home_joints": [0.0, -0.785, 0.0, -2.356, 0.0, 0.3, 0.785]}, r"joint 6 is 0.3 rad, expected 0.5945 to .*fr3.*--robot.arm"),
        ({"home_joints": [1.5, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785]}, "outside robot.workspace_min"),
        ({"workspace_min": [0.8, -0.45, 0.02]}, "robot.workspace_min is .*all below"),
        ({"workspace_max": [0.8, 0.45]}, "robot.workspace_max is .*3 finite numbers"),
        ({"max_relative_target": 0.0}, "robot.max_relative_target is 0.0"),
        ({"max_relative_target": {"joint_1.pos": 0.1}}, "robot.max_relative_target has the keys"),
        ({"ee_step_m": 0.1}, "robot.ee_step_m is 0.1.*at most 0.05"),
        ({"ee_step_rad": -0.1}, "robot.ee_step_rad is -0.1"),
        ({"state_timeout_s": 0.0}, "robot.state_timeout_s is 0.0"),
        ({"request_timeout_s": math.nan}, "robot.request_timeout_s is nan"),
        ({"recovery_wait_s": -1.0}, "robot.recovery_wait_s is -1.0"),
        ({"joint_limit_margin_rad": 3.0}, "robot.joint_limit_margin_rad is 3.0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        FrankaConfig(**settings)


def test_a_home_that_only_the_other_model_can_reach_is_accepted_for_it():
    home = [0.0, -0.785, 0.0, -2.356, 0.0, 0.5, 0.785]
    wide = {"workspace_min": [-1.0, -1.0, -1.0], "workspace_max": [1.0, 1.0, 1.5]}
    assert FrankaConfig(arm="fer", home_joints=home, **wide).home_joints == home
    with pytest.raises(SettingError, match="joint 6"):
        FrankaConfig(arm="fr3", home_joints=home, **wide)


def test_observation_has_the_promised_keys_and_only_floats(server, connect, caplog):
    robot = connect(server, observe_velocities=True, observe_ee_pose=True, observe_efforts=True)
    observation = robot.get_observation()
    assert list(observation) == list(robot.observation_features)
    assert {type(value) for value in observation.values()} == {float}
    np.testing.assert_allclose([observation[key] for key in JOINT_KEYS], HOME_RAD)
    pose = tool_pose(HOME_RAD)
    np.testing.assert_allclose([observation[key] for key in EE_KEYS], [*pose[:3, 3], *pose[:3, 0], *pose[:3, 1]], atol=1e-6)
    np.testing.assert_allclose([observation[key] for key in EFFORT_KEYS], [*range(7), *WRENCH])
    assert "lerobot-rollout gives a policy only keys" in caplog.text
    assert set(connect(server).get_observation()) == {*JOINT_KEYS, "gripper.pos"}


def test_the_gripper_is_1_when_open(server, connect):
    robot = connect(server)
    assert robot.get_observation()["gripper.pos"] == 1.0
    for _ in range(3):
        assert robot.send_action(joint_action(opening=0.0))["gripper.pos"] == 0.0
    wait_until(lambda: robot.get_observation()["gripper.pos"] == 0.0)
    assert server.gripper.width == 0.0
    assert robot.send_action(joint_action(opening=7.0))["gripper.pos"] == 1.0
    wait_until(lambda: robot.get_observation()["gripper.pos"] == 1.0)


def test_joint_actions_are_executed_and_returned(server, connect):
    robot = connect(server)
    wanted = joint_action(HOME_RAD + 0.03)
    executed = robot.send_action({key: torch.tensor(value) for key, value in wanted.items()})
    assert list(executed) == list(robot.action_features)
    assert {type(value) for value in executed.values()} == {float}
    assert executed == pytest.approx(wanted, abs=1e-6)
    assert robot.n_clamped == 0
    wait_until(lambda: abs(robot.get_observation()["joint_4.pos"] - wanted["joint_4.pos"]) < 1e-3)


def test_joint_actions_are_clamped_here_and_by_the_server(server, connect):
    robot = connect(server, max_relative_target=0.02)
    executed = robot.send_action(joint_action(HOME_RAD + 1.0))
    np.testing.assert_allclose([executed[key] for key in JOINT_KEYS], HOME_RAD + 0.02, atol=1e-6)
    assert robot.n_clamped == 1
    robot.disconnect()
    caps = {**dict.fromkeys(JOINT_KEYS, 0.01), "joint_7.pos": 0.04}
    robot = connect(server, max_relative_target=caps)
    measured = np.array([robot.get_observation()[key] for key in JOINT_KEYS])
    executed = robot.send_action(joint_action(HOME_RAD - 1.0))
    assert executed["joint_7.pos"] == pytest.approx(measured[6] - 0.04, abs=0.021)
    robot.disconnect()
    robot = connect(server, max_relative_target=None)
    executed = robot.send_action(joint_action(HOME_RAD + 1.0))
    assert np.abs(np.array([executed[key] for key in JOINT_KEYS]) - HOME_RAD).max() < 0.2  # the server's own limit


def test_displacements_are_executed_and_returned(server, connect):
    robot = connect(server, control_mode="ee_delta")
    robot.get_observation()
    wanted = delta_action(0.5, -0.25, 1.0)
    assert robot.send_action(wanted) == wanted
    target_m = HOME_M + 0.01 * np.array([0.5, -0.25, 1.0])
    wait_until(lambda: np.allclose(server.controller.snapshot().state.pose[:3, 3], target_m, atol=1e-3))
    assert robot.send_action(delta_action(5.0, 0.0, -9.0)) == delta_action(1.0, 0.0, -1.0)
    assert robot.n_clamped == 0


def test_displacements_stop_at_the_box(server, connect):
    box = {"workspace_min": [0.2, -0.45, HOME_M[2] - 0.004], "workspace_max": [0.75, 0.45, 0.7]}
    robot = connect(server, control_mode="ee_delta", **box)
    executed = robot.send_action(delta_action(0.0, 0.0, -1.0))
    assert executed["ee_dz.vel"] == pytest.approx(-0.4, abs=1e-3)
    assert robot.n_clamped == 1


def test_outside_the_box_one_step_at_a_time_leads_back(server, connect):
    robot = connect(server, control_mode="ee_delta", workspace_min=[HOME_M[0] - 0.001, -0.45, 0.02])
    server.controller.stop_impedance()
    behind = HOME_RAD + np.array([0.0, -0.2, 0.0, -0.1, 0.0, 0.0, 0.0])
    server.controller.reset_joints(behind)
    wait_until(lambda: np.allclose(server.controller.snapshot().state.q_rad, behind))
    assert tool_pose(behind)[0, 3] < HOME_M[0] - 0.03
    assert robot.send_action(delta_action(-1.0))["ee_dx.vel"] == pytest.approx(1.0, abs=1e-6)


def test_without_rotation_the_orientation_is_held_and_with_it_turned(server, connect):
    robot = connect(server, control_mode="ee_delta")
    rotation = tool_pose(HOME_RAD)[:3, :3]
    robot.send_action(delta_action(0.3))
    np.testing.assert_allclose(robot._tool.rotation, rotation, atol=1e-6)
    robot.disconnect()
    robot = connect(server, control_mode="ee_delta", ee_rotation=True)
    turn = {"ee_drx.vel": 0.2, "ee_dry.vel": -0.4, "ee_drz.vel": 1.0}
    start = server.controller.snapshot().state.pose[:3, :3]
    assert robot.send_action({**delta_action(), **turn}) == pytest.approx({**delta_action(), **turn}, abs=1e-6)
    goal = matrix_of_rotvec(0.05 * np.array([0.2, -0.4, 1.0])) @ start
    wait_until(lambda: np.allclose(server.controller.snapshot().state.pose[:3, :3], goal, atol=2e-3))


def test_gamepad_and_keyboard_keys_move_the_end_effector(server, connect):
    """`gripper` is 0 to close, 1 to stay, 2 to open; -1 comes from a keyboard whose key was let go."""
    robot = connect(server, control_mode="ee_delta")
    pad = {"delta_x": 0.5, "delta_y": 0.0, "delta_z": 0.0}
    assert robot.send_action(pad) == delta_action(0.5) | pad
    assert robot.send_action({**pad, "gripper": 0.0}) == delta_action(0.5, opening=0.0) | pad | {"gripper": 0.0}
    wait_until(lambda: server.gripper.width == 0.0)
    for stay in (1, -1):
        assert robot.send_action({**pad, "gripper": stay})["gripper.pos"] == 0.0
    assert robot.send_action({**pad, "gripper": 2.0})["gripper.pos"] == 1.0
    wait_until(lambda: server.gripper.width == MAX_WIDTH_M)
    with pytest.raises(ValueError, match=r"'gripper' is 3.0, expected 0 \(close\), 1 \(stay\) or 2 \(open\)"):
        robot.send_action({**pad, "gripper": 3.0})
    with pytest.raises(ValueError, match=r"lacks \['delta_z'\]"):
        robot.send_action({"delta_x": 0.0, "delta_y": 0.0})
    with pytest.raises(ValueError, match=r"--robot.control_mode=ee_delta"):
        connect(server).send_action(pad)


def test_the_way_home_of_lerobot_rollout(server, connect):
    """It sends every observation that ends in .pos, also in ee_delta, where that is a joint motion."""
    for mode in ("joint", "ee_delta"):
        robot = connect(server, control_mode=mode, observe_ee_pose=True, observe_velocities=True)
        home = {key: value for key, value in robot.get_observation().items() if key.endswith(".pos")}
        home["joint_1.pos"] += 0.05
        executed = robot.send_action(home)
        assert executed == pytest.approx({key: home[key] for key in [*JOINT_KEYS, "gripper.pos"]}, abs=1e-6)
        wait_until(lambda goal=home["joint_1.pos"]: abs(server.controller.snapshot().state.q_rad[0] - goal) < 1e-3)


@pytest.mark.parametrize(
    ("mode", "change", "message"),
    [
        ("joint", {"joint_3.pos": math.nan}, "'joint_3.pos' is nan"),
        ("joint", {"gripper.pos": -math.inf}, "'gripper.pos' is -inf"),
        ("joint", {"joint_3.pos": None}, r"lacks \['joint_3.pos'\]; it has \['gripper.pos', 'joint_1.pos'"),
        ("joint", {"elbow": 1.0}, r"unknown keys \['elbow'\].*joint_1.pos"),
        ("ee_delta", {"ee_dx.vel": math.inf}, "'ee_dx.vel' is inf"),
        ("ee_delta", {"ee_dy.vel": None}, r"lacks \['ee_dy.vel'\].*robot.control_mode=ee_delta"),
        ("ee_delta", {"gripper.pos": None}, r"lacks \['gripper.pos'\]"),
    ],
)
def test_bad_actions_are_explained_and_move_nothing(server, connect, mode, change, message):
    robot = connect(server, control_mode=mode)
    action = {**(joint_action(HOME_RAD + 0.05) if mode == "joint" else delta_action(1.0)), **change}
    with pytest.raises(ValueError, match=message):
        robot.send_action({key: value for key, value in action.items() if value is not None})
    np.testing.assert_array_equal(server.arm.q_rad, HOME_RAD)


def test_without_a_gripper_its_keys_are_gone(connect):
    with franka_server(gripper=None, **PATIENT) as server:
        robot = connect(server, gripper="none")
        assert set(robot.get_observation()) == set(JOINT_KEYS)
        assert set(robot.send_action(joint_action())) == set(JOINT_KEYS)
        with pytest.raises(FrankaError, match=r"robot.gripper is 'franka', but the server has 'none'.*--robot.gripper=none"):
            connect(server)


def test_a_server_that_does_not_fit_is_refused(server, connect):
    with pytest.raises(FrankaError, match=r"robot.arm is 'fer', but the server drives a 'fr3'"):
        connect(server, arm="fer")
    with pytest.raises(FrankaError, match=r"robot.gripper is 'robotiq'"):
        connect(server, gripper="robotiq")


def test_no_server_names_the_url_and_the_command(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        robot = Franka(FrankaConfig(calibration_dir=tmp_path, server_url=url))
        with pytest.raises(FrankaUnreachable, match=rf"at {url} .*lerobot-serl-franka-server --robot_ip=.*--driver=sim"):
            robot.connect()
    assert not robot.is_connected
    robot.disconnect()


def test_connecting_moves_nothing_unless_it_is_asked_to(server, connect):
    away = HOME_RAD + 0.1
    server.controller.reset_joints(away)
    wait_until(lambda: np.allclose(server.controller.snapshot().state.q_rad, away))
    robot = connect(server)
    with pytest.raises(DeviceAlreadyConnectedError):
        robot.connect()
    robot.disconnect()
    np.testing.assert_allclose(server.arm.q_rad, away)
    connect(server, home_on_connect=True, home_joints=HOME_RAD.tolist())
    np.testing.assert_allclose(server.arm.q_rad, HOME_RAD)


def test_reset_moves_home_and_what_follows_starts_there(server, connect):
    home = (HOME_RAD + 0.05).tolist()
    robot = connect(server, home_joints=home)
    robot.send_action(joint_action(HOME_RAD - 0.05))
    robot.reset()
    np.testing.assert_allclose(server.arm.q_rad, home)
    np.testing.assert_allclose([robot.get_observation()[key] for key in JOINT_KEYS], home)
    assert robot.send_action(joint_action(home)) == pytest.approx(joint_action(home), abs=1e-6)


def test_disconnecting_ends_the_tracking_and_never_raises(server, connect):
    robot = connect(server)
    robot.send_action(joint_action(HOME_RAD + 0.01))
    wait_until(lambda: server.controller.snapshot().mode == "joint")
    robot.disconnect()
    wait_until(lambda: server.controller.snapshot().mode == "idle")
    robot.disconnect()
    assert not robot.is_connected
    for call in (robot.get_observation, robot.reset, robot.calibrate, lambda: robot.send_action(joint_action()), lambda: robot.client):
        with pytest.raises(DeviceNotConnectedError):
            call()
    robot.connect()
    assert robot.get_observation()["gripper.pos"] == 1.0


def test_disconnecting_from_a_server_that_has_gone(connect):
    with franka_server(**PATIENT) as server:
        robot = connect(server)
    robot.disconnect()
    assert not robot.is_connected


def test_after_an_automatic_recovery_the_old_action_is_dropped_and_the_next_obeyed(connect, caplog):
    with franka_server(**PATIENT) as server:
        robot = connect(server)
        for _ in range(2):
            observation = robot.get_observation()
            robot.send_action(joint_action(server.arm.q_rad))
        epoch = server.controller.snapshot().epoch
        server.arm.errors = ("cartesian_reflex",)
        wait_until(lambda: server.controller.snapshot().epoch > epoch)
        executed = robot.send_action(joint_action(HOME_RAD + 0.09))
        assert executed == pytest.approx({**observation, "gripper.pos": 1.0}, abs=1e-6)
        assert (robot.n_dropped, "An action was dropped" in caplog.text) == (1, True)
        np.testing.assert_allclose(server.arm.q_rad, HOME_RAD, atol=1e-6)
        robot.get_observation()
        robot.send_action(joint_action(HOME_RAD + 0.05))
        wait_until(lambda: np.allclose(server.arm.q_rad, HOME_RAD + 0.05, atol=1e-3))


def test_a_recovery_that_takes_long_drops_actions_and_ends_nothing(connect):
    """No state for twice the time after which one is stale. The robot asks 10 times a second, and gives up a request sooner than that."""
    with franka_server(watchdog_s=10.0, watchdog_stop_s=20.0, state_timeout_s=0.4) as server:
        server.arm.recover_s = 0.9
        robot = connect(server, request_timeout_s=0.6, recovery_wait_s=5.0)
        for step in range(20):
            if step == 5:
                server.arm.errors = ("cartesian_reflex",)
            measured = robot.get_observation()
            robot.send_action(joint_action([measured[key] for key in JOINT_KEYS]))
            time.sleep(0.1)
        assert robot.n_dropped >= 1
        assert server.controller.snapshot().epoch == 1
        assert server.controller.snapshot().mode == "joint"


def test_after_a_recovery_one_action_is_dropped_and_the_next_is_carried_out(connect):
    """Also by a loop that does not look in between."""
    with franka_server(**PATIENT) as server:
        robot = connect(server)
        robot.send_action(joint_action())
        server.arm.errors = ("joint_reflex",)
        wait_until(lambda: server.controller.snapshot().epoch == 1)
        for _ in range(3):
            robot.send_action(joint_action())
        assert robot.n_dropped == 1


def test_a_fault_that_stays_is_raised_with_its_name(connect):
    with franka_server(auto_recover=False, **PATIENT) as server:
        robot = connect(server, recovery_wait_s=0.1)
        server.arm.errors = ("joint_velocity_violation",)
        wait_until(lambda: server.controller.snapshot().fault)
        with pytest.raises(FrankaFault, match=r"does not recover by itself: .*joint_velocity_violation"):
            robot.send_action(joint_action())
        assert list(robot.get_observation()) == list(robot.observation_features)  # looking is allowed
        with pytest.raises(FrankaFault, match="joint_velocity_violation"):
            robot.reset()


def test_stale_state_raises_and_is_never_repeated(connect):
    with franka_server(state_timeout_s=0.1) as server:
        robot = connect(server)
        server.arm.is_gone = True

        def is_stale(call):
            try:
                call()
            except (StaleStateError, FrankaFault):
                return True
            return False

        wait_until(lambda: is_stale(robot.get_observation))
        assert is_stale(lambda: robot.send_action(joint_action()))


def test_while_somebody_else_moves_the_arm_actions_are_refused(connect):
    with franka_server(**PATIENT) as server:
        robot = connect(server)
        server.arm.move_s = 1.0
        elsewhere = threading.Thread(target=server.controller.reset_joints, args=(HOME_RAD + 0.1,))
        elsewhere.start()
        wait_until(lambda: server.controller.snapshot().mode == "moving")
        with pytest.raises(FrankaError, match="moving"):
            robot.send_action(joint_action())
        elsewhere.join()


def test_the_token_file_opens_a_server_that_wants_one(connect, tmp_path, monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    with franka_server(token=TOKEN, **PATIENT) as server:
        with pytest.raises(FrankaError, match=r"--robot.token_file"):
            connect(server)
        assert connect(server, token_file=file).is_connected


def test_calibrating_homes_the_gripper_if_a_person_agrees(server, connect, monkeypatch):
    robot = connect(server)
    server.gripper.calls.clear()
    robot.calibrate()  # tests have no terminal
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, homed in (("", False), ("n", False), ("y", True)):
        monkeypatch.setattr("builtins.input", lambda prompt, answer=answer: answer)
        robot.calibrate()
        assert ("homing" in server.gripper.calls) == homed
    np.testing.assert_array_equal(server.arm.q_rad, HOME_RAD)


def test_a_legacy_server_takes_displacements_but_no_joints(connect, caplog):
    with legacy_server() as server:
        with pytest.raises(FrankaError, match=r"takes no joint targets; set --robot.control_mode=ee_delta"):
            connect(server)
        robot = connect(server, control_mode="ee_delta")
        assert set(robot.get_observation()) == {*JOINT_KEYS, "gripper.pos"}
        assert robot.send_action(delta_action(1.0, 0.0, -0.5, opening=0.0)) == delta_action(1.0, 0.0, -0.5, opening=0.0)
        poses = [body["arr"] for route, body in server.requests if route == "/pose"]
        np.testing.assert_allclose(poses[-1][:3], HOME_M + np.array([0.01, 0.0, -0.005]))
        assert server.routes_asked()[-1] == "/close_gripper"
        with pytest.raises(FrankaError, match="--return_to_initial_position=false"):
            robot.send_action(joint_action())
        robot.reset()
        assert "its own joint positions" in caplog.text
        robot.calibrate()
        robot.disconnect()
        assert "/stopimp" not in server.routes_asked()


def test_a_legacy_server_is_kept_in_the_box_by_us(connect):
    with legacy_server() as server:
        robot = connect(server, control_mode="ee_delta")
        server.pose7 = pose7_of_matrix(matrix_of_pose7([0.749, 0.0, 0.4, 1.0, 0.0, 0.0, 0.0]))
        executed = robot.send_action(delta_action(1.0))
        assert executed["ee_dx.vel"] == pytest.approx(0.1, abs=1e-6)
        assert server.pose7[0] == pytest.approx(0.75)


class MemoryCamera:
    """A camera in memory; `is_broken` makes connecting fail."""

    height, width, fps = 48, 64, 30

    def __init__(self, is_broken=False):
        self.is_connected, self.is_broken = False, is_broken

    def connect(self):
        if self.is_broken:
            raise ConnectionError("no such camera")
        self.is_connected = True

    def read_latest(self):
        return np.full((48, 64, 3), 7, dtype=np.uint8)

    def disconnect(self):
        self.is_connected = False


def test_images_come_with_the_observation_and_a_broken_camera_ends_the_connection(server, tmp_path):
    robot = Franka(FrankaConfig(calibration_dir=tmp_path, server_url=server.url, request_timeout_s=5.0))
    robot.cameras = {"front": MemoryCamera()}
    robot.connect()
    assert robot.observation_features["front"] == (48, 64, 3)
    assert robot.get_observation()["front"].shape == (48, 64, 3)
    robot.disconnect()
    assert not robot.cameras["front"].is_connected
    robot.cameras["wrist"] = MemoryCamera(is_broken=True)
    with pytest.raises(ConnectionError, match="no such camera"):
        robot.connect()
    assert not robot.is_connected
    assert not robot.cameras["front"].is_connected


def test_the_configuration_survives_a_round_trip_through_yaml(tmp_path):
    config = FrankaConfig(id="arm", control_mode="ee_delta", max_relative_target=dict.fromkeys(JOINT_KEYS, 0.2), calibration_dir=tmp_path)
    path = tmp_path / "robot.yaml"
    path.write_text(draccus.dump(config))
    assert draccus.parse(FrankaConfig, path, args=[]) == config
