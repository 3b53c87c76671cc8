"""The policy in practice: explores, acts as deployed, or is ACT."""

import pytest
import torch
from small_data import SIZES
from small_policy import small_agent, small_config

from lerobot_serl.actor.practice_policy import PracticePolicy
from lerobot_serl.policy.parts import ActorConfig
from lerobot_serl.replay.episode import ActedAs

KEYS = ("observation.state", "observation.environment_state")
OBSERVATIONS = [{key: torch.randn(SIZES[key], generator=torch.Generator().manual_seed(seed)) for key in KEYS} for seed in range(8)]


def practice_policy(learnt=True, **actor):
    agent = small_agent(small_config(actor=ActorConfig(hidden_sizes=(16,), **actor)))
    agent.config.actor.margin = -1e6  # whatever is not ACT's chunk wins
    if not learnt:
        torch.nn.init.zeros_(agent.actor.head.weight)
        torch.nn.init.zeros_(agent.actor.head.bias)
    return PracticePolicy(agent, torch.Generator().manual_seed(0))


def episodes(policy, count, learning):
    """What each episode says it was, and its actions."""
    found = []
    for _ in range(count):
        policy.begin_episode(learning)
        chunks = []
        for observation in OBSERVATIONS:
            policy.see(observation)
            policy.moved()  # so that each is planned for
            chunks.append(policy.act(observation))
        (acted_as,) = {chunk.acted_as for chunk in chunks}
        found.append((acted_as, torch.stack([torch.from_numpy(chunk.actions) for chunk in chunks])))
    return found


def expected(policy, propose):
    batch = {key: torch.stack([observation[key] for observation in OBSERVATIONS]) for key in KEYS}
    features, base = policy.agent.encode(batch)
    return policy.agent.box.unnormalize(propose(features, base).chunk)


def test_each_kind_of_episode_is_what_it_says():
    policy = practice_policy(deployed_share=0.5)
    found = episodes(policy, 16, learning=True)
    assert {acted_as for acted_as, _ in found} == set(ActedAs)
    deployed = expected(policy, policy.agent.propose)
    act = expected(policy, lambda features, base: policy.agent.act_alone(base))
    assert (deployed - act).abs().max() > 1e-3
    for acted_as, actions in found:
        if acted_as is not ActedAs.EXPLORING:
            torch.testing.assert_close(actions, deployed if acted_as is ActedAs.DEPLOYED else act)
        else:
            assert (actions - deployed).abs().max() > 1e-3
            assert (actions - act).abs().max() > 1e-3


@pytest.mark.parametrize("learning", [False, True])
def test_what_would_be_deployed_is_called_act_while_it_is(learning):
    policy = practice_policy(learnt=False, deployed_share=0.5)
    found = episodes(policy, 8, learning)
    assert {acted_as for acted_as, _ in found} == {ActedAs.EXPLORING, ActedAs.ACT}
    act = expected(policy, lambda features, base: policy.agent.act_alone(base))
    for acted_as, actions in found:
        assert (acted_as is ActedAs.ACT) == bool(torch.allclose(actions, act, atol=1e-6))


def test_episodes_as_deployed_draw_no_noise():
    """So the noise of the others does not depend on how many there are."""
    policy = practice_policy(deployed_share=1.0)
    generator = torch.Generator().manual_seed(0)
    policy._generator, before = generator, generator.get_state()
    found = episodes(policy, 8, learning=True)
    assert {acted_as for acted_as, _ in found} == {ActedAs.DEPLOYED, ActedAs.ACT}
    assert torch.equal(generator.get_state(), before)


def test_a_policy_that_is_to_act_as_act_does():
    policy = practice_policy()
    policy.agent.config.act_alone = True
    act = expected(policy, lambda features, base: policy.agent.act_alone(base))
    torch.testing.assert_close(expected(policy, policy.agent.propose), act)
    assert policy.agent.is_act
