"""Small ACT checkpoints as stock LeRobot saves them, without training."""

from pathlib import Path

import torch
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.act.processor_act import make_act_pre_post_processors

STATE, ENVIRONMENT, ACTION = "observation.state", "observation.environment_state", "action"
CAMERAS = ("observation.images.front", "observation.images.wrist")
MEAN_STD = NormalizationMode.MEAN_STD


def small_act_config(cameras: int, state_dim: int = 18, action_dim: int = 4, **changes: object) -> ACTConfig:
    inputs = {STATE: PolicyFeature(FeatureType.STATE, (state_dim,))}
    if cameras == 0:
        inputs[ENVIRONMENT] = PolicyFeature(FeatureType.ENV, (3,))
    for key in CAMERAS[:cameras]:
        inputs[key] = PolicyFeature(FeatureType.VISUAL, (3, 32, 32))
    settings: dict[str, object] = {
        "chunk_size": 10,
        "n_action_steps": 10,
        "dim_model": 32,
        "n_heads": 4,
        "dim_feedforward": 64,
        "n_encoder_layers": 1,
        "n_decoder_layers": 1,
        "n_vae_encoder_layers": 1,
        "latent_dim": 4,
        "normalization_mapping": dict.fromkeys(("VISUAL", "STATE", "ENV", "ACTION"), MEAN_STD),
    }
    return ACTConfig(
        input_features=inputs,
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (action_dim,))},
        pretrained_backbone_weights=None,
        device="cpu",
        push_to_hub=False,
        **{**settings, **changes},
    )


def statistics_for(config: ACTConfig, seed: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    """Statistics as a dataset has them; the actions' range is wide enough that ACT's random outputs stay inside."""
    generator = torch.Generator().manual_seed(seed)
    statistics = {}
    for key, feature in {**config.input_features, **config.output_features}.items():
        shape = (3, 1, 1) if feature.type is FeatureType.VISUAL else feature.shape
        mean = torch.rand(shape, generator=generator)
        std = 0.2 + torch.rand(shape, generator=generator)
        low, high = mean - 20 * std, mean + 20 * std
        statistics[key] = {"mean": mean, "std": std, "min": low, "max": high, "q01": low, "q99": high, "q10": low, "q90": high}
    return statistics


def save_act(directory: Path, config: ACTConfig, statistics: dict[str, dict[str, torch.Tensor]] | None = None):
    """Save an ACT policy with processors; returns policy, preprocessor, postprocessor."""
    torch.manual_seed(0)
    policy = ACTPolicy(config).eval()
    pre, post = make_act_pre_post_processors(config, statistics or statistics_for(config))
    policy.save_pretrained(directory)
    pre.save_pretrained(directory)
    post.save_pretrained(directory)
    return policy, pre, post


def random_observations(config: ACTConfig, count: int, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.rand((count, *feature.shape), generator=generator)
        if feature.type is FeatureType.VISUAL
        else torch.randn((count, *feature.shape), generator=generator)
        for key, feature in config.input_features.items()
    }
