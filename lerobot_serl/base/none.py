"""No base policy: the actor's output is the action, as in SERL and RLPD."""

from collections.abc import Mapping

from torch import Tensor

from ..networks.action_normalizer import ActionNormalizer
from .base_policy import BasePolicy, Plan


class NoBase(BasePolicy):
    """The middle of the action box, which is 0 in action units: an edit of scale 1 then reaches the whole box.

    Args:
        box: of actions. It stays its owner's: its tensors are not this module's.
    """

    proposes = False

    def __init__(self, box: ActionNormalizer) -> None:
        super().__init__()
        self._box = (box,)  # a tuple, so that it is not registered twice

    def plan(self, observation: Mapping[str, Tensor], steps: int) -> Plan:
        (box,) = self._box
        n_observations = len(next(iter(observation.values())))
        actions = box.middle.expand(n_observations, steps, -1)
        return Plan(actions, actions.new_zeros(n_observations, 0))
