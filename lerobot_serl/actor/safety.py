"""Keeps every target inside limits, whoever asks for it."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..finite import not_finite
from ..key_names import is_gripper
from .world import WorldError

Kinematics = Callable[[Mapping[str, float]], Sequence[float]]
BISECTIONS = 12


@dataclass(frozen=True, eq=False)
class Limits:
    """For the entries of an action, in the robot's units.

    Attributes:
        keys: their names.
        low, high: ``(D,)`` smallest and largest target.
        step: ``(D,)`` largest distance of a target from the measured value of the same name; infinite where there is none.
        workspace_low_m, workspace_high_m: ``(3,)`` box for the tool, with ``kinematics``.
        kinematics: numbers of the robot -> tool position xyz in metres.
    """

    keys: tuple[str, ...]
    low: np.ndarray
    high: np.ndarray
    step: np.ndarray
    workspace_low_m: np.ndarray | None = None
    workspace_high_m: np.ndarray | None = None
    kinematics: Kinematics | None = None

    def with_zero(self, keys: Iterable[str]) -> "Limits":
        """With room for 0, at any time, for keys that stop at 0."""
        stops = np.array([key in set(keys) for key in self.keys])
        low, high = np.where(stops, np.minimum(self.low, 0.0), self.low), np.where(stops, np.maximum(self.high, 0.0), self.high)
        return replace(self, low=low, high=high, step=np.where(stops, np.inf, self.step))

    def __str__(self) -> str:
        rows = [
            f"  {key}: {low:.4g} to {high:.4g}" + (f", at most {step:.4g} from the measured value" if np.isfinite(step) else "")
            for key, low, high, step in zip(self.keys, self.low, self.high, self.step, strict=True)
        ]
        if self.kinematics is not None and self.workspace_low_m is not None and self.workspace_high_m is not None:
            rows.append(f"  tool: {self.workspace_low_m.tolist()} to {self.workspace_high_m.tolist()} m")
        return "\n".join(rows)


def limits_from_demonstrations(
    keys: Sequence[str],
    low: Sequence[float],
    high: Sequence[float],
    step: Sequence[float | None],
    range_margin: float,
    step_margin: float,
) -> Limits:
    """The demonstrations' range and largest step, widened.

    Args:
        low, high: smallest and largest action of the demonstrations.
        step: largest distance between an action and the measured value of the same name; None where nothing of that name is measured.
        range_margin: added on both sides, as a fraction of the range.
        step_margin: factor on the step.
    """
    smallest, largest = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    spare = range_margin * (largest - smallest)
    steps = np.array([np.inf if value is None or value <= 0 else step_margin * value for value in step])
    return Limits(tuple(keys), smallest - spare, largest + spare, steps)


class Limiter:
    """Applies limits, refuses what is not a number, and counts what it changed.

    Args:
        limits: None changes nothing, and still refuses what is not a number.
        is_gripper: whether a key is a gripper's.
    """

    def __init__(self, limits: Limits | None, is_gripper: Callable[[str], bool] = is_gripper) -> None:
        self.limits, self._is_gripper = limits, is_gripper
        self.clamped: Counter[str] = Counter()
        self._checked_workspace = False

    def apply(self, action: Mapping[str, float], measured: Mapping[str, float]) -> dict[str, float]:
        """The nearest action within the limits; entries without a limit pass unchanged.

        Raises:
            WorldError: an entry is not finite.
        """
        if (bad := not_finite(action)) is not None:
            raise WorldError(
                f"The action's '{bad}' is {action[bad]}, expected a finite number; it was not sent. The policy or the teleoperator is broken."
            )
        if self.limits is None:
            return dict(action)
        safe = self._within_range(action, measured, self.limits.low, self.limits.high)
        self.clamped.update(key for key, value in safe.items() if value != action[key])
        within = self._within_workspace(safe, measured)
        if within is not safe:
            self.clamped["workspace"] += 1
        return within

    def keep(self, still: Mapping[str, float], measured: Mapping[str, float]) -> dict[str, float]:
        """The nearest to what holds still: an arm outside its range stays there, for a hold must not move it.

        Kinematics that fail do not keep a robot from being stopped.
        """
        if self.limits is None:
            return dict(still)
        low = np.array([min(value, measured.get(key, value)) for key, value in zip(self.limits.keys, self.limits.low, strict=True)])
        high = np.array([max(value, measured.get(key, value)) for key, value in zip(self.limits.keys, self.limits.high, strict=True)])
        safe = self._within_range(still, measured, low, high)
        try:
            return self._within_workspace(safe, measured)
        except Exception as error:
            logging.warning(f"The workspace is not looked at while the arm is told to hold still: {error}")
            return safe

    def _within_range(
        self, action: Mapping[str, float], measured: Mapping[str, float], low: np.ndarray, high: np.ndarray
    ) -> dict[str, float]:
        assert self.limits is not None
        safe = dict(action)
        for index, key in enumerate(self.limits.keys):
            if key in safe:
                value = min(max(safe[key], low[index]), high[index])
                if key in measured and np.isfinite(step := self.limits.step[index]):
                    # An arm that is outside its range may come back, at its own pace.
                    value = min(max(value, measured[key] - step), measured[key] + step)
                safe[key] = float(value)
        return safe

    def _within_workspace(self, action: dict[str, float], measured: Mapping[str, float]) -> dict[str, float]:
        """Go only as far towards the target as the tool stays in its box; from outside, only such steps as bring it nearer.

        Grippers are left alone: at a wall they must still close, and a loaded one, which measures wider than its target, must not let go.
        """
        here, there = self._outside_m(measured), self._outside_m({**measured, **action})
        if there <= max(here, 0.0):
            return action
        start = {key: measured.get(key, value) for key, value in action.items() if not self._is_gripper(key)}
        allowed, refused = 0.0, 1.0
        for _ in range(BISECTIONS):
            middle = (allowed + refused) / 2
            if self._outside_m({**measured, **_part_of_the_way(start, action, middle)}) <= max(here, 0.0):
                allowed = middle
            else:
                refused = middle
        return _part_of_the_way(start, action, allowed)

    def _outside_m(self, numbers: Mapping[str, float]) -> float:
        limits = self.limits
        if limits is None or limits.kinematics is None:
            return 0.0
        position_m = np.asarray(limits.kinematics(numbers), dtype=np.float64)
        if position_m.shape != (3,) or not np.isfinite(position_m).all():
            raise WorldError(f"The kinematics function returned {position_m.tolist()}, expected three finite numbers (metres).")
        below = np.asarray(limits.workspace_low_m) - position_m
        above = position_m - np.asarray(limits.workspace_high_m)
        outside_m = float(np.maximum(np.maximum(below, above), 0.0).max())
        if outside_m > 0 and not self._checked_workspace:
            logging.warning(f"The tool is, or would be, {outside_m:.3f} m outside its workspace at {position_m.round(3).tolist()}.")
        self._checked_workspace = True
        return outside_m


def _part_of_the_way(start: Mapping[str, float], action: Mapping[str, float], share: float) -> dict[str, float]:
    """The action, with the entries that `start` has only a share of the way from there."""
    return {**action, **{key: value + share * (action[key] - value) for key, value in start.items()}}
