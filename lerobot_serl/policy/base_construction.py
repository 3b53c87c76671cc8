"""The base policy that a configuration describes, without its weights, and what of the observation actor and critics see beside it."""

from ..base.act import ActBase
from ..base.base_policy import BasePolicy
from ..base.lerobot import LerobotBase
from ..base.none import NoBase
from ..base.policy_config import base_policy_config
from ..networks.action_space import ActionBox
from .base_settings import ACT, NONE
from .configuration_serl_sac import SerlSacConfig


def base_policy(config: SerlSacConfig, box: ActionBox) -> BasePolicy:
    """With its inputs under its own names.

    Args:
        box: of actions.

    Raises:
        MessageError, ImportError: the embedded policy cannot be built.
    """
    if config.base == NONE:
        return NoBase(box)
    names, observations = config.act_rename_map, config.input_features or {}
    sources = {names.get(key, key): key for key in observations}
    if config.base == ACT:
        inputs = {names.get(key, key): feature for key, feature in observations.items()}
        act_config = config.act.to_act_config(input_features=inputs, output_features=config.output_features, device=config.device)
        return ActBase(act_config, config.act.feature_modes, sources)
    return LerobotBase(base_policy_config(config.lerobot.document), config.lerobot.feature_modes, sources)


def uses_state(config: SerlSacConfig) -> bool:
    """Whether actor and critics see the state vectors."""
    return config.features != ACT


def uses_base_features(config: SerlSacConfig) -> bool:
    """Whether they see the features that ACT offers; by default where there are cameras."""
    return config.features in (ACT, "both") or (config.features == "auto" and config.base == ACT and bool(config.image_features))


def uses_encoder(config: SerlSacConfig) -> bool:
    """Whether they see cameras through an encoder of their own: where it is asked for, or where the base policy offers no features of them."""
    return config.features == "cnn" or (config.features == "auto" and config.base != ACT and bool(config.image_features))
