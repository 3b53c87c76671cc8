"""What the agent is made of, from its configuration. A new network is two places: its module, and its line in the table."""

from ..networks.act_base import ActBase
from ..networks.actor import EditActor
from ..networks.corrector import Corrector
from ..networks.critic import CriticEnsemble
from ..networks.features import ObservationFeatures
from ..networks.grasp_critic import GraspCritic
from ..networks.image_encoder import ImageEncoder
from .configuration_serl_sac import SerlSacConfig
from .gripping import Gripping
from .network_table import Network


def network_lines(config: SerlSacConfig) -> dict[str, Network]:
    """The table of networks, over the agent's attributes. The image encoder learns with the critics."""
    encoder = ("encoder",) if config.features == "cnn" else ()
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


def act_base(config: SerlSacConfig) -> ActBase:
    """ACT under its own names for its inputs."""
    names, observations = config.act_rename_map, config.input_features or {}
    inputs = {names.get(key, key): feature for key, feature in observations.items()}
    act_config = config.act.to_act_config(input_features=inputs, output_features=config.output_features, device=config.device)
    return ActBase(act_config, config.act.feature_modes, {names.get(key, key): key for key in observations})


def observation_features(config: SerlSacConfig, base: ActBase) -> ObservationFeatures:
    """State vectors, the base policy's features, or both."""
    use_state, use_base = _feature_choice(config)
    states = {key: ft.shape[0] for key, ft in (config.input_features or {}).items() if ft.type.value in ("STATE", "ENV")}
    return ObservationFeatures(states if use_state else {}, base.feature_sizes if use_base else ())


def image_encoder(config: SerlSacConfig) -> ImageEncoder | None:
    """The critics' own, where it is asked for."""
    if config.features != "cnn":
        return None
    return ImageEncoder({key: tuple(feature.shape) for key, feature in config.image_features.items()})


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


def _feature_choice(config: SerlSacConfig) -> tuple[bool, bool]:
    """Whether to use the state vectors and the base policy's features."""
    if config.features == "auto":
        return True, bool(config.image_features)
    if config.features == "cnn":
        return True, False
    return config.features in ("state", "both"), config.features in ("act", "both")
