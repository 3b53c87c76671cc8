"""Leaving a robot: torque goes off whatever its `disconnect` says, and what stays on is said."""

import logging
import signal

import pytest
from lerobot.robots.bi_so_follower import BiSOFollower, BiSOFollowerConfig
from lerobot.robots.lekiwi import LeKiwiConfig
from lerobot.robots.reachy2 import Reachy2RobotConfig
from lerobot.robots.so_follower import SOFollower, SOFollowerConfig, SOFollowerRobotConfig, so_follower
from lerobot.teleoperators.so_leader import SOLeader, SOLeaderTeleopConfig, so_leader
from small_robots import Leader, TwoArms
from so101_bus import MOTORS, Bus, FaultyCameraConfig

from lerobot_serl.actor.leaving import StillPowered, close_all, has_motors, leave, torque_at_the_end


@pytest.fixture(autouse=True)
def bus(monkeypatch):
    monkeypatch.setattr(so_follower, "FeetechMotorsBus", Bus)
    monkeypatch.setattr(so_leader, "FeetechMotorsBus", Bus)


def camera():
    return FaultyCameraConfig(width=5, height=6, fps=30)


def follower(tmp_path, **changes):
    cameras = {"front": camera(), "wrist": camera()}
    robot = SOFollower(SOFollowerRobotConfig(id="f", port="follower", calibration_dir=tmp_path, cameras=cameras, **changes))
    robot.connect()
    return robot


def two_arms(tmp_path, **right):
    arms = {"left_arm_config": SOFollowerConfig(port="left"), "right_arm_config": SOFollowerConfig(port="right", **right)}
    robot = BiSOFollower(BiSOFollowerConfig(id="two", calibration_dir=tmp_path, **arms))
    robot.connect()
    return robot


def under_torque(bus):
    return [motor for motor, on in bus.torque.items() if on]


def test_a_whole_robot_is_disconnected_without_a_word(tmp_path, caplog):
    robot = follower(tmp_path)
    assert under_torque(robot.bus) == list(MOTORS)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        leave(robot)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert (under_torque(robot.bus), robot.is_connected, said) == ([], False, [])


def test_with_a_camera_away_lerobot_refuses_and_the_parts_are_disconnected(tmp_path, caplog):
    robot = follower(tmp_path)
    robot.cameras["front"].disconnect()
    assert not robot.is_connected
    leave(robot)
    assert under_torque(robot.bus) == []
    assert [robot.bus.is_connected, robot.cameras["wrist"].is_connected] == [False, False]
    assert "so_follower: disconnect() failed (DeviceNotConnectedError: SOFollower is not connected." in caplog.text
    assert "its parts were disconnected one by one" in caplog.text


class Silent(SOFollower):
    def disconnect(self):
        if self.is_connected:
            super().disconnect()


def test_a_robot_whose_disconnect_then_does_nothing_is_no_better(tmp_path, caplog):
    robot = Silent(SOFollowerRobotConfig(id="f", port="follower", calibration_dir=tmp_path, cameras={"front": camera()}))
    robot.connect()
    robot.cameras["front"].disconnect()
    leave(robot)
    assert (under_torque(robot.bus), robot.bus.is_connected) == ([], False)
    assert "so_follower: disconnect() failed (it did nothing, since the device says that it is not connected)" in caplog.text


def test_a_camera_that_fails_while_the_torque_is_off_already_is_no_danger(tmp_path):
    robot = follower(tmp_path)
    robot.cameras["front"].disconnect = lambda: (_ for _ in ()).throw(RuntimeError("stuck"))
    leave(robot)
    assert under_torque(robot.bus) == []
    assert not robot.cameras["wrist"].is_connected


def test_a_motor_in_overload_is_named_and_does_not_keep_the_others_under_torque(tmp_path):
    robot = follower(tmp_path)
    robot.bus.faults.soon("shoulder_lift@1x99=overload")
    with pytest.raises(StillPowered) as end:
        leave(robot)
    assert under_torque(robot.bus) == ["shoulder_lift"]
    assert not robot.bus.is_connected
    said = str(end.value)
    assert said.startswith("so_follower could not be disconnected (RuntimeError: Failed to write 'Torque_Enable' on shoulder_lift")
    assert said.endswith("its motors (shoulder_lift) may still be under torque. Support the arm and switch its power off.")
    assert said.count("Overload error!") == 1


def test_a_motor_that_lets_go_at_the_second_attempt_is_no_error(tmp_path):
    robot = follower(tmp_path)
    robot.bus.faults.soon("gripper@1x2=overload")
    leave(robot)
    assert under_torque(robot.bus) == []


def test_a_bus_that_is_away_altogether(tmp_path):
    robot = follower(tmp_path)
    robot.bus.is_connected = False
    with pytest.raises(StillPowered, match=r"its motors \(bus\) may still be under torque"):
        leave(robot)


def test_torque_that_is_to_stay_on_is_left_on_and_said(tmp_path):
    robot = follower(tmp_path, disable_torque_on_disconnect=False)
    robot.cameras["front"].disconnect()
    leave(robot)
    assert under_torque(robot.bus) == list(MOTORS)
    assert not robot.bus.is_connected


def test_of_two_arms_one_may_fail(tmp_path):
    robot = two_arms(tmp_path)
    robot.left_arm.bus.faults.soon("gripper@1x99=overload")
    with pytest.raises(StillPowered, match=r"its motors \(left_arm gripper\) may still be under torque"):
        leave(robot)
    assert (under_torque(robot.left_arm.bus), under_torque(robot.right_arm.bus)) == (["gripper"], [])
    robot = two_arms(tmp_path)
    robot.right_arm.bus.is_connected = False  # LeRobot's own disconnect would leave the left arm as it is
    with pytest.raises(StillPowered, match=r"its motors \(right_arm bus\)"):
        leave(robot)
    assert under_torque(robot.left_arm.bus) == []


@pytest.mark.parametrize("error", [RuntimeError("no"), ValueError("Attempt to use a port that is not open"), KeyboardInterrupt()])
def test_a_robot_without_known_parts(error):
    robot = TwoArms()
    robot.connect()
    robot.disconnect = lambda: (_ for _ in ()).throw(error)
    with pytest.raises(
        StillPowered, match=rf"two_arms could not be disconnected \({type(error).__name__}.*its motors may still be under torque"
    ):
        leave(robot)


@pytest.fixture
def ctrl_c():
    """A job in a shell's background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_it_disconnects_does_not_hide_what_is_under_torque(ctrl_c):
    robot = TwoArms()
    robot.connect()

    def disconnect():
        signal.raise_signal(signal.SIGINT)
        raise RuntimeError("overload")

    robot.disconnect = disconnect
    with pytest.raises(StillPowered, match="overload"):
        leave(robot)
    robot.disconnect = lambda: signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        leave(robot)
    robot.connected = False


def test_after_a_connect_that_failed_only_what_was_connected_counts(tmp_path, caplog):
    robot = SOFollower(SOFollowerRobotConfig(id="f", port="follower", calibration_dir=tmp_path))
    leave(robot, has_been_connected=False)  # LeRobot refuses: nothing was
    robot.bus.connect()
    robot.bus.enable_torque()
    robot.cameras["front"] = TwoArms  # whatever stopped it
    robot.disconnect = lambda: (_ for _ in ()).throw(ConnectionError("not connected"))
    leave(robot, has_been_connected=False)
    assert (under_torque(robot.bus), robot.bus.is_connected, caplog.text) == ([], False, "")
    unknown = TwoArms()
    unknown.disconnect = robot.disconnect
    leave(unknown, has_been_connected=False)


def test_a_leader_s_motors_count_and_a_device_without_motors_has_none(tmp_path, caplog):
    leader = SOLeader(SOLeaderTeleopConfig(id="l", port="leader", calibration_dir=tmp_path))
    leader.connect()
    assert has_motors(leader)
    leader.bus.faults.soon("torque@1x99=overload")
    with pytest.raises(StillPowered, match="so_leader could not be disconnected"):
        leave(leader)
    device = Leader(delta_x=0.0)
    assert not has_motors(device)
    device.disconnect = lambda: (_ for _ in ()).throw(OSError("gone"))
    leave(device)
    assert "leader: disconnect() failed (OSError: gone)" in caplog.text


def test_everything_is_closed_and_torque_comes_last(caplog):
    closed = []

    def powered():
        raise StillPowered("gripper")

    with pytest.raises(StillPowered, match="gripper"):
        close_all([powered, lambda: 1 / 0, lambda: closed.append("spool")])
    assert closed == ["spool"]
    assert "While stopping: division by zero" in caplog.text
    assert "gripper" not in caplog.text


@pytest.mark.parametrize(
    ("role", "config", "said"),
    [
        ("robot", SOFollowerRobotConfig(port="x"),
         "goes off, and what is not supported falls (--robot.disable_torque_on_disconnect=false changes that)."),
        ("robot", LeKiwiConfig(cameras={}), "goes off, and what is not supported falls (--robot.disable_torque_on_disconnect=false"),
        ("robot", Reachy2RobotConfig(), "stays on, at the last target (--robot.disable_torque_on_disconnect=true changes that)."),
        ("robot", BiSOFollowerConfig(left_arm_config=SOFollowerConfig(port="l"), right_arm_config=SOFollowerConfig(port="r")),
         "goes off, and what is not supported falls (--robot.left_arm_config.disable_torque_on_disconnect=false "
         "--robot.right_arm_config.disable_torque_on_disconnect=false changes that)."),
        ("robot", BiSOFollowerConfig(left_arm_config=SOFollowerConfig(port="l", disable_torque_on_disconnect=False),
                                     right_arm_config=SOFollowerConfig(port="r")),
         "--robot.left_arm_config.disable_torque_on_disconnect=false: stays on, at the last target; "
         "--robot.right_arm_config.disable_torque_on_disconnect=true: goes off, and what is not supported falls."),
        ("teleop", SOLeaderTeleopConfig(port="x"), "not known, since its configuration has no disable_torque_on_disconnect."),
        ("robot", None, "not known"),
    ],
)  # fmt: skip
def test_what_happens_to_torque_is_said_at_the_start(role, config, said):
    device = TwoArms()
    device.config = config
    assert torque_at_the_end(device, role).startswith("Torque of two_arms at the end: ")
    assert said in torque_at_the_end(device, role)
