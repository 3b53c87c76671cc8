"""The promise of the project: at step 0 the policy is ACT. And what else a LeRobot policy has to keep."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from act_checkpoints import ACTION, STATE, random_observations, save_act, small_act_config, statistics_for
from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors

from lerobot_serl import SerlSacConfig
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.policy.processor_serl_sac import make_serl_sac_pre_post_processors

OBSERVATIONS = 1000
PART = 100


def fresh(act_path, **settings):
    return SerlSacConfig(act_path=str(act_path), device="cpu", push_to_hub=False, **settings)


def parts(observations):
    for start in range(0, len(observations[STATE]), PART):
        yield {key: value[start : start + PART] for key, value in observations.items()}


def act_actions(act, pre, post, observations):
    """Stock LeRobot's way from an observation to a raw chunk."""
    return torch.cat([post(act.predict_action_chunk(pre(dict(part)))) for part in parts(observations)])


def serl_actions(policy, pre, post, observations):
    return torch.cat([post(policy.predict_action_chunk(pre(dict(part)))) for part in parts(observations)])


def assert_equal_to_1e5_of_the_range(actual, expected, policy):
    span = 2 * policy.agent.box.half_width
    assert actual.shape == expected[:, : actual.shape[1]].shape
    difference = ((actual - expected[:, : actual.shape[1]]).abs() / span).max().item()
    assert difference <= 1e-5
    assert expected.std(0).min() > 1e-4  # the comparison is not one of constants


@pytest.mark.slow
@pytest.mark.parametrize("cameras", [0, 1, 2])
def test_step_0_equals_act_also_after_saving_and_after_policy_path(tmp_path, cameras):
    act_config = small_act_config(cameras)
    act, act_pre, act_post = save_act(tmp_path / "act", act_config)
    observations = random_observations(act_config, OBSERVATIONS)
    expected = act_actions(act, act_pre, act_post, observations)

    config = fresh(tmp_path / "act", horizon=7)
    policy = SerlSacPolicy(config, dataset_stats=statistics_for(act_config)).eval()
    pre, post = make_serl_sac_pre_post_processors(config, statistics_for(act_config))
    assert_equal_to_1e5_of_the_range(serl_actions(policy, pre, post, observations), expected, policy)

    saved = tmp_path / "serl"
    for part in (policy, pre, post):
        part.save_pretrained(saved)
    loaded = get_policy_class("serl_sac").from_pretrained(saved)
    pre, post = make_pre_post_processors(loaded.config, pretrained_path=str(saved))
    assert loaded.config.act_path is None
    assert_equal_to_1e5_of_the_range(serl_actions(loaded, pre, post, observations), expected, loaded)

    # lerobot-train --policy.path=...: the processors' statistics are overwritten with those of another dataset.
    other = statistics_for(act_config, seed=9)
    config = PreTrainedConfig.from_pretrained(saved)
    config.pretrained_path = saved
    continued = SerlSacPolicy.from_pretrained(saved, config=config, dataset_stats=other)
    features = {**config.input_features, **config.output_features}
    overrides = {"stats": other, "norm_map": continued.config.normalization_mapping}
    pre, post = make_pre_post_processors(
        config,
        pretrained_path=str(saved),
        preprocessor_overrides={"normalizer_processor": {"features": features, **overrides}},
        postprocessor_overrides={"unnormalizer_processor": {"features": config.output_features, **overrides}},
    )
    assert_equal_to_1e5_of_the_range(serl_actions(continued, pre, post, observations), expected, continued)


def test_features_are_what_acts_decoder_and_backbone_say_of_each_camera(tmp_path):
    act_config = small_act_config(2)
    act, act_pre, _ = save_act(tmp_path / "act", act_config)
    policy = SerlSacPolicy(fresh(tmp_path / "act", horizon=7), dataset_stats=statistics_for(act_config)).eval()
    observations = random_observations(act_config, 5)
    maps, decoded = [], []
    act.model.backbone.register_forward_hook(lambda _, __, out: maps.append(out["feature_map"].mean((2, 3))))
    act.model.decoder.register_forward_hook(lambda _, __, out: decoded.append(out.transpose(0, 1)[:, :7].mean(1)))
    act.predict_action_chunk(act_pre(dict(observations)))
    _, features = policy.agent.act.plan(observations, 7)
    assert policy.agent.act.feature_sizes == (32, 512, 512)
    torch.testing.assert_close(features, torch.cat([*decoded, *maps], dim=-1), rtol=1e-4, atol=1e-5)
    assert (maps[0] - maps[1]).abs().max() > 1e-2


@pytest.mark.parametrize("mode", [NormalizationMode.MIN_MAX, NormalizationMode.QUANTILES, NormalizationMode.IDENTITY])
def test_step_0_equals_act_for_every_normalisation(tmp_path, mode):
    act_config = small_act_config(0, normalization_mapping=dict.fromkeys(("STATE", "ENV", "ACTION"), mode))
    act, act_pre, act_post = save_act(tmp_path, act_config)
    observations = random_observations(act_config, 200)
    config = fresh(tmp_path)
    policy = SerlSacPolicy(config, dataset_stats=statistics_for(act_config)).eval()
    expected = act_actions(act, act_pre, act_post, observations)
    lo, hi = policy.agent.box.unnormalize(torch.tensor(-1.0)), policy.agent.box.unnormalize(torch.tensor(1.0))
    pre, post = make_serl_sac_pre_post_processors(config)
    assert_equal_to_1e5_of_the_range(serl_actions(policy, pre, post, observations), expected.clamp(lo, hi), policy)


def test_step_0_equals_act_on_another_dataset_than_its_own(tmp_path):
    """ACT's normalisation is that of its training; only the action box follows the dataset."""
    act_config = small_act_config(0)
    act, act_pre, act_post = save_act(tmp_path, act_config)
    observations = random_observations(act_config, 200)
    config = fresh(tmp_path)
    policy = SerlSacPolicy(config, dataset_stats=statistics_for(act_config, seed=9)).eval()
    expected = act_actions(act, act_pre, act_post, observations)
    lo, hi = policy.agent.box.unnormalize(torch.tensor(-1.0)), policy.agent.box.unnormalize(torch.tensor(1.0))
    pre, post = make_serl_sac_pre_post_processors(config)
    assert_equal_to_1e5_of_the_range(serl_actions(policy, pre, post, observations), expected.clamp(lo, hi), policy)


def test_environment_state_may_be_fed_raw(tmp_path):
    """ACT's own default leaves ENV out of the normalisation."""
    act_config = small_act_config(0, normalization_mapping=dict.fromkeys(("VISUAL", "STATE", "ACTION"), NormalizationMode.MEAN_STD))
    act, act_pre, act_post = save_act(tmp_path, act_config)
    observations = random_observations(act_config, 100)
    config = fresh(tmp_path)
    policy = SerlSacPolicy(config, dataset_stats=statistics_for(act_config)).eval()
    expected = act_actions(act, act_pre, act_post, observations)
    pre, post = make_serl_sac_pre_post_processors(config)
    assert_equal_to_1e5_of_the_range(serl_actions(policy, pre, post, observations), expected, policy)


def test_select_action_walks_through_the_chunk_and_looks_again(tmp_path):
    act_config = small_act_config(0)
    save_act(tmp_path, act_config)
    policy = SerlSacPolicy(fresh(tmp_path, horizon=3, n_action_steps=3), dataset_stats=statistics_for(act_config)).eval()
    first, second = random_observations(act_config, 1, seed=1), random_observations(act_config, 1, seed=2)
    chunk = policy.predict_action_chunk(first)
    taken = [policy.select_action(first), policy.select_action(second), policy.select_action(second)]
    assert torch.equal(torch.stack(taken, 1), chunk)
    assert torch.equal(policy.select_action(second), policy.predict_action_chunk(second)[:, 0])
    policy.reset()
    assert torch.equal(policy.select_action(first), chunk[:, 0])


def test_act_never_moves_and_never_drops_out(tmp_path):
    act_config = small_act_config(0)
    save_act(tmp_path, act_config)
    policy = SerlSacPolicy(fresh(tmp_path), dataset_stats=statistics_for(act_config)).train()
    trained = {id(p) for name in policy.agent.networks.learning for p in policy.agent.networks.parameters(name)}
    assert not trained & {id(p) for p in policy.agent.act.parameters()}
    assert not trained & {id(p) for p in policy.agent.critic_target.parameters()}
    assert not any(module.training for module in policy.agent.act.modules())
    assert policy.agent.critic.training
    observation = random_observations(act_config, 4)
    assert torch.equal(policy.agent.cache_features(observation)[1], policy.agent.cache_features(observation)[1])
    assert list(policy.agent.networks.learning) == ["critic", "actor", "temperature", "corrector"]
    (clock,) = policy.get_optim_params()  # LeRobot's optimizer moves nothing
    assert id(clock) not in {id(p) for p in policy.parameters()}


def test_features_that_differ_are_named_with_both_shapes(tmp_path):
    save_act(tmp_path, small_act_config(0))
    dataset = small_act_config(0, state_dim=7, action_dim=6)
    config = fresh(tmp_path, input_features=dataset.input_features, output_features=dataset.output_features)
    with pytest.raises(ValueError, match=r"'observation.state': ACT has STATE\(18,\), the dataset STATE\(7,\)"):
        SerlSacPolicy(config, dataset_stats=statistics_for(dataset))
    config = fresh(tmp_path, output_features=dataset.output_features)
    with pytest.raises(ValueError, match=r"'action': ACT has ACTION\(4,\), the dataset ACTION\(6,\)"):
        SerlSacPolicy(config, dataset_stats=statistics_for(dataset))


def test_act_path_beside_a_serl_sac_checkpoint_is_refused(tmp_path):
    save_act(tmp_path, small_act_config(0))
    config = fresh(tmp_path)
    config.pretrained_path = tmp_path
    with pytest.raises(ValueError, match=r"remove --policy.act_path"):
        SerlSacPolicy(config)


def test_a_horizon_longer_than_the_chunk_is_refused(tmp_path):
    save_act(tmp_path, small_act_config(0))
    with pytest.raises(ValueError, match=r"policy.horizon=11: expected at most policy.n_action_steps, 10"):
        SerlSacPolicy(fresh(tmp_path, horizon=11), dataset_stats=statistics_for(small_act_config(0)))


def test_a_fresh_act_is_the_base_only_where_it_is_asked_for(caplog):
    act_config = small_act_config(0)
    config = SerlSacConfig(
        base="act", device="cpu", push_to_hub=False, input_features=act_config.input_features, output_features=act_config.output_features
    )
    config.act.dim_model, config.act.n_heads, config.act.dim_feedforward = 32, 4, 64
    policy = SerlSacPolicy(config, dataset_stats=statistics_for(act_config))
    assert "starts from a fresh, random ACT" in caplog.text
    assert policy.predict_action_chunk(random_observations(act_config, 2)).shape == (2, 10, 4)


def test_nothing_starts_before_training(tmp_path):
    """A policy without a dataset (lerobot-eval, lerobot-rollout) acts; learning with it is refused in words."""
    act_config = small_act_config(0)
    save_act(tmp_path, act_config)
    config = fresh(tmp_path)
    config.online.repo_id = "me/online"
    policy = SerlSacPolicy(config, dataset_stats=statistics_for(act_config)).eval()
    policy.select_action(random_observations(act_config, 1))
    with pytest.raises(RuntimeError, match="learns inside lerobot-train"):
        policy.forward({ACTION: torch.zeros(1, 4)})


def test_a_disk_without_room_is_named_before_a_checkpoint_is_begun(tmp_path, monkeypatch):
    save_act(tmp_path / "act", config := small_act_config(0))
    policy = SerlSacPolicy(fresh(tmp_path / "act"), dataset_stats=statistics_for(config))
    policy._learner = SimpleNamespace(watch=None)  # it is in training; nothing of the learner is asked
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000))
    place = tmp_path / "checkpoints" / "000010" / "pretrained_model"
    with pytest.raises(OSError, match=r"a checkpoint needs \d+\.\d MB, 0.0 MB are free there. No space left on device"):
        policy.save_pretrained(place)
    assert not [path for path in place.glob("*")]
