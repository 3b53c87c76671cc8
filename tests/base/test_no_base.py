"""Without a base policy the actor's output is the action, as in SERL and RLPD."""

import pytest
import torch
from act_checkpoints import ACTION, STATE, random_observations, small_act_config, statistics_for
from lerobot.configs import FeatureType, PolicyFeature

from lerobot_serl.actor.practice_policy import PracticePolicy
from lerobot_serl.online.evidence import BestPolicy, Tally
from lerobot_serl.policy.base_settings import FOLLOWS_FROM_NONE
from lerobot_serl.policy.configuration_serl_sac import SerlSacConfig
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.replay.episode import ActedAs

STATISTICS = statistics_for(small_act_config(0))


def from_scratch(**settings):
    inputs = {STATE: PolicyFeature(FeatureType.STATE, (18,))}  # ACT would need a camera or an environment state as well
    config = SerlSacConfig(
        device="cpu", push_to_hub=False, input_features=inputs, output_features={ACTION: PolicyFeature(FeatureType.ACTION, (4,))},
        horizon=3, **settings,
    )  # fmt: skip
    return SerlSacPolicy(config, dataset_stats=STATISTICS).eval()


def observations(count=5):
    return {STATE: random_observations(small_act_config(0), count)[STATE]}


def test_without_a_path_nothing_proposes_and_what_follows_is_said(caplog):
    with caplog.at_level("INFO"):
        policy = from_scratch()
    assert policy.config.base == "none"
    assert not any(name.startswith("agent.act.") for name in policy.state_dict())
    assert "the actor's output is the action, learnt from scratch. Therefore actor.edit_scale=1.0, actor.candidates=False" in caplog.text
    for name, value in FOLLOWS_FROM_NONE.items():
        group, _, field = name.partition(".")
        assert getattr(getattr(policy.config, group), field) == value
    middle = policy.agent.box.middle
    assert torch.equal(policy.predict_action_chunk(observations()), middle.expand(5, 3, 4))


def test_the_actor_reaches_every_action_and_nothing_else_decides():
    policy = from_scratch()
    agent = policy.agent
    torch.nn.init.normal_(agent.actor.head.weight, std=10.0)
    features, base = agent.encode(observations())
    assert (base == 0).all()
    mean, _ = agent.actor(features, base)
    chunk = agent.propose(features, base).chunk
    torch.testing.assert_close(chunk, agent.actor.along_chunk(mean.tanh()))
    assert chunk.abs().max() > 0.99


def test_saved_and_loaded_it_acts_the_same(tmp_path):
    policy = from_scratch()
    torch.nn.init.normal_(policy.agent.actor.head.weight)
    policy.save_pretrained(tmp_path)
    loaded = SerlSacPolicy.from_pretrained(tmp_path)
    assert loaded.config.base == "none"
    assert torch.equal(loaded.predict_action_chunk(observations()), policy.predict_action_chunk(observations()))


@pytest.mark.parametrize("learning", [False, True])
def test_practice_never_acts_as_a_base_policy_that_there_is_not(learning):
    practice = PracticePolicy(from_scratch().agent, torch.Generator().manual_seed(0))
    kinds = []
    for _ in range(40):
        practice.begin_episode(learning)
        kinds.append(practice.acts_as)
    assert ActedAs.ACT not in kinds
    assert (ActedAs.DEPLOYED in kinds) == learning


def test_the_best_checkpoint_is_what_was_learnt():
    """A base policy alone would be the middle of the box."""
    best = BestPolicy(None, Tally(), has_base=False)
    assert best.edits_are_better
    assert str(best) == "acts with the newest weights, learnt from scratch."
    assert not BestPolicy(None, Tally()).edits_are_better
