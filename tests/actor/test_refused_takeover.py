"""What a takeover that was refused leaves in an episode: nothing."""

import numpy as np
import pytest
from small_robots import KEYS, DrivenLeader, Leader
from test_robot_world import ScriptedJudge, make_world

from lerobot_serl.actor.chunk import Chunk
from lerobot_serl.actor.controls import Controls
from lerobot_serl.actor.rollout import Rollout
from lerobot_serl.actor.settings import TakeoverConfig
from lerobot_serl.actor.takeover import Takeover
from lerobot_serl.replay.segments import intervened_segments, policy_segments

ASKED_AT = 4


def episode_with(leader, length=20):
    """A robot of two arms whose person asks for a takeover at the fifth step; returns recording, hand and robot."""
    world = make_world(judges=[ScriptedJudge(length)], limit=100)
    controls = Controls()
    hand = Takeover(leader, controls, TakeoverConfig(handover_s=0.02, speed=50.0, max_difference=0.5), 1 / 200)

    def tick(steps, by_hand):
        if steps == ASKED_AT:
            controls.press("space")

    policy = Chunk(np.full((3, 4), 0.25, np.float32), 0, 0.0)
    return Rollout(world, lambda observation: policy, controls=controls, takeover=hand, tick=tick).run_episode(), hand, world.robot


def pieces(recording):
    """As the learner cuts it: the policy's, with how they end, and the person's."""
    return [(len(piece), piece.success) for piece in policy_segments(recording)], [len(piece) for piece in intervened_segments(recording)]


@pytest.mark.parametrize("is_near", [False, True])
def test_a_refusal_is_no_failure_and_no_correction(is_near, caplog):
    """Very far away it is not driven; nearer it is, and somebody holds it back."""
    leader = DrivenLeader(**dict.fromkeys(KEYS, 1.5 if is_near else 9.0))
    leader.is_held = True
    recording, hand, robot = episode_with(leader)
    assert "Takeover refused" in caplog.text
    assert ("on" in leader.log) == is_near
    assert pieces(recording) == ([(20, True)], [])
    assert (recording.info["takeovers"], hand.count, recording.success_alone) == (0, 0, True)
    waited = [sent for sent in robot.sent if sent["left_elbow.pos"] != 0.25]
    assert not waited  # it held where the policy had brought it


def test_a_leader_without_motors_that_is_refused_leaves_nothing_either():
    recording, *_ = episode_with(Leader(**dict.fromkeys(KEYS, 9.0)))
    assert pieces(recording) == ([(20, True)], [])
    assert recording.info["takeovers"] == 0


def test_a_takeover_that_succeeds_begins_when_the_leader_has_come():
    recording, hand, _ = episode_with(DrivenLeader(**dict.fromkeys(KEYS, 1.25)))
    assert hand.count == 1
    by_policy, by_person = pieces(recording)
    waited = 4  # a unit at 50 units/s and 200 Hz
    assert by_policy == [(ASKED_AT + waited, False)]
    assert by_person == [20 - ASKED_AT - waited]
