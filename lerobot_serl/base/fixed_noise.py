"""Random numbers that are the same at every call, on every device, and for every observation of a batch."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_BY_SIZE: dict[Callable[..., Tensor], Callable[..., Tensor]] = {torch.randn: torch.randn, torch.rand: torch.rand}
_LIKE: dict[Callable[..., Tensor], Callable[..., Tensor]] = {torch.randn_like: torch.randn, torch.rand_like: torch.rand}


class FixedNoise(TorchFunctionMode):
    """While it is on, what PyTorch draws are the numbers that ``torch.manual_seed(seed)`` gives for one observation on a CPU.

    A diffusion policy draws a start and, with DDPM, noise in every denoising step. The learner plans for a batch of recorded frames on its device,
    the robot for one frame on another: both must get the same plan.

    Args:
        rows: ``B``; what is drawn for so many rows is drawn for one and repeated.
        seed: of the numbers.
    """

    def __init__(self, rows: int, seed: int = 0) -> None:
        super().__init__()
        self._rows, self._generator = rows, torch.Generator().manual_seed(seed)

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
        repeated = len(size) > 0 and size[0] == self._rows
        drawn = draw((1, *size[1:]) if repeated else size, generator=self._generator, dtype=dtype, device="cpu")
        return drawn.expand(size).to(device or "cpu").contiguous()
