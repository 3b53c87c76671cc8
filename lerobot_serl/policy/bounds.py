"""How large the numbers of a configuration may be: generous, and small enough to be refused before memory is asked for.

Flags, checkpoints, and what a learner sends to actor processes obey them alike.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .validation import require

if TYPE_CHECKING:
    from lerobot.configs import PolicyFeature

# Group of settings -> name -> smallest and largest whole number. docs/security.md has the same table.
BOUNDS: dict[str, dict[str, tuple[int, int]]] = {
    "policy.": {
        "horizon": (1, 10_000),
        "batch_size": (1, 65_536),
        "buffer_capacity": (1, 100_000_000),
    },
    "policy.act.": {
        "chunk_size": (1, 10_000),
        "dim_model": (1, 8_192),
        "n_heads": (1, 128),
        "dim_feedforward": (1, 65_536),
        "n_encoder_layers": (0, 64),
        "n_decoder_layers": (1, 64),
        "latent_dim": (1, 8_192),
    },
    "policy.actor.": {},
    "policy.corrector.": {},
    "policy.critic.": {"members": (1, 100)},
    "policy.grasp.": {"members": (1, 100), "moments": (1, 100)},
}
LARGEST_N_STEP = 10_000
MOST_LAYERS, WIDEST_LAYER = 16, 8_192
# Of the grippers together: (1 + 2 moments) for each.
MOST_DECISIONS = 1_000
BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
MOST_FEATURES, MOST_DIMENSIONS, LONGEST_NAME = 64, 4, 200
# What the convolutions of an image encoder need each way, and the most that is taken.
SMALLEST_IMAGE_SIDE, LARGEST_IMAGE_SIDE = 32, 4_096
LARGEST_VECTOR, LARGEST_IMAGE = 100_000, 3 * LARGEST_IMAGE_SIDE**2
# Numbers with which the steps of a chunk look at each other, in each layer: n_heads * chunk_size ** 2.
LARGEST_ATTENTION = 1_000_000_000


def require_bounds(owner: object, group: str) -> None:
    """Raise unless every number of a group of settings, and its hidden layers, lie within :data:`BOUNDS`.

    Raises:
        ValueError: naming the setting.
    """
    for name, (least, most) in BOUNDS[group].items():
        value = getattr(owner, name)
        remedy = f"Choose another --{group}{name}."
        require(type(value) is int and least <= value <= most, f"{group}{name}", value, f"a whole number from {least} to {most}", remedy)
    if (widths := getattr(owner, "hidden_sizes", None)) is not None:
        require(
            len(widths) <= MOST_LAYERS and all(type(width) is int and width <= WIDEST_LAYER for width in widths),
            f"{group}hidden_sizes", widths, f"at most {MOST_LAYERS} layers, none wider than {WIDEST_LAYER}",
            f"Choose other --{group}hidden_sizes.",
        )  # fmt: skip


def require_features(kind: str, features: "Mapping[str, PolicyFeature] | None") -> None:
    """Raise unless there are few enough features (``kind``: ``input_features`` or ``output_features``), none of them too large.

    Raises:
        ValueError: naming the feature.
    """
    found = features or {}
    remedy = "Record fewer or smaller ones; or is this policy from somebody that you do not know?"
    require(len(found) <= MOST_FEATURES, kind, f"{len(found)} features", f"at most {MOST_FEATURES}", remedy)
    for name, feature in found.items():
        require(0 < len(name) <= LONGEST_NAME and name.isprintable(), kind, name[:LONGEST_NAME], "a name of printable letters", remedy)
        shape, largest = tuple(feature.shape), LARGEST_IMAGE if feature.type.value == "VISUAL" else LARGEST_VECTOR
        counts = all(type(size) is int and size >= 1 for size in shape)
        require(
            1 <= len(shape) <= MOST_DIMENSIONS and counts and math.prod(shape) <= largest,
            f"{kind}.{name}", shape, f"1 to {MOST_DIMENSIONS} sizes of at least 1, at most {largest} numbers", remedy,
        )  # fmt: skip


def require_renames(renames: Mapping[str, str]) -> None:
    """Raise unless the names of ``policy.act_rename_map`` are names, and each of ACT's stands there once.

    Raises:
        ValueError: naming the entry.
    """
    name, remedy = "policy.act_rename_map", """Give '{"the robot's name": "ACT's name"}'."""
    require(len(renames) <= MOST_FEATURES, name, f"{len(renames)} entries", f"at most {MOST_FEATURES}", remedy)
    for entry in renames.items():
        printable = all(isinstance(word, str) and 0 < len(word) <= LONGEST_NAME and word.isprintable() for word in entry)
        require(printable, name, entry, "two names of printable letters", remedy)
    twice = sorted({inner for inner in renames.values() if list(renames.values()).count(inner) > 1})
    require(not twice, name, twice, "each of ACT's names once", remedy)
