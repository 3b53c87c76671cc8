"""The actor process and the people at it: no terminal, devices that are not there, environments without a word on success, real time."""

import re

import pytest
from test_actor_restarts import Lab

pytestmark = pytest.mark.slow
SMALL = ("--env.type=serl_test_small", "--env.truncate_at=5", "--patience_s=60")
HAND = (*SMALL, "--teleop.type=small_hand")
GAMEPAD = (
    '--takeover.keys={"delta_x": "left_elbow.pos", "delta_y": "right_elbow.pos", "delta_z": "right_gripper.pos"}',
    "--takeover.gripper_positions=[-1.0, 1.0]",
)

REFUSALS = {
    "keys decide and there is no terminal": (
        ("--robot.type=two_arms_judged",),
        "Success is decided by keys (s success, f failure), and no key reaches this process: there is no terminal",
    ),
    "the same in an environment": ((*SMALL, "--reward.source=keys"), "Success is decided by keys"),
    "a gamepad that is not there": ((*SMALL, "--teleop.type=gamepad", *GAMEPAD), "--teleop.type=gamepad cannot be read: "),
    "a keyboard that gives no action": ((*SMALL, "--teleop.type=keyboard"), "--teleop.type=keyboard does not say what it gives: AttributeError"),
    "three numbers of four": (
        (*HAND, "--teleop.keys=[left_elbow.pos,left_gripper.pos,right_elbow.pos]"),
        "--teleop.type=small_hand gives 3 numbers ['left_elbow.pos', 'left_gripper.pos', 'right_elbow.pos'], but an action of this environment has 4",
    ),
    "another rate": ((*SMALL, "--fps=30"), "--fps=30: the demonstrations, and with them the policy, run at 10 Hz."),
    "a reset of robots": ((*SMALL, "--reset.mode=none"), "--reset.mode: only robots obey that, and here is --env.type."),
    "several tasks": (("--env.type=serl_test_suite",), "is 2 tasks, and one policy practises one: 0 (push the cube), 1 (reach the goal)."),
    "a task that cannot be made": (("--env.type=metaworld",), "--env.type=metaworld --env.task=metaworld-push-v2 cannot be made: "),
    "HIL-SERL's loop": (("--env.type=gym_manipulator",), "--env.type=gym_manipulator is HIL-SERL's own loop around an arm"),
    "its program": ((*SMALL, "--env.fails_at=2"), "--env.type=serl_test_small was asked to make a step and failed: KeyError: 'cube_joint'"),
    "no word on success": ((*SMALL, "--env.says=", "--env.pushed_off_at=3"), "the episode terminated, and nothing says whether that was a success."),
    "a robot that is not there": (
        ("--robot.type=koch_follower", "--robot.port=/dev/none", "--reward.function=so101_bus:never"), "--robot.type=koch_follower cannot be ",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def lab(processes, tmp_path_factory):
    made = Lab(processes, tmp_path_factory.mktemp("people"))
    made.learner()
    return made


@pytest.mark.parametrize("why", REFUSALS)
def test_a_refusal_is_a_sentence_and_comes_before_any_episode(lab, why):
    flags, said = REFUSALS[why]
    extra = () if "env" in flags[0] else ("--episode_time_s=0.4",)
    actor = lab.actor(*extra, world=flags)
    assert actor.end() != 0, actor.output
    assert said in actor.output
    assert "Traceback" not in actor.output
    assert "Episode 1:" not in actor.output
    assert lab.received() == lab.waiting_in_outbox() == []


def seconds(output):
    """Of day, at which each episode was finished, as the log has them."""
    found = re.findall(r"(\d+):(\d+):(\d+) .*Episode \d+:", output)
    return [3600 * int(h) + 60 * int(m) + int(s) for h, m, s in found]


def test_a_person_at_an_environment_has_real_time_and_every_number_its_place(lab):
    actor = lab.actor("--n_episodes=7", "--takeover.release_after_s=1", "--task=lift it", world=HAND)
    assert actor.end() == 0, actor.output
    assert "in real time, 10 steps a second" in actor.output
    assert "By hand, --teleop.type=small_hand: right_gripper.pos -> right_gripper.pos" in actor.output
    assert actor.output.count("5 steps by hand") == 7
    at = seconds(actor.output)
    assert at[-1] - at[0] >= 2  # six episodes of half a second, and the clock shows whole ones


def test_without_a_person_it_is_fast(lab):
    actor = lab.actor("--n_episodes=7", world=SMALL)
    assert actor.end() == 0, actor.output
    assert "in real time" not in actor.output
    assert "success is what its info calls is_success, success, succeed or the like." in actor.output
    assert "success is what its info says as 'is_success'." in actor.output
