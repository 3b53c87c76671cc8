"""A scripted expert, given as `module:function`, as what moves an environment.

The function gets the environment when an attempt has begun, and returns what acts in that attempt: observation -> action. An example is in
docs/data.md.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..actor.chunk import Chunk
from ..actor.env_world import EnvWorld
from ..actor.said import place_of, quoted
from ..actor.world import Observation, WorldError

NewExpert = Callable[[Any], Callable[[Any], Any]]
MOST_STEPS = 10_000


class Expert:
    """Asked once a step, with the environment's own observation.

    Args:
        name: for messages.
        new: makes the expert of one attempt.
        world: where it acts.
    """

    def __init__(self, name: str, new: NewExpert, world: EnvWorld) -> None:
        self._name = name
        self._new = new
        self._world = world
        self.begin()

    def begin(self) -> None:
        """Before an attempt."""
        self._act: Callable[[Any], Any] | None = None
        self._steps = 0

    def act(self, observation: Observation) -> Chunk:
        """The next action.

        Raises:
            WorldError: the expert fails, or gives something that is no action.
        """
        if self._act is None:
            self._act = self._made()
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise WorldError(
                f"An attempt has not ended after {MOST_STEPS} steps. Give the environment a time limit, such as --env.episode_length."
            )
        given = self._called(self._act, self._world.raw)
        try:
            action = np.asarray(given, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise WorldError(f"{self._name} gave {_short(given)}, expected {self._world.action_dim} numbers.") from error
        if action.shape != (self._world.action_dim,):
            raise WorldError(f"{self._name} gave {_short(given)} of shape {action.shape}, expected ({self._world.action_dim},).")
        return Chunk(action[None], choice=0, edit_rms=0.0)

    def _made(self) -> Callable[[Any], Any]:
        act = self._called(self._new, self._world.env)
        if not callable(act):
            raise WorldError(f"{self._name} returned {_short(act)} for an environment, expected a function: observation -> action.")
        return act

    def _called(self, function: Callable[[Any], Any], argument: Any) -> Any:
        try:
            return function(argument)
        except Exception as error:  # of whatever kind: it is other people's code
            raise WorldError(f"{self._name} failed: {quoted(error)} ({place_of(error)})") from error


def _short(value: Any) -> str:
    return " ".join(repr(value).split())[:80]
