"""Faults of LeRobot's own SO-101, leader and camera: what passes costs an episode, and what stays ends the process with a sentence."""

import logging

import numpy as np
import pytest
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.robots.bi_so_follower import BiSOFollower, BiSOFollowerConfig
from lerobot.robots.so_follower import SOFollower, SOFollowerConfig, SOFollowerRobotConfig, so_follower
from lerobot.teleoperators.so_leader import SOLeader, SOLeaderTeleopConfig, so_leader
from so101_bus import SO101_KEYS, Bus, FaultyCameraConfig

from lerobot_serl.actor.chunk import Chunk
from lerobot_serl.actor.controls import Controls
from lerobot_serl.actor.dropped import DroppedEpisodes
from lerobot_serl.actor.pace import Pace
from lerobot_serl.actor.reset import Reset
from lerobot_serl.actor.robot_io import RobotIo
from lerobot_serl.actor.robot_world import RobotWorld
from lerobot_serl.actor.rollout import Rollout
from lerobot_serl.actor.safety import Limiter
from lerobot_serl.actor.settings import ResetConfig, TakeoverConfig
from lerobot_serl.actor.takeover import Takeover
from lerobot_serl.actor.world import EpisodeSpoilt, WorldError

INPUTS = {
    "observation.state": PolicyFeature(FeatureType.STATE, (6,)),
    "observation.images.front": PolicyFeature(FeatureType.VISUAL, (3, 6, 5)),
}
CAMERA = {"front": FaultyCameraConfig(width=5, height=6, fps=30)}


@pytest.fixture(autouse=True)
def bus(monkeypatch):
    monkeypatch.setattr(so_follower, "FeetechMotorsBus", Bus)
    monkeypatch.setattr(so_leader, "FeetechMotorsBus", Bus)


class Lab:
    """A follower, perhaps its leader, and the loop around them."""

    def __init__(self, tmp_path, leader=False, reset=None):
        self.robot = SOFollower(SOFollowerRobotConfig(id="f", port="follower", calibration_dir=tmp_path, cameras=CAMERA))
        self.robot.connect()
        io = RobotIo("so_follower", self.robot.observation_features, self.robot.action_features, INPUTS, 6)
        self.controls, self.leader, takeover = Controls(), None, None
        if leader:
            self.leader = SOLeader(SOLeaderTeleopConfig(id="l", port="leader", calibration_dir=tmp_path))
            self.leader.connect()
            takeover = Takeover(self.leader, self.controls, TakeoverConfig(handover_s=0.0), 0.002)
        pose, speeds = dict.fromkeys(SO101_KEYS, 0.0), dict.fromkeys(SO101_KEYS, 1000.0)
        procedure = Reset(reset or ResetConfig(mode="none", pause_s=0.0), pose, speeds, lambda measured: None, Pace(500), self.controls)
        self.world = RobotWorld(self.robot, io, Limiter(None), [], Pace(500), 4, 60.0, "wave", reset_scene=procedure.run)
        self.rollout = Rollout(self.world, self._act, controls=self.controls, takeover=takeover)
        self.dropped = DroppedEpisodes(self.world, lambda: False, retry_after_s=0.01)

    def _act(self, observation):
        return Chunk(np.tile(np.linspace(1, 6, 6, dtype=np.float32) * len(self.robot.bus.log), (2, 1)), 0, 0.0)

    def episodes(self, number):
        """So many attempts; what came of each."""
        outcomes = []
        for _ in range(number):
            try:
                outcomes.append(len(self.rollout.run_episode()))
                self.dropped.forget()
            except EpisodeSpoilt as error:
                outcomes.append(str(error))
                self.dropped.add(error)
        return outcomes

    def fail(self, where, text):
        """From now on."""
        parts = {"bus": self.robot.bus, "camera": self.robot.cameras["front"], "leader": getattr(self.leader, "bus", None)}
        parts[where].faults.soon(text)


# where, event, kind, and what is said
PASSING = {
    "read lost": ("bus", "read", "lost", "The robot so_follower does not answer: SOFollower.get_observation() raised ConnectionError"),
    "read late": ("bus", "read", "late", "get_observation() raised TimeoutError"),
    "read io": ("bus", "read", "io", "Input/output error. Check its cable and power."),
    "read packet": ("bus", "read", "packet", "raised PacketLostError: checksum. Check its cable and power."),
    "read nan": ("bus", "read", "nan", "so_follower: 'elbow_flex.pos' reads nan, expected a finite number. Check the sensor."),
    "read missing": ("bus", "read", "missing", "so_follower: get_observation() lacks 'elbow_flex.pos'"),
    "write lost": ("bus", "write", "lost", "The robot so_follower does not answer: SOFollower.send_action() raised ConnectionError"),
    "frame late": ("camera", "frame", "late", "Camera 'front' of so_follower gives no frame: SOFollower.get_observation() raised TimeoutError"),
    "frame dead": ("camera", "frame", "dead", "Camera 'front' of so_follower gives no frame"),
    "frame gray": ("camera", "frame", "gray", "so_follower: camera 'front' gave uint8(6, 5), expected uint8(6, 5, 3). Check the camera."),
    "frame none": ("camera", "frame", "none", "so_follower: camera 'front' gave None, expected uint8(6, 5, 3)"),
    "frame float": ("camera", "frame", "float", "camera 'front' gave float64(6, 5, 3)"),
}  # fmt: skip


@pytest.mark.parametrize("name", PASSING)
def test_once_it_costs_an_episode_and_the_arm_holds(tmp_path, caplog, name):
    where, event, kind, said = PASSING[name]
    lab = Lab(tmp_path)
    assert lab.episodes(1) == [4]
    lab.fail(where, f"{event}@3={kind}")
    first, second = lab.episodes(2)
    assert said in first
    assert second == 4
    assert "Episode dropped: " in caplog.text
    lab.world.close()


@pytest.mark.parametrize("name", PASSING)
def test_three_times_in_a_row_it_ends_the_process(tmp_path, caplog, name):
    where, event, kind, said = PASSING[name]
    lab = Lab(tmp_path)
    lab.episodes(1)
    lab.fail(where, f"{event}@3x9999={kind}")
    with pytest.raises(WorldError, match="third attempt in a row to fail, so the process ends; finished episodes are kept") as end:
        lab.episodes(9)
    assert not isinstance(end.value, EpisodeSpoilt)
    assert said in str(end.value)
    assert caplog.text.count("Episode dropped: ") == 2
    lab.world.close()
    assert not any(lab.robot.bus.torque.values())


def test_two_faults_then_an_episode_then_two_more_go_on(tmp_path):
    lab = Lab(tmp_path)
    for _ in range(3):
        lab.fail("bus", "read@2x2=lost")  # the second one at the next episode's first reading
        assert [isinstance(outcome, int) for outcome in lab.episodes(3)] == [False, False, True]


def test_while_a_fault_lasts_the_arm_is_told_again_and_again_to_hold(tmp_path, caplog):
    """A base that rolls must not roll on because the packet that should have stopped it was lost as well."""
    lab = Lab(tmp_path)
    lab.episodes(1)
    lab.dropped = DroppedEpisodes(lab.world, lambda: False, retry_after_s=0.5)
    lab.fail("bus", "write@2x3=lost")  # the command, and the first two times that it is held
    caplog.clear()
    before = lab.robot.bus.faults.counts["write"]
    (outcome,) = lab.episodes(1)
    assert "send_action() raised ConnectionError" in outcome
    assert caplog.text.count("could not be told to hold still") == 1
    assert lab.robot.bus.faults.counts["write"] >= before + 5
    assert lab.robot.bus.log[-1].startswith("goal")
    assert lab.episodes(1) == [4]


def test_what_a_person_wants_ends_the_wait(tmp_path):
    lab = Lab(tmp_path)
    lab.dropped = DroppedEpisodes(lab.world, lambda: True, retry_after_s=3600.0)
    lab.fail("bus", "read@2=lost")
    lab.episodes(1)


def test_a_hold_that_fails_after_the_last_step_does_not_cost_the_episode(tmp_path, caplog):
    lab = Lab(tmp_path)
    lab.episodes(1)
    lab.fail("bus", "write@5=lost")  # four steps, then the hold
    assert lab.episodes(2) == [4, 4]
    assert "The episode is kept." in caplog.text


@pytest.mark.parametrize(
    ("mode", "fault"), [("pose", "read@3=lost"), ("pose", "write@2=lost"), ("none", "write@2=late"), ("pose", "read@3=nan")]
)
def test_faults_of_a_reset_and_of_a_pause_count_as_well(tmp_path, mode, fault):
    lab = Lab(tmp_path, reset=ResetConfig(mode=mode, pause_s=0.05))
    lab.episodes(1)
    lab.fail("bus", fault)
    dropped, done = lab.episodes(2)
    assert "so_follower" in dropped
    assert done == 4
    lab.fail("bus", fault.replace("=", "x9999="))
    with pytest.raises(WorldError, match="third attempt"):
        lab.episodes(9)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("lost", "The teleoperator so_leader does not answer: SOLeader.get_action() raised ConnectionError: Failed to sync read"),
        ("late", "SOLeader.get_action() raised TimeoutError"),
        ("nan", "so_leader: 'elbow_flex.pos' reads nan, expected a finite number"),
        ("missing", "so_leader: get_action() lacks 'elbow_flex.pos', which it gave before"),
    ],
)
def test_a_leader_s_fault_in_mid_takeover(tmp_path, kind, said):
    lab = Lab(tmp_path, leader=True)
    lab.controls.forget = lambda: lab.controls.press("space")  # at the beginning of each episode
    assert lab.episodes(1) == [4]
    lab.fail("leader", f"read@2={kind}")
    dropped, done = lab.episodes(2)
    assert said in dropped
    assert done == 4
    assert lab.robot.bus.log[-1].startswith("goal")
    lab.fail("leader", f"read@1x9999={kind}")
    with pytest.raises(WorldError, match="third attempt"):
        lab.episodes(9)


def test_a_leader_whose_motors_refuse_costs_an_episode_and_is_let_go_later(tmp_path):
    lab = Lab(tmp_path, leader=True)
    lab.leader.bus.faults.soon("torque@1=lost")  # after it was driven to the arm
    presses = iter(["space"])  # in the first episode alone
    lab.controls.forget = lambda: [lab.controls.press(key) for key in presses]
    dropped, done = lab.episodes(2)
    assert "SOLeader.disable_torque() raised ConnectionError" in dropped
    assert done == 4
    assert not any(lab.leader.bus.torque.values())


@pytest.mark.parametrize(
    ("where", "event", "kind", "said"),
    [
        ("bus", "read", "key", "The robot so_follower cannot go on: SOFollower.get_observation() raised KeyError: 'shoulder_pan' (so101_bus.py"),
        ("bus", "write", "type", "SOFollower.send_action() raised TypeError: unsupported operand"),
        ("bus", "write", "overload", "SOFollower.send_action() raised RuntimeError: Failed to write 'Torque_Enable'"),
        ("camera", "frame", "key", "SOFollower.get_observation() raised KeyError"),
        ("leader", "read", "key", "The teleoperator so_leader cannot go on: SOLeader.get_action() raised KeyError: 'shoulder_pan' (so101_bus.py"),
    ],
)  # fmt: skip
def test_a_driver_s_own_error_ends_it_at_once_with_class_and_method(tmp_path, caplog, where, event, kind, said):
    caplog.set_level(logging.DEBUG)
    lab = Lab(tmp_path, leader=True)
    lab.controls.forget = lambda: lab.controls.press("space")
    lab.episodes(1)
    lab.fail(where, f"{event}@3={kind}")
    with pytest.raises(WorldError) as end:
        lab.episodes(1)
    assert not isinstance(end.value, EpisodeSpoilt)
    assert said in str(end.value)
    assert "What it says comes from that class: follow it, or tell its author." in str(end.value)
    assert any(record.exc_info for record in caplog.records if record.levelno == logging.DEBUG)
    lab.world.close()
    assert not any(lab.robot.bus.torque.values())


def test_a_camera_whose_cable_is_pulled_is_named_and_the_arm_is_let_go(tmp_path, caplog):
    """LeRobot's `is_connected` is then False, its `disconnect` refuses, and the arm stayed under torque."""
    lab = Lab(tmp_path)
    lab.episodes(1)
    lab.fail("camera", "frame@3=unplug")
    with pytest.raises(WorldError, match="third attempt") as end:
        lab.episodes(9)
    assert "Camera 'front' of so_follower gives no frame" in str(end.value)
    assert "SOFollower is not connected" in str(end.value)
    assert not lab.robot.is_connected
    lab.world.close()
    assert not any(lab.robot.bus.torque.values())
    assert lab.robot.bus.log[-1] == "closed"
    assert "so_follower: disconnect() failed (DeviceNotConnectedError" in caplog.text


def test_a_camera_of_one_of_two_arms_is_named_as_the_observation_has_it(tmp_path):
    def arm(port):
        return SOFollowerConfig(port=port, cameras={"wrist": FaultyCameraConfig(width=5, height=6, fps=30)})

    robot = BiSOFollower(
        BiSOFollowerConfig(id="two", calibration_dir=tmp_path, left_arm_config=arm("left"), right_arm_config=arm("right"), cameras=CAMERA)
    )
    robot.connect()
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (12,))}
    io = RobotIo("bi_so_follower", robot.observation_features, robot.action_features, inputs, 12)
    world = RobotWorld(robot, io, Limiter(None), [], Pace(500), 4, 60.0, "wave")
    world.reset()
    for camera, key in (
        (robot.right_arm.cameras["wrist"], "right_wrist"),
        (robot.left_arm.cameras["wrist"], "left_wrist"),
        (robot.left_arm.cameras["front"], "front"),
    ):
        camera.faults.soon("frame@1=dead")
        with pytest.raises(EpisodeSpoilt, match=f"Camera '{key}' of bi_so_follower"):
            world.step(np.zeros(12))
    robot.right_arm.cameras["wrist"].faults.soon("frame@1=unplug")
    for _ in range(2):  # in the camera, and then in LeRobot's check before it is asked
        with pytest.raises(EpisodeSpoilt, match="Camera 'right_wrist' of bi_so_follower"):
            world.step(np.zeros(12))
    world.close()
    assert not any([*robot.left_arm.bus.torque.values(), *robot.right_arm.bus.torque.values()])
    assert [robot.left_arm.bus.is_connected, robot.right_arm.bus.is_connected] == [False, False]
