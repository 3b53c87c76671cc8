"""One AdamW for each network of the table, each with its own rate and gradient limit; nothing moves where a number is not finite."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from .adam import Adam
from .network_table import NetworkTable


class NetworkOptimizers:
    """Steps the networks that have a gradient.

    A network that takes no part in an update has no gradient (None, not zero), so that Adam's momentum does not move it. Where a loss or a
    gradient is not finite no network is moved, nor its momentum. All is decided on the device: no number is read back.

    Args:
        table: which networks learn, and how.

    Attributes:
        skipped, in_a_row: () int64, updates that were skipped, and how many of them came last in a row.
    """

    def __init__(self, table: NetworkTable) -> None:
        self._parameters = {name: table.parameters(name) for name in table.learning}
        self._settings = table.learning
        self._adams = {
            name: Adam(name, self._parameters[name], settings.lr, settings.weight_decay) for name, settings in self._settings.items()
        }
        device = next(iter(self._parameters.values()))[0].device
        self.skipped, self.in_a_row = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))
        self._bad: dict[tuple[str, ...], Tensor] = {}

    def step(
        self, loss: Tensor, terms: Mapping[str, Tensor], scales: Mapping[str, float], takes_part: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Move the networks down the gradient of one loss.

        Args:
            loss: () sum of the losses; each network is in one of them.
            terms: name -> () what the losses are made of, to be looked at.
            scales: name -> factor on its learning rate.
            takes_part: name -> () bool; a network that does not stays as it is, with its momentum.

        Returns:
            ``NAME_grad_norm`` -> () norm before clipping.
        """
        loss.backward()
        norms = self._norms()
        is_bad = self._look({**terms, **{f"gradient of {name}": norm for name, norm in norms.items()}})
        for name, norm in norms.items():
            self._step_one(name, norm, is_bad, scales.get(name, 1.0), (takes_part or {}).get(name))
        return {f"{name}_grad_norm": norm for name, norm in norms.items()}

    def forget(self) -> None:
        """Drop all momentum: the weights were replaced."""
        for adam in self._adams.values():
            adam.forget()

    def take_bad_terms(self) -> list[str]:
        """Read which terms were not finite since the last call; losses only, where a loss was."""
        found = {name for names, flags in self._bad.items() for name, is_bad in zip(names, flags.tolist(), strict=True) if is_bad}
        self._bad.clear()
        losses = sorted(name for name in found if not name.startswith("gradient of"))
        return losses or sorted(found)

    def state_dict(self) -> dict[str, Tensor]:
        """``NETWORK.INDEX.KEY`` -> tensor: momentum and step counts of each parameter."""
        return {name: value for adam in self._adams.values() for name, value in adam.state_dict().items()}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from :meth:`state_dict`; learning rates and limits stay those of this run's configuration.

        Raises:
            ValueError: a tensor of another network, or of another shape.
        """
        self.forget()
        of_each: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            of_each.setdefault(name.partition(".")[0], {})[name] = tensor
        for name, its_own in of_each.items():
            if name not in self._adams:
                raise ValueError(f"momentum of an unknown network: {next(iter(its_own))}")
            self._adams[name].load(its_own)

    def _norms(self) -> dict[str, Tensor]:
        """Of the gradient of each network that has one: () norm, in one pass over all of them."""
        gradients = {
            name: [cast("Tensor", it.grad) for it in parameters]
            for name, parameters in self._parameters.items()
            if parameters[0].grad is not None
        }
        of_each = torch.stack(torch._foreach_norm([it for its_own in gradients.values() for it in its_own]))
        parts = of_each.split([len(its_own) for its_own in gradients.values()])
        return {name: torch.linalg.vector_norm(part) for name, part in zip(gradients, parts, strict=True)}

    def _look(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Count this update if a term is not finite; () float, 1 if so, as fused optimizers take it."""
        flags = torch.stack(tuple(terms.values())).detach() * 0 != 0  # NaN or infinite, in two operations instead of five
        is_bad, names = flags.any(), tuple(terms)
        self.skipped += is_bad
        self.in_a_row.add_(1).mul_(is_bad)
        self._bad[names] = flags if names not in self._bad else self._bad[names] | flags
        return is_bad.float()

    def _step_one(self, name: str, norm: Tensor, is_bad: Tensor, scale: float, takes_part: Tensor | None) -> None:
        adam, settings = self._adams[name], self._settings[name]
        adam.lr = settings.lr * scale
        # The operator divides by the one and stops at the other within its own pass over the numbers.
        divisor = (norm / settings.grad_clip_norm).clamp_min(1.0) if settings.grad_clip_norm else None
        adam.step(is_bad if takes_part is None else is_bad.maximum((~takes_part).float()), divisor)
