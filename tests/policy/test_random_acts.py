"""Whatever ACT and its processors are: serl_sac runs it as LeRobot does, to 1e-4, or refuses it by name."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.act.processor_act import make_act_pre_post_processors
from lerobot.policies.factory import make_pre_post_processors
from safetensors.torch import load_file, save_file

from lerobot_serl.policy.configuration_serl_sac import SerlSacConfig
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy

STATE, ENVIRONMENT, ACTION = "observation.state", "observation.environment_state", "action"
PRE, POST = "policy_preprocessor", "policy_postprocessor"
MODES = [*NormalizationMode]
mode = st.sampled_from([item.value for item in MODES])
mapping = st.dictionaries(st.sampled_from(["VISUAL", "STATE", "ENV", "ACTION"]), mode)


@st.composite
def configurations(draw):
    """ACTs as people train them, and as they do not."""
    cameras = draw(st.sampled_from([0, 0, 0, 0, 1, 2]))
    inputs = {}
    if draw(st.booleans()):
        inputs[STATE] = PolicyFeature(FeatureType.STATE, (draw(st.integers(1, 9)),))
    if cameras == 0 or draw(st.booleans()):
        inputs[ENVIRONMENT] = PolicyFeature(FeatureType.ENV, (draw(st.integers(1, 4)),))
    if draw(st.booleans()):
        inputs["observation.velocity"] = PolicyFeature(FeatureType.STATE, (3,))
    names = draw(st.lists(st.text("abc_é ", min_size=1, max_size=6), min_size=cameras, max_size=cameras, unique=True))
    for name in names:
        inputs[f"observation.images.{name}"] = PolicyFeature(FeatureType.VISUAL, (3, draw(st.sampled_from([32, 40])), 32))
    chunk, gelu = draw(st.integers(1, 12)), draw(st.sampled_from(["relu", "gelu"]))
    return ACTConfig(
        input_features=inputs, output_features={ACTION: PolicyFeature(FeatureType.ACTION, (draw(st.integers(1, 8)),))},
        normalization_mapping={key: NormalizationMode(value) for key, value in draw(mapping).items()},
        chunk_size=chunk, n_action_steps=draw(st.integers(1, chunk)), dim_model=16, n_heads=draw(st.sampled_from([1, 2, 4])), dim_feedforward=24,
        n_encoder_layers=draw(st.integers(1, 2)), n_decoder_layers=draw(st.integers(1, 2)), n_vae_encoder_layers=1, latent_dim=4,
        use_vae=draw(st.booleans()), pre_norm=draw(st.booleans()), feedforward_activation=gelu,
        vision_backbone=draw(st.sampled_from(["resnet18", "resnet34"])), pretrained_backbone_weights=None, device="cpu", push_to_hub=False,
    )  # fmt: skip


@st.composite
def edits(draw):
    """What is done to the saved processors: file, step, and what is changed in it."""
    file, step = draw(st.sampled_from([(PRE, 3), (POST, 0)]))
    kinds = {
        "norm_map": mapping,
        "eps": st.sampled_from([0.0, 1e-6, 0.1]),
        "normalize_observation_keys": st.lists(st.sampled_from([STATE, ENVIRONMENT])),
        "features": st.just({}),
        "statistics": st.floats(0.1, 3.0),
        "no statistics": st.sampled_from([STATE, ENVIRONMENT, ACTION]),
        "extra": st.just("time_limit_processor"),
        "rename_map": st.just({"observation.state": "observation.state"}),
        "float_dtype": st.sampled_from(["float16", "float32"]),
    }
    kind = draw(st.sampled_from(sorted(kinds)))
    return file, step, kind, draw(kinds[kind])


def edit(act, file, step, kind, value):
    path = act / f"{file}.json"
    document = json.loads(path.read_text())
    if kind in ("statistics", "no statistics"):
        state = next(act.glob(f"{file}_step_*.safetensors"))
        tensors = load_file(state)
        if kind == "statistics":
            save_file({key: tensor * value for key, tensor in tensors.items()}, state)
        else:
            save_file({key: tensor for key, tensor in tensors.items() if not key.startswith(f"{value}.")}, state)
    elif kind == "extra":
        document["steps"].append({"registry_name": value, "config": {"max_episode_steps": 3}})
    elif kind == "rename_map":
        document["steps"][0]["config"]["rename_map"] = value
    elif kind == "float_dtype":
        document["steps"][2 if file == PRE else 1]["config"]["float_dtype"] = value
    else:
        document["steps"][step]["config"][kind] = value
    path.write_text(json.dumps(document))


def saved(directory, config, seed):
    generator = torch.Generator().manual_seed(seed)
    statistics = {}
    for key, feature in {**config.input_features, **config.output_features}.items():
        shape = (3, 1, 1) if feature.type is FeatureType.VISUAL else feature.shape
        middle, width = torch.randn(shape, generator=generator) * 3, 0.1 + torch.rand(shape, generator=generator) * 5
        statistics[key] = {"mean": middle, "std": width, "min": middle - 3 * width, "max": middle + 3 * width}
        statistics[key] |= {"q01": middle - width, "q99": middle + width, "q10": middle - width / 2, "q90": middle + width / 2}
    torch.manual_seed(seed)
    for part in (ACTPolicy(config), *make_act_pre_post_processors(config, statistics)):
        part.save_pretrained(directory)
    shapes = {key: feature.shape for key, feature in config.input_features.items()}
    return {key: torch.rand((3, *shape), generator=generator) * (1 if len(shape) == 3 else 8) for key, shape in shapes.items()}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(configurations(), st.lists(edits(), max_size=3), st.integers(0, 1000))
@pytest.mark.slow
def test_every_act_is_run_as_lerobot_runs_it_or_refused(config, changes, seed):
    act = Path(tempfile.mkdtemp())
    try:
        observation = saved(act, config, seed)
        for change in changes:
            edit(act, *change)
        try:
            steps = {"horizon": config.chunk_size, "n_action_steps": config.chunk_size}
            policy = SerlSacPolicy(SerlSacConfig(act_path=str(act), device="cpu", push_to_hub=False, **steps))
        except (ValueError, FileNotFoundError) as refused:
            if not str(refused).startswith(("policy.act_path=", "dataset_stats['action']=", "Dataset statistics 'mean'")):
                raise
            return
        owner = ACTPolicy.from_pretrained(act, strict=True).eval()
        before, after = make_pre_post_processors(owner.config, pretrained_path=str(act))
        # LeRobot's ACT asks the state for its device, and does not run without one.
        batch = {STATE: torch.zeros(3, 1), **before(dict(observation))}
        wanted = after(owner.predict_action_chunk(batch))
        got, _ = policy.agent.act.plan(observation, config.chunk_size)
        span = wanted.abs().amax((0, 1)).clamp_min(1.0)
        assert float(((got - wanted).abs() / span).max()) < 1e-4, (changes, config.normalization_mapping)
    finally:
        shutil.rmtree(act)
