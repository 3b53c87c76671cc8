"""One Adam for all networks: a parameter group, a gradient limit and a learning-rate scale for each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from lerobot.optim import OptimizerConfig


@dataclass
class GroupControl:
    """What the policy tells the optimizer about one network, and learns from it.

    Attributes:
        lr_scale: factor on the group's learning rate for the next step (the actor's ramp).
        grad_norm: norm of the group's gradient at the last step, before clipping.
    """

    lr_scale: float = 1.0
    grad_norm: float = 0.0


class PerNetworkAdam(torch.optim.Adam):
    """Adam that clips each parameter group's gradient on its own.

    A network that takes no part in a step has no gradient (None, not zero), so that Adam's momentum does not move it.

    Args:
        groups: dicts with ``params``, ``lr``, ``name``, ``max_grad_norm`` (0: no limit) and ``control``, a :class:`GroupControl`; the
            control stays out of the saved state.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], **defaults: Any) -> None:
        groups = [dict(group) for group in groups]
        self.controls: list[GroupControl] = [group.pop("control") for group in groups]
        super().__init__(groups, **defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Clip, scale the learning rates, step, and restore the learning rates."""
        rates = [group["lr"] for group in self.param_groups]
        for group, control in zip(self.param_groups, self.controls, strict=True):
            if any(parameter.grad is not None for parameter in group["params"]):
                limit = group["max_grad_norm"] or float("inf")
                control.grad_norm = float(torch.nn.utils.clip_grad_norm_(group["params"], limit))
            group["lr"] *= control.lr_scale
        try:
            return super().step(closure)
        finally:
            for group, rate in zip(self.param_groups, rates, strict=True):
                group["lr"] = rate


@OptimizerConfig.register_subclass("per_network_adam")
@dataclass
class PerNetworkAdamConfig(OptimizerConfig):
    """LeRobot optimizer type ``per_network_adam``; learning rates and limits come with the parameter groups."""

    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    # 0: LeRobot's own clipping over all networks at once stays off.
    grad_clip_norm: float = field(default=0.0)

    def build(self, params: Any) -> PerNetworkAdam:
        """Build from ``SerlSacPolicy.get_optim_params()``."""
        return PerNetworkAdam(params, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)
