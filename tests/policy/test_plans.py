"""At step 0 the policy is ACT as its owner runs it: over whole episodes, with every number of steps of a plan, and with temporal ensembling."""

import pytest
import torch
from act_checkpoints import random_observations, save_act, small_act_config, statistics_for
from diffusion_checkpoints import save_diffusion, small_diffusion_config

from lerobot_serl import SerlSacConfig
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.policy.processor_serl_sac import make_serl_sac_pre_post_processors
from lerobot_serl.setting_error import SettingError

STEPS = 130


def fresh(act_path, **settings):
    return SerlSacConfig(act_path=str(act_path), device="cpu", push_to_hub=False, **settings)


def episode_of(policy, pre, post, observations):
    """What ``lerobot-eval`` does: one action after the other."""
    policy.reset()
    return torch.cat(
        [post(policy.select_action(pre({key: value[t : t + 2] for key, value in observations.items()}))) for t in range(STEPS)]
    )


@pytest.mark.parametrize(
    ("n_action_steps", "settings"),
    [
        (1, {}),
        (10, {}),
        (50, {}),
        (100, {}),
        (50, {"horizon": 15}),
        (37, {"horizon": 10}),
        (10, {"horizon": 7}),
        (1, {"temporal_ensemble_coeff": 0.01}),
    ],
)
@pytest.mark.parametrize("cameras", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_step_0_is_act_over_whole_episodes(tmp_path, n_action_steps, settings, cameras):
    coeff = settings.get("temporal_ensemble_coeff")
    act_config = small_act_config(cameras, chunk_size=100, n_action_steps=n_action_steps, temporal_ensemble_coeff=coeff)
    statistics = statistics_for(act_config)
    act, act_pre, act_post = save_act(tmp_path / "act", act_config, statistics)
    observations = random_observations(act_config, STEPS + 2)
    expected = episode_of(act, act_pre, act_post, observations)

    config = fresh(tmp_path / "act", **{key: value for key, value in settings.items() if key == "horizon"})
    policy = SerlSacPolicy(config, dataset_stats=statistics).eval()
    assert (config.n_action_steps, config.temporal_ensemble_coeff) == (n_action_steps, coeff)
    pre, post = make_serl_sac_pre_post_processors(config, statistics)
    for _ in range(2):  # nothing of an episode is left in the next
        actual = episode_of(policy, pre, post, observations)
        assert actual.shape == expected.shape
        assert float(((actual - expected).abs() / (2 * policy.agent.box.half_width)).max()) <= 1e-5
    assert expected.std(0).min() > 1e-4


def settled(tmp_path, act_changes, **settings):
    act_config = small_act_config(0, **act_changes)
    save_act(tmp_path / "act", act_config)
    config = fresh(tmp_path / "act", **settings)
    return SerlSacPolicy(config, dataset_stats=statistics_for(act_config)).config


def test_plans_shorter_than_the_horizon_shorten_it(tmp_path, caplog):
    caplog.set_level("INFO")
    config = settled(tmp_path, {"n_action_steps": 4})
    assert (config.horizon, config.n_action_steps, config.n_step) == (4, 4, 10)
    assert "horizon=auto: 4" in caplog.text
    assert "another policy" not in caplog.text


def test_a_horizon_beyond_the_plan_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"policy.horizon=8: expected at most policy.n_action_steps, 4.*--policy.horizon=4"):
        settled(tmp_path, {"n_action_steps": 4}, horizon=8)


def test_more_steps_than_a_plan_has_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"policy.n_action_steps=11: expected at most 10"):
        settled(tmp_path, {}, n_action_steps=11)


def test_other_steps_than_the_owners_are_said(tmp_path, caplog):
    config = settled(tmp_path, {"temporal_ensemble_coeff": 0.01, "n_action_steps": 1}, n_action_steps=10)
    assert (config.horizon, config.n_action_steps, config.temporal_ensemble_coeff) == (10, 10, None)
    assert (
        "ACT carries out the mean of all plans for a step (temporal_ensemble_coeff=0.01) as its owner runs it, here 10 steps" in caplog.text
    )


def test_ensembling_takes_single_steps(tmp_path):
    with pytest.raises(ValueError, match=r"policy.temporal_ensemble_coeff=0.01: expected policy.n_action_steps=1, policy.horizon=1"):
        settled(tmp_path, {}, temporal_ensemble_coeff=0.01, n_action_steps=5, horizon=5)


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        (
            {"temporal_ensemble_coeff": 0.01},
            r"policy.temporal_ensemble_coeff=0.01: expected nothing: diffusion has no temporal ensembling",
        ),
        ({"horizon": 9}, r"policy.horizon=9: expected at most policy.n_action_steps, 8.*--policy.horizon=8"),
        ({"n_action_steps": 4, "horizon": 5}, r"policy.horizon=5: expected at most policy.n_action_steps, 4"),
        ({"n_action_steps": 16}, r"policy.n_action_steps=16: expected at most 8, the steps that the base policy plans"),
        ({"n_action_steps": 0}, r"policy.n_action_steps=0: expected a whole number from 1"),
    ],
)
def test_what_another_base_policy_cannot_do_is_refused(tmp_path, settings, refused):
    theirs = small_diffusion_config()
    statistics = statistics_for(theirs)
    save_diffusion(tmp_path, theirs, statistics)
    with pytest.raises(ValueError, match=refused):
        SerlSacPolicy(SerlSacConfig(base_path=str(tmp_path), device="cpu", push_to_hub=False, **settings), dataset_stats=statistics)


def test_ensembling_without_a_base_policy_is_refused():
    with pytest.raises(SettingError, match=r"policy.temporal_ensemble_coeff=0.01: expected .* and a base policy"):
        SerlSacConfig(base="none", temporal_ensemble_coeff=0.01, n_action_steps=1, horizon=1, device="cpu")


def test_a_checkpoint_without_the_setting_plans_at_every_decision():
    """Earlier versions planned anew every ``horizon`` steps."""
    assert not SerlSacConfig(base="act", act_source="x", device="cpu").execution.is_open
