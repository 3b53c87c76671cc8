"""Running episodes: chunks open loop, recordings of what was executed, and a person who takes over or judges."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch

from lerobot_serl.actor.chunk import Chunk
from lerobot_serl.actor.controls import Controls
from lerobot_serl.actor.env_world import EnvWorld
from lerobot_serl.actor.rollout import Rollout
from lerobot_serl.actor.world import EpisodeSpoilt, StepResult
from lerobot_serl.envs.config_franka_sim import FrankaSimEnv
from lerobot_serl.replay.episode import Decider

KEYS = ("observation.state", "observation.images.front")


class ScriptedWorld:
    """A world that names every observation and halves every action; the end is the robot's verdict."""

    task = "halve it"
    simulated = True
    measured = MappingProxyType({})

    def __init__(self, length, end="terminated", decider=Decider.ROBOT):
        self.length, self.end, self.resets, self.asked, self.by_hand, self.holds = length, end, 0, [], [], 0
        self.decider, self.at_reset, self.at_step, self.at_hold = decider, lambda: None, lambda t: None, lambda: None

    def observation(self):
        return {KEYS[0]: torch.tensor([float(self.resets), float(self.t)]), KEYS[1]: torch.full((3, 2, 2), self.t, dtype=torch.uint8)}

    def reset(self):
        self.resets, self.t = self.resets + 1, 0
        self.at_reset()
        return self.observation()

    def report(self):
        return {"clamps": self.t}

    def hold(self):
        self.holds += 1
        self.at_hold()

    def step_intervention(self, action):
        self.by_hand.append(dict(action))
        return self.step(np.array(list(action.values()), dtype=np.float32))

    def step(self, action):
        self.asked.append(action.copy())
        self.t += 1
        self.at_step(self.t)
        over = self.t == self.length
        executed = (action / 2).astype(np.float32)
        ends, truncated = over and self.end == "terminated", over and self.end == "truncated"
        decider = self.decider if ends else Decider.TIME_LIMIT if truncated else Decider.NOBODY
        return StepResult(self.observation(), executed, float(ends), ends, truncated, decider)


class ScriptedHand:
    """Takes over at the given polls, counted over all episodes; at some of them the robot only waits for it."""

    def __init__(self, *polls, waiting=()):
        self.polls, self.waiting, self.n, self.begun, self.count = polls, waiting, -1, 0, 0

    @property
    def waits(self):
        return self.n in self.waiting

    def begin(self):
        self.begun, self.count = self.begun + 1, 0

    def poll(self, measured):
        self.n += 1
        if self.n not in self.polls:
            return None
        self.count += self.n - 1 not in self.polls
        return {"a": 100.0 + self.n, "b": -2.0}


def counting_policy(horizon, seen, choices=(0,), edits=(0.5,)):
    """Chunk ``n`` holds ``10 n + step``."""

    def act(observation):
        n = len(seen)
        seen.append(observation)
        actions = np.array([[10 * n + step, -1.0] for step in range(horizon)], dtype=np.float32)
        return Chunk(actions, choices[n % len(choices)], edits[n % len(edits)])

    return act


@pytest.mark.parametrize("horizon", [1, 3, 4, 7, 20])
def test_a_chunk_is_executed_open_loop(horizon):
    world, seen = ScriptedWorld(length=7), []
    recording = Rollout(world, counting_policy(horizon, seen)).run_episode()
    expected = [10 * (t // horizon) + t % horizon for t in range(7)]
    assert [action[0] for action in world.asked] == expected
    assert [int(o[KEYS[0]][1]) for o in seen] == list(range(0, 7, horizon))  # looked every h steps, at the newest observation
    assert len(recording) == 7


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_a_recording_pairs_each_observation_with_what_was_executed_there(end):
    recording = Rollout(ScriptedWorld(5, end), counting_policy(3, [])).run_episode()
    assert recording.observation[KEYS[0]].tolist() == [[1.0, float(t)] for t in range(5)]
    assert recording.observation[KEYS[1]].dtype == torch.uint8
    assert recording.observation[KEYS[1]][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert recording.action.tolist() == [[a / 2, -0.5] for a in (0, 1, 2, 10, 11)]
    assert recording.action.dtype == recording.reward.dtype == torch.float32
    assert recording.reward.tolist() == [0, 0, 0, 0, float(end == "terminated")]
    assert recording.intervention.tolist() == [False] * 5
    assert (recording.terminated, recording.truncated) == (end == "terminated", end == "truncated")
    assert recording.task == "halve it"


def test_what_was_chosen_is_summed_up():
    recording = Rollout(ScriptedWorld(8), counting_policy(2, [], choices=(0, 2, 2, 1), edits=(0.0, 0.1, 0.2, 0.3))).run_episode()
    expected = {"share_base": 0.25, "share_mean": 0.25, "share_sample": 0.5, "edit_rms": 0.15, "takeovers": 0, "acted_as": "exploring"}
    expected |= {"decided_by": "robot", "clamps": 8}  # what the world reports comes along
    assert recording.info == pytest.approx(expected)
    assert recording.decided_by is Decider.ROBOT


def test_the_rest_of_a_chunk_is_dropped_when_an_episode_ends():
    world, seen, begun = ScriptedWorld(4), [], []
    session = Rollout(world, counting_policy(3, seen), lambda: begun.append(world.resets))
    first, second = session.run_episode(), session.run_episode()
    assert begun == [0, 1]  # before each reset
    assert first.action[:, 0].tolist() == [0, 0.5, 1, 5]
    assert second.action[:, 0].tolist() == [10, 10.5, 11, 15]
    assert second.observation[KEYS[0]][0].tolist() == [2.0, 0.0]
    assert [tuple(o[KEYS[0]].tolist()) for o in seen] == [(1, 0), (1, 3), (2, 0), (2, 3)]


def test_a_real_environment():
    from test_world import FRANKA_INPUTS

    world = EnvWorld(FrankaSimEnv(episode_length=12), FRANKA_INPUTS, 4, seed=0)
    asked = []

    def act(observation):
        asked.append(observation)
        return Chunk(np.tile(np.array([2.0, 0.0, -0.1, 0.0], np.float32), (5, 1)), 0, 0.0)

    recording = Rollout(world, act).run_episode()
    world.close()
    assert len(asked) == 3
    assert len(recording) == 12
    assert recording.truncated
    assert torch.equal(recording.action, torch.tensor([1.0, 0.0, -0.1, 0.0]).expand(12, 4))
    tool_x = recording.observation["observation.state"][:, 15]
    assert (tool_x.diff() > 0).all()  # the arm moved as told, and every frame is its own
    assert torch.equal(recording.observation["observation.state"][5], asked[1]["observation.state"])


def test_a_person_who_takes_over_flushes_the_chunk_and_release_replans():
    world, seen, hand = ScriptedWorld(10), [], ScriptedHand(2, 3, 6)
    recording = Rollout(world, counting_policy(4, seen), takeover=hand).run_episode()
    assert [int(o[KEYS[0]][1]) for o in seen] == [0, 4, 7]  # at the newest observation, not the one before the takeover
    assert [action[0] for action in world.asked] == [0, 1, 102, 103, 10, 11, 106, 20, 21, 22]
    assert [action["a"] for action in world.by_hand] == [102, 103, 106]
    assert recording.intervention.nonzero().flatten().tolist() == [2, 3, 6]
    assert recording.action[:, 0].tolist() == [0, 0.5, 51, 51.5, 5, 5.5, 53, 10, 10.5, 11]  # what was executed, whoever asked
    assert recording.info["takeovers"] == 2
    assert hand.begun == 1


def test_every_frame_is_shown_before_it_is_acted_on_also_those_of_a_person():
    """A base policy that looks at several frames gets those that the recording has."""
    shown, acted = [], []

    def act(observation):
        acted.append(len(shown))
        return counting_policy(4, [])(observation)

    recording = Rollout(ScriptedWorld(10), act, takeover=ScriptedHand(2, 3, 6), see=shown.append).run_episode()
    assert torch.equal(torch.stack([o[KEYS[0]] for o in shown]), recording.observation[KEYS[0]])
    assert acted == [1, 5, 8]


def test_frames_in_which_the_robot_waits_for_a_leader_are_nobodys_and_what_was_planned_is_out_of_date():
    world, seen, hand = ScriptedWorld(8), [], ScriptedHand(2, 3, 4, waiting=(2, 3))
    recording = Rollout(world, counting_policy(4, seen), takeover=hand).run_episode()
    assert [action["a"] for action in world.by_hand] == [102, 103, 104]
    assert recording.intervention.nonzero().flatten().tolist() == [4]
    assert recording.action[:, 0].tolist() == [0, 0.5, 51, 51.5, 52, 5, 5.5, 6]  # what was executed, whoever asked


def test_an_episode_all_by_hand_has_no_choices_to_sum_up():
    recording = Rollout(ScriptedWorld(3), counting_policy(4, []), takeover=ScriptedHand(0, 1, 2)).run_episode()
    assert recording.intervention.all()
    assert dict(recording.info) == {"takeovers": 1, "decided_by": "robot", "clamps": 3}


def press_at(controls, presses):
    """Presses keys while the step of that number is carried out."""

    def at_step(t):
        for key in presses.get(t, ()):
            controls.press(key)

    return at_step


@pytest.mark.parametrize(("key", "reward"), [("s", 1.0), ("f", 0.0)])
def test_the_person_ends_an_episode_with_a_key(key, reward):
    world, controls = ScriptedWorld(9), Controls()
    world.at_step = press_at(controls, {4: [key]})
    recording = Rollout(world, counting_policy(3, []), controls=controls).run_episode()
    assert len(recording) == 4
    assert recording.reward.tolist() == [0, 0, 0, reward]
    assert (recording.terminated, recording.truncated, recording.decided_by) == (True, False, Decider.PERSON)
    assert recording.success == (key == "s")


@pytest.mark.parametrize("end", ["terminated", "truncated"])
@pytest.mark.parametrize(("key", "reward"), [("s", 1.0), ("f", 0.0)])
def test_the_persons_verdict_wins_over_every_other(end, key, reward):
    world, controls = ScriptedWorld(3, end), Controls()
    world.at_step = press_at(controls, {3: [key]})
    recording = Rollout(world, counting_policy(3, []), controls=controls).run_episode()
    assert recording.reward.tolist() == [0, 0, reward]
    assert (recording.terminated, recording.truncated, recording.decided_by) == (True, False, Decider.PERSON)


@pytest.mark.parametrize("at", [2, 5])
def test_a_discarded_episode_is_gone_also_in_its_last_step(at):
    world, controls = ScriptedWorld(5), Controls()
    world.at_step = press_at(controls, {at: ["r", "s"]})
    session = Rollout(world, counting_policy(3, []), controls=controls)
    assert session.run_episode() is None
    world.at_step = press_at(controls, {})
    assert len(session.run_episode()) == 5  # and the next one is whole: nothing is left of r and s


def test_keys_pressed_between_episodes_do_not_end_the_next_one():
    world, controls = ScriptedWorld(4), Controls()
    world.at_reset = lambda: [controls.press(key) for key in "sfr"]
    assert len(Rollout(world, counting_policy(3, []), controls=controls).run_episode()) == 4


def test_q_during_an_episode_lets_it_end_and_q_during_a_reset_starts_none():
    world, controls, seen = ScriptedWorld(4), Controls(), []
    session = Rollout(world, counting_policy(3, seen), controls=controls)
    world.at_step = press_at(controls, {2: ["q"]})
    assert len(session.run_episode()) == 4
    seen.clear()
    assert session.run_episode() is None
    assert seen == []


@pytest.mark.parametrize("keys", ["", "r"])
def test_the_arm_is_held_as_soon_as_an_episode_is_over(keys):
    world, controls = ScriptedWorld(4), Controls()
    world.at_step = press_at(controls, {4: keys})
    Rollout(world, counting_policy(3, []), controls=controls).run_episode()
    assert world.holds == 1


def test_the_person_may_object_to_a_reward_model():
    world, controls = ScriptedWorld(3, decider=Decider.REWARD_MODEL), Controls()
    world.at_hold = lambda: controls.press("f") if world.holds == 4 else None
    recording = Rollout(world, counting_policy(3, []), controls=controls, veto_s=60).run_episode()
    assert world.holds == 4  # the arm is held meanwhile
    assert recording.reward.tolist() == [0, 0, 0]
    assert (recording.terminated, recording.decided_by) == (True, Decider.PERSON)


def test_without_an_objection_the_reward_model_is_believed():
    world = ScriptedWorld(3, decider=Decider.REWARD_MODEL)
    recording = Rollout(world, counting_policy(3, []), veto_s=0.1).run_episode()
    assert recording.success
    assert recording.decided_by is Decider.REWARD_MODEL
    assert world.holds > 1


def test_there_is_no_veto_where_no_model_decided():
    world, controls = ScriptedWorld(3), Controls()
    recording = Rollout(world, counting_policy(3, []), controls=controls, veto_s=60).run_episode()
    assert recording.success
    assert recording.decided_by is Decider.ROBOT


@pytest.mark.parametrize("what", ["observation.state", "action", "reward"])
def test_what_is_not_finite_spoils_the_episode_by_name_and_holds(what):
    class Broken(ScriptedWorld):
        def step(self, action):
            result = super().step(action)
            result.observation[KEYS[0]][0] = np.nan if what == KEYS[0] else 0.0
            if what == "action":
                result.executed[0] = np.inf
            return replace(result, reward=np.nan) if what == "reward" else result

    world = Broken(length=5)
    with pytest.raises(EpisodeSpoilt, match=f"'{what}' has a number that is not finite"):
        Rollout(world, counting_policy(3, [])).run_episode()
    assert (world.t, world.holds) == (1, 1)
