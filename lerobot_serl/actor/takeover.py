"""A person takes over with a teleoperator, and gives back, without a jump either way."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from lerobot.teleoperators import Teleoperator

from ..finite import not_finite
from ..key_names import Kind, customary_kind
from ..lerobot_names import teleop_supports_feedback
from .controls import TAKEOVER, Controls
from .faults import MISSING, NUMBER, Watched, error_of
from .reset import AUTO_CROSSING_S
from .robot_io import number
from .settings import TakeoverConfig

Action = dict[str, float]
# Of a joint's demonstrated range.
AUTO_DIFFERENCE = 0.25
# A leader with motors may be so many times as far away, and is driven there; with the automatic difference, a joint's whole range.
DRIVEN_FARTHER = 4.0
# A leader's trigger crosses the gripper's range in no less than this.
TRIGGER_CROSSING_S = 1.0
# Of a gripper's: what a trigger that nobody touches trembles by.
TREMBLE = 0.02


class Stage(Enum):
    """Who moves the robot."""

    POLICY = "policy"
    DRIVE = "drive"
    HANDOVER = "handover"
    PERSON = "person"


@dataclass(frozen=True)
class Moved:
    """What is known of the robot that a person moves; as it is, nothing but what names say.

    Attributes:
        kind: action key -> what it means.
        ranges: action key -> width of its range in the demonstrations; from them come an automatic ``max_difference`` and ``speed``.
        told: action key -> what holds it still, the target that was executed last or 0; without the keys that were told nothing.
    """

    kind: Callable[[str], Kind] = customary_kind
    ranges: Mapping[str, float] = field(default_factory=dict)
    told: Callable[[], Mapping[str, float]] = dict


class Takeover:
    """Who moves the robot, tick by tick.

    A teleoperator whose action keys the robot measures, or takes as positions, under the same names is a leader. On a takeover a leader with
    motors is first driven to the arm at ``speed``, while the arm waits, and then the arm slides to the leader within ``handover_s``. Other
    teleoperators give displacements and need no handover. A leader that is too far away is refused, before it is driven as well as after; a
    takeover that was refused is none.

    The handover begins with what the robot was told last, not with what it measures: under a load that is lower, and the arm would sink.
    A gripper measures wider around an object, and sending that lets go. Beside displacements it stays so until the device's own value
    changes. A device whose feedback is a gripper's key alone is told the target while the policy moves the robot, and is then believed.

    Args:
        teleop: connected.
        controls: keys; also gets the teleoperator's own requests (success, failure, redo).
        settings: of the takeover.
        period_s: of the control loop.
        moved: the robot.
        always: the person moves it from beginning to end, as for demonstrations.

    Attributes:
        count: takeovers since :meth:`begin`; refused ones do not count.
    """

    def __init__(
        self,
        teleop: Teleoperator,
        controls: Controls,
        settings: TakeoverConfig,
        period_s: float,
        moved: Moved = Moved(),
        always: bool = False,
    ) -> None:
        self._teleop: Any = Watched(teleop, "teleoperator")
        self._controls = controls
        self._settings = settings
        self._period_s = period_s
        self._moved = moved
        self._always = always
        self._keys: set[str] = set()
        self._has_events = callable(getattr(teleop, "get_teleop_events", None))
        self._is_driven = teleop_supports_feedback(teleop)
        self._ticks = max(1, round(settings.handover_s / period_s))
        feedback = tuple(teleop.feedback_features)
        self._informed = feedback if not self._is_driven and all(customary_kind(key) is Kind.GRIPPER for key in feedback) else ()
        self._stage = Stage.POLICY
        self.begin()

    def begin(self) -> None:
        """Before an episode: the policy moves the robot."""
        self._stop_driving()
        self._stage = Stage.POLICY
        self._asked_by_key = False
        self._was_refused = False
        self.count = 0
        self._tick = 0
        self._quiet_s = 0.0
        self._rest: Action | None = None
        self._start: Action = {}
        self._leader_target: Action = {}
        self._kept: Action = {}
        self._untouched: Action = {}

    @property
    def stage(self) -> Stage:
        """Who moves the robot now."""
        return self._stage

    @property
    def waits(self) -> bool:
        """Whether the robot only waits, for a leader that is driven to it: what it does then is nobody's wish."""
        return self._stage is Stage.DRIVE

    def poll(self, measured: Mapping[str, float]) -> Action | None:
        """Ask the devices, once a tick.

        Args:
            measured: the robot's numbers.

        Returns:
            What the person, or the handover, wants the robot to do; None when the policy moves it.

        Raises:
            EpisodeSpoilt: the teleoperator does not answer, or answers with something that is not a number.
            WorldError: its class fails otherwise.
        """
        if self._stage is Stage.POLICY and (news := {key: value for key, value in self._moved.told().items() if key in self._informed}):
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
        if self._stage is Stage.DRIVE:
            return self._drive(action)
        if self._stage is Stage.HANDOVER:
            return self._hand_over(action)
        return self._with_kept_grippers(action)

    def _with_kept_grippers(self, action: Action) -> Action:
        for key in list(self._kept):
            if abs(action[key] - self._untouched[key]) > TREMBLE * self._moved.ranges.get(key, 0.0):
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
        asked = self._always or self._asked_by_key or any(value for event, value in events.items() if event.value == "is_intervention")
        if not asked and not self._settings.motion_threshold:
            return False, action
        action = self._action() if action is None else action
        self._check(action)
        return asked or self._moves(action, measured), action

    def _action(self) -> Action:
        given = self._teleop.get_action()
        if not isinstance(given, Mapping):
            raise error_of(MISSING, f"{self._teleop.name}: get_action() returned {given!r}, expected a dictionary")
        return {key: number(value) for key, value in given.items()}

    def _check(self, action: Action) -> None:
        """What is to be sent has numbers for everything that the device has ever given.

        Raises:
            EpisodeSpoilt: an entry is missing, or not a finite number.
        """
        if missing := sorted(self._keys - action.keys()):
            raise error_of(MISSING, f"{self._teleop.name}: get_action() lacks '{missing[0]}', which it gave before")
        self._keys |= action.keys()
        if (bad := not_finite(action)) is not None:
            raise error_of(NUMBER, f"{self._teleop.name}: '{bad}' reads {action[bad]}, expected a finite number")

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
        moves = [abs(value - origin.get(key, 0.0)) for key, value in action.items() if self._moved.kind(key) is not Kind.GRIPPER]
        moved = max(moves, default=0.0) > threshold
        self._quiet_s = 0.0 if moved or self._stage is Stage.DRIVE else self._quiet_s + self._period_s
        if self._stage is Stage.POLICY:
            return moved
        if moved:
            self._rest = dict(action)
        return self._quiet_s < self._settings.release_after_s

    def _engage(self, action: Action, measured: Mapping[str, float]) -> bool:
        self._rest = dict(action)  # after a refusal it takes another motion: the arm must not come to a leader that lies still
        positions = self._positions(action, measured)
        told = {key: value for key, value in self._moved.told().items() if key in action}
        start = {key: measured[key] for key in positions if key in measured} | (told if positions else {})
        is_driven = self._is_driven and bool(positions)
        if is_driven and self._was_refused:
            return False  # it takes another wish: a leader must not set off again and again
        if not self._always and self._is_too_far(action, start, DRIVEN_FARTHER if is_driven else 1.0):
            return False
        self._tick = 0
        self._start = start
        self._quiet_s = 0.0
        grips = {key: value for key, value in told.items() if self._moved.kind(key) is Kind.GRIPPER}
        self._kept = {} if positions else {key: value for key, value in grips.items() if key not in self._informed}
        self._untouched = {key: self._untouched.get(key, action[key]) for key in self._kept}
        if is_driven:
            self._stage, self._leader_target = Stage.DRIVE, dict(action)
            self._teleop.enable_torque()
            logging.info("The leader is driven to the arm, which waits.")
        else:
            self._begin_takeover(Stage.HANDOVER if positions else Stage.PERSON)
        return True

    def _begin_takeover(self, stage: Stage) -> None:
        self._stage = stage
        self.count += 1
        if not self._always:
            logging.info("The person takes over.")

    def _is_too_far(self, action: Action, start: Action, times: float = 1.0) -> bool:
        distances = {key: abs(action[key] - value) for key, value in start.items() if self._moved.kind(key) is Kind.POSITION}
        limits = {
            key: times * (self._settings.max_difference or AUTO_DIFFERENCE * self._moved.ranges.get(key, math.inf)) for key in distances
        }
        farthest = max(distances, key=lambda key: distances[key] / limits[key], default=None)
        if farthest is None or distances[farthest] <= limits[farthest]:
            return False
        if not self._was_refused:
            logging.warning(
                f"Takeover refused: leader and arm differ by {distances[farthest]:.2f} on {farthest}, at most {limits[farthest]:.2f} is allowed. "
                "Bring the leader closer to the arm's pose and try again (--takeover.max_difference)."
            )
        self._was_refused, self._asked_by_key = True, False
        return True

    def _drive(self, action: Action) -> Action | None:
        """One tick: the arm waits while its leader comes, each joint at no more than its speed."""
        if all(self._leader_target[key] == self._start.get(key, value) for key, value in self._leader_target.items()):
            self._stop_driving()
            if self._is_too_far(action, self._start):  # somebody held it back
                self._release(action)
                return None
            self._begin_takeover(Stage.HANDOVER)
            return self._hand_over(action)
        for key, value in self._leader_target.items():
            goal, step = self._start.get(key, value), self._speed(key) * self._period_s
            self._leader_target[key] = min(max(goal, value - step), value + step)
        self._teleop.send_feedback(dict(self._leader_target))
        return {key: self._start.get(key, value) for key, value in action.items()}

    def _speed(self, key: str) -> float:
        """Of a leader's motor. A trigger is light, and must not keep the arm waiting."""
        if self._moved.kind(key) is Kind.GRIPPER:
            return self._moved.ranges.get(key, math.inf) / TRIGGER_CROSSING_S
        return self._settings.speed or self._moved.ranges.get(key, math.inf) / AUTO_CROSSING_S

    def _hand_over(self, action: Action) -> Action:
        """One tick: the arm slides to where the leader is."""
        self._tick += 1
        share = min(1.0, self._tick / self._ticks)
        if share >= 1.0:
            self._stage = Stage.PERSON
        return {key: self._start.get(key, value) * (1 - share) + value * share for key, value in action.items()}

    def _stop_driving(self) -> None:
        if self._stage is Stage.DRIVE:
            self._teleop.disable_torque()
            self._stage = Stage.POLICY

    def _release(self, action: Action | None) -> None:
        self._stop_driving()
        self._stage, self._rest = Stage.POLICY, action
        logging.info("The policy goes on.")

    def _positions(self, action: Action, measured: Mapping[str, float]) -> list[str]:
        """Keys under which the robot measures, or was told, what the teleoperator asks for.

        A gripper alone does not make a leader, nor do velocities.
        """
        told = self._moved.told()
        keys = [key for key in action if key in measured or key in told]
        return keys if any(self._moved.kind(key) is Kind.POSITION for key in keys) else []
