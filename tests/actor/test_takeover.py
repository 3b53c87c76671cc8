"""A person takes over and gives back, with every kind of device, and nothing jumps."""

import logging
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.teleoperators.utils import TeleopEvents
from small_robots import DrivenLeader, Leader, LeaderWithEvents

from lerobot_serl.actor.controls import Controls
from lerobot_serl.actor.settings import TakeoverConfig
from lerobot_serl.actor.takeover import Moved, Stage, Takeover
from lerobot_serl.actor.world import EpisodeSpoilt, WorldError

PERIOD_S = 0.1
MEASURED = {"elbow.pos": 0.0, "gripper.pos": 0.0}


def make(teleop, ranges=None, **changes):
    controls = Controls()
    config = TakeoverConfig(**({"handover_s": 0.5} | changes))
    return Takeover(teleop, controls, config, PERIOD_S, Moved(ranges=ranges or {})), controls


def test_without_a_wish_the_policy_moves_the_robot_and_the_device_is_left_alone():
    leader = Leader(**MEASURED)
    hand, _ = make(leader)
    assert [hand.poll(MEASURED) for _ in range(5)] == [None] * 5
    assert (hand.stage, hand.count, leader.asked) == (Stage.POLICY, 0, 0)


def test_events_take_over_and_give_back():
    device = LeaderWithEvents(**{"delta_x": 0.5, "gripper": 1.0})
    hand, _ = make(device)
    assert hand.poll(MEASURED) is None
    device.takes_over = True
    assert hand.poll(MEASURED) == {"delta_x": 0.5, "gripper": 1.0}  # displacements need no handover
    assert hand.stage is Stage.PERSON
    assert hand.poll(MEASURED) == {"delta_x": 0.5, "gripper": 1.0}
    device.takes_over = False
    assert hand.poll(MEASURED) is None
    assert (hand.stage, hand.count) == (Stage.POLICY, 1)
    device.takes_over = True
    assert hand.poll(MEASURED) is not None
    assert hand.count == 2
    hand.begin()
    assert (hand.stage, hand.count) == (Stage.POLICY, 0)


def test_other_events_become_requests_whether_or_not_somebody_takes_over():
    device = LeaderWithEvents(delta_x=0.0)
    hand, controls = make(device)
    device.events = {TeleopEvents.SUCCESS: True, TeleopEvents.TERMINATE_EPISODE: True}
    assert hand.poll({}) is None
    assert controls.take("success", "failure", "redo") == "success"
    device.events = {TeleopEvents.RERECORD_EPISODE: True}
    hand.poll({})
    assert controls.take("success", "failure", "redo") == "redo"


def test_a_key_takes_over_and_gives_back():
    hand, controls = make(Leader(delta_x=1.0))
    controls.press("space")
    assert [hand.poll({}) for _ in range(3)] == [{"delta_x": 1.0}] * 3
    controls.press("space")
    assert [hand.poll({}) for _ in range(3)] == [None] * 3


def test_a_gripper_alone_does_not_make_a_leader():
    """The robot measures its gripper, the device gives displacements: nothing to slide."""
    hand, controls = make(Leader(**{"delta_x": 1.0, "gripper.pos": 1.0}))
    controls.press("space")
    assert hand.poll(MEASURED) == {"delta_x": 1.0, "gripper.pos": 1.0}


def slide(hand, controls, leader, measured, ticks):
    """The arm follows at once; returns its targets."""
    controls.press("space")
    arm, targets = dict(measured), []
    for _ in range(ticks):
        wanted = hand.poll(arm)
        targets.append(wanted)
        if wanted is not None:
            arm |= wanted
    return targets


def test_the_arm_slides_to_a_leader_without_motors():
    leader = Leader(**{"elbow.pos": 0.25, "gripper.pos": 1.0})
    hand, controls = make(leader)
    targets = slide(hand, controls, leader, MEASURED, 7)
    assert [round(target["elbow.pos"], 6) for target in targets] == [0.05, 0.1, 0.15, 0.2, 0.25, 0.25, 0.25]
    assert hand.stage is Stage.PERSON


@settings(max_examples=100, deadline=None)
@given(
    arm_at=st.floats(-0.3, 0.3),
    moves=st.lists(st.floats(-0.02, 0.02), min_size=12, max_size=30),
    handover_s=st.sampled_from([0.3, 0.5, 1.0]),
)
def test_the_handover_is_continuous_also_to_a_leader_that_moves(arm_at, moves, handover_s):
    """No tick moves the arm by more than the leader itself plus its share of the distance."""
    leader = Leader(**{"elbow.pos": 0.0})
    hand, controls = make(leader, handover_s=handover_s, max_difference=1.0)
    controls.press("space")
    arm = {"elbow.pos": arm_at}
    ticks, span = handover_s / PERIOD_S, abs(arm_at) + 0.02 * len(moves)
    for move in moves:
        leader.values["elbow.pos"] += move
        wanted = hand.poll(arm)
        assert abs(wanted["elbow.pos"] - arm["elbow.pos"]) <= abs(move) + span / ticks + 1e-9
        arm = dict(wanted)
    assert arm == leader.values


def test_a_leader_too_far_away_is_refused_with_one_message(caplog):
    leader = LeaderWithEvents(**{"elbow.pos": 0.5, "gripper.pos": 1.0})
    hand, _ = make(leader, max_difference=0.3)
    leader.takes_over = True
    assert [hand.poll(MEASURED) for _ in range(10)] == [None] * 10
    refusals = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert refusals == [
        "Takeover refused: leader and arm differ by 0.50 on elbow.pos, at most 0.30 is allowed. "
        "Bring the leader closer to the arm's pose and try again (--takeover.max_difference)."
    ]
    assert (hand.stage, hand.count) == (Stage.POLICY, 0)
    leader.takes_over = False
    hand.poll(MEASURED)
    leader.takes_over = True
    hand.poll(MEASURED)
    assert caplog.text.count("refused") == 2  # a new attempt, a new message
    leader.values["elbow.pos"] = 0.2
    assert hand.poll(MEASURED) is not None
    assert hand.count == 1


def test_without_a_limit_it_is_a_quarter_of_the_joint_s_range(caplog):
    leader = LeaderWithEvents(**{"elbow.pos": 0.5, "gripper.pos": 1.0})
    leader.takes_over = True
    hand, _ = make(leader, ranges={"elbow.pos": 1.9, "gripper.pos": 1.0})
    assert hand.poll(MEASURED) is None
    assert "differ by 0.50 on elbow.pos, at most 0.47 is allowed" in caplog.text
    hand, _ = make(leader, ranges={"elbow.pos": 2.1, "gripper.pos": 1.0})
    assert hand.poll(MEASURED) is not None


def test_a_refused_key_has_to_be_pressed_again(caplog):
    leader = Leader(**{"elbow.pos": 0.5})
    hand, controls = make(leader, max_difference=0.3)
    controls.press("space")
    assert hand.poll(MEASURED) is None
    leader.values["elbow.pos"] = 0.0
    assert [hand.poll(MEASURED) for _ in range(3)] == [None] * 3  # not by itself, when the arm happens to come by
    controls.press("space")
    assert hand.poll(MEASURED) is not None


def test_the_gripper_does_not_count_as_distance():
    hand, controls = make(Leader(**{"elbow.pos": 0.0, "gripper.pos": 100.0}))
    controls.press("space")
    assert hand.poll(MEASURED) is not None


def driven(position, **changes):
    """A leader with motors and its takeover; it may be driven by 2 units at most, at 1 unit/s."""
    leader = DrivenLeader(**{"elbow.pos": position})
    hand, controls = make(leader, **{"handover_s": 0.4, "max_difference": 0.5, "speed": 1.0} | changes)
    return leader, hand, controls


def feedback(leader):
    return [round(said["elbow.pos"], 6) for said in leader.log if isinstance(said, dict)]


def test_a_leader_with_motors_is_driven_to_the_arm_before_the_arm_follows_it():
    leader = DrivenLeader(**{"elbow.pos": 0.4, "gripper.pos": 0.75})
    hand, controls = make(leader, ranges={"elbow.pos": 2.0, "gripper.pos": 1.0}, handover_s=0.4, speed=1.0)
    targets = slide(hand, controls, leader, MEASURED, 16)
    assert (leader.log[0], leader.log[-1]) == ("on", "off")
    assert feedback(leader) == [0.3, 0.2, 0.1, 0.0] + [0.0] * 4  # the gripper's range takes a second
    assert targets == [MEASURED] * 16  # the arm waits, then it is where the leader is
    assert (hand.stage, hand.count) == (Stage.PERSON, 1)


@pytest.mark.parametrize("ranges", [{"elbow.pos": 8.0}, {"elbow.pos": 1.6}])
def test_without_a_speed_a_joint_crosses_its_range_in_four_seconds(ranges):
    leader = DrivenLeader(**{"elbow.pos": 1.5})
    hand, controls = make(leader, ranges)
    slide(hand, controls, leader, {"elbow.pos": 0.0}, 60)
    steps = [a - b for a, b in pairwise([1.5, *feedback(leader)])]
    assert max(steps) == pytest.approx(ranges["elbow.pos"] / 4 * PERIOD_S)
    assert hand.stage is Stage.PERSON


@settings(max_examples=100, deadline=None)
@given(
    leader_at=st.dictionaries(st.sampled_from(["a.pos", "b.pos", "gripper.pos"]), st.floats(-3, 3), min_size=1),
    arm_at=st.floats(-3, 3),
    speed=st.floats(0.5, 5),
)
def test_no_motor_of_a_leader_is_ever_faster_than_its_speed(leader_at, arm_at, speed):
    leader = DrivenLeader(**{"a.pos": 0.0, **leader_at})
    hand, controls = make(leader, ranges={"gripper.pos": speed}, speed=speed, max_difference=10.0)
    arm, before = dict.fromkeys(leader.values, arm_at), dict(leader.values)
    controls.press("space")
    for _ in range(200):
        hand.poll(arm)
        if hand.stage is not Stage.DRIVE:
            break
        assert all(abs(leader.values[key] - before[key]) <= speed * PERIOD_S + 1e-9 for key in before)
        before = dict(leader.values)
    assert leader.values == arm
    assert leader.log.count("on") == leader.log.count("off") == 1


def test_what_the_drive_leaves_is_slid_over():
    """Somebody holds the leader a little: the arm must not jump to it at the end of the drive."""
    leader, hand, controls = driven(0.25, handover_s=0.5, max_difference=0.3)
    leader.is_held = True
    targets = [target["elbow.pos"] for target in slide(hand, controls, leader, {"elbow.pos": 0.0}, 12)]
    jumps = [abs(b - a) for a, b in pairwise([0.0, *targets])]
    assert max(jumps) <= 0.05 + 1e-9
    assert targets[-1] == 0.25


def test_a_leader_that_was_held_back_too_far_is_refused_after_the_drive_and_that_was_no_takeover(caplog):
    leader, hand, controls = driven(1.0, max_difference=0.3)
    leader.is_held = True
    targets = slide(hand, controls, leader, {"elbow.pos": 0.0}, 14)
    assert {None if target is None else target["elbow.pos"] for target in targets} == {0.0, None}  # the arm never moved
    assert targets[-1] is None
    assert leader.log.count("on") == leader.log.count("off") == 1
    assert caplog.text.count("refused") == 1
    assert (hand.stage, hand.count) == (Stage.POLICY, 0)


def test_a_leader_that_is_very_far_away_is_not_driven_at_all(caplog):
    leader, hand, controls = driven(2.1)
    assert slide(hand, controls, leader, {"elbow.pos": 0.0}, 5) == [None] * 5
    assert leader.log == []
    assert "leader and arm differ by 2.10 on elbow.pos, at most 2.00 is allowed" in caplog.text
    assert hand.count == 0


def test_without_a_limit_a_leader_is_driven_through_a_joint_s_whole_range_and_not_farther():
    for at, drives in ((1.55, True), (1.65, False)):
        leader = DrivenLeader(**{"elbow.pos": at})
        hand, controls = make(leader, ranges={"elbow.pos": 1.6})
        slide(hand, controls, leader, {"elbow.pos": 0.0}, 3)
        assert (hand.stage is Stage.DRIVE) == drives


def test_a_leader_whose_device_insists_is_not_driven_again_and_again(caplog):
    class Insists(DrivenLeader, LeaderWithEvents):
        takes_over = True

    leader = Insists(**{"elbow.pos": 1.0})
    leader.is_held = True
    hand, _ = make(leader, max_difference=0.3, speed=5.0)
    for _ in range(30):
        hand.poll({"elbow.pos": 0.0})
    assert leader.log.count("on") == caplog.text.count("refused") == 1
    leader.takes_over, leader.is_held = False, False
    hand.poll({"elbow.pos": 0.0})
    leader.takes_over = True
    for _ in range(10):
        hand.poll({"elbow.pos": 0.0})
    assert (leader.log.count("on"), hand.count) == (2, 1)


def test_a_leader_that_comes_slowly_does_not_count_as_one_that_rests():
    leader, hand, _ = driven(0.0, motion_threshold=0.2, release_after_s=0.2, speed=0.5)
    arm = {"elbow.pos": -0.5}
    hand.poll(arm)
    leader.values["elbow.pos"] = 0.3
    for _ in range(25):
        hand.poll(arm)
        if hand.stage is not Stage.DRIVE:
            break
    assert (hand.stage, hand.count) == (Stage.HANDOVER, 1)


@pytest.mark.parametrize("how", ["release", "begin"])
def test_a_leader_is_let_go_when_the_drive_is_broken_off(how):
    leader, hand, controls = driven(2.0)
    slide(hand, controls, leader, {"elbow.pos": 0.0}, 2)
    assert hand.waits
    assert "off" not in leader.log
    if how == "release":
        controls.press("space")
        assert hand.poll(MEASURED) is None
    else:
        hand.begin()
    assert leader.log[-1] == "off"
    assert (hand.waits, hand.count) == (False, 0)
    hand.begin()
    assert leader.log.count("off") == 1


def test_displacements_above_the_threshold_take_over_until_the_device_rests():
    device = Leader(delta_x=0.05)
    hand, _ = make(device, motion_threshold=0.1, release_after_s=0.25)
    assert [hand.poll({}) for _ in range(3)] == [None] * 3
    device.values["delta_x"] = -0.5
    assert hand.poll({}) == {"delta_x": -0.5}
    device.values["delta_x"] = 0.0
    assert [hand.poll({}) is None for _ in range(4)] == [False, False, True, True]
    assert hand.count == 1


def moved_leader(positions, **changes):
    """Who moves the robot while a leader, on an arm that keeps still, goes through these positions."""
    leader = Leader(**{"elbow.pos": 0.0})
    hand, _ = make(leader, motion_threshold=0.1, release_after_s=0.35, handover_s=0.1, max_difference=1.0, **changes)
    stages = []
    for position in positions:
        leader.values["elbow.pos"] = position
        hand.poll({"elbow.pos": 0.0})
        stages.append(hand.stage is not Stage.POLICY)
    return stages


def test_a_leader_that_is_moved_takes_over_and_gives_back_when_it_rests():
    assert moved_leader([0.0, 0.05, 0.0, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]) == [False] * 3 + [True] * 4 + [False] * 2


def test_a_leader_that_is_moved_slowly_counts_as_moved():
    slowly = [0.04 * tick for tick in range(20)]  # each tick less than the threshold
    assert moved_leader(slowly) == [False] * 3 + [True] * 17


def test_a_leader_that_trembles_does_not_take_over():
    assert not any(moved_leader([0.0, 0.04, -0.04] * 10))


def test_a_leader_that_lies_still_after_a_refusal_does_not_take_over_when_the_arm_comes_by(caplog):
    leader = Leader(**{"elbow.pos": 0.0})
    hand, _ = make(leader, motion_threshold=0.1, max_difference=0.2)
    arm = {"elbow.pos": 2.0}
    hand.poll(arm)
    leader.values["elbow.pos"] = 0.15
    assert [hand.poll(arm) for _ in range(3)] == [None] * 3
    assert [hand.poll({"elbow.pos": 0.15}) for _ in range(3)] == [None] * 3
    leader.values["elbow.pos"] = 0.3
    assert hand.poll({"elbow.pos": 0.2}) is not None


def test_one_message_while_a_far_leader_is_brought_closer(caplog):
    leader = Leader(**{"elbow.pos": 2.0})
    hand, _ = make(leader, motion_threshold=0.1, max_difference=0.3)
    arm, polls = {"elbow.pos": 0.0}, []
    for tick in range(20):
        leader.values["elbow.pos"] = max(0.0, 2.0 - 0.15 * tick)
        polls.append(hand.poll(arm))
    assert caplog.text.count("refused") == 1
    assert hand.count == 1  # as soon as it was near enough
    assert polls[5] is None


@pytest.mark.parametrize("failure", [ConnectionError("no route"), OSError("serial port is gone"), TimeoutError("late")])
def test_a_device_that_does_not_answer_spoils_the_episode_with_a_remedy(failure):
    device = Leader(delta_x=0.0)
    hand, controls = make(device)
    controls.press("space")
    device.failure = failure
    said = rf"The teleoperator leader does not answer: Leader.get_action\(\) raised {type(failure).__name__}: {failure}. Check its cable and power."
    with pytest.raises(EpisodeSpoilt, match=said):
        hand.poll({})


def test_an_error_of_its_class_ends_the_process():
    device = Leader(delta_x=0.0)
    hand, controls = make(device)
    controls.press("space")
    device.failure = KeyError("elbow")
    with pytest.raises(WorldError, match=r"leader cannot go on: Leader.get_action\(\) raised KeyError: 'elbow'") as end:
        hand.poll({})
    assert not isinstance(end.value, EpisodeSpoilt)


def test_motors_that_fail_do_too():
    leader = DrivenLeader(**{"elbow.pos": 0.1})
    hand, controls = make(leader)
    controls.press("space")
    leader.send_feedback = lambda feedback: (_ for _ in ()).throw(ConnectionError("motor 3 is gone"))
    with pytest.raises(EpisodeSpoilt, match="motor 3 is gone"):
        hand.poll(MEASURED)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "far"])
def test_a_device_whose_numbers_are_none_is_refused(value):
    hand, controls = make(Leader(**{"elbow.pos": value}))
    controls.press("space")
    with pytest.raises(EpisodeSpoilt, match=r"leader: 'elbow.pos' reads .*, expected a finite number"):
        hand.poll(MEASURED)


@pytest.mark.parametrize("value", [float("nan"), None])
def test_while_nobody_wants_its_numbers_they_may_be_anything(value):
    hand, _ = make(Leader(**{"elbow.pos": value}))
    assert hand.poll(MEASURED) is None


def test_takeovers_are_announced(caplog):
    caplog.set_level(logging.INFO)
    hand, controls = make(Leader(delta_x=0.0))
    controls.press("space")
    hand.poll({})
    controls.press("space")
    hand.poll({})
    assert [record.getMessage() for record in caplog.records] == ["The person takes over.", "The policy goes on."]
