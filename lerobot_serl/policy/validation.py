"""Errors that name the value, what was expected, and the remedy."""

import math
from typing import Any


def require(condition: bool, name: str, value: Any, expected: str, remedy: str = "") -> None:
    """Raise unless ``condition`` holds.

    Raises:
        ValueError: ``name=value: expected ... . remedy``.
    """
    if not condition:
        raise ValueError(f"{name}={value!r}: expected {expected}.{' ' + remedy if remedy else ''}")


def require_positive(owner: object, prefix: str, *names: str) -> None:
    """Raise unless the named attributes of ``owner`` are finite and greater than 0."""
    for name in names:
        value = getattr(owner, name)
        require(0 < value < math.inf, f"{prefix}{name}", value, "a number greater than 0")


def require_not_negative(owner: object, prefix: str, *names: str) -> None:
    """Raise unless the named attributes of ``owner`` are finite and at least 0."""
    for name in names:
        value = getattr(owner, name)
        require(0 <= value < math.inf, f"{prefix}{name}", value, "a number of at least 0")
