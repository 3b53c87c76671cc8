"""A world in the learner's own process: episodes to learn from, and episodes that only measure.

One process and one thread: a seed fixes a run, and as many runs as there are cores can go side by side.
"""

import time
from collections.abc import Callable

import torch
from lerobot.envs import EnvConfig

from lerobot_serl.actor.chunk import Chunk
from lerobot_serl.actor.env_world import EnvWorld
from lerobot_serl.actor.planned_policy import Choose, PlannedPolicy
from lerobot_serl.actor.practice_policy import PracticePolicy
from lerobot_serl.actor.rollout import Act, Rollout
from lerobot_serl.actor.world import Observation
from lerobot_serl.base.plan_maker import MakePlan, PlanMaker, PlayedDelay
from lerobot_serl.policy.agent import Agent
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.policy.progress import Phase, Progress
from lerobot_serl.replay.episode import ActedAs, Episode

from .results import Row

# Demonstrations, the choice of ACT's checkpoint, evaluations, what is measured beside a study, and training episodes use seeds of their own.
DEMONSTRATION_SEED, SELECTION_SEED, EVALUATION_SEED, CONTROL_SEED, TRAINING_SEED = 1_000, 500_000, 600_000, 700_000, 1_000_000
SEEDS_OF_A_RUN = 100_000


MakeMaker = Callable[[MakePlan], PlanMaker]


class Logbook:
    """Rows of one run.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed, self.training, self.evaluations = seed, list[Row](), list[Row]()
        self._started = time.perf_counter()

    def row(self, recording: Episode, step: int, episode: int) -> Row:
        """The row of an episode."""
        wall_s = round(time.perf_counter() - self._started, 1)
        return Row(
            step,
            episode,
            int(recording.success),
            float(recording.reward.sum()),
            len(recording),
            self.seed,
            wall_s,
            recording.acted_as.value,
        )


class Practice:
    """Source of a learner's episodes: the collecting policy acts whenever the learner needs data.

    Args:
        agent: of the learner, with the weights as they are at the moment.
        progress: of the learner.
        env: world to act in.
        logbook: gets a row for each episode.
        make_maker: where plans are made.
    """

    def __init__(self, agent: Agent, progress: Progress, env: EnvConfig, logbook: Logbook, make_maker: MakeMaker = PlayedDelay) -> None:
        seed = TRAINING_SEED + SEEDS_OF_A_RUN * logbook.seed
        self._logbook, self._progress = logbook, progress
        self._policy = policy = PracticePolicy(agent, torch.Generator().manual_seed(seed), make_maker)
        world = EnvWorld(env, agent.config.input_features or {}, agent.action_dim, seed)
        self._rollout = Rollout(world, policy.act, lambda: policy.begin_episode(progress.phase is Phase.ACTOR), see=policy.see)

    def existing(self) -> None:
        """Every run begins anew."""

    def start(self, frames: int, episodes: int, resumed: bool) -> None:
        """Nothing has to be started."""

    def arrived(self, wait_s: float) -> Episode | None:
        """Runs an episode, if the learner can not go on without one."""
        if not wait_s:
            return None
        recording = self._rollout.run_episode()
        assert recording is not None  # nobody is there to discard it
        self._policy.finished(recording)
        step = self._progress.env_steps + len(recording)
        self._logbook.training.append(self._logbook.row(recording, step, len(self._logbook.training)))
        return recording

    def ingested(self) -> None:
        """Nobody waits for that."""

    after_update = publish = remind = ingested


class Acting:
    """A policy with the plan that it carries out.

    Args:
        choose: what is decided about it.
        make_maker: where plans are made.
    """

    def __init__(self, agent: Agent, choose: Choose, make_maker: MakeMaker = PlayedDelay) -> None:
        self._policy, self._choose = PlannedPolicy(agent, make_maker), choose
        self.begin, self.see = self._policy.begin, self._policy.see

    def __call__(self, observation: Observation) -> Chunk | None:
        return self._policy.decide(self._choose, ActedAs.DEPLOYED)


def deterministic(policy: SerlSacPolicy, make_maker: MakeMaker = PlayedDelay) -> Acting:
    """What the policy does in evaluations."""
    return Acting(policy.agent, policy.agent.propose, make_maker)


def rollout_of(world: EnvWorld, act: Act) -> Rollout:
    """For policies with and without a memory of an episode."""
    return Rollout(world, act, act.begin, see=act.see) if isinstance(act, Acting) else Rollout(world, act)


def evaluate(world: EnvWorld, act: Act, episodes: int) -> list[Episode]:
    """Episodes without learning, in a world that is closed afterwards."""
    try:
        rollout = rollout_of(world, act)
        recordings = [rollout.run_episode() for _ in range(episodes)]
    finally:
        world.close()
    return [recording for recording in recordings if recording is not None]
