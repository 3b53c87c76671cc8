"""Updates whose loss or gradient is not finite: they are skipped, explained, and stop training when they do not end."""

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields

from torch import Tensor

from ..policy.optimizer import GroupControl
from ..replay.transition import Batch

# What losses are made of, in the metrics of an update.
LOSS_TERMS = ("critic_loss", "advantage_penalty", "target_q", "actor_loss", "anchor", "temperature_loss", "corrector_loss")
LOOK_AT = (
    "Look at learner.csv: numbers that grew over many rows mean that learning diverges (lower --policy.critic.lr and --policy.actor.lr); "
    "numbers that broke off from one row to the next mean bad data (a sensor or a camera that sent NaN) or failing memory."
)


class UpdateGuard:
    """Counts bad updates in a row.

    Args:
        limit: bad updates in a row before training has to stop.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._in_a_row, self._explained = limit, 0, False

    @property
    def gave_up(self) -> bool:
        """Whether the limit is reached."""
        return self._in_a_row >= self._limit

    def bad_terms(self, metrics: Mapping[str, float]) -> list[str]:
        """Losses that are not finite."""
        return [name for name in LOSS_TERMS if name in metrics and not math.isfinite(metrics[name])]

    def bad_gradients(self, controls: Mapping[str, GroupControl]) -> list[str]:
        """Gradients for which the optimizer did not step."""
        return [f"gradient of {name}" for name, control in controls.items() if control.bad_gradient]

    def good(self) -> None:
        """An update was made."""
        self._in_a_row = 0

    def bad(self, what: Iterable[str], batch: Batch, updates: int) -> None:
        """An update was skipped; said for the first in a row, with what to look at for the first of the run."""
        self._in_a_row += 1
        if self._in_a_row > 1:
            return
        columns = bad_columns(batch)
        data = f"The batch itself holds NaN or infinity in {', '.join(columns)}." if columns else "The batch itself is finite."
        advice = "" if self._explained else f" {LOOK_AT}"
        logging.warning(f"Update skipped after {updates}: not finite: {', '.join(what)}. No weight was changed. {data}{advice}")
        self._explained = True

    def last_words(self) -> str:
        """Why training stops."""
        return (
            f"Training stops: {self._in_a_row} updates in a row were not finite (policy.guard.max_bad_updates={self._limit}). "
            f"The weights are those of the last good update. {LOOK_AT}"
        )


def bad_columns(batch: Batch) -> list[str]:
    """Names of a batch's columns that hold NaN or infinity; images, being bytes, can not."""
    columns = {item.name: value for item in fields(batch) if isinstance(value := getattr(batch, item.name), Tensor)}
    return [name for name, column in columns.items() if not bool(column.isfinite().all())]
