"""One AdamW for each network of the table, each with its own rate and gradient limit; nothing moves where a number is not finite."""

from collections.abc import Mapping

import torch
from torch import Tensor

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
            name: torch.optim.AdamW(self._parameters[name], lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
            for name, settings in self._settings.items()
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
        norms = {}
        for name, parameters in self._parameters.items():
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            if gradients:
                norms[name] = torch.nn.utils.get_total_norm(gradients)
        is_bad = self._look({**terms, **{f"gradient of {name}": norm for name, norm in norms.items()}})
        for name, norm in norms.items():
            self._step_one(name, norm, is_bad, scales.get(name, 1.0), (takes_part or {}).get(name))
        return {f"{name}_grad_norm": norm for name, norm in norms.items()}

    def forget(self) -> None:
        """Drop all momentum: the weights were replaced."""
        for adam in self._adams.values():
            adam.state.clear()

    def take_bad_terms(self) -> list[str]:
        """Read which terms were not finite since the last call; losses only, where a loss was."""
        found = {name for names, flags in self._bad.items() for name, is_bad in zip(names, flags.tolist(), strict=True) if is_bad}
        self._bad.clear()
        losses = sorted(name for name in found if not name.startswith("gradient of"))
        return losses or sorted(found)

    def state_dict(self) -> dict[str, Tensor]:
        """``NETWORK.INDEX.KEY`` -> tensor: momentum and step counts of each parameter."""
        return {
            f"{name}.{index}.{key}": value
            for name, adam in self._adams.items()
            for index, parameter in enumerate(self._parameters[name])
            for key, value in adam.state.get(parameter, {}).items()
        }

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from :meth:`state_dict`; learning rates and limits stay those of this run's configuration.

        Raises:
            ValueError: a tensor of another network, or of another shape.
        """
        self.forget()
        for full_name, tensor in tensors.items():
            name, index, key = full_name.rsplit(".", 2)
            known = self._parameters.get(name, [])
            if not index.isdecimal() or int(index) >= len(known) or key not in ("step", "exp_avg", "exp_avg_sq"):
                raise ValueError(f"momentum of an unknown network: {full_name}")
            parameter = known[int(index)]
            shape = () if key == "step" else tuple(parameter.shape)
            if tuple(tensor.shape) != shape:
                raise ValueError(f"momentum {full_name} has shape {tuple(tensor.shape)}, expected {shape}")
            self._adams[name].state[parameter][key] = tensor.to(parameter.device, torch.float32, copy=True)

    def _look(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Count this update if a term is not finite; () float, 1 if so, as fused optimizers take it."""
        flags = ~torch.stack([term.detach() for term in terms.values()]).isfinite()
        is_bad, names = flags.any(), tuple(terms)
        self.skipped += is_bad
        self.in_a_row.add_(1).mul_(is_bad)
        self._bad[names] = flags if names not in self._bad else self._bad[names] | flags
        return is_bad.float()

    def _step_one(self, name: str, norm: Tensor, is_bad: Tensor, scale: float, takes_part: Tensor | None) -> None:
        adam, settings = self._adams[name], self._settings[name]
        adam.param_groups[0]["lr"] = settings.lr * scale
        # A fused optimizer divides by the one and stops at the other within its own pass over the numbers.
        adam.grad_scale = (norm / settings.grad_clip_norm).clamp_min(1.0) if settings.grad_clip_norm else None  # type: ignore[attr-defined]
        adam.found_inf = is_bad if takes_part is None else is_bad.maximum((~takes_part).float())  # type: ignore[attr-defined]
        adam.step()
        adam.zero_grad()
