"""From flags, policy and robot to a world: what "auto" decides, what is said at start, and every refusal."""

import logging
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.errors import DeviceNotConnectedError
from small_robots import KEYS, Leader, LeaderWithEvents, TwoArms, TwoArmsConfig

from lerobot_serl.actor.controls import Controls
from lerobot_serl.actor.robot_setup import (
    PolicyNeeds,
    RobotSettings,
    check_fps,
    check_teleop,
    is_in_lockstep,
    make_robot_world,
    reward_source,
)
from lerobot_serl.actor.settings import ResetConfig, RewardConfig, SafetyConfig, TakeoverConfig
from lerobot_serl.actor.takeover import Takeover
from lerobot_serl.replay.demonstration_stats import DemonstrationStats

DEMO_STATS = DemonstrationStats(
    action_names=KEYS, state_names=KEYS, action_low=(-0.5, 0.0, -0.5, 0.0), action_high=(0.5, 1.0, 0.5, 1.0),
    action_step=(0.1, None, 0.2, None), start=(0.25, 0.0, -0.25, 1.0), median_length=40, longest=60,
)  # fmt: skip
NO_START = replace(DEMO_STATS, start=(None,) * 4)
INPUTS = {"observation.state": PolicyFeature(FeatureType.STATE, (4,))}
FPS = 50


class WithReset(TwoArms):
    """Knows a reset of its own."""

    def reset(self):
        self.calls.append("reset")


class WithSuccess(TwoArms):
    """Knows success."""

    success = False


class KnowsOnceConnected(TwoArms):
    """Does not answer before, as LeRobot's devices do."""

    @property
    def success(self):
        if not self.is_connected:
            raise DeviceNotConnectedError("TwoArms is not connected")
        return False


def test_who_decides_is_known_before_anything_is_connected():
    for robot, source in ((TwoArms(), "keys"), (WithSuccess(), "robot"), (KnowsOnceConnected(), "robot")):
        assert reward_source(robot, RewardConfig()) == source
        assert reward_source(robot, RewardConfig(source="keys")) == "keys"
        assert reward_source(robot, RewardConfig(path="a_model")) == "model"
        assert reward_source(robot, RewardConfig(function="a:b")) == "function"


def tool(numbers):
    """Kinematics of the left elbow."""
    return numbers["left_elbow.pos"], 0.0, 0.0


def setup(robot=None, demo_stats=DEMO_STATS, new_takeover=None, controls=None, inputs=INPUTS, **settings):
    """The world; with the takeover, if there is one."""
    robot = robot or TwoArms()
    robot.connect()
    needs = PolicyNeeds(inputs, 4, FPS, demo_stats)
    made = make_robot_world(robot, RobotSettings(**settings), needs, controls or Controls(), new_takeover, None)
    return made[0] if new_takeover is None else made


@pytest.fixture
def said(caplog):
    """What the setup says at start."""
    caplog.set_level(logging.INFO)

    def read(*args, **settings):
        caplog.clear()
        setup(*args, **settings)
        return caplog.text

    return read


def test_limits_are_on_by_default_derived_from_the_demonstrations_and_printed(said):
    text = said()
    assert "left_elbow.pos: -0.6 to 0.6, at most 0.15 from the measured value" in text
    assert "right_elbow.pos: -0.6 to 0.6, at most 0.3 from the measured value" in text
    assert "left_gripper.pos: -0.1 to 1.1\n" in text


def test_limits_given_by_hand_replace_those_of_the_demonstrations(said):
    text = said(safety=SafetyConfig(low={KEYS[0]: -0.3}, high={KEYS[1]: 0.8}, step_margin=2.0))
    assert "left_elbow.pos: -0.3 to 0.6, at most 0.2 from" in text
    assert "left_gripper.pos: -0.1 to 0.8" in text


def test_limits_off_is_said_too(said):
    assert "Limits are off (--safety.enabled=false)." in said(safety=SafetyConfig(enabled=False))


def test_a_workspace_for_the_tool(said, monkeypatch):
    monkeypatch.setattr("builtins.serl_test_tool", tool, raising=False)
    safety = SafetyConfig(
        kinematics="builtins:serl_test_tool", workspace_low_m=[-0.2, -1, -1], workspace_high_m=[0.2, 1, 1], step_margin=100
    )
    assert "tool: [-0.2, -1.0, -1.0] to [0.2, 1.0, 1.0] m" in said(safety=safety)
    world = setup(safety=safety, reset=ResetConfig(mode="none"))
    world.reset()
    assert 0.19 < world.step(np.array([0.5, 0.0, 0.0, 0.0])).executed[0] <= 0.2


def test_the_time_limit_is_the_longest_demonstration_and_a_half(said):
    assert "episodes of at most 1.8 s" in said()  # 60 steps at 50 Hz
    assert "episodes of at most 0.1 s" in said(episode_time_s=0.1)
    world = setup(episode_time_s=0.1, reset=ResetConfig(mode="none"))
    world.reset()
    assert [world.step(np.zeros(4)).truncated for _ in range(5)] == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("robot", "reset", "expected"),
    [
        (WithReset, {}, "robot"),
        (TwoArms, {}, "pose"),
        (WithReset, {"mode": "pose"}, "pose"),
        (WithReset, {"mode": "none"}, "none"),
        (TwoArms, {"mode": "none"}, "none"),
    ],
)
def test_auto_resets(said, robot, reset, expected):
    assert f"reset: {expected}." in said(robot(), reset=ResetConfig(**reset))


def test_without_a_known_pose_auto_resets_nothing(said):
    assert "reset: none." in said(demo_stats=replace(DEMO_STATS, start=(0.0, None, 0.0, 0.0)))


def test_the_reset_pose_is_where_demonstrations_begin_or_what_the_flag_says(said):
    world = setup(reset=ResetConfig(pose={KEYS[0]: -0.5}, speed=50))
    world.reset()
    assert list(world.robot.positions.values()) == pytest.approx([-0.5, 0.0, -0.25, 1.0], abs=0.05)


def test_a_person_drives_the_arm_back_with_the_takeover():
    controls, leader = Controls(), LeaderWithEvents(**dict.fromkeys(KEYS, 0.1))
    leader.takes_over = True
    new_takeover = partial(Takeover, leader, controls, TakeoverConfig(handover_s=0.0), 1 / FPS)
    world, _ = setup(new_takeover=new_takeover, controls=controls, reset=ResetConfig(mode="teleop", pause_s=0.3))
    world.reset()
    assert list(world.robot.positions.values()) == pytest.approx([0.1] * 4)


def test_the_takeover_knows_what_the_robot_was_told():
    """The left gripper holds something: it was told 0 and measures 0.5."""
    leader = LeaderWithEvents(**dict.fromkeys(KEYS, 0.0))
    new_takeover = partial(Takeover, leader, Controls(), TakeoverConfig(handover_s=0.1), 1 / FPS)
    robot = TwoArms(**{"left_gripper.pos": 0.5})
    robot.stuck = {"left_gripper.pos"}
    world, takeover = setup(robot, new_takeover=new_takeover, reset=ResetConfig(mode="none"))
    world.reset()
    world.step(np.array([0.0, 0.0, 0.0, 0.75]))
    leader.takes_over = True
    for _ in range(8):
        world.step_intervention(takeover.poll(world.measured))
    assert [sent["left_gripper.pos"] for sent in robot.sent] == [0.0] * 9


@pytest.mark.parametrize(
    ("robot", "reward", "expected"),
    [
        (WithSuccess, {}, "the robot (keys s and f too)"),
        (TwoArms, {}, "the person (keys: s success, f failure)"),
        (WithSuccess, {"source": "keys"}, "the person"),
        (WithSuccess, {"function": "operator:truth"}, "operator:truth (keys s and f too)"),
    ],
)
def test_auto_rewards(said, robot, reward, expected):
    assert f"success decided by: {expected}" in said(robot(), reward=RewardConfig(**reward))


def test_the_rate_is_said_and_lockstep_has_none(said):
    assert f"Robot two_arms at {FPS} Hz;" in said()
    lockstep = TwoArms(TwoArmsConfig(lockstep=True))
    assert "Robot two_arms in lockstep;" in said(lockstep)
    assert is_in_lockstep(lockstep)
    assert not is_in_lockstep(TwoArms())


def test_a_simulation_in_lockstep_must_have_the_rate_of_the_demonstrations():
    robot = TwoArms(TwoArmsConfig(lockstep=True))
    robot.config.fps = 10
    with pytest.raises(ValueError, match=r"--robot.fps=10: the demonstrations, .* run at 50 Hz. Set --robot.fps=50."):
        setup(robot)
    robot.config.fps = FPS
    setup(robot)
    robot.config.fps, robot.config.lockstep = 10, False
    setup(robot)  # a camera's rate, or the like, of a real robot


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(reward=RewardConfig(source="robot")), r"--reward.source=robot: TwoArms has no 'success' attribute"),
        (dict(reward=RewardConfig(source="environment")), r"--reward.source=environment is for --env.type. With a robot: robot, keys"),
        (dict(reward=RewardConfig(source="success")), r"--reward.source=success is for --env.type"),
        (dict(reward=RewardConfig(function="nowhere:f")), r"--reward.function='nowhere:f': No module named 'nowhere'"),
        (dict(reset=ResetConfig(mode="robot")), r"--reset.mode=robot: two_arms has no reset of its own. Use --reset.mode=pose"),
        (dict(reset=ResetConfig(mode="teleop", pause_s=5)), r"--reset.mode=teleop needs a teleoperator: --teleop.type="),
        (dict(reset=ResetConfig(mode="pose", pose={"knee.pos": 1.0})), r"--reset.pose names \['knee.pos'\], expected some of"),
        (dict(demo_stats=NO_START, reset=ResetConfig(mode="pose")), r"--reset.mode=pose: no position known for \['left_elb"),
        (dict(safety=SafetyConfig(low={"knee.pos": 0.0})), r"--safety.low names \['knee.pos'\], expected some of"),
        (dict(safety=SafetyConfig(high={"knee.pos": 0.0})), r"--safety.high names \['knee.pos'\]"),
        (dict(safety=SafetyConfig(low={KEYS[0]: 0.7})), rf"nothing is left for \['{KEYS[0]}'\]; give both limits"),
        (dict(safety=SafetyConfig(kinematics="nowhere:f", workspace_low_m=[0] * 3, workspace_high_m=[1] * 3)), r"--safety.kinematics='nowhere:f'"),
        (dict(rename_map={"observation.images.top": "x"}), r"--rename_map names \['observation.images.top'\]"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_anything_moves(settings, message):
    robot = TwoArms()
    with pytest.raises(ValueError, match=message):
        setup(robot, **settings)
    assert robot.sent == []


class Displacements(TwoArms):
    """Takes displacements, measures positions; the gripper is both."""

    @property
    def action_features(self):
        return {"delta.pos": float, KEYS[1]: float}


def setup_displacements(**settings):
    demo_stats = DemonstrationStats(("delta.pos", KEYS[1]), KEYS, (-1.0, 0.0), (1.0, 1.0), (None, 1.0), (None, 0.0), 40, 60)
    robot = Displacements()
    robot.connect()
    return make_robot_world(robot, RobotSettings(**settings), PolicyNeeds(INPUTS, 2, FPS, demo_stats), Controls(), None, None)[0]


def test_a_pose_can_not_be_reached_with_displacements():
    with pytest.raises(ValueError, match=r"no position known for \['delta.pos'\]: the robot does not measure"):
        setup_displacements(reset=ResetConfig(mode="pose", pose={"delta.pos": 0.0}))
    setup_displacements()  # auto: none


def test_a_workspace_can_not_be_kept_with_displacements():
    safety = SafetyConfig(kinematics="operator:truth", workspace_low_m=[0] * 3, workspace_high_m=[1] * 3)
    with pytest.raises(ValueError, match=r"--safety.kinematics: the robot measures none of what its actions .* set"):
        setup_displacements(safety=safety)


def test_another_rate_than_the_demonstrations_is_refused():
    check_fps(None, 30)
    check_fps(30, 30)
    with pytest.raises(ValueError, match=r"--fps=15: the demonstrations, and with them the policy, run at 30 Hz. Leave --fps out"):
        check_fps(15, 30)


class VectorTeleop(Leader):
    """As LeRobot's gamepad describes its action."""

    @property
    def action_features(self):
        return {"dtype": "float32", "shape": (2,), "names": {"delta_x": 0, "gripper": 1}}


def test_a_teleoperator_with_other_keys_is_refused():
    robot = TwoArms()
    check_teleop(Leader(**dict.fromkeys(KEYS, 0.0)), robot)
    check_teleop(Leader(**dict.fromkeys((*KEYS, "extra.pos"), 0.0)), robot)
    with pytest.raises(ValueError, match=r"--teleop.type=leader gives \['left_elbow.pos'\], but --robot.type=two_arms takes .*missing: "
                                         r"\['left_gripper.pos', 'right_elbow.pos', 'right_gripper.pos'\]"):  # fmt: skip
        check_teleop(Leader(**{"left_elbow.pos": 0.0}), robot)
    with pytest.raises(ValueError, match=r"gives \['delta_x', 'gripper'\]"):
        check_teleop(VectorTeleop(), robot)
    robot.action_aliases = [("delta_x", "gripper")]
    check_teleop(VectorTeleop(), robot)
