"""Whether a policy can be a base policy: tried on random observations, before anything long starts."""

import math

import torch
from lerobot.configs import FeatureType
from torch import Tensor

from .lerobot import LerobotBase

_ROWS = 3
# Of the largest number of a plan: what sums in another order may differ by.
_TOLERANCE = 1e-3


def require_plans(base: LerobotBase) -> None:
    """Raise unless it plans chunks, and each depends on its own observation alone.

    Raises:
        ValueError: in words that begin with what the policy does.
    """
    observation = _observations(base)
    try:
        plans = [base.normalized_plan(observation) for _ in range(2)]
        alone = torch.cat([base.normalized_plan({key: value[row : row + 1] for key, value in observation.items()}) for row in range(_ROWS)])
    except NotImplementedError as error:
        raise ValueError(f"predicts no chunks ({_short(error)})") from error
    except Exception as error:  # whatever the policy stumbles over
        raise ValueError(f"does not plan for observations with the features that its own configuration names ({_short(error)})") from error
    n_actions = (base.config.output_features or {})["action"].shape[0]
    if plans[0].dim() != 3 or plans[0].shape[0] != _ROWS or plans[0].shape[2] != n_actions:
        raise ValueError(f"plans actions of shape {tuple(plans[0].shape)}, expected ({_ROWS}, steps, {n_actions}) for {_ROWS} observations")
    if not bool(plans[0].isfinite().all()):
        raise ValueError("plans actions that are NaN or infinite")
    if _differ(*plans):
        raise ValueError("plans something else each time it sees the same observation, also with the same noise")
    if _differ(plans[0], alone):
        raise ValueError("plans something else for an observation when others are in the batch")
    base.longest_plan = plans[0].shape[1]


def _observations(base: LerobotBase) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    frames = () if base.n_obs_steps == 1 else (base.n_obs_steps,)
    device = next(base.buffers()).device
    found = {}
    for key, feature in base.input_features.items():
        draw = torch.rand if feature.type is FeatureType.VISUAL else torch.randn
        value = draw((_ROWS, *frames, *feature.shape), generator=generator).to(device)
        found[base.sources[key]] = value
    return found


def _differ(one: Tensor, two: Tensor) -> bool:
    largest = float(one.abs().max())
    return not math.isclose(largest, 0.0) and float((one - two).abs().max()) > _TOLERANCE * largest


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
