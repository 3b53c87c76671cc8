"""Whether numbers are finite, at the borders where they come in: the robot's, a received episode, a dataset, what learning made of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor


def not_finite(values: Mapping[str, Any]) -> str | None:
    """Name of the first entry with a NaN or an infinite number; None if there is none.

    Args:
        values: name -> tensor, array or number. Integers and booleans are always finite; frames that are not decoded yet are images.
    """
    return next((name for name, value in values.items() if _is_bad(value)), None)


def _is_bad(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.is_floating_point() and not bool(value.isfinite().all())
    return isinstance(value, float | np.ndarray | np.floating) and not bool(np.isfinite(value).all())
