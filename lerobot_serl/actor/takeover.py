"""A person takes over with a teleoperator, and gives back, without a jump either way."""

import logging
import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import numpy as np
from lerobot.common.control_utils import teleop_supports_feedback
from lerobot.teleoperators import Teleoperator

from .controls import TAKEOVER, Controls
from .key_kinds import Kind, customary_kind
from .settings import TakeoverConfig
from .world import WorldError

Action = dict[str, float]
# Of a joint's demonstrated range.
AUTO_DIFFERENCE = 0.25
# Of a gripper's: what a trigger that nobody touches trembles by.
TREMBLE = 0.02


class Stage(Enum):
    """Who moves the robot."""

    POLICY = "policy"
    HANDOVER = "handover"
    PERSON = "person"


class Takeover:
    """Who moves the robot, tick by tick.

    A teleoperator whose action keys the robot measures, or takes as positions, under the same names is a leader. On a takeover
    the leader is first driven to the arm, if it has motors, and then the arm slides to the leader, each within ``handover_s``. Other
    teleoperators give displacements and need no handover.

    The handover begins with what the robot was told last, not with what it measures: under a load that is lower, and the arm would sink.
    A gripper measures wider around an object, and sending that lets go. Beside displacements it stays so until the device's own value
    changes. A device whose feedback is a gripper's key alone is told the target while the policy moves the robot, and is then believed.

    Args:
        teleop: connected.
        controls: keys; also gets the teleoperator's own requests (success, failure, redo).
        settings: of the takeover.
        period_s: of the control loop.

    Attributes:
        count: takeovers since :meth:`begin`.
        ranges: action key -> width of its range in the demonstrations; from them comes an automatic ``max_difference``.
        told: action key -> what holds it still, the target that was executed last or 0; without the keys that were told nothing.
        kind: action key -> what it means; until somebody who knows the robot sets it, by the customary names.
    """

    def __init__(self, teleop: Teleoperator, controls: Controls, settings: TakeoverConfig, period_s: float) -> None:
        self._teleop, self._controls, self._settings, self._period_s = teleop, controls, settings, period_s
        self._has_events = callable(getattr(teleop, "get_teleop_events", None))
        self._is_driven = teleop_supports_feedback(teleop)
        self._ticks = max(1, round(settings.handover_s / period_s))
        self._is_driving = False
        feedback = tuple(teleop.feedback_features)
        self._informed = feedback if not self._is_driven and all(customary_kind(key) is Kind.GRIPPER for key in feedback) else ()
        self.kind: Callable[[str], Kind] = customary_kind
        self.ranges: Mapping[str, float] = {}
        self.told: Callable[[], Mapping[str, float]] = dict
        self.begin()

    def begin(self) -> None:
        """Before an episode: the policy moves the robot."""
        self._stop_driving()
        self._stage, self._asked_by_key, self.count = Stage.POLICY, False, 0
        self._tick, self._quiet_s, self._was_refused = 0, 0.0, False
        self._rest: Action | None = None
        self._start: Action = {}
        self._leader_start: Action = {}
        self._kept: Action = {}
        self._untouched: Action = {}

    @property
    def stage(self) -> Stage:
        """Who moves the robot now."""
        return self._stage

    def poll(self, measured: Mapping[str, float]) -> Action | None:
        """Ask the devices, once a tick.

        Args:
            measured: the robot's numbers.

        Returns:
            What the person, or the handover, wants the robot to do; None when the policy moves it.

        Raises:
            WorldError: the teleoperator does not answer, or answers with something that is not a number.
        """
        try:
            return self._poll(measured)
        except (ConnectionError, OSError, TypeError, ValueError) as error:
            raise WorldError(f"The teleoperator does not answer: {error}. Check its cable and power.") from error

    def _poll(self, measured: Mapping[str, float]) -> Action | None:
        if self._stage is Stage.POLICY and (news := {key: value for key, value in self.told().items() if key in self._informed}):
            self._teleop.send_feedback(news)
        wanted, action = self._ask(measured)
        if not wanted:
            if not self._settings.motion_threshold or self._quiet_s >= self._settings.release_after_s:
                self._was_refused = False
            if self._stage is not Stage.POLICY:
                self._release(action)
            self._untouched = action or {}
            return None
        assert action is not None
        if self._stage is Stage.POLICY and not self._engage(action, measured):
            return None
        if self._stage is Stage.HANDOVER:
            return self._hand_over(action)
        return self._with_kept_grippers(action)

    def _with_kept_grippers(self, action: Action) -> Action:
        for key in list(self._kept):
            if abs(action[key] - self._untouched[key]) > TREMBLE * self.ranges.get(key, 0.0):
                del self._kept[key]
        return action | self._kept

    def _ask(self, measured: Mapping[str, float]) -> tuple[bool, Action | None]:
        events: Mapping[Any, Any] = {}
        action: Action | None = None
        if self._has_events:
            action = self._action()  # first, as LeRobot does: its keyboard takes in what was pressed when it is asked for an action
            events = self._teleop.get_teleop_events()
            self._controls.add_teleop_events(events)
        if self._controls.take(TAKEOVER):
            self._asked_by_key = not self._asked_by_key
        asked = self._asked_by_key or any(value for event, value in events.items() if event.value == "is_intervention")
        if not asked and not self._settings.motion_threshold:
            return False, action
        action = self._action() if action is None else action
        if bad := [key for key, value in action.items() if not np.isfinite(value)]:
            raise WorldError(f"The teleoperator's {bad} is not a finite number; nothing was sent.")
        return asked or self._moves(action, measured), action

    def _action(self) -> Action:
        return {key: float(value) for key, value in self._teleop.get_action().items()}

    def _moves(self, action: Action, measured: Mapping[str, float]) -> bool:
        """Whether the device is moved: displacements above the threshold, or a leader away from where it rested.

        While the person moves the robot, a leader's rest follows it in steps of the threshold, so slow motion counts as well.
        """
        threshold = self._settings.motion_threshold
        if not threshold:
            return False
        if self._rest is None:
            self._rest = dict(action)
        origin = self._rest if self._positions(action, measured) else {}
        moves = [abs(value - origin.get(key, 0.0)) for key, value in action.items() if self.kind(key) is not Kind.GRIPPER]
        moved = max(moves, default=0.0) > threshold
        self._quiet_s = 0.0 if moved else self._quiet_s + self._period_s
        if self._stage is Stage.POLICY:
            return moved
        if moved:
            self._rest = dict(action)
        return self._quiet_s < self._settings.release_after_s

    def _engage(self, action: Action, measured: Mapping[str, float]) -> bool:
        self._rest = dict(action)  # after a refusal it takes another motion: the arm must not come to a leader that lies still
        positions = self._positions(action, measured)
        told = {key: value for key, value in self.told().items() if key in action}
        start = {key: measured[key] for key in positions if key in measured} | (told if positions else {})
        if not self._is_driven and self._is_too_far(action, start):
            return False
        self.count += 1
        self._tick, self._start, self._quiet_s = 0, start, 0.0
        self._stage = Stage.HANDOVER if positions else Stage.PERSON
        grips = {key: value for key, value in told.items() if self.kind(key) is Kind.GRIPPER}
        self._kept = {} if positions else {key: value for key, value in grips.items() if key not in self._informed}
        self._untouched = {key: self._untouched.get(key, action[key]) for key in self._kept}
        if self._stage is Stage.HANDOVER and self._is_driven:
            self._is_driving, self._leader_start = True, dict(action)
            self._teleop.enable_torque()
        logging.info("The person takes over.")
        return True

    def _is_too_far(self, action: Action, start: Action) -> bool:
        distances = {key: abs(action[key] - value) for key, value in start.items() if self.kind(key) is Kind.POSITION}
        limits = {key: self._settings.max_difference or AUTO_DIFFERENCE * self.ranges.get(key, math.inf) for key in distances}
        farthest = max(distances, key=lambda key: distances[key] / limits[key], default=None)
        if farthest is None or distances[farthest] <= limits[farthest]:
            return False
        if not self._was_refused:
            logging.warning(
                f"Takeover refused: leader and arm differ by {distances[farthest]:.2f} on {farthest}, at most {limits[farthest]:.2f} is allowed. "
                "Bring the leader closer to the arm's pose and try again."
            )
        self._was_refused, self._asked_by_key = True, False
        return True

    def _hand_over(self, action: Action) -> Action | None:
        """One tick: the arm waits while a leader with motors is driven to it, then slides to where the leader is."""
        if self._is_driven and not self._is_driving and self._tick == 0 and self._is_too_far(action, self._start):
            self._release(action)  # somebody held it back
            return None
        self._tick += 1
        share = min(1.0, self._tick / self._ticks)
        if self._is_driving:
            begun = self._leader_start
            self._teleop.send_feedback({key: begun[key] * (1 - share) + self._start.get(key, begun[key]) * share for key in action})
            if share >= 1.0:
                self._stop_driving()
                self._tick = 0
            return {key: self._start.get(key, value) for key, value in action.items()}
        if share >= 1.0:
            self._stage = Stage.PERSON
        return {key: self._start.get(key, value) * (1 - share) + value * share for key, value in action.items()}

    def _stop_driving(self) -> None:
        if self._is_driving:
            self._is_driving = False
            self._teleop.disable_torque()

    def _release(self, action: Action | None) -> None:
        self._stop_driving()
        self._stage, self._rest = Stage.POLICY, action
        logging.info("The policy goes on.")

    def _positions(self, action: Action, measured: Mapping[str, float]) -> list[str]:
        """Keys under which the robot measures, or was told, what the teleoperator asks for.

        A gripper alone does not make a leader, nor do velocities.
        """
        told = self.told()
        keys = [key for key in action if key in measured or key in told]
        return keys if any(self.kind(key) is Kind.POSITION for key in keys) else []
