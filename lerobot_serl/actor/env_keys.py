"""What each entry of an environment's action means, so that an arm that waits for a plan stands still."""

import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from lerobot.envs import EnvConfig

from ..key_names import Kind
from .key_kinds import KeyKinds
from .settings import RobotKeysConfig


class EnvKeys:
    """As for a robot: what the environment declares (``serl``, of its class or of its configuration), flags, names (`KeyKinds`).

    LeRobot's own environments, whose datasets name places and displacements alike, are declared here.

    Args:
        config, env: LeRobot's configuration, and the environment without wrappers.
        flag: names the environment in messages.
        size: ``D``.
        names: of the entries, as the demonstrations have them; the environment's own ``action_names`` count first.
        settings: `--robot_keys.*`; where nothing names the entries their keys are "0", "1", ...

    Attributes:
        names: one for each entry; empty if nobody knows them.

    Raises:
        ValueError: as `KeyKinds`.
    """

    def __init__(self, config: EnvConfig, env: Any, flag: str, size: int, names: Sequence[str], settings: RobotKeysConfig) -> None:
        said = [str(name) for name in getattr(env, "action_names", names)]
        self.names = said if len(said) == size else []
        keys = self.names if len(set(self.names)) == size else [str(entry) for entry in range(size)]
        declares = SimpleNamespace(name=flag, config=config, serl=getattr(env, "serl", None) or _of_lerobots(config, keys))
        self._flag, self._kinds = flag, KeyKinds(declares, keys, [], settings)
        self._stops = np.array([self._kinds[key].stops_at_zero for key in keys])
        self._is_clear, self._has_warned = keys is self.names or bool(self._kinds.said), False

    def __str__(self) -> str:
        return self._kinds.holding

    def require_clear(self, why: str) -> None:
        """Raise where nothing says what an action is.

        Args:
            why: the arm will have to stand still.

        Raises:
            ValueError: with the flags that say it.
        """
        if not self._is_clear:
            every = [str(entry) for entry in range(len(self._stops))]
            raise ValueError(
                f"{self._flag}: with {why} the arm waits for plans, and nothing says how it stands still: names of the action's entries, "
                f"{', '.join(every)}, are missing. Say which of them are displacements or velocities, for which that is 0: "
                '--robot_keys.displacements=\'["0", "1", "2"]\' or --robot_keys.velocities; or that none is: --robot_keys.positions=\'["*"]\'.'
            )

    def still(self, last: np.ndarray | None) -> np.ndarray:
        """What makes nothing move, ``(D,)`` float32: 0 for displacements and velocities, else what was executed last; before that 0."""
        if not self._is_clear and not self._has_warned:
            self._has_warned = True
            logging.warning(
                f"{self._flag}: there is no plan, so the arm gets its last action again. If that is a displacement, it goes on: "
                "name such entries with --robot_keys.displacements."
            )
        return np.where(self._stops, 0.0, 0.0 if last is None else last).astype(np.float32)


def _of_lerobots(config: EnvConfig, keys: Sequence[str]) -> dict[str, list[str]] | None:
    """What the actions of LeRobot's own environments are, entry by entry; None: not known."""
    tool = Kind.DISPLACEMENT if getattr(config, "control_mode", "relative") == "relative" else Kind.POSITION
    kinds = {
        "aloha": [Kind.POSITION] * 14,
        "pusht": [Kind.POSITION] * 2,
        "metaworld": [*[Kind.DISPLACEMENT] * 3, Kind.GRIPPER],
        "libero": [*[tool] * 6, Kind.GRIPPER],
        "libero_plus": [*[tool] * 6, Kind.GRIPPER],
    }.get(config.type, [])
    if len(kinds) != len(keys):
        return None
    return {kind: [key for key, one in zip(keys, kinds, strict=True) if one is kind] for kind in set(kinds)}
