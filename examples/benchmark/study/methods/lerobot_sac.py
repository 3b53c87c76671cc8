"""LeRobot's own SAC: `gaussian_actor`, its algorithm, its replay buffers and its mixture of demonstrations.

Everything has LeRobot's defaults. What it needs beyond them to run on these tasks at all, or what is kinder to it than its own programs:

- A temperature of 0.01 at the beginning, as LeRobot's guide to HIL-SERL advises. With the default, 1.0, the critics learn entropy: in 30,000 steps
  on five tasks it has not come off the ground (variant `lerobot_sac_defaults`).
- The dataset's statistics for the observations, which LeRobot's processor would apply; the same numbers are applied here, but an entry that never
  changes in the demonstrations (a puck's height) is only shifted, where LeRobot's divides by 1e-8 what is seen of it later.
- Actions in the buffers in the units of the actor, [-1, 1] over the demonstrations' range and a margin. LeRobot stores them in raw units, while
  its critics get the actor's actions in [-1, 1]; with other ranges than exactly that nothing can be learnt.
- A batch of 256, half of it from the demonstrations, as in LeRobot's examples (its general default is 8).
- One training step per environment step. LeRobot's learner makes as many as it can.
- Evaluation with the mean action. LeRobot's `select_action` always samples.
"""

from dataclasses import replace

import numpy as np
import torch
from lerobot.configs import PolicyFeature
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.gaussian_actor.configuration_gaussian_actor import GaussianActorConfig
from lerobot.policies.gaussian_actor.modeling_gaussian_actor import GaussianActorPolicy
from lerobot.rl.algorithms.sac.configuration_sac import SACAlgorithmConfig
from lerobot.rl.algorithms.sac.sac_algorithm import SACAlgorithm
from lerobot.rl.buffer import ReplayBuffer
from lerobot.rl.data_sources.data_mixer import OnlineOfflineMixer
from lerobot.utils.constants import ACTION
from torch import Tensor

from lerobot_serl.actor.chunk import Chunk
from lerobot_serl.actor.rollout import Act, Rollout
from lerobot_serl.actor.world import Observation
from lerobot_serl.networks.action_normalizer import ActionNormalizer
from lerobot_serl.policy.configuration_serl_sac import SerlSacConfig
from lerobot_serl.replay.demonstrations import EpisodeReader
from lerobot_serl.replay.episode import Episode

from ..practice import SEEDS_OF_A_RUN, TRAINING_SEED
from ..run import Run, policy_features

BATCH_SIZE, ONLINE_RATIO = 256, 0.5
# Of `SACAlgorithmConfig`; a plan's `policy` may set others.
SETTINGS = {"temperature_init": 0.01}


class LeRobotSac:
    """LeRobot's parts, put together as its learner does.

    Args:
        run: whose demonstrations are taken.
        num_critics, latent_dim: instead of LeRobot's defaults, for comparisons of speed.
    """

    def __init__(self, run: Run, num_critics: int = SACAlgorithmConfig.num_critics, latent_dim: int | None = None) -> None:
        torch.manual_seed(run.seed)
        meta = run.base.meta
        self.inputs, outputs = policy_features(meta)
        self.action_dim = outputs[ACTION].shape[0]
        ours = SerlSacConfig()
        self.box = ActionNormalizer(self.action_dim)
        self.box.set_from_range(
            torch.as_tensor(meta.stats[ACTION]["min"]).flatten(), torch.as_tensor(meta.stats[ACTION]["max"]).flatten(),
            ours.action_margin,
        )  # fmt: skip
        self._low = {key: torch.as_tensor(meta.stats[key]["min"]).float() for key in self.inputs}
        ranges = {key: torch.as_tensor(meta.stats[key]["max"]).float() - self._low[key] for key in self.inputs}
        self._range = {key: torch.where(value > 0, value, 2.0) for key, value in ranges.items()}
        config = GaussianActorConfig(input_features=self.inputs, output_features=outputs, device="cpu", push_to_hub=False)
        config.latent_dim = latent_dim or config.latent_dim
        self.start = config.online_step_before_learning
        self.policy = GaussianActorPolicy(config)
        settings = replace(SACAlgorithmConfig.from_policy_config(config), **{"num_critics": num_critics, **SETTINGS, **run.variant.policy})
        self.algorithm = SACAlgorithm(self.policy, settings)
        self.algorithm.make_optimizers_and_scheduler()
        self.online = self._buffer(config.online_buffer_capacity)
        offline = self._buffer(config.offline_buffer_capacity)
        reader = EpisodeReader(LeRobotDataset(meta.repo_id, root=meta.root), list(self.inputs))
        self.demonstrated = [reader.read(index) for index in range(len(reader))]
        for recording in self.demonstrated:
            self.add(recording, offline)
        self._batches = iter(lambda: OnlineOfflineMixer(self.online, offline, ONLINE_RATIO).sample(BATCH_SIZE), None)

    def add(self, recording: Episode, buffer: ReplayBuffer | None = None) -> None:
        """Put an episode into the online buffer, or another."""
        states = [self._state({key: value[i] for key, value in recording.observation.items()}) for i in range(len(recording))]
        actions = self.box.normalize(recording.action).clamp(-1.0, 1.0)
        for i in range(len(recording)):
            last = i == len(recording) - 1
            (self.online if buffer is None else buffer).add(
                states[i], actions[i : i + 1], float(recording.reward[i]), states[min(i + 1, len(recording) - 1)],
                done=last and recording.terminated, truncated=last and recording.truncated,
            )  # fmt: skip

    def update(self) -> None:
        """One training step."""
        self.algorithm.update(self._batches)

    def act(self, sampled: bool) -> Act:
        """One action at a time; the actor's sample or its mean."""

        @torch.no_grad()
        def act(observation: Observation) -> Chunk:
            action, _, mean = self.policy.actor(self._state(observation))
            return Chunk(self.box.unnormalize(action if sampled else mean.tanh()).numpy().astype(np.float32), choice=0, edit_rms=0.0)

        return act

    def _state(self, observation: Observation) -> dict[str, Tensor]:
        """What LeRobot's MIN_MAX normalisation makes of an observation, with a batch dimension."""
        return {key: (2 * (value - self._low[key]) / self._range[key] - 1).unsqueeze(0) for key, value in observation.items()}

    def _buffer(self, capacity: int) -> ReplayBuffer:
        return ReplayBuffer(capacity, device="cpu", state_keys=list(self.inputs), use_drq=False, optimize_memory=True)


def lerobot_sac(run: Run) -> None:
    """Collect with the sampling actor, one training step per environment step."""
    learner = LeRobotSac(run)
    inputs: dict[str, PolicyFeature] = learner.inputs
    run.evaluate(learner.act(sampled=False), inputs, learner.action_dim, 0)
    world = run.base.world(inputs, learner.action_dim, TRAINING_SEED + SEEDS_OF_A_RUN * run.seed)
    rollout, step = Rollout(world, learner.act(sampled=True)), 0
    while step < run.plan.env_steps:
        recording = rollout.run_episode()
        assert recording is not None
        step += len(recording)
        learner.add(recording)
        run.logbook.training.append(run.logbook.row(recording, step, len(run.logbook.training)))
        for _ in range(len(recording) if step >= learner.start else 0):
            learner.update()
        if run.due(step) or step >= run.plan.env_steps:
            run.evaluate(learner.act(sampled=False), inputs, learner.action_dim, step)
    world.close()
