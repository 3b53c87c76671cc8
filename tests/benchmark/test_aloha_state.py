"""Two arms that hand a cube over, for the learning benchmarks: gym-aloha's task without pictures, and its expert."""

import warnings

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.utils.constants import ACTION, OBS_ENV_STATE, OBS_STATE
from study.aloha_expert import CLOSED, LEFT, OPEN, Arm, Expert, Waypoint, plan
from study.aloha_state import AlohaTransferState, AlohaTransferStateEnv, record_expert
from study.sparse_state import STATE, THINGS
from study.tasks import TASKS

# How far a gripper is open when its fingers just touch the cube.
TOUCHING = 0.55


def attempt(env, seed):
    """Observations, actions, rewards and the last step's ends of the expert's attempt."""
    observation, _ = env.reset(seed=seed)
    expert, seen, actions, rewards, done = Expert(env, seed), [observation], [], [], False
    while not done:
        actions.append(expert.act())
        observation, reward, terminated, truncated, info = env.step(actions[-1])
        assert info["is_success"] == terminated
        seen.append(observation)
        rewards.append(reward)
        done = terminated or truncated
    return seen, actions, rewards, terminated


@pytest.fixture
def theirs():
    """gym-aloha's physics and task, without its pictures."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of glfw: no display
        from dm_control import mujoco
        from dm_control.rl import control
    from gym_aloha.constants import ASSETS_DIR, DT
    from gym_aloha.tasks.sim import TransferCubeTask

    class WithoutPictures(TransferCubeTask):
        def get_observation(self, physics):
            return {"joints": self.get_qpos(physics), "cube": self.get_env_state(physics)}

    physics = mujoco.Physics.from_xml_path(str(ASSETS_DIR / "bimanual_viperx_transfer_cube.xml"))
    return control.Environment(physics, WithoutPictures(), control_timestep=DT)


def test_an_episode_is_gym_alohas_own(theirs, monkeypatch):
    from gym_aloha.tasks import sim

    env = AlohaTransferState()
    seen, actions, rewards, _ = attempt(env, seed=1)
    env.reset(seed=1)
    monkeypatch.setattr(sim, "BOX_POSE", [env.cube])
    steps = [theirs.reset(), *(theirs.step(np.clip(action, env.action_space.low, env.action_space.high)) for action in actions)]
    for ours, step in zip(seen, steps, strict=True):
        np.testing.assert_allclose(ours[STATE], step.observation["joints"], atol=1e-5)
        np.testing.assert_allclose(ours[THINGS], step.observation["cube"], atol=1e-5)
    own = [step.reward for step in steps[1:]]
    assert rewards == [float(reward == 4) for reward in own]
    assert {0, 2, 4} <= set(own)


def test_success_is_gym_alohas_reward_of_the_same_state(theirs):
    """The left hand touches the cube on the table, which is no success, then grips and lifts it, which is one."""
    env = AlohaTransferState()
    env.reset(seed=0)
    place, arm, still = np.array([-0.1, 0.5, 0.02]), Arm(env, LEFT), env.joints[7:]
    low, high = (arm.solve(Waypoint(0, place + np.array([0, 0, up]), 1.2, 0.0, OPEN), env.joints[:6]) for up in (0.01, 0.1))
    env.data.qpos[:8], env.data.qpos[16:19] = [*low, 0.056, -0.056], place
    own_rewards, terminated = [], False
    while not terminated and len(own_rewards) < 200:
        hand = [*low, TOUCHING] if len(own_rewards) < 50 else [*high, CLOSED]
        _, reward, terminated, *_ = env.step(np.concatenate([hand, still]))
        theirs.physics.set_state(np.concatenate([env.data.qpos, env.data.qvel]))
        theirs.physics.forward()
        own_rewards.append(theirs.task.get_reward(theirs.physics))
        assert (reward, terminated) == (float(own_rewards[-1] == 4), own_rewards[-1] == 4)
    assert 3 in own_rewards
    assert own_rewards[-1] == 4


def test_the_cube_begins_where_gym_aloha_puts_it():
    env = AlohaTransferState()
    starts = np.array([env.reset(seed=seed)[0][THINGS] for seed in range(50)])
    low, high = starts.min(axis=0), starts.max(axis=0)
    assert (low[:2] >= [0.0, 0.4]).all()
    assert (high[:2] <= [0.2, 0.6]).all()
    assert (high - low)[:2].min() > 0.15
    assert (starts[:, 2:] == np.float32([0.05, 1, 0, 0, 0])).all()


def test_a_seed_fixes_an_episode_whatever_was_before_it():
    env = AlohaTransferState()
    first, *_ = attempt(env, 1)
    attempt(env, 2)
    again, *_ = attempt(env, 1)
    assert len(first) == len(again)
    for one, other in zip(first, again, strict=True):
        assert all(np.array_equal(one[key], other[key]) for key in (STATE, THINGS))


def test_grippers_are_shares_of_their_opening_and_mirror_each_other():
    env = AlohaTransferState()
    observation, _ = env.reset(seed=0)
    wanted = observation[STATE].copy()
    wanted[[6, 13]] = 0.9, 0.3
    for _ in range(50):
        observation, *_ = env.step(wanted)
    np.testing.assert_allclose(observation[STATE][[6, 13]], [0.9, 0.3], atol=0.01)
    np.testing.assert_allclose(env.data.qpos[[7, 15]], -env.data.qpos[[6, 14]], atol=1e-3)


@pytest.mark.slow
def test_the_expert_hands_the_cube_over_from_wherever_it_begins():
    env, solved, lengths = AlohaTransferState(), 0, []
    for seed in range(1000, 1020):
        _, _, rewards, success = attempt(env, seed)
        solved += success
        lengths.append(len(rewards))
    assert solved >= 19
    assert max(lengths) - min(lengths) > 20


def test_no_two_attempts_at_the_same_place_are_alike():
    cube = np.array([0.1, 0.5, 0.02])
    (_, one), (_, again), (_, other) = (plan(cube, np.random.default_rng(seed)) for seed in (0, 0, 1))
    steps, places = (
        [np.array([getattr(waypoint, name) for waypoint in hand]) for hand in (one, again, other)] for name in ("step", "place")
    )
    for values in (steps, places):
        assert np.array_equal(values[0], values[1])
        assert np.abs(values[0] - values[2]).max() > 1e-3
    assert np.linalg.norm(places[0][1] - [0.1, 0.5, 0.02]) < 0.01


def test_a_place_out_of_reach_is_an_error():
    env = AlohaTransferState()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="is out of reach, by"):
        Arm(env, LEFT).solve(Waypoint(0, np.array([1.0, 0.5, 0.2]), 0.0, 0.0, OPEN), env.joints[:6])


def test_what_is_recorded_has_names_and_ends_with_success(tmp_path):
    record_expert(AlohaTransferStateEnv(), "local/data", tmp_path / "data", demonstrations=1, seed=7)
    dataset = LeRobotDataset("local/data", root=tmp_path / "data")
    features = dataset.meta.features
    assert dataset.fps == 50
    assert features[ACTION]["names"] == features[OBS_STATE]["names"]
    assert features[ACTION]["names"][6:8] == ["left_arm_gripper", "right_arm_waist"]
    assert features[OBS_ENV_STATE]["names"] == ["cube.x", "cube.y", "cube.z", "cube.qw", "cube.qx", "cube.qy", "cube.qz"]
    successes = [bool(dataset[index]["next.success"]) for index in range(len(dataset))]
    assert successes == [False] * (len(dataset) - 1) + [True]


def test_act_is_trained_as_its_owners_run_it():
    flags = TASKS["aloha_transfer"].act_flags
    assert {"--policy.chunk_size=100", "--policy.n_action_steps=100"} <= set(flags)


def test_a_cube_that_fell_off_the_table_is_not_far_away():
    env = AlohaTransferState()
    env.reset(seed=0)
    env.data.qpos[16:19] = (0.3, 5.0, -100.0)
    assert env._observe()[THINGS][:3].tolist() == pytest.approx([0.3, 1.0, -1.0])
