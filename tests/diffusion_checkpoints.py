"""Small Diffusion Policy checkpoints as stock LeRobot saves them, without training."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from act_checkpoints import ACTION, ENVIRONMENT, STATE, statistics_for
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot.policies.diffusion.processor_diffusion import make_diffusion_pre_post_processors
from lerobot.utils.feature_utils import dataset_to_policy_features


def small_diffusion_config(cameras: int = 0, state_dim: int = 4, **changes: Any) -> DiffusionConfig:
    inputs = {STATE: PolicyFeature(FeatureType.STATE, (state_dim,))}
    inputs |= {f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, 32, 32)) for name in ("front", "wrist")[:cameras]}
    if not cameras:
        inputs[ENVIRONMENT] = PolicyFeature(FeatureType.ENV, (3,))
    settings: dict[str, Any] = {
        "input_features": inputs,
        "output_features": {ACTION: PolicyFeature(FeatureType.ACTION, (4,))},
        "horizon": 16,
        "n_action_steps": 8,
        "down_dims": (16, 32),
        "diffusion_step_embed_dim": 8,
        "n_groups": 4,
        "spatial_softmax_num_keypoints": 4,
        "num_train_timesteps": 10,
        "pretrained_backbone_weights": None,
        "use_separate_rgb_encoder_per_camera": False,
        "use_group_norm": True,  # LeRobot's shape inference fails on batch normalisation of images this small
        "device": "cpu",
        "push_to_hub": False,
    }
    return DiffusionConfig(**(settings | changes))


def save_diffusion(directory: Path, config: DiffusionConfig, statistics: dict[str, dict[str, torch.Tensor]] | None = None):
    """Save a random policy with processors; returns policy, pre-processor, post-processor."""
    torch.manual_seed(0)
    policy = DiffusionPolicy(config).eval()
    before, after = make_diffusion_pre_post_processors(config, statistics or statistics_for(config))
    for part in (policy, before, after):
        part.save_pretrained(directory)
    return policy, before, after


def own_diffusion(directory: Path, repo_id: str, root: Path, **changes: Any):
    """Of a dataset's features, and with its statistics, as ``lerobot-train`` leaves it."""
    meta = LeRobotDatasetMetadata(repo_id, root=root)
    features = dataset_to_policy_features(meta.features)
    inputs = {key: feature for key, feature in features.items() if key != ACTION}
    config = small_diffusion_config(input_features=inputs, output_features={ACTION: features[ACTION]}, **changes)
    statistics = {
        key: {name: torch.as_tensor(np.asarray(value)).float() for name, value in named.items()} for key, named in meta.stats.items()
    }
    return save_diffusion(directory, config, statistics)
