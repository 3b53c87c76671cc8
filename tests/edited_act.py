"""ACT, and beside it the fresh serl_sac policy that edits it, as checkpoints."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from act_checkpoints import STATE, save_act, small_act_config, statistics_for
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig

from lerobot_serl import SerlSacConfig
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.policy.processor_serl_sac import make_serl_sac_pre_post_processors


@dataclass
class EditedAct:
    """What was saved.

    Attributes:
        act, serl: the checkpoints.
        stock: LeRobot's policy, its pre- and its post-processor.
        policy: serl_sac.
    """

    act: Path
    serl: Path
    stock: tuple[Any, Any, Any]
    policy: SerlSacPolicy

    @property
    def half_width(self) -> torch.Tensor:
        """Of the actions' box, ``(D,)``."""
        return self.policy.agent.box.half_width


def with_small_camera(key: str, size: int, **changes: Any) -> ACTConfig:
    """For a state and actions of so many numbers, and a picture of 6x5 pixels as small_robots.py and counter_env.py have it."""
    config = small_act_config(1, size, size, **changes)
    config.input_features = {STATE: config.input_features[STATE], key: PolicyFeature(FeatureType.VISUAL, (3, 6, 5))}
    return config


def save_edited_act(root: Path, config: ACTConfig, **settings: Any) -> EditedAct:
    statistics = statistics_for(config)
    stock = save_act(root / "act", config, statistics)
    own = SerlSacConfig(act_path=str(root / "act"), device="cpu", push_to_hub=False, **settings)
    policy = SerlSacPolicy(own, dataset_stats=statistics).eval()
    for part in (policy, *make_serl_sac_pre_post_processors(own, statistics)):
        part.save_pretrained(root / "serl")
    return EditedAct(root / "act", root / "serl", stock, policy)
