"""What a gripper holds is not let go when a person takes over."""

import pytest
from small_robots import DrivenLeader, Leader, LeaderWithEvents

from lerobot_serl.actor.controls import Controls
from lerobot_serl.actor.settings import TakeoverConfig
from lerobot_serl.actor.takeover import Moved, Stage, Takeover

CUBE = {"elbow.pos": 0.0, "gripper.pos": 0.5}  # the policy told the gripper 0 = closed, a cube is between the fingers


def gripping(teleop):
    controls = Controls()
    moved = Moved(ranges={"gripper.pos": 1.0}, told=lambda: {"gripper.pos": 0.0})
    return Takeover(teleop, controls, TakeoverConfig(handover_s=0.5), 0.1, moved), controls


@pytest.mark.parametrize("kind", [Leader, DrivenLeader])
def test_a_takeover_with_a_closed_trigger_keeps_the_grip(kind):
    leader = kind(**{"elbow.pos": 0.1, "gripper.pos": 0.0})
    hand, controls = gripping(leader)
    controls.press("space")
    assert [hand.poll(CUBE)["gripper.pos"] for _ in range(14)] == [0.0] * 14
    assert hand.stage is Stage.PERSON


def test_a_motorised_trigger_is_driven_to_what_the_gripper_was_told():
    leader = DrivenLeader(**{"elbow.pos": 0.0, "gripper.pos": 1.0})
    hand, controls = gripping(leader)
    controls.press("space")
    assert [hand.poll(CUBE)["gripper.pos"] for _ in range(14)] == [0.0] * 14
    assert leader.values["gripper.pos"] == 0.0


def test_an_open_trigger_opens_the_gripper_from_what_it_was_told_and_not_from_its_width():
    hand, controls = gripping(Leader(**{"elbow.pos": 0.0, "gripper.pos": 1.0}))
    controls.press("space")
    assert [round(hand.poll(CUBE)["gripper.pos"], 6) for _ in range(6)] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]


def test_beside_displacements_the_gripper_keeps_its_grip_until_the_device_s_own_value_changes():
    device = LeaderWithEvents(**{"delta_x": 0.5, "gripper.pos": 1.0})
    hand, _ = gripping(device)
    hand.poll(CUBE)
    device.takes_over = True
    assert [hand.poll(CUBE) for _ in range(3)] == [{"delta_x": 0.5, "gripper.pos": 0.0}] * 3
    device.values["gripper.pos"] = 0.99  # the trigger trembles
    assert hand.poll(CUBE)["gripper.pos"] == 0.0
    for value in (0.6, 1.0, 1.0):
        device.values["gripper.pos"] = value
        assert hand.poll(CUBE)["gripper.pos"] == value
    device.takes_over = False
    hand.poll(CUBE)
    device.takes_over = True
    assert hand.poll(CUBE)["gripper.pos"] == 0.0  # the next takeover begins anew


def test_a_wish_is_no_position_and_passes():
    device = LeaderWithEvents(**{"delta_x": 0.5, "gripper": 1.0})
    hand, _ = gripping(device)
    device.takes_over = True
    assert hand.poll(CUBE) == {"delta_x": 0.5, "gripper": 1.0}


class Informed(LeaderWithEvents):
    """Wants to know what the gripper was told."""

    feedback_features = property(lambda self: {"gripper.pos": float})

    def send_feedback(self, feedback):
        self.values |= feedback


def test_a_device_that_is_told_the_gripper_s_target_is_believed_from_the_takeover_on():
    device = Informed(**{"delta_x": 0.5, "gripper.pos": 1.0})
    hand, _ = gripping(device)
    hand.poll(CUBE)
    device.takes_over = True
    assert hand.poll(CUBE)["gripper.pos"] == 0.0
    device.values["gripper.pos"] = 1.0
    assert [hand.poll(CUBE)["gripper.pos"] for _ in range(2)] == [1.0] * 2  # it is told nothing while the person moves the robot
