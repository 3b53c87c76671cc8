"""What the agent is made of, from its configuration. A new network is two places: its module, and its line in the table."""

import logging

from ..base.act import ActBase
from ..base.base_policy import BasePolicy
from ..base.lerobot import LerobotBase
from ..base.none import NoBase
from ..base.policy_config import base_policy_config
from ..networks.action_normalizer import ActionNormalizer
from ..networks.corrector import Corrector
from ..networks.critic import CriticEnsemble
from ..networks.edit_actor import EditActor
from ..networks.features import ObservationFeatures
from ..networks.grasp_critic import GraspCritic
from ..networks.image_encoder import ImageEncoder
from ..replay.picture_size import reduced_shape
from .base_settings import ACT, NONE
from .bounds import SMALLEST_IMAGE_SIDE
from .configuration_serl_sac import SerlSacConfig
from .gripping import Gripping
from .network_table import Network
from .validation import require

# A convolutional network that learns takes 3 times as long for pictures of 96 pixels as of 64 (docs/hardware.md).
CPU_IMAGE_SIZE, GPU_IMAGE_SIZE = 64, 128


def network_lines(config: SerlSacConfig) -> dict[str, Network]:
    """The table of networks, over the agent's attributes. The image encoder learns with the critics."""
    encoder = ("encoder",) if uses_encoder(config) else ()
    grasp = {"grasp_critic": Network(("grasp_critic",), config.grasp), "grasp_target": Network(("grasp_target",), on_robot=False)}
    return {
        "critic": Network(("critic", *encoder), config.critic),
        "critic_target": Network(("critic_target",), on_robot=False),
        "actor": Network(("actor",), config.actor),
        "temperature": Network(("raw_temperature",), config.temperature, on_robot=False),
        "corrector": Network(("corrector",), config.corrector),
        "edit_scale": Network(("edit_scale",)),
        **(grasp if config.gripper == "discrete" else {}),
    }


def base_policy(config: SerlSacConfig, box: ActionNormalizer) -> BasePolicy:
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


def observation_features(config: SerlSacConfig, base: BasePolicy) -> ObservationFeatures:
    """State vectors, the base policy's features, or both."""
    states = {key: ft.shape[0] for key, ft in (config.input_features or {}).items() if ft.type.value in ("STATE", "ENV")}
    execution = config.execution
    sizes = base.pooled_sizes if execution.is_apart else base.feature_sizes
    pooled = sizes if uses_base_features(config) else ()
    return ObservationFeatures(states if uses_state(config) else {}, pooled, execution.n_action_steps if execution.is_open else None)


def settle_image_size(config: SerlSacConfig) -> None:
    """Choose how large the pictures are that an encoder of its own sees, where ``config.image_size`` does not say, and tell.

    Raises:
        ValueError: a size is given, and there is no such encoder.
    """
    if not uses_encoder(config):
        require(
            config.image_size is None,
            "policy.image_size", config.image_size, f"nothing with policy.features={config.features}: ACT sees pictures as they are",
            "Add --policy.features=cnn, or leave it out.",
        )  # fmt: skip
        return
    if config.image_size is None:
        longest = max(max(feature.shape[1:]) for feature in config.image_features.values())
        config.image_size = min(longest, CPU_IMAGE_SIZE if config.device == "cpu" else GPU_IMAGE_SIZE)
    for key, shape in picture_shapes(config).items():
        if (recorded := tuple(config.image_features[key].shape)) != shape:
            sizes = f"{shape[1]}x{shape[2]} instead of {recorded[1]}x{recorded[2]} pixels"
            logging.info(f"{key}: actor and critics see {sizes} (policy.image_size={config.image_size}).")


def picture_shapes(config: SerlSacConfig) -> dict[str, tuple[int, ...]]:
    """Camera -> shape ``(C, H, W)`` of the pictures that the critics' own encoder sees, where there is one."""
    cameras = config.image_features if uses_encoder(config) else {}
    return {key: reduced_shape(feature.shape, config.image_size, SMALLEST_IMAGE_SIDE) for key, feature in cameras.items()}


def image_encoder(config: SerlSacConfig) -> ImageEncoder | None:
    """The critics' own, where it is asked for."""
    shapes = picture_shapes(config)
    return ImageEncoder(shapes) if shapes else None


def edit_actor(config: SerlSacConfig, feature_size: int, action_dim: int) -> EditActor:
    """The actor."""
    actor, horizon = config.actor, config.horizon
    return EditActor(
        feature_size, horizon, min(actor.knots or horizon, horizon), action_dim, actor.hidden_sizes,
        actor.init_std, actor.min_std, actor.max_std, actor.fixed_std, actor.activation,
        kept=() if config.gripper == "edit" else config.grasp.entries,
    )  # fmt: skip


def corrector(config: SerlSacConfig, feature_size: int, action_dim: int) -> Corrector:
    """The corrector."""
    settings = config.corrector
    kept = config.grasp.entries if config.gripper == "base" else ()
    return Corrector(feature_size, config.horizon, action_dim, settings.hidden_sizes, settings.activation, kept)


def critics(config: SerlSacConfig, feature_size: int, action_dim: int) -> CriticEnsemble:
    """The critics."""
    settings = config.critic
    return CriticEnsemble(feature_size, config.horizon * action_dim, settings.hidden_sizes, settings.members, settings.activation)


def gripping(config: SerlSacConfig, feature_size: int, action_dim: int) -> Gripping:
    """The grasp critics, where grippers are decided about."""
    if config.gripper != "discrete":
        return Gripping(None, config)
    grasp, horizon = config.grasp, config.horizon
    critic = GraspCritic(
        feature_size, horizon, action_dim, grasp.entries, grasp.moments, grasp.hidden_sizes, grasp.members, grasp.activation
    )  # fmt: skip
    return Gripping(critic, config)


def uses_state(config: SerlSacConfig) -> bool:
    """Whether actor and critics see the state vectors."""
    return config.features != ACT


def uses_base_features(config: SerlSacConfig) -> bool:
    """Whether they see the features that ACT offers; by default where there are cameras."""
    return config.features in (ACT, "both") or (config.features == "auto" and config.base == ACT and bool(config.image_features))


def uses_encoder(config: SerlSacConfig) -> bool:
    """Whether they see cameras through an encoder of their own: where it is asked for, or where the base policy offers no features of them."""
    return config.features == "cnn" or (config.features == "auto" and config.base != ACT and bool(config.image_features))
