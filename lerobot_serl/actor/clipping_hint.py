"""Some robot classes clip a target and return what was asked for: then actions are stored that never happened."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

# What the arm can have moved between our reading and the robot's own, as a factor.
SPARE = 2.0


class ClippingHint:
    """Says so once, of robots with LeRobot's customary ``max_relative_target`` that do not return what it leaves.

    Args:
        robot: with its configuration.
        keys: of its positions; some arms do not limit their gripper.
    """

    def __init__(self, robot: Any, keys: Iterable[str]) -> None:
        self._keys = tuple(keys)
        self._name = str(getattr(robot, "name", type(robot).__name__))
        self._most = getattr(getattr(robot, "config", None), "max_relative_target", None)

    def look(self, executed: Mapping[str, float], measured: Mapping[str, float]) -> None:
        """After an action.

        Args:
            executed: what the robot says that it carried out.
            measured: its numbers before.
        """
        for key in self._keys:
            most, value = self._most_of(key), executed[key]
            if most is not None and key in measured and abs(value - measured[key]) > SPARE * most:
                logging.warning(
                    f"{self._name} says that it carried out '{key}' {abs(value - measured[key]):.3g} away from the measured value, though "
                    f"max_relative_target={most:g} allows no more than that: it clips without saying so, and the actions that are stored, and "
                    "learnt from, did not happen. Let send_action return what is left, or set --robot.max_relative_target wider than our limits."
                )
                self._most = None
                return

    def _most_of(self, key: str) -> float | None:
        if isinstance(self._most, Mapping):
            found = self._most.get(key, self._most.get(key.removesuffix(".pos")))
            return None if found is None else float(found)
        return None if self._most is None else float(self._most)
