"""Processors of a ``serl_sac`` checkpoint. They normalise nothing: ACT's statistics are buffers of the policy itself."""

from typing import Any

from lerobot.processor import PolicyAction, PolicyProcessorPipeline, make_default_pre_post_processors
from torch import Tensor

from .configuration_serl_sac import SerlSacConfig


def make_serl_sac_pre_post_processors(
    config: SerlSacConfig, dataset_stats: dict[str, dict[str, Tensor]] | None = None
) -> tuple[PolicyProcessorPipeline[dict[str, Any], dict[str, Any]], PolicyProcessorPipeline[PolicyAction, PolicyAction]]:
    """LeRobot's standard pipelines, with an empty normalisation mapping.

    ``lerobot-train --policy.path=`` overwrites the statistics of these pipelines with the new dataset's; as they are not used, ACT's output
    does not change (``tests/policy/test_modeling_serl_sac.py`` holds that).

    Args:
        config: the policy's configuration.
        dataset_stats: passed by LeRobot, not used.
    """
    return make_default_pre_post_processors(config, None, normalizer_device=config.device)
