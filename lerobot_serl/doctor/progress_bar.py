"""A bar on stderr for work that turns out to take long."""

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

AFTER_S = 3.0


def bar(what: str, unit: str, items: Iterable[Any] | None = None, total: int | None = None) -> Any:
    """Iterates over ``items``, or is moved by ``update``; shows itself after `AFTER_S` seconds."""
    return tqdm(items, desc=what, unit=f" {unit}", total=total, delay=AFTER_S, leave=False)
