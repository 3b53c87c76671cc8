"""ACT of LeRobot 0.1 to 0.3 and before: what it computed then, from the statistics inside its weights."""

import pytest
import torch
from act_checkpoints import ACTION, ENVIRONMENT, STATE, random_observations, save_act, small_act_config, statistics_for
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from odd_checkpoints import WEIGHTS, edit_config, make_oldest, rename_tensors, save_old_act
from safetensors.torch import load_file, save_file

from lerobot_serl import SerlSacConfig
from lerobot_serl.policy.act_checkpoint import load_act_checkpoint
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy

MODES = {"MEAN_STD": NormalizationMode.MEAN_STD, "MIN_MAX": NormalizationMode.MIN_MAX}


def config_of(cameras, mode, environment=True):
    config = small_act_config(cameras, state_dim=6, normalization_mapping=dict.fromkeys(("VISUAL", "STATE", "ENV", "ACTION"), mode))
    if environment:
        config.input_features[ENVIRONMENT] = PolicyFeature(FeatureType.ENV, (3,))
    return config


def normalized_then(value, statistics, mode):
    """LeRobot 0.1 to 0.3, policies/normalize.py, class Normalize."""
    if mode == "MEAN_STD":
        return (value - statistics["mean"]) / (statistics["std"] + 1e-8)
    return (value - statistics["min"]) / (statistics["max"] - statistics["min"] + 1e-8) * 2 - 1


def unnormalized_then(value, statistics, mode):
    """The same, class Unnormalize."""
    if mode == "MEAN_STD":
        return value * statistics["std"] + statistics["mean"]
    return (value + 1) / 2 * (statistics["max"] - statistics["min"]) + statistics["min"]


def chunk_then(policy, observations, inputs, outputs, mode):
    batch = {key: normalized_then(value, inputs[key], mode) for key, value in observations.items()}
    return unnormalized_then(policy.predict_action_chunk(batch), outputs[ACTION], mode)


def chunk_now(directory, config, observations):
    policy = SerlSacPolicy(SerlSacConfig(act_path=str(directory), device="cpu", push_to_hub=False), dataset_stats=statistics_for(config))
    return policy.agent.act.plan(observations, config.chunk_size).actions


def old_act(directory, mode, cameras=0, environment=True):
    """The policy, its configuration, and the statistics of inputs and outputs, which differ here. Targets' are a third kind."""
    config = config_of(cameras, MODES[mode], environment)
    inputs, outputs, targets = (statistics_for(config, seed) for seed in (1, 2, 3))
    # A joint that hardly moves, and one that never does.
    inputs[STATE]["min"][:2], inputs[STATE]["max"][:2] = torch.tensor([0.0, 0.5]), torch.tensor([2e-7, 0.5])
    inputs[STATE]["mean"][1], inputs[STATE]["std"][1] = 0.5, 0.0
    return save_old_act(directory, config, inputs, outputs, targets), config, inputs, outputs


def observations_for(config):
    observations = random_observations(config, 5)
    observations[STATE][:, 0], observations[STATE][:, 1] = torch.linspace(0, 2e-7, 5), 0.5
    return observations


CHANGES = {"0.3": lambda _: None, "before 0.1": make_oldest, "compiled": lambda d: rename_tensors(d, lambda name: f"_orig_mod.{name}")}


@pytest.mark.parametrize("version", CHANGES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("cameras", "environment"), [(2, True), (0, True), (1, False)])
def test_the_chunk_is_what_that_version_computed(tmp_path, cameras, environment, mode, version):
    policy, config, inputs, outputs = old_act(tmp_path, mode, cameras, environment)
    CHANGES[version](tmp_path)
    observations = observations_for(config)
    expected = chunk_then(policy, observations, inputs, outputs, mode)
    assert expected.std() > 0.01
    torch.testing.assert_close(chunk_now(tmp_path, config, observations), expected, atol=1e-5, rtol=1e-5)


def test_a_feature_that_is_not_normalised_needs_no_statistics(tmp_path):
    """LeRobot's default says nothing of the environment's state, and kept no statistics of it."""
    config = config_of(0, MODES["MEAN_STD"])
    del config.normalization_mapping["ENV"]
    statistics = statistics_for(config)
    policy = save_old_act(tmp_path, config, statistics, statistics, statistics)
    checkpoint = load_act_checkpoint(str(tmp_path))
    assert {key for key, read in checkpoint.processors.features.items() if read.statistics} == {STATE, ACTION}
    observations = random_observations(config, 3)
    batch = {STATE: normalized_then(observations[STATE], statistics[STATE], "MEAN_STD"), ENVIRONMENT: observations[ENVIRONMENT]}
    expected = unnormalized_then(policy.predict_action_chunk(batch), statistics[ACTION], "MEAN_STD")
    torch.testing.assert_close(chunk_now(tmp_path, config, observations), expected, atol=1e-5, rtol=1e-5)


def test_a_tensor_that_two_modules_shared_was_written_once(tmp_path):
    _, _, _, outputs = old_act(tmp_path, "MEAN_STD")
    tensors = load_file(tmp_path / WEIGHTS)
    for name in ("mean", "std"):
        tensors[f"normalize_targets.buffer_action.{name}"] = tensors.pop(f"unnormalize_outputs.buffer_action.{name}")
    save_file(tensors, tmp_path / WEIGHTS)
    assert torch.equal(load_act_checkpoint(str(tmp_path)).processors.features[ACTION].statistics["std"], outputs[ACTION]["std"])


def test_processors_are_what_runs_where_there_are_any(tmp_path):
    """People add the old statistics to a new checkpoint, so that an old LeRobot takes it too."""
    save_act(tmp_path, config := small_act_config(0))
    buffers = {f"normalize_inputs.buffer_observation_state.{name}": torch.full((18,), 7.0) for name in ("mean", "std")}
    save_file({**load_file(tmp_path / WEIGHTS), **buffers}, tmp_path / WEIGHTS)
    checkpoint = load_act_checkpoint(str(tmp_path))
    assert torch.equal(checkpoint.processors.features[STATE].statistics["mean"], statistics_for(config)[STATE]["mean"])
    assert not [name for name in checkpoint.weights if "buffer_" in name]


MEAN = "normalize_inputs.buffer_observation_state.mean"
FLAWS = {
    "never filled": (lambda t: t[MEAN].fill_(torch.inf), f"'{MEAN}' is infinite or NaN: .*'observation.state' were never filled in"),
    "NaN": (lambda t: t[MEAN].fill_(torch.nan), f"'{MEAN}' is infinite or NaN"),
    "targets never filled": (lambda t: t["normalize_targets.buffer_action.std"].fill_(torch.inf), "tensor 'normalize_targets.buffer_action.std'"),
    "missing": (lambda t: t.pop(MEAN), f"has no '{MEAN}', which config.json asks for with the mode MEAN_STD of 'observation.state'"),
    "short": (lambda t: t.update({MEAN: torch.zeros(5)}), f"'{MEAN}' has 5 numbers of torch.float32, expected 6 floats"),
    "integers": (lambda t: t.update({MEAN: torch.zeros(6, dtype=torch.int64)}), f"'{MEAN}' has 6 numbers of torch.int64, expected 6 floats"),
    "another module": (lambda t: t.update({"normalize_inputs.x": torch.zeros(5)}), r"unexpected tensors \['normalize_inputs.x'\]"),
}  # fmt: skip


@pytest.mark.parametrize("flaw", FLAWS)
def test_every_flaw_of_old_statistics_is_named(tmp_path, flaw):
    old_act(tmp_path, "MEAN_STD")
    change, words = FLAWS[flaw]
    tensors = load_file(tmp_path / WEIGHTS)
    change(tensors)
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=rf"^policy.act_path='{tmp_path}': {WEIGHTS}: .*{words}.*opy the checkpoint again"):
        load_act_checkpoint(str(tmp_path))


def test_modes_that_were_not_there_then_are_refused(tmp_path):
    old_act(tmp_path, "MEAN_STD")
    edit_config(tmp_path, lambda document: document["normalization_mapping"].update(STATE="QUANTILES"))
    with pytest.raises(
        ValueError, match=r"has no 'normalize_inputs.buffer_observation_state.q01', .* mode QUANTILES of 'observation.state'"
    ):
        load_act_checkpoint(str(tmp_path))
