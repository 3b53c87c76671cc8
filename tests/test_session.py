"""Running episodes: chunks open loop, and recordings of what was executed."""

import numpy as np
import pytest
import torch

from lerobot_serl.actor.session import Chunk, Session
from lerobot_serl.actor.world import EnvWorld, StepResult
from lerobot_serl.envs.config_franka_sim import FrankaSimEnv

KEYS = ("observation.state", "observation.images.front")


class ScriptedWorld:
    """A world that names every observation and halves every action."""

    task = "halve it"
    simulated = True

    def __init__(self, length, end="terminated"):
        self.length, self.end, self.resets, self.asked = length, end, 0, []

    def observation(self):
        return {KEYS[0]: torch.tensor([float(self.resets), float(self.t)]), KEYS[1]: torch.full((3, 2, 2), self.t, dtype=torch.uint8)}

    def reset(self):
        self.resets, self.t = self.resets + 1, 0
        return self.observation()

    def step(self, action):
        self.asked.append(action.copy())
        self.t += 1
        over = self.t == self.length
        executed = (action / 2).astype(np.float32)
        return StepResult(self.observation(), executed, float(over), over and self.end == "terminated", over and self.end == "truncated")


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
    recording = Session(world, counting_policy(horizon, seen)).run_episode()
    expected = [10 * (t // horizon) + t % horizon for t in range(7)]
    assert [action[0] for action in world.asked] == expected
    assert [int(o[KEYS[0]][1]) for o in seen] == list(range(0, 7, horizon))  # looked every h steps, at the newest observation
    assert len(recording) == 7


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_a_recording_pairs_each_observation_with_what_was_executed_there(end):
    recording = Session(ScriptedWorld(5, end), counting_policy(3, [])).run_episode()
    assert recording.observation[KEYS[0]].tolist() == [[1.0, float(t)] for t in range(5)]
    assert recording.observation[KEYS[1]].dtype == torch.uint8
    assert recording.observation[KEYS[1]][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert recording.action.tolist() == [[a / 2, -0.5] for a in (0, 1, 2, 10, 11)]
    assert recording.action.dtype == recording.reward.dtype == torch.float32
    assert recording.reward.tolist() == [0, 0, 0, 0, 1]
    assert recording.intervention.tolist() == [False] * 5
    assert (recording.terminated, recording.truncated) == (end == "terminated", end == "truncated")
    assert recording.task == "halve it"


def test_what_was_chosen_is_summed_up():
    recording = Session(ScriptedWorld(8), counting_policy(2, [], choices=(0, 2, 2, 1), edits=(0.0, 0.1, 0.2, 0.3))).run_episode()
    assert recording.info == pytest.approx({"share_base": 0.25, "share_mean": 0.25, "share_sample": 0.5, "edit_rms": 0.15})


def test_the_rest_of_a_chunk_is_dropped_when_an_episode_ends():
    world, seen, begun = ScriptedWorld(4), [], []
    session = Session(world, counting_policy(3, seen), lambda: begun.append(world.resets))
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

    recording = Session(world, act).run_episode()
    world.close()
    assert len(asked) == 3
    assert len(recording) == 12
    assert recording.truncated
    assert torch.equal(recording.action, torch.tensor([1.0, 0.0, -0.1, 0.0]).expand(12, 4))
    tool_x = recording.observation["observation.state"][:, 15]
    assert (tool_x.diff() > 0).all()  # the arm moved as told, and every frame is its own
    assert torch.equal(recording.observation["observation.state"][5], asked[1]["observation.state"])
