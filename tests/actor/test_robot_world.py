"""A robot as a world: two arms and a camera in memory, and the real simulated Panda."""

import logging

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from small_robots import CAMERA, KEYS, TwoArms, TwoArmsConfig, slow

from lerobot_serl.actor.chunk import Chunk
from lerobot_serl.actor.controls import Controls
from lerobot_serl.actor.judges import RobotJudge, Verdict
from lerobot_serl.actor.pace import Pace
from lerobot_serl.actor.reset import Reset
from lerobot_serl.actor.robot_io import RobotIo
from lerobot_serl.actor.robot_world import RobotWorld
from lerobot_serl.actor.rollout import Rollout
from lerobot_serl.actor.safety import Limiter, Limits
from lerobot_serl.actor.settings import ResetConfig
from lerobot_serl.actor.world import EpisodeSpoilt, WorldError
from lerobot_serl.replay.episode import Decider
from lerobot_serl.robots.config_franka_sim_robot import FrankaSimRobotConfig
from lerobot_serl.robots.franka_sim_robot import FrankaSimRobot

IMAGE = f"observation.images.{CAMERA}"
INPUTS = {"observation.state": PolicyFeature(FeatureType.STATE, (4,)), IMAGE: PolicyFeature(FeatureType.VISUAL, (3, 6, 5))}


class ScriptedJudge:
    """Says success, or failure, at the step of that number."""

    def __init__(self, at, success=True, decider=Decider.FUNCTION):
        self.at, self.verdict, self.begun, self.seen = at, Verdict(success, decider), 0, []

    def begin(self):
        self.begun += 1
        self.seen = []

    def judge(self, raw):
        self.seen.append(raw)
        return self.verdict if len(self.seen) >= self.at else None


def make_world(robot=None, limits=None, judges=(), fps=200, limit=5, max_age_s=60.0, show=None, **settings):
    robot = robot or TwoArms()
    robot.connect()
    names = dict(state_names=KEYS, action_names=KEYS)
    io = RobotIo(robot.name, robot.observation_features, robot.action_features, INPUTS, 4, **names)
    pace = None if robot.config.lockstep else Pace(fps)
    return RobotWorld(robot, io, Limiter(limits), judges, pace, limit, max_age_s, "fold it", show, **settings)


def test_observations_of_two_arms_and_a_camera():
    robot = TwoArms(**{"right_elbow.pos": 0.5})
    observation = make_world(robot).reset()
    assert observation["observation.state"].tolist() == [0.0, 0.0, 0.5, 0.0]
    assert observation[IMAGE].shape == (3, 6, 5)
    assert observation[IMAGE].dtype == torch.uint8


def test_the_action_that_is_stored_is_the_one_that_was_executed():
    world = make_world()
    world.reset()
    result = world.step(np.array([3.0, 0.25, -7.0, 1.0], np.float32))
    assert world.robot.sent[-1] == dict(zip(KEYS, [3.0, 0.25, -7.0, 1.0], strict=True))
    assert result.executed.tolist() == [1.0, 0.25, -1.0, 1.0]
    assert result.executed.dtype == np.float32
    assert result.observation["observation.state"].tolist() == [1.0, 0.25, -1.0, 1.0]  # of after the action
    by_hand = world.step_intervention({**dict.fromkeys(KEYS, -2.0), "button": 1.0})
    assert by_hand.executed.tolist() == [-1.0] * 4


def test_targets_are_limited_before_they_are_sent():
    limits = Limits(KEYS, np.full(4, -0.5), np.full(4, 0.5), np.array([0.1, np.inf, np.inf, np.inf]))
    world = make_world(limits=limits)
    world.reset()
    world.step(np.array([0.4, 0.9, -0.2, 0.0]))
    assert list(world.robot.sent[-1].values()) == pytest.approx([0.1, 0.5, -0.2, 0.0])
    world.step_intervention(dict.fromkeys(KEYS, 0.4))  # a person's too; from 0.1 now
    assert world.robot.sent[-1][KEYS[0]] == pytest.approx(0.2)
    assert world.report()["clamps"] == 3
    world.reset()
    assert world.report()["clamps"] == 0


def test_nothing_is_sent_when_the_policy_is_broken():
    world = make_world()
    world.reset()
    with pytest.raises(WorldError, match="expected a finite number; it was not sent"):
        world.step(np.array([0.0, np.nan, 0.0, 0.0]))
    assert all(np.isfinite(list(action.values())).all() for action in world.robot.sent)  # the arm is told to hold


@pytest.mark.parametrize("answer", [lambda executed: None, lambda executed: dict(list(executed.items())[:2])])
def test_a_robot_that_does_not_say_what_it_executed_is_an_error_at_the_first_step(answer):
    world = make_world()
    world.robot.answer = answer
    world.reset()
    with pytest.raises(WorldError, match=r"send_action\(\) returned"):
        world.step(np.zeros(4))


def test_the_time_limit_truncates():
    world = make_world(limit=3)
    for _ in range(2):  # counted anew in each episode
        world.reset()
        results = [world.step(np.zeros(4)) for _ in range(3)]
        assert [(r.terminated, r.truncated, r.decided_by) for r in results[:2]] == [(False, False, Decider.NOBODY)] * 2
        assert (results[2].terminated, results[2].truncated, results[2].decided_by) == (False, True, Decider.TIME_LIMIT)


@pytest.mark.parametrize("success", [True, False])
def test_a_verdict_ends_the_episode_also_at_the_time_limit(success):
    judge = ScriptedJudge(3, success)
    world = make_world(judges=[judge], limit=3)
    world.reset()
    results = [world.step(np.zeros(4)) for _ in range(3)]
    assert [r.reward for r in results] == [0, 0, float(success)]
    assert (results[2].terminated, results[2].truncated, results[2].decided_by) == (True, False, Decider.FUNCTION)
    assert judge.begun == 1
    assert all(set(raw) == {*KEYS, CAMERA} for raw in judge.seen)  # the robot's own keys


def test_the_first_judge_that_says_something_decides():
    world = make_world(judges=[ScriptedJudge(9), ScriptedJudge(1, decider=Decider.ROBOT), ScriptedJudge(1)])
    world.reset()
    assert world.step(np.zeros(4)).decided_by is Decider.ROBOT


def still(world):
    return world.robot.sent[-1]


def test_holding_keeps_the_targets_that_were_executed_last():
    world = make_world()
    world.robot.stuck = {"left_elbow.pos", "right_gripper.pos"}
    world.reset()
    world.step(np.array([0.5, 0.75, 0.5, 2.0]))
    world.hold()
    # neither the elbow's servo error nor what the gripper holds comes into it
    assert still(world) == {"left_elbow.pos": 0.5, "left_gripper.pos": 0.75, "right_elbow.pos": 0.5, "right_gripper.pos": 1.0}


def test_before_the_first_action_the_measured_values_are_held():
    world = make_world(TwoArms(**{"left_elbow.pos": 0.25}))
    world.hold()
    assert still(world) == {**dict.fromkeys(KEYS, 0.0), "left_elbow.pos": 0.25}


def test_an_arm_that_gives_way_is_not_followed_down():
    world = make_world()
    world.reset()
    world.step(np.full(4, 0.5))
    world.hold()
    for _ in range(3):
        world.robot.positions["left_elbow.pos"] -= 0.05
        world.read()
        world.hold()
        assert still(world)["left_elbow.pos"] == 0.5
    world.step(np.zeros(4))
    world.hold()
    assert still(world)["left_elbow.pos"] == 0.0  # a new place to hold


def test_holding_stops_what_is_commanded_as_a_velocity():
    """LeKiwi's base, for example: it measures `x.vel`, and sending that again would let it drive on."""
    keys = ("x.vel", "theta.vel", "arm.pos", "delta.pos")

    class Base(TwoArms):
        observation_features = property(lambda self: dict.fromkeys(keys[:3], float))
        action_features = property(lambda self: dict.fromkeys(keys, float))

        def get_observation(self):
            return {"x.vel": 0.3, "theta.vel": -1.0, "arm.pos": 0.7}

        def send_action(self, action):
            self.sent.append(dict(action))
            return dict(action)

    robot = Base()
    robot.connect()
    io = RobotIo("base", robot.observation_features, robot.action_features, {}, 4, action_names=keys)
    world = RobotWorld(robot, io, Limiter(None), [], Pace(200), 5, 60.0, "")
    world.hold()
    assert still(world) == {"x.vel": 0.0, "theta.vel": 0.0, "arm.pos": 0.7, "delta.pos": 0.0}
    world.reset()
    assert world.stay().executed.tolist() == pytest.approx([0.0, 0.0, 0.7, 0.0])
    world.step(np.array([0.3, -1.0, 0.4, 0.1], np.float32))
    for _ in range(2):  # it goes on measuring 0.7
        assert world.stay().executed.tolist() == pytest.approx([0.0, 0.0, 0.4, 0.0])
    assert still(world) == pytest.approx({"x.vel": 0.0, "theta.vel": 0.0, "arm.pos": 0.4, "delta.pos": 0.0})


def test_staying_is_a_step_that_keeps_the_last_target():
    """While there is no plan: time goes on, and the arm is neither lowered by its servo error nor moved."""
    world = make_world(limit=4)
    world.robot.stuck = {"left_elbow.pos"}
    world.reset()
    world.step(np.array([0.5, 0.75, 0.5, 2.0]))
    results = [world.stay() for _ in range(3)]
    assert [result.executed.tolist() for result in results] == [[0.5, 0.75, 0.5, 1.0]] * 3
    assert [result.truncated for result in results] == [False, False, True]
    assert still(world) == dict(zip(KEYS, [0.5, 0.75, 0.5, 1.0], strict=True))


def test_where_nobody_knows_how_to_stay_nothing_is_sent():
    class Blind(TwoArms):
        observation_features = property(lambda self: {CAMERA: (6, 5, 3)})

        def get_observation(self):
            return {CAMERA: self.image}

    robot = Blind()
    robot.connect()
    io = RobotIo("blind", robot.observation_features, robot.action_features, {IMAGE: INPUTS[IMAGE]}, 4, action_names=KEYS)
    world = RobotWorld(robot, io, Limiter(None), [], Pace(200), 5, 60.0, "")
    world.reset()
    with pytest.raises(WorldError, match=r"two_arms has no plan yet, and cannot hold still: it measures none of .*left_elbow.pos"):
        world.stay()
    assert robot.sent == []
    world.step(np.full(4, 0.5))
    assert world.stay().executed.tolist() == [0.5] * 4


def test_nothing_is_held_in_lockstep():
    world = make_world(TwoArms(TwoArmsConfig(lockstep=True)))
    assert world.simulated
    world.hold()
    assert world.robot.sent == []
    assert "late_ticks" not in world.report()


def test_closing_holds_and_disconnects_once():
    world = make_world()
    world.reset()
    world.step(np.full(4, 0.5))
    world.close()
    world.close()
    assert world.robot.calls[-2:] == ["send", "disconnect"]
    assert world.robot.calls.count("disconnect") == 1
    assert set(still(world).values()) == {0.5}


class Homing(TwoArms):
    """Moves home by itself, past `send_action`; `on_home` is called half way."""

    on_home = staticmethod(lambda: None)

    def reset(self):
        self.positions = {key: value / 2 for key, value in self.positions.items()}
        self.on_home()
        self.positions = dict.fromkeys(KEYS, 0.0)


def test_after_the_robots_own_reset_nothing_brings_the_arm_back_or_lower():
    """It keeps its own targets; those from before, and measured ones, which a load lowers, are not sent."""
    procedure = Reset(ResetConfig(mode="robot", pause_s=0.05), {}, {}, lambda measured: None, Pace(100), Controls())
    world = make_world(Homing(), reset_scene=procedure.run)
    world.reset()
    for _ in range(2):  # from where the first episode began, and from where the last one ended
        world.step(np.full(4, 0.8))
        world.hold()
        sent = len(world.robot.sent)
        observation = world.reset()
        assert world.robot.sent[sent:] == []
        assert observation["observation.state"].tolist() == [0.0] * 4
    world.close()
    assert set(still(world).values()) == {0.0}


def test_stopped_on_the_way_home_the_arm_stays_where_it_is():
    world = make_world(Homing())
    world.reset()
    world.step(np.full(4, 0.8))
    world.hold()
    world.robot.on_home = fail(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        world.go_home()
    world.close()
    assert list(still(world).values()) == pytest.approx([0.4] * 4)
    assert world.robot.calls[-2:] == ["send", "disconnect"]


def fail(error):
    def raises():
        raise error

    return raises


@pytest.mark.parametrize("error", [ConnectionError("cable"), ValueError("bad"), KeyboardInterrupt()])
def test_disconnect_is_reached_also_when_holding_fails(error, caplog):
    world = make_world()
    world.robot.on_send = fail(error)
    if isinstance(error, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            world.close()
    else:
        world.close()
        assert "two_arms could not be told to hold still: The robot two_arms" in caplog.text
        assert f"TwoArms.send_action() raised {type(error).__name__}: {error}" in caplog.text
    assert not world.robot.is_connected


@pytest.mark.parametrize("where", ["on_send", "on_observe"])
def test_a_keyboard_interrupt_within_a_step_comes_through_and_the_arm_is_held(where):
    world = make_world()
    world.reset()
    setattr(world.robot, where, fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        world.step(np.full(4, 0.5))
    setattr(world.robot, where, lambda: None)
    world.close()
    assert world.robot.calls[-2:] == ["send", "disconnect"]


def test_an_old_observation_spoils_the_episode_and_the_arm_holds():
    world = make_world(max_age_s=0.2)
    world.reset()
    world.robot.on_observe = lambda: slow(0.3)
    with pytest.raises(EpisodeSpoilt, match=r"an observation took 0\.\d+ s, at most 0.20 s is allowed.*max_observation_age_s"):
        world.step(np.full(4, 0.5))
    assert world.robot.calls[-3:] == ["send", "observe", "send"]
    assert still(world)["left_elbow.pos"] == 0.5  # what it was told last
    world.robot.on_observe = lambda: None
    assert world.reset() is not None  # and another episode may be tried


def test_a_camera_that_gives_no_frame_spoils_the_episode_too():
    world = make_world()
    world.reset()
    world.robot.on_observe = fail(TimeoutError("no frame from camera front within 200 ms"))
    with pytest.raises(EpisodeSpoilt, match=r"Camera 'front' of two_arms gives no frame: .*no frame from camera front within 200 ms"):
        world.step(np.zeros(4))
    assert world.robot.calls[-1] == "send"


@pytest.mark.parametrize("lockstep", [False, True])
def test_the_first_observation_may_wake_the_cameras_and_in_lockstep_nothing_ages(lockstep):
    robot = TwoArms(TwoArmsConfig(lockstep=lockstep))
    robot.on_observe = lambda: slow(0.1)
    world = make_world(robot, max_age_s=0.05)
    if lockstep:
        world.reset()


def test_an_incomplete_observation_spoils_the_episode():
    world = make_world()
    world.robot.positions["right_elbow.pos"] = float("nan")
    with pytest.raises(EpisodeSpoilt, match=r"'right_elbow\.pos' reads nan"):
        world.reset()


def test_late_ticks_are_counted_and_reported():
    world = make_world(fps=20)
    world.reset()
    world.step(np.zeros(4))
    before = world.report()["late_ticks"]
    world.robot.on_send = lambda: slow(0.15)
    world.step(np.zeros(4))
    report = world.report()
    assert report["late_ticks"] == before + 1
    assert report["worst_lateness_s"] >= 0.09
    world.robot.on_send = lambda: None
    world.reset()
    assert world.report()["late_ticks"] == 0


def test_own_time_leaves_out_robot_and_sleep():
    world = make_world(fps=4)
    world.robot.on_send = lambda: slow(0.15)
    world.reset()
    for _ in range(3):
        world.step(np.zeros(4))
    assert 0 < world.report()["own_ms"] < 90  # the robot takes 150 ms, the rest of the period another 100 ms


def test_frames_and_joints_of_a_tick_belong_together_and_are_shown():
    shown = []
    world = make_world(show=lambda raw, action: shown.append((raw["left_elbow.pos"], action["left_elbow.pos"])))
    world.reset()
    for value in (0.1, 0.2, 5.0):
        world.step(np.full(4, value))
    assert [(round(seen, 6), round(done, 6)) for seen, done in shown] == [(0.0, 0.1), (0.1, 0.2), (0.2, 1.0)]


def test_a_session_records_what_was_executed_by_both_arms():
    world = make_world(judges=[ScriptedJudge(4)], limit=9)

    def act(observation):
        return Chunk(np.array([[0.5, 2.0, -3.0, 0.0]] * 3, np.float32), 0, 0.0)

    recording = Rollout(world, act, controls=Controls()).run_episode()
    assert recording.action.tolist() == [[0.5, 1.0, -1.0, 0.0]] * 4
    assert recording.observation["observation.state"].tolist() == [[0.0] * 4, *[[0.5, 1.0, -1.0, 0.0]] * 3]
    assert recording.success
    assert recording.decided_by is Decider.FUNCTION
    assert set(recording.info) >= {"late_ticks", "worst_lateness_s", "own_ms", "clamps", "takeovers", "decided_by"}
    assert world.robot.calls[-1] == "send"  # it holds


@pytest.fixture
def panda():
    robot = FrankaSimRobot(FrankaSimRobotConfig(id="robot_world", control_mode="joint", fps=10))
    robot.connect()
    yield robot
    if robot.is_connected:
        robot.disconnect()


def panda_world(robot, reset_scene, limit=12):
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (18,))}
    io = RobotIo(robot.name, robot.observation_features, robot.action_features, inputs, 8, action_names=tuple(robot.action_features))
    return RobotWorld(robot, io, Limiter(None), [RobotJudge(robot)], None, limit, 0.5, "lift", reset_scene=reset_scene)


def test_the_simulated_panda_in_lockstep(panda, caplog):
    caplog.set_level(logging.INFO)
    world = panda_world(panda, lambda world: panda.reset())
    home = world.reset()["observation.state"][:7]

    def act(observation):
        target = observation["observation.state"][:7].numpy() + np.array([1.0, 0, 0, 0, 0, 0, 0], np.float32)
        return Chunk(np.tile(np.append(target, np.float32(0.0)), (4, 1)), 0, 0.0)

    recording = Rollout(world, act).run_episode()
    assert len(recording) == 12
    assert recording.truncated
    assert recording.decided_by is Decider.TIME_LIMIT
    assert torch.allclose(recording.observation["observation.state"][0, :7], home)
    asked = recording.observation["observation.state"][0, 0] + 1.0
    assert recording.action[0, 0] == pytest.approx(float(home[0]) + 0.2, abs=1e-4)  # what one period allows, not what was asked for
    assert recording.action[0, 0] < asked
    assert panda.attempt_time_s == pytest.approx(1.2)  # twelve periods, however long the test took
    world.close()
    assert not panda.is_connected


def test_lockstep_can_be_repeated_to_the_bit(panda):
    world = panda_world(panda, lambda world: panda.reset(seed=7), limit=6)
    recordings = []
    for _ in range(2):
        recordings.append(Rollout(world, lambda o: Chunk(np.zeros((3, 8), np.float32), 0, 0.0)).run_episode())
    assert torch.equal(recordings[0].observation["observation.state"], recordings[1].observation["observation.state"])
