"""AdamW over all parameters of one network in one call, without what ``torch.optim`` does in Python around it at every step."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
STATE = ("step", "exp_avg", "exp_avg_sq")


class Adam:
    """PyTorch's fused AdamW, by its operator; the numbers are those of ``torch.optim.AdamW(fused=True)``, to the last digit.

    Args:
        name: of the network.
        parameters: of it, on one device. All of them have a gradient when it steps.
        lr, weight_decay: see there.

    Attributes:
        lr: of the next step.
        has_state: whether there is momentum, and a count of steps.
    """

    def __init__(self, name: str, parameters: Sequence[Tensor], lr: float, weight_decay: float) -> None:
        self._name = name
        self.lr = lr
        self._weight_decay = weight_decay
        self._parameters: list[Tensor] = list(parameters)
        self.forget()

    def forget(self) -> None:
        """Drop all momentum."""
        self.has_state = False
        self._means: list[Tensor] = []
        self._squares: list[Tensor] = []
        # Of each parameter, though all are the same: the operator wants it so. Views of the vector, which counts for all at once.
        self._counts: Tensor = torch.empty(0)
        self._steps: tuple[Tensor, ...] = ()

    @torch.no_grad()
    def step(self, stays: Tensor, divisor: Tensor | None = None) -> None:
        """Move the parameters down their gradients, which are dropped.

        Args:
            stays: () float, 1 where nothing may move, momentum included.
            divisor: () float, of the gradients; None: 1.
        """
        self._begin()
        self._counts.add_(1.0 - stays)
        gradients = [cast("Tensor", parameter.grad) for parameter in self._parameters]
        torch._fused_adamw_(
            self._parameters, gradients, self._means, self._squares, [], self._steps, lr=self.lr, beta1=BETA_1, beta2=BETA_2,
            weight_decay=self._weight_decay, eps=EPSILON, amsgrad=False, maximize=False, grad_scale=divisor, found_inf=stays,
        )  # fmt: skip
        for parameter in self._parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Tensor]:
        """``NETWORK.INDEX.KEY`` -> tensor, of each parameter; empty before the first step."""
        rows = zip(self._steps, self._means, self._squares, strict=True)
        return {f"{self._name}.{index}.{key}": value for index, row in enumerate(rows) for key, value in zip(STATE, row, strict=True)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from :meth:`state_dict`.

        Raises:
            ValueError: a tensor that is none of this network's, or of another shape.
        """
        self._begin()
        own = self.state_dict()
        for name, tensor in tensors.items():
            if name not in own:
                raise ValueError(f"momentum of an unknown network: {name}")
            if tensor.shape != own[name].shape:
                raise ValueError(f"momentum {name} has shape {tuple(tensor.shape)}, expected {tuple(own[name].shape)}")
            own[name].copy_(tensor)

    def _begin(self) -> None:
        if not self.has_state:
            self.has_state = True
            self._means, self._squares = (
                [torch.zeros_like(parameter, requires_grad=False) for parameter in self._parameters] for _ in range(2)
            )
            self._counts = torch.zeros(len(self._parameters), device=self._parameters[0].device)
            self._steps = self._counts.unbind()
