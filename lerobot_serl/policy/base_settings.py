"""Which base policy proposes, and what follows from it for other settings."""

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lerobot.configs import NormalizationMode

from .bounds import MOST_FEATURES
from .validation import require

if TYPE_CHECKING:
    from .configuration_serl_sac import SerlSacConfig

ACT, NONE, LEROBOT = "act", "none", "lerobot"
# What follows from policy.base=none: there is no chunk to fall back to, to be pulled to, or to be compared with, and the actor reaches everything.
FOLLOWS_FROM_NONE: dict[str, Any] = {
    "actor.edit_scale": 1.0,
    "actor.candidates": False,
    "actor.anchor": 0.0,
    "actor.pessimism": 0.0,
    "critic.prior_steps": 0,
    "corrector.least_takeovers": 0,
    "startup.scale_fraction": 1.0,
}


@dataclass
class EmbeddedPolicy:
    """``--policy.lerobot.*``: the LeRobot policy that proposes; filled in from ``base_path``, and kept in the checkpoint."""

    # Its config.json, without what only its training needs.
    document: dict[str, Any] = field(default_factory=dict)
    # Feature -> mode, where its saved processors do something else than its configuration says of the type.
    feature_modes: dict[str, NormalizationMode] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(
            len(self.feature_modes) <= MOST_FEATURES, "policy.lerobot.feature_modes", len(self.feature_modes), f"at most {MOST_FEATURES}"
        )


def settle_base(config: "SerlSacConfig") -> None:
    """Choose the base policy where ``config.base`` does not say, and set what follows.

    Raises:
        ValueError: settings contradict each other; both are named.
    """
    for name, kind in (("act_path", ACT), ("base_path", LEROBOT)):
        path = getattr(config, name)
        require(
            path is None or config.base in (None, kind),
            "policy.base", config.base, f"{kind!r} beside policy.{name}={path!r}", "Leave policy.base out.",
        )  # fmt: skip
    require(
        config.act_path is None or config.base_path is None,
        "policy.base_path", config.base_path, f"nothing beside policy.act_path={config.act_path!r}", "Give one of them.",
    )  # fmt: skip
    if config.base is None:
        config.base = _likely(config)
    require(config.base in (ACT, NONE, LEROBOT), "policy.base", config.base, "act, none or lerobot")
    require(
        config.base != LEROBOT or config.base_path is not None or bool(config.lerobot.document),
        "policy.base", config.base, "a policy at --policy.base_path",
    )  # fmt: skip
    if config.base == NONE:
        _settle_none(config)
    if config.base != ACT:
        require(
            config.features not in ("act", "both"),
            "policy.features", config.features, f"auto, state or cnn with policy.base={config.base}", "Only ACT offers features of its own.",
        )  # fmt: skip


def _likely(config: "SerlSacConfig") -> str:
    if config.base_path is not None or config.lerobot.document:
        return LEROBOT
    # Checkpoints of version 0.1 have no such setting, and ACT in them.
    return ACT if config.act_path is not None or config.act_source is not None else NONE


def _settle_none(config: "SerlSacConfig") -> None:
    require(not config.act_alone, "policy.act_alone", True, "false with policy.base=none: there is no base policy to act alone")
    changed = []
    for name, wanted in FOLLOWS_FROM_NONE.items():
        group, _, field_name = name.partition(".")
        owner = getattr(config, group)
        value, default = getattr(owner, field_name), type(owner).__dataclass_fields__[field_name].default
        if value == wanted:
            continue
        require(
            value == default,
            f"policy.{name}", value, f"{wanted} with policy.base=none: there is no base policy's chunk", "Leave it out.",
        )  # fmt: skip
        setattr(owner, field_name, wanted)
        changed.append(f"{name}={wanted}")
    if changed:
        logging.info(
            "policy.base=none: no --policy.act_path and no --policy.base_path is given, so the actor's output is the action, learnt from scratch. "
            f"Therefore {', '.join(changed)}."
        )
