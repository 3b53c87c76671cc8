"""Before anything moves, and after a robot's own reset: does it stand where the demonstrations can have been?"""

import math
from dataclasses import replace

import pytest
from free_robot import Free, FreeConfig, stats_of
from free_robot import make_free_world as make

from lerobot_serl.actor import start_check
from lerobot_serl.actor.settings import ResetConfig, SafetyConfig
from lerobot_serl.actor.world import WorldError

JOINTS = ("shoulder_pan.pos", "shoulder_lift.pos", "elbow_flex.pos", "gripper.pos")
LOW, HIGH = (0.0, -40.0, 15.0, 5.0), (30.0, -5.0, 40.0, 60.0)
HOME = dict(zip(JOINTS, (0.0, -40.0, 40.0, 60.0), strict=True))
DEMO_STATS = stats_of(
    JOINTS, LOW, HIGH, state_names=JOINTS, state_low=LOW, state_high=HIGH, action_step=(2.0,) * 4, start=tuple(HOME.values())
)


class Homing(Free):
    """Its `reset` moves what it likes."""

    def __init__(self, *args, **values):
        super().__init__(*args, **values)
        self.leads_to = {}

    def reset(self):
        self.values |= self.leads_to


def arm(kind=Free, measured=JOINTS, lockstep=False, **values):
    return kind(JOINTS, measured, config=FreeConfig(lockstep=lockstep), **{**HOME, **values})


@pytest.fixture(params=["new", "old"])
def demo_stats(request):
    """Of a learner of today, and of an older one."""
    return DEMO_STATS if request.param == "new" else replace(DEMO_STATS, state_low=(), state_high=())


def test_a_joint_far_outside_is_named_with_both_numbers_and_nothing_moves(demo_stats):
    robot = arm(**{"shoulder_pan.pos": 100.0})
    with pytest.raises(
        ValueError, match=r"free: 'shoulder_pan.pos' measures 100 \(demonstrations: .*\), far outside .*Nothing was moved.*far_start"
    ):
        make(robot, demo_stats)
    assert robot.sent == []


@pytest.mark.parametrize("pan", [0.0, 30.0, 40.0, -9.0])
def test_an_arm_in_its_range_or_beside_it_is_not_asked_about(demo_stats, pan, caplog):
    make(arm(**{"shoulder_pan.pos": pan}), demo_stats)
    assert "far outside" not in caplog.text


def test_a_joint_that_demonstrations_hardly_moved_may_stand_a_little_elsewhere():
    demo_stats = replace(DEMO_STATS, state_low=(9.0, *LOW[1:]), state_high=(10.0, *HIGH[1:]))
    make(arm(**{"shoulder_pan.pos": 20.0}), demo_stats)
    with pytest.raises(ValueError, match=r"'shoulder_pan.pos' measures 30 \(demonstrations: 9 to 10\)"):
        make(arm(**{"shoulder_pan.pos": 30.0}), demo_stats)


def test_a_gripper_may_be_as_wide_as_it_likes():
    make(arm(**{"gripper.pos": 200.0}), DEMO_STATS)


def test_what_is_no_pose_does_not_count():
    names = (*JOINTS, "battery_level", "tau_1.effort", "x.vel")
    demo_stats = replace(DEMO_STATS, state_names=names, state_low=(*LOW, 90.0, 0.0, 0.0), state_high=(*HIGH, 95.0, 0.1, 0.1))
    make(arm(measured=names, battery_level=20.0, **{"tau_1.effort": 5.0, "x.vel": 3.0}), demo_stats)


@pytest.mark.parametrize(
    ("factor", "words"), [(math.pi / 180, "radians instead of degrees"), (180 / math.pi, "degrees instead of radians")]
)
def test_another_unit_is_seen_though_each_joint_is_not_so_far_off(factor, words, demo_stats):
    """In radians the lift measures -0.7 instead of -40: an eighth of its range outside."""
    scale = 1.0 if factor < 1 else 1 / factor
    low, high = (tuple(scale * value for value in ends) for ends in (LOW, HIGH))
    demo_stats = replace(demo_stats, action_low=low, action_high=high, action_step=(0.03 * scale,) * 4)
    if demo_stats.state_low:
        demo_stats = replace(demo_stats, state_low=low, state_high=high)
    with pytest.raises(ValueError, match=f"'shoulder_lift.pos' measures .* in the same unit \\(it looks like {words}\\)"):
        make(arm(**{key: factor * scale * value for key, value in HOME.items()}), demo_stats)


def test_the_dataset_s_order_counts_where_it_has_no_names():
    demo_stats = replace(DEMO_STATS, action_names=(), state_names=())
    with pytest.raises(ValueError, match=r"'elbow_flex\.pos' measures 140"):
        make(arm(**{"elbow_flex.pos": 140.0}), demo_stats)


@pytest.mark.parametrize(("answer", "goes_on"), [("y", True), (" Y ", True), ("", False), ("no", False), (None, False)])
def test_at_a_terminal_the_person_decides(monkeypatch, answer, goes_on, caplog):
    asked = []
    monkeypatch.setattr(start_check.sys.stdin, "isatty", lambda: True, raising=False)

    def input_of_person(words):
        asked.append(words)
        if answer is None:
            raise EOFError  # Ctrl-D
        return answer

    monkeypatch.setattr("builtins.input", input_of_person)
    robot = arm(**{"shoulder_pan.pos": 100.0})
    if goes_on:
        make(robot, DEMO_STATS)
    else:
        with pytest.raises(ValueError, match=r"free was not moved, since shoulder_pan.pos is far outside"):
            make(robot, DEMO_STATS)
    assert len(asked) == 1
    assert "'shoulder_pan.pos' measures 100 (demonstrations: 0 to 30)" in caplog.text


@pytest.mark.parametrize(("settings", "lockstep"), [(SafetyConfig(far_start=True), False), (SafetyConfig(), True)])
def test_with_the_flag_and_in_a_simulation_it_is_only_said(settings, lockstep, caplog):
    make(arm(lockstep=lockstep, **{"shoulder_pan.pos": 100.0}), DEMO_STATS, safety=settings)
    assert "It moves all the same" in caplog.text


AUTO, ROBOT = ResetConfig(), ResetConfig(mode="robot")


def test_a_reset_that_leads_nowhere_is_an_error_the_first_time():
    """The xArm plugin's forgets the gripper's state, and nothing else."""
    world = make(arm(Homing, **{"shoulder_pan.pos": 15.0}), DEMO_STATS, reset=AUTO)
    with pytest.raises(
        WorldError,
        match=r"free: after its own reset 'shoulder_pan.pos' measures 15, but the demonstrations begin at 0\. Use --reset.mode=pose",
    ):
        world.reset()


@pytest.mark.parametrize(("reset", "lockstep"), [(ROBOT, False), (AUTO, True), (ROBOT, True)])
def test_who_asks_for_that_reset_and_a_simulation_are_warned_once(reset, lockstep, caplog):
    world = make(arm(Homing, lockstep=lockstep, **{"shoulder_pan.pos": 15.0}), DEMO_STATS, reset=reset)
    for _ in range(3):
        world.reset()
    assert caplog.text.count("after its own reset 'shoulder_pan.pos' measures 15") == 1


def test_later_a_reset_beside_the_start_does_not_end_the_night(caplog):
    robot = arm(Homing)
    world = make(robot, DEMO_STATS, reset=AUTO)
    world.reset()
    robot.leads_to = {"elbow_flex.pos": 20.0}
    world.reset()
    assert "after its own reset 'elbow_flex.pos' measures 20, but the demonstrations begin at 40." in caplog.text


@pytest.mark.parametrize("pan", [-5.0, 10.0, 25.0])
def test_starts_as_random_as_the_demonstrations_are_fine(pan, caplog):
    demo_stats = replace(DEMO_STATS, start_low=(0.0, -40.0, 40.0, 60.0), start_high=(20.0, -40.0, 40.0, 60.0))
    robot = arm(Homing)
    robot.leads_to = {"shoulder_pan.pos": pan}
    make(robot, demo_stats, reset=AUTO).reset()
    assert "after its own reset" not in caplog.text
