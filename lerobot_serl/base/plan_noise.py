"""The random numbers of a plan: as good as drawn anew for each plan, and the same whenever and wherever an observation is planned for again."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_BY_SIZE: dict[Callable[..., Tensor], Callable[..., Tensor]] = {torch.randn: torch.randn, torch.rand: torch.rand}
_LIKE: dict[Callable[..., Tensor], Callable[..., Tensor]] = {torch.randn_like: torch.randn, torch.rand_like: torch.rand}
_SEED_BYTES = 7


def seeds_of(observation: Mapping[str, Tensor], n_obs_steps: int) -> list[int] | None:
    """A seed for each row of a raw observation ``(B, ...)``, or with several frames ``(B, n_obs_steps, ...)``: of its newest vectors' bits.

    Pictures do not count, for they reach the learner compressed. None: there are no vectors.
    """
    rows: list[int] | None = None
    for value in observation.values():
        newest = value if n_obs_steps == 1 else value[:, -1]
        if newest.dim() != 2 or newest.shape[1] == 0:
            continue
        numbers = (newest.float() + 0.0).cpu().contiguous().numpy()  # -0.0 is 0.0
        found = [int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=_SEED_BYTES).digest()) for row in numbers]
        # In any order: robot and owner name the features differently.
        rows = found if rows is None else [one + other for one, other in zip(rows, found, strict=True)]
    return rows


class PlanNoise(TorchFunctionMode):
    """While it is on, what PyTorch draws for a row are the numbers that ``torch.manual_seed(seed)`` gives for it alone on a CPU.

    A diffusion policy draws a start and, with DDPM, noise in every denoising step. The learner plans for a batch of recorded frames on its device,
    the robot for one frame on another: both must get the same plan. One noise for all plans would do that too, but no owner runs a policy so: of the
    same policy, with five such noises, between none and 22 of 30 attempts succeeded, and 22 with noise drawn anew (docs/base_policies.md).

    Args:
        rows: ``B``.
        seeds: of each row, from :func:`seeds_of`; None: all noise is 0.
    """

    def __init__(self, rows: int, seeds: Sequence[int] | None) -> None:
        super().__init__()
        self._rows = rows
        self._generators = None if seeds is None else [torch.Generator().manual_seed(seed) for seed in seeds]
        self._shared = torch.Generator().manual_seed(0)

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given = dict(kwargs or {})
        if func in _LIKE:
            like: Tensor = args[0]
            return self._draw(_LIKE[func], tuple(like.shape), given.get("dtype") or like.dtype, given.get("device") or like.device)
        if func in _BY_SIZE:
            size = given["size"] if "size" in given else args[0] if len(args) == 1 and not isinstance(args[0], int) else args
            return self._draw(func, tuple(size), given.get("dtype"), given.get("device"))
        return func(*args, **given)

    def _draw(self, draw: Callable[..., Tensor], size: tuple[int, ...], dtype: torch.dtype | None, device: Any) -> Tensor:
        if self._generators is None:
            return torch.zeros(size, dtype=dtype, device=device)
        if size and size[0] == self._rows:
            drawn = torch.cat([draw((1, *size[1:]), generator=own, dtype=dtype, device="cpu") for own in self._generators])
        else:
            drawn = draw(size, generator=self._shared, dtype=dtype, device="cpu")
        return drawn.to(device or "cpu")
