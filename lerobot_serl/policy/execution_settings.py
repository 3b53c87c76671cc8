"""How the base policy's plans are carried out: as its owner does, unless settings say otherwise."""

import logging
from typing import TYPE_CHECKING

from lerobot.configs import PreTrainedConfig

from .base_settings import NONE
from .validation import require

if TYPE_CHECKING:
    from .configuration_serl_sac import SerlSacConfig

DEFAULT_HORIZON = 10
MOST_STEPS = 10_000


def settle_execution(config: "SerlSacConfig", theirs: PreTrainedConfig, name: str) -> None:
    """Fill in what the settings leave to the base policy's own configuration, and say what follows.

    Args:
        theirs, name: of the base policy.

    Raises:
        ValueError: the settings contradict each other, or it.
    """
    owners = getattr(theirs, "n_action_steps", None) or getattr(theirs, "chunk_size", None)
    coeff = getattr(theirs, "temporal_ensemble_coeff", None)
    if config.temporal_ensemble_coeff is None and config.n_action_steps is None:
        config.temporal_ensemble_coeff = coeff
    elif config.temporal_ensemble_coeff is not None:
        require(
            hasattr(theirs, "temporal_ensemble_coeff"),
            "policy.temporal_ensemble_coeff", config.temporal_ensemble_coeff, f"nothing: {name} has no temporal ensembling", "Leave it out.",
        )  # fmt: skip
        config.n_action_steps = config.n_action_steps or 1
    if config.n_action_steps is None:
        config.n_action_steps = owners
    if (config.n_action_steps, config.temporal_ensemble_coeff) != (owners, coeff):
        here = _in_words(config.n_action_steps, config.temporal_ensemble_coeff)
        logging.warning(
            f"{name} carries out {_in_words(owners, coeff)} as its owner runs it, here {here}. That is another policy: evaluate {name} so, too."
        )
    steps = config.n_action_steps
    if steps is not None and steps < config.horizon == DEFAULT_HORIZON:
        config.n_step = config.n_step or DEFAULT_HORIZON
        logging.info(f"horizon=auto: {steps}, as {name} carries out {steps} steps of a plan (n_action_steps); n_step={config.n_step}")
        config.horizon = steps
    require_execution(config)


def require_execution(config: "SerlSacConfig") -> None:
    """Raise unless the settings fit each other.

    Raises:
        ValueError: naming the setting.
    """
    steps, coeff, horizon = config.n_action_steps, config.temporal_ensemble_coeff, config.horizon
    require(
        steps is None or (type(steps) is int and 1 <= steps <= MOST_STEPS),
        "policy.n_action_steps", steps, f"a whole number from 1 to {MOST_STEPS}, or nothing",
    )  # fmt: skip
    require(
        steps is None or horizon <= steps,
        "policy.horizon", horizon, f"at most policy.n_action_steps, {steps}: a plan has no more steps to edit", f"Add --policy.horizon={steps}.",
    )  # fmt: skip
    require(
        coeff is None or (steps == horizon == 1 and config.base != NONE),
        "policy.temporal_ensemble_coeff", coeff, "policy.n_action_steps=1, policy.horizon=1 and a base policy beside it",
        "Set them, or leave it out.",
    )  # fmt: skip


def _in_words(steps: int | None, coeff: float | None) -> str:
    return f"{steps} steps of a plan" if coeff is None else f"the mean of all plans for a step (temporal_ensemble_coeff={coeff:g})"
