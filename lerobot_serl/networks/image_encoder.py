"""The critics' own image encoder: a small convolutional network for each camera, as an alternative to frozen ACT's features."""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

LATENT_SIZE = 64


class ImageEncoder(nn.Module):
    """Camera images to one vector; trained by the critics' loss alone (DrQ-v2, arXiv 2107.09645).

    Args:
        shapes: camera key -> ``(C, H, W)``, at least 32 pixels each way.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self.keys = list(shapes)
        self.towers = nn.ModuleList([_tower(*shapes[key]) for key in self.keys])

    @property
    def size(self) -> int:
        """Of the vector."""
        return LATENT_SIZE * len(self.keys)

    def forward(self, images: Mapping[str, Tensor]) -> Tensor:
        """Key -> ``(B, C, H, W)``, uint8 or float in [0, 1] -> ``(B, size)`` in (-1, 1)."""
        return torch.cat([tower(_centred(images[key])) for key, tower in zip(self.keys, self.towers, strict=True)], dim=-1)


def _centred(image: Tensor) -> Tensor:
    return (image.float() / 255.0 if image.dtype == torch.uint8 else image) - 0.5


def _tower(channels: int, height: int, width: int) -> nn.Sequential:
    convolutions = nn.Sequential(
        nn.Conv2d(channels, 32, 5, stride=3), nn.ReLU(), nn.Conv2d(32, 32, 3, stride=2), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten()
    )  # fmt: skip
    # Without memory: the size of an image may come from elsewhere.
    flat = copy.deepcopy(convolutions).to("meta")(torch.empty(1, channels, height, width, device="meta")).shape[1]
    return nn.Sequential(*convolutions, nn.Linear(flat, LATENT_SIZE), nn.LayerNorm(LATENT_SIZE), nn.Tanh())
