"""Which of a teleoperator's numbers is which entry of an environment's action."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..robots.gamepad_action import CLOSE, GRIPPER, OPEN

_SUFFIX, _SHORT = re.compile(r"\.(pos|vel|value)$"), re.compile(r"^d_?(?=r?[xyz]$)")
_NUMBERED = re.compile(r"[a-z_.]*\d+", re.IGNORECASE)


@dataclass(frozen=True)
class TeleopKeySettings:
    """Of ``--takeover``, and of the teleoperator.

    Attributes:
        keys: teleoperator's key -> the action's name, where they differ.
        gripper_positions: closed and open, as the environment takes them; for teleoperators whose ``gripper`` is a wish.
        is_wish: whether it is one: 0 close, 1 stay, 2 open.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    gripper_positions: Sequence[float] = ()
    is_wish: bool = False


class TeleopKeys:
    """By name where the action's entries have names, and by order only where nothing names them.

    Args:
        flag: names the teleoperator in messages.
        given: its keys, in its order.
        names: of the action's entries; empty if nobody knows them.
        high: ``(D,)`` largest action that the environment takes.
        settings: of the takeover, and of the teleoperator.

    Raises:
        ValueError: another number of entries, other names, or a wish where the environment takes a position.
    """

    def __init__(self, flag: str, given: Sequence[str], names: Sequence[str], high: np.ndarray, settings: TeleopKeySettings) -> None:
        size = len(high)
        if unknown := sorted(set(settings.keys) - set(given)):
            raise ValueError(f"--takeover.keys names {unknown}, which {flag} does not give (it gives {list(given)}).")
        wanted = list(names) or [str(index) for index in range(size)]
        self._places = _by_name([settings.keys.get(key, key) for key in given], wanted)
        is_unnamed = not settings.keys and not self._places and all(_NUMBERED.fullmatch(name) for name in wanted)
        if is_unnamed and len(given) == size:
            self._places = {index: index for index in range(size)}
        if len(self._places) != len(given) or len(given) != size:
            raise ValueError(
                f"{flag} gives {len(given)} numbers {list(given)}, but an action of this environment has {size}: {wanted}. Use a teleoperator made "
                'for this environment, or say which is which: --takeover.keys=\'{"KEY OF THE TELEOPERATOR": "NAME IN THE ACTION"}\'.'
            )
        self._given, self._positions = list(given), tuple(settings.gripper_positions)
        self._is_by_order, self._names = is_unnamed, wanted
        self._wish = settings.is_wish and GRIPPER in given
        if self._wish and not self._positions and (most := high[self._places[self._given.index(GRIPPER)]]) < OPEN:
            raise ValueError(
                f"{flag}: its '{GRIPPER}' is a wish (0 close, 1 stay, 2 open), but the environment takes a number of at most {most:g} there. "
                "Say what closed and open are: --takeover.gripper_positions='[CLOSED, OPEN]'."
            )

    def __str__(self) -> str:
        pairs = ", ".join(f"{key} -> {self._names[self._places[index]]}" for index, key in enumerate(self._given))
        return pairs + (
            " (by their order: nothing names the entries of an action; --takeover.keys says otherwise)" if self._is_by_order else ""
        )

    def action(self, wanted: Mapping[str, float], last: np.ndarray | None) -> np.ndarray:
        """``(D,)`` float32 of what the teleoperator gives.

        Args:
            wanted: under its own keys.
            last: executed last in this episode; None before.
        """
        values = np.zeros(len(self._given), dtype=np.float32)
        for index, key in enumerate(self._given):
            place = self._places[index]
            values[place] = wanted[key]
            if key == GRIPPER and self._wish and self._positions:
                closed, opened = self._positions
                stays = opened if last is None else float(last[place])
                values[place] = {CLOSE: closed, OPEN: opened}.get(int(wanted[key]), stays)
        return values


def _by_name(given: Sequence[str], names: Sequence[str]) -> dict[int, int]:
    """Place in ``given`` -> place in ``names``; a last one that is left over on both sides belongs together."""
    known = {_plain(name): index for index, name in enumerate(names)}
    if len(known) != len(names):  # left_x.pos beside left_x.vel
        known = {name: index for index, name in enumerate(names)}
    found = {index: place for index, key in enumerate(given) if (place := known.get(key, known.get(_plain(key)))) is not None}
    left, open_places = [i for i in range(len(given)) if i not in found], [p for p in range(len(names)) if p not in found.values()]
    if len(found) != len(set(found.values())):
        return {}
    if found and len(left) == len(open_places) == 1:
        found[left[0]] = open_places[0]
    return found


def _plain(name: str) -> str:
    """delta_x of delta_x.pos, Delta_X and dx."""
    return _SHORT.sub("delta_", _SUFFIX.sub("", name.lower()))
