"""The tasks with state observations and a sparse reward: Meta-World's, Push-T, the SO-101's, and ALOHA's."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.envs import make_env
from lerobot.utils.constants import ACTION, OBS_ENV_STATE
from study import aloha_state, metaworld_state, pusht_state, so101_state
from study.run import policy_features
from study.sparse_state import STATE, THINGS, SparseStateConfig, SparseStateEnv

from lerobot_serl.actor.env_world import EnvWorld

pytestmark = pytest.mark.filterwarnings("ignore:Constant")


@dataclass(frozen=True)
class _Case:
    config: Callable[..., SparseStateConfig]
    env: Callable[..., SparseStateEnv]
    record: Callable[..., None]
    sizes: tuple[int, int, int]
    tolerance: float

    def make(self, **settings: int) -> SparseStateEnv:
        return self.env(**self.config(**settings).gym_kwargs)


METAWORLD = _Case(metaworld_state.MetaworldStateEnv, metaworld_state.MetaworldState, metaworld_state.record_expert, (4, 4, 6), 1e-6)
PUSHT = _Case(pusht_state.PushtStateEnv, pusht_state.PushtState, pusht_state.record_expert, (2, 2, 16), 1e-3)

SO101 = _Case(so101_state.So101StateEnv, so101_state.So101State, so101_state.record_expert, (4, 14, 3), 1e-6)

ALOHA = _Case(aloha_state.AlohaTransferStateEnv, aloha_state.AlohaTransferState, aloha_state.record_expert, (14, 14, 7), 1e-6)


@pytest.fixture(params=[METAWORLD, PUSHT, SO101, ALOHA], ids=["metaworld", "pusht", "so101", "aloha"])
def case(request: pytest.FixtureRequest) -> _Case:
    return request.param


def test_a_seed_gives_the_things_their_places(case):
    env = case.make()
    first, again, other = (env.reset(seed=seed)[0][THINGS] for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_an_attempt_ends_after_its_steps_and_the_next_has_as_many(case):
    env = case.make(episode_length=3)
    still = np.zeros(case.sizes[0], np.float32)
    for _ in range(2):
        env.reset(seed=0)
        assert [env.step(still)[1:4] for _ in range(3)] == [(0.0, False, False), (0.0, False, False), (0.0, False, True)]


def test_actions_are_executed_within_their_bounds(case):
    too_far = np.full(case.sizes[0], -2000.0, np.float32)
    too_far[0] = 2000.0
    ends = []
    for action in (too_far, np.clip(too_far, case.make().action_space.low, case.make().action_space.high)):
        env = case.make()
        env.reset(seed=0)
        observation, *_, info = env.step(action)
        assert info["executed_action"].tolist() == [env.action_space.high[0], *env.action_space.low[1:]]
        ends.append(observation[STATE])
    assert np.array_equal(*ends)


@pytest.mark.slow
def test_the_expert_solves_what_is_recorded_and_the_world_fits(tmp_path, case):
    """Recorded actions, played again from the recorded seed's start, succeed: what is recorded is what was executed."""
    config = case.config()
    case.record(config, "local/data", tmp_path / "data", demonstrations=2, seed=7)
    dataset = LeRobotDataset("local/data", root=tmp_path / "data")
    assert dataset.num_episodes == 2
    inputs, outputs = policy_features(dataset.meta)
    assert outputs[ACTION].shape == case.sizes[:1]
    world = EnvWorld(config, inputs, case.sizes[0], seed=7)
    observation = world.reset()
    frames = [frame for frame in (dataset[i] for i in range(len(dataset))) if frame["episode_index"] == 0]
    rewards = []
    for frame in frames:
        np.testing.assert_allclose(observation[OBS_ENV_STATE], frame[OBS_ENV_STATE], atol=case.tolerance)
        result = world.step(frame[ACTION].numpy())
        observation = result.observation
        rewards.append(result.reward)
    assert result.terminated
    assert rewards == [0.0] * (len(frames) - 1) + [1.0]
    world.close()


def test_lerobot_makes_it(case):
    envs = make_env(case.config(), n_envs=1)
    env = next(iter(next(iter(envs.values())).values()))
    observation, _ = env.reset(seed=[1])
    _, state, things = case.sizes
    assert {key: value.shape for key, value in observation.items()} == {STATE: (1, state), THINGS: (1, things)}
    env.close()
