"""What is sent while a robot should not move: at an episode's end, in pauses, after faults, before a takeover, at the end."""

from collections.abc import Mapping

from .key_kinds import KeyKinds


class Stillness:
    """Remembers what the robot was told.

    Velocities and displacements stand still at 0. Everything else keeps the target that was executed last: the measured value is below it where
    the arm carries a load, and sending that would lower the arm by its servo error at each hold. The measured value counts only while nothing was
    executed, and a key without one was sent nothing: then nothing is known of it, least of all that 0 is still.

    Args:
        kinds: of the action's entries; kept under that name.
        keys: of the action.
    """

    def __init__(self, kinds: KeyKinds, keys: tuple[str, ...]) -> None:
        self.kinds = kinds
        self._zeros = kinds.zeros
        self._kept = [key for key in keys if key not in self._zeros]
        self._targets: dict[str, float] = {}
        self._sent: Mapping[str, float] = {}
        self._rests = False

    def sends(self, action: Mapping[str, float]) -> None:
        """This is about to be sent; whether it will be executed, nobody knows yet."""
        self._sent, self._rests = dict(action), False

    def executed(self, action: Mapping[str, float]) -> None:
        """This is what the robot says that it carries out."""
        self._targets = {key: action[key] for key in self._kept}

    def forget(self) -> None:
        """The robot moves by itself: what it was told before must not bring it back there."""
        self._targets = {}
        self._sent = {}
        self._rests = False

    def rests(self) -> None:
        """It has come where it wanted, and keeps its own targets: measured values in their place would lower it."""
        self._rests = True

    @property
    def told(self) -> dict[str, float]:
        """Where everything stands still that was told something; a takeover starts from there."""
        return {**self._targets, **self._zeros}

    def targets(self, measured: Mapping[str, float], leaving: bool = False) -> dict[str, float]:
        """The whole action that holds still, or nothing while a key is unknown: robots take what is missing for 0, or refuse.

        Called again, it is the same: an arm that gives way under its load must not be followed down.

        Args:
            measured: the robot's numbers.
            leaving: also a robot that rests by itself gets targets: it may only have said so.
        """
        if self._rests and not leaving:
            return {}
        known = {**self._sent, **measured, **self._targets}
        if any(key not in known for key in self._kept):
            return {}
        self._targets = {key: known[key] for key in self._kept}
        return self.told
