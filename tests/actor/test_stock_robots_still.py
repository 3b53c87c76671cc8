"""LeRobot's own SO-101 and LeKiwi, on a motor bus in memory: what their motors are told while they should hold still."""

from functools import partial

import numpy as np
import pytest
from free_robot import FPS, stats_of
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.robots.lekiwi import lekiwi
from lerobot.robots.lekiwi.config_lekiwi import LeKiwiConfig
from lerobot.robots.so_follower import SO101Follower, SO101FollowerConfig, so_follower
from sagging_bus import SaggingBus
from small_robots import LeaderWithEvents

from lerobot_serl.actor.controls import Controls
from lerobot_serl.actor.robot_setup import PolicyNeeds, RobotSettings, make_robot_world
from lerobot_serl.actor.settings import ResetConfig, TakeoverConfig
from lerobot_serl.actor.takeover import Takeover

LIFT = "shoulder_lift"


def world_of(robot, start, new_takeover=None, pause_s=0.02):
    robot.connect()
    keys = tuple(robot.action_features)
    low, high = dict.fromkeys(keys, -60.0), dict.fromkeys(keys, 60.0)
    demo_stats = stats_of(
        keys, low.values(), high.values(), start=tuple(start.get(key, 0.0) for key in keys), action_step=(20.0,) * len(keys)
    )
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (len(keys),))}
    settings = RobotSettings(reset=ResetConfig(mode="pose", speed=20.0 * FPS, pause_s=pause_s))
    made = make_robot_world(robot, settings, PolicyNeeds(inputs, len(keys), FPS, demo_stats), Controls(), new_takeover, None)
    return made[0] if new_takeover is None else made


@pytest.fixture
def so101(monkeypatch, tmp_path):
    monkeypatch.setattr(so_follower, "FeetechMotorsBus", SaggingBus)
    return SO101Follower(SO101FollowerConfig(port="nowhere", calibration_dir=tmp_path))


@pytest.fixture
def kiwi(monkeypatch, tmp_path):
    monkeypatch.setattr(lekiwi, "FeetechMotorsBus", SaggingBus)
    return lekiwi.LeKiwi(LeKiwiConfig(port="nowhere", cameras={}, calibration_dir=tmp_path))


def test_the_so101_s_shoulder_stays_at_its_goal_through_pauses_takeovers_and_the_end(so101):
    leader = LeaderWithEvents(**dict.fromkeys(so101.action_features, 0.0), **{})
    leader.values["shoulder_lift.pos"] = -36.0
    new_takeover = partial(Takeover, leader, Controls(), TakeoverConfig(handover_s=2 / FPS), 1 / FPS)
    world, takeover = world_of(so101, {"shoulder_lift.pos": -36.0}, new_takeover)
    target = np.array([-36.0 if key == "shoulder_lift.pos" else 0.0 for key in so101.action_features], np.float32)
    world.reset()
    mark = len(so101.bus.goals)
    for _ in range(3):
        world.step(target)
        world.hold()
        leader.takes_over = True
        for _ in range(4):
            world.step_intervention(takeover.poll(world.measured))
        leader.takes_over = False
        assert takeover.poll(world.measured) is None
        world.hold()
    world.close()
    assert set(so101.bus.written("Goal_Position", LIFT)[mark:]) == {-36.0}
    assert so101.bus.present["Present_Position"][LIFT] == -36.0 - SaggingBus.SAG
    assert not so101.bus.torque


def test_the_lekiwi_s_wheels_stop_and_a_reset_does_not_drive(kiwi):
    """Demonstrations begin in motion, at 0.2 m/s."""
    world = world_of(kiwi, {"x.vel": 0.2})
    world.reset()
    assert {value for wheel in kiwi.base_motors for value in kiwi.bus.written("Goal_Velocity", wheel)} == {0}
    action = dict.fromkeys(kiwi.action_features, 0.0) | {"x.vel": 0.3, "arm_shoulder_lift.pos": -10.0}
    for end in (world.hold, world.reset, world.close):
        world.step_intervention(action)
        assert any(kiwi.bus.present["Present_Velocity"].values())
        end()
        assert not any(kiwi.bus.present["Present_Velocity"].values())
