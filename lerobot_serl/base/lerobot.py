"""Any LeRobot policy with ``predict_action_chunk`` as the base policy. It offers no features: actor and critics see state and their own encoder."""

from collections.abc import Mapping

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies import get_policy_class
from lerobot.utils.constants import OBS_IMAGES, OBS_STATE
from torch import Tensor

from ..lerobot_names import populate_queues
from .base_policy import Plan
from .normalized_policy import NormalizedPolicy
from .plan_noise import PlanNoise, seeds_of


class LerobotBase(NormalizedPolicy):
    """Plans as the policy's own ``select_action`` does, but always the same for an observation: with noise that it decides, and no memory of its own.

    Made as :class:`NormalizedPolicy`, with a configuration as :func:`.policy_config.base_policy_config` returns it.

    Raises:
        ImportError: a package that the policy needs is not installed.
    """

    def _build(self, config: PreTrainedConfig) -> None:
        self.config, self.n_obs_steps = config, config.n_obs_steps
        self.policy = get_policy_class(config.type)(config)
        assert config.action_feature is not None
        self._action_dim = config.action_feature.shape[0]
        self.longest_plan = getattr(config, "n_action_steps", None) or getattr(config, "chunk_size", None)

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        self.policy.load_state_dict(dict(state))

    @torch.no_grad()
    def plan(self, observation: Mapping[str, Tensor], steps: int) -> Plan:
        """The policy's own chunk, from the newest frame on."""
        first = next(iter(observation.values()))
        if first.is_meta:  # only shapes are asked for
            return Plan(first.new_empty(len(first), steps, self._action_dim), first.new_empty(len(first), 0))
        actions = self.unnormalize(self.normalized_plan(observation)[:, :steps])
        return Plan(actions, actions.new_zeros(len(actions), 0))

    def normalized_plan(self, observation: Mapping[str, Tensor]) -> Tensor:
        """What the network says, before it is made raw; in float32."""
        observation = {source: observation[source] for source in self.sources.values()}
        rows = len(next(iter(observation.values())))
        with PlanNoise(rows, seeds_of(observation, self.n_obs_steps)):
            self.policy.reset()
            for frame in self._frames(observation):
                batch = self._prepared(frame)
                if (queues := getattr(self.policy, "_queues", None)) is not None:
                    self.policy._queues = populate_queues(queues, batch)
            planned: Tensor = self.policy.predict_action_chunk(batch).float()
            self.policy.reset()
        return planned

    def _frames(self, observation: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """The observation's frames, oldest first."""
        if self.n_obs_steps == 1:
            return [dict(observation)]
        return [{key: value[:, index] for key, value in observation.items()} for index in range(self.n_obs_steps)]

    def _prepared(self, frame: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One frame as the policy's ``select_action`` keeps it: normalised, its cameras stacked beside them."""
        batch = {key: self.normalize(key, frame[source]) for key, source in self.sources.items()}
        if self.cameras and hasattr(self.policy, "_queues"):
            batch[OBS_IMAGES] = torch.stack([batch[key] for key in self.cameras], dim=-4)
        if OBS_STATE not in batch:  # LeRobot's ACT asks it for its device, also where it takes none
            first = next(iter(batch.values()))
            batch[OBS_STATE] = first.new_zeros(len(first), 0)
        return batch
