"""Whether the robot stands where the demonstrations can have been: at the start, before anything moves, and after its own reset."""

import logging
import math
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from ..key_names import Kind
from ..replay.demonstration_stats import DemonstrationStats
from .key_kinds import KeyKinds
from .world import WorldError

# Of a joint's demonstrated range: farther outside it is another calibration, another zero or another unit.
FAR = 0.5
# Another unit shows in a smaller distance, when it explains all of so many joints.
NEAR, MANY_JOINTS = 0.1, 3
RAD_IN_DEG = 180 / math.pi
# Of a joint's demonstrated range: so far from where demonstrations begin is not the same place.
HOME_TOLERANCE = 0.25


def check_start(
    robot: str,
    measured: Mapping[str, float],
    state_keys: Sequence[str],
    demo_stats: DemonstrationStats,
    kinds: KeyKinds,
    may_be_far: bool,
    simulated: bool,
) -> None:
    """Ask the person, or refuse without a terminal, before a robot moves that measures what no demonstration can have measured.

    Args:
        robot: its name.
        measured: its numbers.
        state_keys: the robot's key for each entry of the demonstrations' state.
        demo_stats: of the demonstrations; an older learner's have no ranges of the state, and those of the actions stand for them.
        kinds: of the action's entries.
        may_be_far: True only warns.
        simulated: in lockstep nothing can be damaged: only a warning too.

    Raises:
        ValueError: the person says no, or nobody can be asked.
    """
    ranges = _measured_ranges(measured, state_keys, demo_stats, kinds)
    far = _far_outside(measured, ranges)
    if not far:
        return
    joints = ", ".join(
        f"'{key}' measures {measured[key]:.4g} (demonstrations: {ranges[key][0]:.4g} to {ranges[key][1]:.4g})" for key in far
    )
    what = (
        f"{robot}: {joints}, far outside what the demonstrations saw. Is it calibrated as it was then, with the same zero and in the same unit"
        f"{_unit_hint(measured, ranges)}?"
    )
    if may_be_far or simulated:
        logging.warning(f"{what} It moves all the same{' (--safety.far_start=true)' if may_be_far else ', as a simulation'}.")
    elif not sys.stdin.isatty():
        raise ValueError(
            f"{what} Nothing was moved. Check it, or bring the arm into the demonstrations' range by hand; --safety.far_start=true goes on, "
            "and the arm then moves from there."
        )
    else:
        logging.warning(what)
        try:
            answer = input("Type 'y' and press Enter to move it from there; anything else stops: ")
        except EOFError:
            answer = ""
        if answer.strip().lower() != "y":
            raise ValueError(f"{robot} was not moved, since {far[0]} is far outside the demonstrations' range.")


class HomeCheck:
    """Whether the robot's own `reset` leads to where the demonstrations begin. A method of that name may do anything.

    Args:
        robot: its name.
        starts: action key -> between which measured values the demonstrations begin; None where that is not known.
        ranges: action key -> width of its range in the demonstrations.
        kinds: of the action's entries.
        fatal: the first time is an error: the reset was chosen automatically, and there is another way. Otherwise a warning, once.
    """

    def __init__(
        self, robot: str, starts: Mapping[str, tuple[float, float] | None], ranges: Mapping[str, float], kinds: KeyKinds, fatal: bool
    ) -> None:
        self._robot = robot
        self._ranges = _widths(ranges)
        self._fatal = fatal
        self._starts = {key: ends for key, ends in starts.items() if ends is not None and kinds[key] is Kind.POSITION}
        self._is_first, self._warned = True, False

    def check(self, measured: Mapping[str, float]) -> None:
        """After a reset.

        Raises:
            WorldError: the robot is not there, and `fatal`.
        """
        outside = {key: _distance(measured[key], *ends) / self._ranges[key] for key, ends in self._starts.items() if key in measured}
        farthest = max(outside, key=lambda key: outside[key], default=None)
        is_first, self._is_first = self._is_first, False
        if farthest is None or outside[farthest] <= HOME_TOLERANCE:
            return
        low, high = self._starts[farthest]
        said = (
            f"{self._robot}: after its own reset '{farthest}' measures {measured[farthest]:.4g}, but the demonstrations begin at "
            f"{f'{low:.4g}' if low == high else f'{low:.4g} to {high:.4g}'}."
        )
        if self._fatal and is_first:
            raise WorldError(f"{said} Use --reset.mode=pose, teleop or none, or --reset.mode=robot if episodes are to begin there.")
        if not self._warned:
            self._warned = True
            logging.warning(
                f"{said} Episodes that begin elsewhere are new to the policy; --reset.mode=pose goes to the demonstrations' start."
            )


def _measured_ranges(
    measured: Mapping[str, float], state_keys: Sequence[str], demo_stats: DemonstrationStats, kinds: KeyKinds
) -> dict[str, tuple[float, float]]:
    """Of what tells the arm's pose. Grippers are left out: they are opened as wide as anybody likes."""
    keys = demo_stats.state_names or (state_keys if len(state_keys) == len(demo_stats.state_low) else ())
    if demo_stats.state_low and keys:
        ranges = dict(zip(keys, zip(demo_stats.state_low, demo_stats.state_high, strict=True), strict=True))
    else:
        rows = zip(demo_stats.action_names, demo_stats.action_low, demo_stats.action_high, demo_stats.action_step, strict=False)
        ranges = {key: (low - step, high + step) for key, low, high, step in rows if step is not None}
    return {key: ends for key, ends in ranges.items() if key in measured and kinds.tells_pose(key)}


def _far_outside(measured: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]) -> list[str]:
    outside = _outside(measured, ranges, 1.0)
    least = NEAR if len(ranges) >= MANY_JOINTS and _unit_hint(measured, ranges) else FAR
    return [key for key, distance in outside.items() if distance > least]


def _unit_hint(measured: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]) -> str:
    """Words, if degrees in the place of radians, or the other way round, bring every joint back into its range."""
    if max(_outside(measured, ranges, 1.0).values(), default=0.0) > NEAR:
        for factor, hint in ((RAD_IN_DEG, "radians instead of degrees"), (1 / RAD_IN_DEG, "degrees instead of radians")):
            if max(_outside(measured, ranges, factor).values()) <= NEAR:
                return f" (it looks like {hint})"
    return ""


def _outside(measured: Mapping[str, float], ranges: Mapping[str, tuple[float, float]], factor: float) -> dict[str, float]:
    """How far each joint is outside its range, as a share of the range."""
    widths = _widths({key: high - low for key, (low, high) in ranges.items()})
    return {key: _distance(factor * measured[key], low, high) / widths[key] for key, (low, high) in ranges.items()}


def _widths(ranges: Mapping[str, float]) -> dict[str, float]:
    """A joint that hardly moved counts as the middle one: it may stand a little elsewhere."""
    least = float(np.median(list(ranges.values()))) if ranges else 0.0
    return {key: max(width, least) or 1.0 for key, width in ranges.items()}


def _distance(value: float, low: float, high: float) -> float:
    return max(low - value, value - high, 0.0)
