"""One Adam for all networks: a parameter group, a gradient limit and a learning-rate scale for each."""

import math
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
        forget: drop the group's momentum before the next step: its weights were replaced.
        grad_norm: norm of the group's gradient at the last step that was made, before clipping.
        bad_gradient: the last step was not made, since this group's gradient was not finite.
    """

    lr_scale: float = 1.0
    forget: bool = False
    grad_norm: float = 0.0
    bad_gradient: bool = False


class PerNetworkAdam(torch.optim.Adam):
    """Adam that clips each parameter group's gradient on its own.

    A network that takes no part in a step has no gradient (None, not zero), so that Adam's momentum does not move it. A gradient that is not
    finite moves nothing: neither weights nor momentum, of any network. LeRobot takes a norm over all networks before the step, which spreads
    what is not finite to all of them; the groups that say ``bad_gradient`` may therefore be more than the culprit.

    Args:
        groups: dicts with ``params``, ``lr``, ``name``, ``max_grad_norm`` (0: no limit) and ``control``, a :class:`GroupControl`; the
            control stays out of the saved state.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], **defaults: Any) -> None:
        groups = [dict(group) for group in groups]
        self.controls: list[GroupControl] = [group.pop("control") for group in groups]
        super().__init__(groups, **defaults)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As Adam's, but learning rates and gradient limits stay those of this run's configuration, which a resumed run may change."""
        own = [(group["lr"], group["max_grad_norm"]) for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, (rate, limit) in zip(self.param_groups, own, strict=True):
            group["lr"], group["max_grad_norm"] = rate, limit

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Clip, scale the learning rates, step, and restore the learning rates; without effect if a gradient is not finite."""
        for group, control in zip(self.param_groups, self.controls, strict=True):
            if control.forget:
                self._forget(group["params"])
                control.forget = False
        if not self._clip():
            return None
        rates = [group["lr"] for group in self.param_groups]
        for group, control in zip(self.param_groups, self.controls, strict=True):
            group["lr"] *= control.lr_scale
        try:
            return super().step(closure)
        finally:
            for group, rate in zip(self.param_groups, rates, strict=True):
                group["lr"] = rate

    def _clip(self) -> bool:
        """Clip each group's gradient; whether all are finite."""
        norms: dict[int, float] = {}
        for index, group in enumerate(self.param_groups):
            gradients = [parameter.grad for parameter in group["params"] if parameter.grad is not None]
            if gradients:
                total = torch.nn.utils.get_total_norm(gradients)
                norms[index] = float(total)
                if norms[index] > (group["max_grad_norm"] or float("inf")):
                    torch.nn.utils.clip_grads_with_norm_(group["params"], group["max_grad_norm"], total)
        finite = all(math.isfinite(norm) for norm in norms.values())
        for index, control in enumerate(self.controls):
            norm = norms.get(index, 0.0)
            control.bad_gradient = not math.isfinite(norm)
            if finite and index in norms:
                control.grad_norm = norm
        return finite

    def _forget(self, parameters: Iterable[torch.Tensor]) -> None:
        for parameter in parameters:
            self.state.pop(parameter, None)


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
        return PerNetworkAdam(params, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay, fused=True)
