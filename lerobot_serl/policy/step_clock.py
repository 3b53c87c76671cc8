"""LeRobot's own optimizer step, which moves nothing: the agent has its optimizers (``policy.critic.lr`` and so on)."""

from dataclasses import dataclass
from typing import Any

import torch
from lerobot.optim import OptimizerConfig


@OptimizerConfig.register_subclass("per_network_adam")
@dataclass
class StepClockConfig(OptimizerConfig):
    """LeRobot optimizer type ``per_network_adam``, as configurations of runs name it. Only the rate is of use: LeRobot's log shows it."""

    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    # 0: LeRobot takes no norm over all networks.
    grad_clip_norm: float = 0.0

    def build(self, params: Any) -> torch.optim.Optimizer:
        """Build from ``SerlSacPolicy.get_optim_params()``."""
        return torch.optim.SGD(params, lr=self.lr)
