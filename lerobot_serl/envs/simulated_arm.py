"""What a scripted person sees and does at a simulated arm, and how it finds one in its own process."""

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .panda_scene import PandaScene


class SimulatedArm(Protocol):
    """One arm at one cube, be it a robot or an environment."""

    @property
    def id(self) -> str | None:
        """Its name; None if it has none."""

    @property
    def is_connected(self) -> bool:
        """Whether it can be used now."""

    @property
    def control_mode(self) -> str:
        """`joint` or `ee_delta`."""

    @property
    def fps(self) -> int:
        """Control frequency in Hz."""

    @property
    def action_keys(self) -> tuple[str, ...]:
        """Names of an action's entries, in order."""

    @property
    def scene(self) -> "PandaScene":
        """The physics."""

    @property
    def success(self) -> bool:
        """Whether the cube is lifted and held now."""

    @property
    def attempt_time_s(self) -> float:
        """Simulated seconds since the attempt began."""

    @property
    def n_attempts_begun(self) -> int:
        """Attempts so far, the present one included."""

    def privileged_observation(self) -> dict[str, NDArray[np.float32]]:
        """Return "agent_pos" (18,) and "environment_state" (3,)."""

    def executable_action(self, action: Mapping[str, Any]) -> dict[str, float]:
        """Return what would be carried out now if this action, with `action_keys`, were asked for."""


class Findable(Protocol):
    """What can be looked up."""

    @property
    def id(self) -> str | None:
        """Its name; None if it has none."""

    @property
    def is_connected(self) -> bool:
        """Whether it can be used now."""


class Registry[T: Findable]:
    """The live objects of one kind in this process; it keeps none of them alive.

    Args:
        kind: what they are, for messages.
        remedy: how to have one, for messages.
    """

    def __init__(self, kind: str, remedy: str) -> None:
        self._kind, self._remedy = kind, remedy
        self._members: weakref.WeakSet[T] = weakref.WeakSet()

    def add(self, member: T) -> None:
        """Let `member` be found for as long as it lives."""
        self._members.add(member)

    def find(self, member_id: str | None) -> T:
        """Return the one that matches.

        Args:
            member_id: its id; None accepts any, and prefers one that is connected.

        Raises:
            LookupError: there is none, or several match.
        """
        found = [member for member in self._members if member_id is None or member.id == member_id]
        found = [member for member in found if member.is_connected] or found
        if len(found) == 1:
            return found[0]
        if found:
            raise LookupError(f"{len(found)} {self._kind}s match; give robots different --robot.id and name one with --teleop.robot_id")
        wanted = f"no {self._kind}" if member_id is None else f"no {self._kind} with the id {member_id!r}"
        ids = sorted(str(member.id) for member in self._members)
        raise LookupError(f"there is {wanted} in this process (ids here: {ids}); use it together with {self._remedy}")


simulated_arms: Registry[SimulatedArm] = Registry("simulated robot", "--robot.type=franka_sim or --env.type=franka_sim")
