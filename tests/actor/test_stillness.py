"""Holding still with robots of any keys: what is sent at an episode's end, in pauses, after faults, at the end, and before anything was executed."""

from functools import partial

import numpy as np
import pytest
from free_robot import FPS, Free, FreeConfig, stats_of
from free_robot import make_free_world as make
from small_robots import Leader, LeaderWithEvents

from lerobot_serl.actor.chunk import Chunk
from lerobot_serl.actor.controls import Controls
from lerobot_serl.actor.rollout import Rollout
from lerobot_serl.actor.settings import ResetConfig, RobotKeysConfig, SafetyConfig, TakeoverConfig
from lerobot_serl.actor.takeover import Takeover
from lerobot_serl.actor.world import WorldError

MIXED = ("l_elbow.pos", "mobile_base.vx", "tool.z", "gripper.value")
MEASURED = ("l_elbow.pos", "mobile_base.vx", "gripper.pos")
DEMO_STATS = stats_of(MIXED, (0.0, 0.1, 0.2, 0.3), (1.0, 0.4, 0.3, 0.9))
ACTION = np.array([0.5, 0.3, 0.25, 0.8], np.float32)
STILL = pytest.approx({"l_elbow.pos": 0.5, "mobile_base.vx": 0.0, "tool.z": 0.25, "gripper.value": 0.8})


def test_a_pause_before_the_first_action_sends_no_key_that_nobody_knows():
    """Not a part of the action either: a robot may refuse that, or take what is missing for 0."""
    robot = Free(MIXED, MEASURED)
    world = make(robot, DEMO_STATS, reset=ResetConfig(mode="none", pause_s=0.05))
    world.reset()
    world.close()
    assert robot.sent == []
    assert robot.calls == ["disconnect"]


@pytest.mark.parametrize("end", ["hold", "close", "pause"])
def test_afterwards_the_last_executed_target_is_kept_and_the_base_stops(end):
    robot = Free(MIXED, MEASURED, sag=0.05)
    world = make(robot, DEMO_STATS, reset=ResetConfig(mode="none", pause_s=0.05))
    world.reset()
    world.step(ACTION)
    mark = len(robot.sent)
    {"hold": world.hold, "close": world.close, "pause": world.reset}[end]()
    assert robot.sent[mark:]
    assert all(sent == STILL for sent in robot.sent[mark:])


def test_an_arm_with_a_servo_error_does_not_sink_at_holds_and_pauses():
    robot = Free(("elbow.pos",), ("elbow.pos",), sag=3.0, **{"elbow.pos": -39.0})
    world = make(robot, stats_of(["elbow.pos"], [-60.0], [0.0], action_step=(9.0,)), reset=ResetConfig(mode="none", pause_s=0.02))
    world.reset()
    mark = len(robot.sent)
    for _ in range(3):
        world.step(np.array([-36.0], np.float32))
        for _ in range(3):
            world.hold()
        world.reset()
    assert {sent["elbow.pos"] for sent in robot.sent[mark:]} == {-36.0}


@pytest.mark.parametrize("fault", ["refused", "no answer"])
def test_a_first_action_that_failed_is_stopped_all_the_same(fault):
    """The base was told to drive. What was sent stands for what nobody knows to have been executed."""
    robot = Free(MIXED, MEASURED)
    world = make(robot, DEMO_STATS)
    world.reset()
    if fault == "refused":
        robot.on_send = lambda: (_ for _ in ()).throw(ConnectionError("one packet"))
    else:
        robot.answer = lambda executed: None
    with pytest.raises((WorldError, ConnectionError)):
        world.step(ACTION)
    robot.on_send = lambda: None
    world.close()
    assert robot.sent[-1]["mobile_base.vx"] == 0.0
    assert robot.sent[-1]["tool.z"] == pytest.approx(0.25)


def test_a_base_that_measures_nothing_is_stopped():
    robot = Free(("linear_velocity", "angular_velocity"), ())
    world = make(robot, stats_of(robot.keys, (0.2, -1.0), (1.0, 1.0)))
    world.reset()
    world.step(np.array([0.5, 0.5], np.float32))
    world.close()
    assert robot.sent[-1] == {"linear_velocity": 0.0, "angular_velocity": 0.0}


def test_a_base_is_stopped_also_when_its_last_observation_fails():
    robot = Free(("x.vel",), ("x.vel",))
    world = make(robot, stats_of(["x.vel"], [-1.0], [1.0]))
    world.step(np.array([0.5], np.float32))
    robot.on_observe = lambda: (_ for _ in ()).throw(ConnectionError("camera"))
    world._raw = {}  # as after a reset of its own that was interrupted
    world.close()
    assert robot.sent[-1] == {"x.vel": 0.0}


def test_limits_have_room_for_standing_still_and_are_printed_so(caplog):
    caplog.set_level("INFO")
    world = make(Free(MIXED, MEASURED), DEMO_STATS)
    assert "mobile_base.vx: 0 to 0.43\n" in caplog.text
    assert "Holding still: the last target for l_elbow.pos, tool.z, gripper.value and 0 for mobile_base.vx (" in caplog.text
    assert "Before the first action nothing is sent, since the robot does not measure tool.z, gripper.value." in caplog.text
    assert world.limiter.limits.step.tolist() == [np.inf] * 4


def test_limits_that_leave_out_standing_still_are_refused():
    with pytest.raises(ValueError, match=r"leave out 0 for 'mobile_base.vx', one of the velocities"):
        make(Free(MIXED, MEASURED), DEMO_STATS, safety=SafetyConfig(low={"mobile_base.vx": 0.1}))


def test_a_flag_and_a_declaration_say_what_a_name_does_not():
    for flags, config in ((dict(velocities=["go"]), FreeConfig()), ({}, FreeConfig(serl={"velocities": ["go"]}))):
        robot = Free(("arm.pos", "go"), ("arm.pos", "go"), config=config)
        world = make(robot, stats_of(robot.keys, (0, 0), (1, 1)), robot_keys=RobotKeysConfig(**flags))
        world.step(np.array([0.5, 0.5], np.float32))
        world.hold()
        assert robot.sent[-1] == {"arm.pos": 0.5, "go": 0.0}


def test_holding_passes_the_limits():
    """The robot says that it went farther than it was told, and the arm was pushed away."""
    robot = Free(("arm.pos", "tool.z"), ("arm.pos",))
    robot.answer = lambda executed: {"arm.pos": executed["arm.pos"], "tool.z": 9.0}
    world = make(robot, stats_of(robot.keys, (0.0, 0.0), (1.0, 1.0), action_step=(0.2, None)), safety=SafetyConfig(range_margin=0))
    world.step(np.array([0.2, 0.5], np.float32))
    robot.values["arm.pos"] = 0.8
    world.read()
    world.hold()
    assert robot.sent[-1] == pytest.approx({"arm.pos": 0.5, "tool.z": 1.0})


@pytest.mark.parametrize("measured", [-30.0, 150.0])
def test_an_arm_outside_its_range_is_held_where_it_is(measured):
    robot = Free(("arm.pos",), ("arm.pos",), **{"arm.pos": measured})
    world = make(robot, stats_of(["arm.pos"], [0.0], [100.0]))
    for _ in range(3):
        world.hold()
    assert [sent["arm.pos"] for sent in robot.sent] == [measured] * 3


def broken(numbers):
    raise KeyError("elbow")


def test_kinematics_that_fail_do_not_keep_the_robot_from_being_stopped(monkeypatch, caplog):
    monkeypatch.setattr("builtins.serl_test_broken", broken, raising=False)
    robot = Free(("arm.pos", "x.vel"), ("arm.pos",))
    box = SafetyConfig(kinematics="builtins:serl_test_broken", workspace_low_m=[0] * 3, workspace_high_m=[1] * 3)
    world = make(robot, stats_of(robot.keys, (0, 0), (1, 1)), safety=box)
    with pytest.raises(KeyError):
        world.step(np.array([0.5, 0.5], np.float32))
    world.close()
    assert robot.sent[-1] == {"arm.pos": 0.0, "x.vel": 0.0}
    assert "The workspace is not looked at while the arm is told to hold still" in caplog.text


def test_a_pose_resets_positions_and_never_velocities():
    """LeKiwi's keys, and demonstrations that begin in motion."""
    robot = Free(("arm.pos", "x.vel"), ("arm.pos", "x.vel"))
    demo_stats = stats_of(robot.keys, (0.0, -0.4), (1.0, 0.4), start=(0.5, 0.2))
    world = make(robot, demo_stats, reset=ResetConfig(speed=50))
    world.reset()
    assert robot.sent[-1] == {"arm.pos": 0.5, "x.vel": 0.0}
    assert {sent["x.vel"] for sent in robot.sent} == {0.0}
    with pytest.raises(ValueError, match=r"--reset.pose names \['x.vel'\], expected some of \['arm.pos'\]; velocities are 0 in a reset"):
        make(robot, demo_stats, reset=ResetConfig(mode="pose", pose={"x.vel": 0.2}))


def test_velocities_alone_have_no_pose(caplog):
    caplog.set_level("INFO")
    robot = Free(("x.vel", "gripper.pos"), ("x.vel", "gripper.pos"))
    demo_stats = stats_of(robot.keys, (-1, 0), (1, 1), start=(0.0, 0.5))
    make(robot, demo_stats)
    assert "reset: none." in caplog.text
    with pytest.raises(ValueError, match=r"no position known for \['x.vel', 'gripper.pos'\]"):
        make(robot, demo_stats, reset=ResetConfig(mode="pose"))


@pytest.mark.parametrize("handover_s", [0.0, 0.05])
def test_a_takeover_begins_with_the_executed_target_and_a_standing_base(handover_s):
    robot = Free(("arm.pos", "x.vel"), ("arm.pos", "x.vel"), sag=0.2)
    leader = LeaderWithEvents(**{"arm.pos": 0.5, "x.vel": 0.0})
    new_takeover = partial(Takeover, leader, Controls(), TakeoverConfig(handover_s=handover_s), 1 / FPS)
    world, takeover = make(robot, stats_of(robot.keys, (0, -1), (1, 1)), new_takeover)
    world.reset()
    world.step(np.array([0.5, 0.9], np.float32))
    leader.takes_over = True
    mark = len(robot.sent)
    for _ in range(5):
        world.step_intervention(takeover.poll(world.measured))
    assert all(sent == pytest.approx({"arm.pos": 0.5, "x.vel": 0.0}) for sent in robot.sent[mark:])


def test_a_takeover_of_targets_that_nobody_measures_slides_from_the_executed_ones():
    robot = Free(("ee.x", "ee.z"), ("j1.pos",))
    device = LeaderWithEvents(**{"ee.x": 0.5, "ee.z": 0.3})
    new_takeover = partial(Takeover, device, Controls(), TakeoverConfig(handover_s=4 / FPS), 1 / FPS)
    world, takeover = make(robot, stats_of(robot.keys, (0, 0), (1, 1)), new_takeover)
    world.step(np.array([0.5, 0.5], np.float32))
    device.takes_over = True
    for _ in range(4):
        world.step_intervention(takeover.poll(world.measured))
    assert [sent["ee.z"] for sent in robot.sent] == pytest.approx([0.5, 0.45, 0.4, 0.35, 0.3])
    takeover.begin()
    device.values["ee.z"] = 0.9
    assert takeover.poll(world.measured) is None  # too far away


def test_a_base_in_motion_does_not_make_a_leader_too_far_away():
    robot = Free(("arm.pos", "x.vel"), ("arm.pos", "x.vel"))
    leader, controls = Leader(**{"arm.pos": 0.5, "x.vel": 1.0}), Controls()
    new_takeover = partial(Takeover, leader, controls, TakeoverConfig(handover_s=0.02), 1 / FPS)
    world, takeover = make(robot, stats_of(robot.keys, (0, -1), (1, 1)), new_takeover)
    world.step(np.array([0.5, 0.0], np.float32))
    controls.press("space")
    assert takeover.poll(world.measured) is not None
    assert takeover.count == 1


@pytest.mark.parametrize("most", [0.05, {"arm": 0.05}, {"arm.pos": 0.05}])
def test_a_robot_that_clips_without_saying_so_is_named_once(most, caplog):
    robot = Free(("arm.pos",), ("arm.pos",), config=FreeConfig(max_relative_target=most))
    world = make(robot, stats_of(["arm.pos"], [0.0], [1.0]))
    for value in (0.02, 0.5, 0.1, 0.9):
        world.step(np.array([value], np.float32))
    assert caplog.text.count("it clips without saying so") == 1
    assert "free says that it carried out 'arm.pos' 0.48 away from the measured value, though max_relative_target=0.05" in caplog.text


def test_a_gripper_that_the_limit_does_not_hold_for_is_no_sign_of_clipping(caplog):
    robot = Free(("arm.pos", "gripper.pos"), ("arm.pos", "gripper.pos"), config=FreeConfig(max_relative_target=0.05))
    make(robot, stats_of(robot.keys, (0, 0), (1, 1))).step(np.array([0.05, 1.0], np.float32))
    assert "it clips" not in caplog.text


def test_an_episode_of_a_mixed_robot_ends_still():
    robot = Free(MIXED, MEASURED)
    world = make(robot, DEMO_STATS, episode_time_s=3 / FPS)
    recording = Rollout(world, lambda observation: Chunk(np.tile(ACTION, (3, 1)), 0, 0.0)).run_episode()
    assert len(recording) == 3
    assert robot.sent[-1] == STILL
