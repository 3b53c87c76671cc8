"""How a base policy's plans are carried out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Execution:
    """As the base policy's owner runs it, with a decision every ``h`` steps.

    Attributes:
        horizon: ``h``, steps from one decision to the next.
        n_action_steps: ``N``, steps of each plan that are carried out; at least ``h``.
        temporal_ensemble_coeff: ACT's temporal ensembling, with ``N = h = 1``; None: without.
    """

    horizon: int
    n_action_steps: int
    temporal_ensemble_coeff: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether a plan outlives a decision, so that decisions are made about plans of different ages."""
        return self.n_action_steps > self.horizon

    @property
    def is_apart(self) -> bool:
        """Whether decisions are about more than the plan for the newest frame, so that features are computed apart from plans."""
        return self.is_open or self.temporal_ensemble_coeff is not None
