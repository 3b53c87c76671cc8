"""Learning about plans that outlive a decision: what is recorded is what counts."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_data import make_recording
from small_policy import small_agent, small_config

from lerobot_serl.actor.planned_policy import PlannedPolicy
from lerobot_serl.execution import Execution
from lerobot_serl.online.feature_cache import cache_features
from lerobot_serl.policy.parts import ActorConfig, CriticConfig
from lerobot_serl.replay.episode import ActedAs
from lerobot_serl.replay.frame_columns import NO_PLAN
from lerobot_serl.replay.memory import BASE, FEATURES, SPAN, ReplayMemory
from lerobot_serl.replay.plausible import Plausible

FRAMES = 11


@pytest.fixture(scope="module")
def agent():
    return small_agent(
        small_config(horizon=2, n_action_steps=4, actor=ActorConfig(hidden_sizes=(16,)), critic=CriticConfig(hidden_sizes=(16,)))
    )


def walked(agent, frames=FRAMES, by_hand=()):
    """An episode as a session records it, and what the policy decided about at which frame."""
    recording = make_recording(frames, "truncated", intervention=torch.tensor([t in by_hand for t in range(frames)]))
    recording = replace(recording, observation={key: torch.randn(value.shape) for key, value in recording.observation.items()})
    policy, seen, steps, rows = PlannedPolicy(agent), {}, [], []

    def choose(features, base):
        seen[frame] = features[0], base[0]
        return agent.propose(features, base)

    for frame in range(frames):
        policy.see({key: value[frame] for key, value in recording.observation.items()})
        if frame in by_hand:
            policy.moved()
            steps.clear()
            rows.append((recording.action[frame].numpy(), recording.action[frame].numpy(), NO_PLAN))
            continue
        if not steps:
            steps = list(policy.decide(choose, ActedAs.DEPLOYED).steps())
        rows.append(steps.pop(0))
    action, planned, ages = zip(*rows, strict=True)
    columns = {"action": torch.tensor(np.stack(action)), "plan_action": torch.tensor(np.stack(planned)), "plan_age": torch.tensor(ages)}
    return replace(recording, **columns), seen


@pytest.mark.parametrize("by_hand", [(), (3, 4), (0, 1), (10,)])
def test_the_memory_sees_what_the_policy_saw(agent, by_hand):
    episode, seen = walked(agent, by_hand=by_hand)
    assert len(seen) > 3
    cached = cache_features(agent, episode, 64).cached
    for frame, (features, base) in seen.items():
        torch.testing.assert_close(cached[FEATURES][frame], features, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(cached[BASE][frame], base, rtol=1e-5, atol=1e-5)
    ages = cached[FEATURES][:, -1] * 4
    assert set(ages.round().int().tolist()) <= {0, 1, 2}  # of a plan's last step nothing is decided
    assert cached[SPAN].tolist() == [2] * FRAMES


def test_recorded_actions_count_more_than_what_would_be_planned_now(agent):
    """A plan that fades in, or of another machine, is not what the base policy would plan to the last digit."""
    episode, _ = walked(agent)
    changed = replace(episode, plan_action=episode.plan_action + 0.01)
    cached, plain = cache_features(agent, changed, 64).cached, cache_features(agent, episode, 64).cached
    moved = (cached[BASE] - plain[BASE])[0]
    torch.testing.assert_close(moved, (agent.box.normalize(episode.plan_action[:2] + 0.01) - agent.box.normalize(episode.plan_action[:2])))


def test_plans_of_another_base_policy_are_made_anew(agent):
    episode, _ = walked(agent)
    other = replace(episode, plan_action=episode.plan_action + 1.0)
    unknown = replace(episode, plan_action=episode.plan_action, plan_age=torch.full_like(episode.plan_age, NO_PLAN))
    for number in (0, 5):
        cached = cache_features(agent, other, 64, number).cached
        for name, value in cache_features(agent, unknown, 64, number).cached.items():
            torch.testing.assert_close(cached[name], value)


def test_demonstrations_get_plans_of_all_ages(agent):
    recording = make_recording(12, plan_age=torch.full((12,), NO_PLAN))
    ages = torch.stack([cache_features(agent, recording, 64, number).cached[FEATURES][:, -1] for number in range(12)])
    assert all(set((ages[:, frame] * 4).round().int().tolist()) == {0, 1, 2} for frame in (4, 5, 8))
    observation = {key: value[:1] for key, value in recording.observation.items()}
    plan = agent.plan(observation).actions[0]
    for number in range(4):
        base = cache_features(agent, recording, 64, number).cached[BASE]
        torch.testing.assert_close(base[0], plan[:2])


def test_a_window_at_a_plans_end_is_as_long_as_its_decision():
    execution = Execution(3, 5)
    assert execution.is_open
    memory = ReplayMemory(100, 3, 0.9)
    episode = make_recording(8, "truncated", cached={
        FEATURES: torch.zeros(8, 2), BASE: torch.zeros(8, 3, 2), SPAN: torch.tensor([3, 3, 3, 2, 3, 3, 3, 3]),
        "action": torch.ones(8, 2),
    })  # fmt: skip
    memory.add(episode)
    batch = memory.windows(torch.tensor([0, 3]), torch.Generator())
    assert batch.length.tolist() == [3, 2]
    assert batch.chunk[:, :, 0].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.discount.tolist() == pytest.approx([0.9**3, 0.9**2])
    longer = ReplayMemory(100, 3, 0.9, n_step=5)
    longer.add(episode)
    batch = longer.windows(torch.tensor([0, 3]), torch.Generator())
    assert batch.length.tolist() == [5, 4]
    assert batch.chunk[:, :, 0].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_temporal_ensembling_is_learnt_from_as_it_acts():
    agent = small_agent(small_config(horizon=1, n_action_steps=1, temporal_ensemble_coeff=0.01))
    episode, seen = walked(agent, by_hand=(4,))
    cached = cache_features(agent, episode, 64).cached
    for frame, (features, base) in seen.items():
        torch.testing.assert_close(cached[FEATURES][frame], features, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(cached[BASE][frame], base, rtol=1e-5, atol=1e-5)
    unknown = replace(episode, plan_age=torch.full_like(episode.plan_age, NO_PLAN), intervention=torch.zeros(FRAMES, dtype=torch.bool))
    demonstrated = cache_features(agent, unknown, 64).cached[BASE]
    for frame in range(4):  # before the person came, both are the mean of all plans so far
        torch.testing.assert_close(demonstrated[frame], seen[frame][1], rtol=1e-5, atol=1e-5)


NONSENSE = [
    ("plan_age", -2, "'plan.age' is -2"),
    ("plan_age", 2**62, "'plan.age' is 46116"),
    ("plan_action", 1e30, "'plan.action'.0. is 1e.30"),
]


@pytest.mark.parametrize(("name", "value", "words"), NONSENSE)
def test_plans_that_make_no_sense_are_refused(name, value, words):
    recording = make_recording(5)
    column = getattr(recording, name).clone()
    column[2] = value
    assert Plausible().flaw_of(recording) is None
    assert re.match(f"frame 2, {words}", Plausible().flaw_of(replace(recording, **{name: column})))
