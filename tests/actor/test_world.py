"""LeRobot environments as worlds: the simulated Panda, and a small environment with every way to end."""

import numpy as np
import pytest
import torch
from counter_env import CounterEnv
from lerobot.configs import FeatureType, PolicyFeature

from lerobot_serl.actor.env_world import EnvSettings, EnvWorld
from lerobot_serl.actor.world import WorldError
from lerobot_serl.envs.config_franka_sim import FrankaSimEnv

STATE, ENV_STATE, IMAGE = "observation.state", "observation.environment_state", "observation.image"
FRANKA_INPUTS = {
    STATE: PolicyFeature(type=FeatureType.STATE, shape=(18,)),
    ENV_STATE: PolicyFeature(type=FeatureType.ENV, shape=(3,)),
}
INPUTS = {STATE: PolicyFeature(type=FeatureType.STATE, shape=(2,)), IMAGE: PolicyFeature(type=FeatureType.VISUAL, shape=(3, 6, 5))}


def counter(reward="success", inputs=INPUTS, seed=5, **settings):
    return EnvWorld(CounterEnv(**settings), inputs, 2, seed=seed, reward=reward)


def ends(world, steps, action_dim=2):
    """``(reward, terminated, truncated)`` of each step."""
    world.reset()
    results = [world.step(np.zeros(action_dim, np.float32)) for _ in range(steps)]
    return [(result.reward, result.terminated, result.truncated) for result in results]


@pytest.fixture(scope="module")
def franka():
    world = EnvWorld(FrankaSimEnv(episode_length=4), FRANKA_INPUTS, 4, seed=3)
    yield world
    world.close()
    world.close()  # may be called twice


def test_observations_of_the_simulated_panda(franka):
    observation = franka.reset()
    assert {key: (tuple(value.shape), value.dtype) for key, value in observation.items()} == {
        STATE: ((18,), torch.float32),
        ENV_STATE: ((3,), torch.float32),
    }
    assert all(value.isfinite().all() for value in observation.values())
    assert franka.task == "Pick up the cube and lift it."
    assert franka.simulated


def test_the_executed_action_is_the_one_that_was_executed(franka):
    franka.reset()
    result = franka.step(np.array([3.0, -0.5, -9.0, 0.25]))
    assert result.executed.dtype == np.float32
    assert result.executed.tolist() == [1.0, -0.5, -1.0, 0.25]


def test_joint_targets_are_recorded_after_rate_limiting():
    world = EnvWorld(FrankaSimEnv(control_mode="joint"), FRANKA_INPUTS, 8, seed=0)
    before = world.reset()[STATE][:7].numpy()
    offsets = np.array([1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=np.float32)
    result = world.step(np.append(before + offsets, np.float32(0.0)))
    assert result.executed[:2] - before[:2] == pytest.approx([0.2, -0.2], abs=1e-5)  # 2 rad/s at 10 Hz
    world.close()


def test_staying_stops_displacements_and_keeps_the_gripper(franka):
    """While there is no plan; a step like any other."""
    franka.reset()
    assert franka.stay().executed.tolist() == [0.0] * 4
    franka.step(np.array([0.5, -0.5, 0.3, 0.25]))
    results = [franka.stay() for _ in range(2)]
    assert [result.executed.tolist() for result in results] == [[0.0, 0.0, 0.0, 0.25]] * 2
    assert [result.truncated for result in results] == [False, True]


def test_staying_keeps_the_last_target_of_joints():
    world = EnvWorld(FrankaSimEnv(control_mode="joint"), FRANKA_INPUTS, 8, seed=0)
    before = world.reset()[STATE][:7].numpy()
    target = world.step(np.append(before + 0.05, np.float32(1.0))).executed
    for _ in range(3):
        assert world.stay().executed.tolist() == pytest.approx(target.tolist())
    world.close()


@pytest.mark.parametrize(
    ("names", "kept"), [(("arm.pos", "lift.pos"), [-0.75, 0.25]), (("x.vel", "lift.pos"), [0.0, 0.25]), ((), [-0.75, 0.25])]
)
def test_the_names_of_an_action_say_what_staying_is(names, kept):
    """Those of the demonstrations, where the environment has none; without names, and before an episode's first action."""
    world = EnvWorld(CounterEnv(), INPUTS, 2, seed=0, settings=EnvSettings(action_names=names))
    for _ in range(2):
        world.reset()
        assert world.stay().executed.tolist() == [0.0, 0.0]
        world.step(np.array([-0.75, 0.25]))
        assert world.stay().executed.tolist() == kept


def test_the_panda_reaches_its_time_limit(franka):
    assert ends(franka, 4, action_dim=4) == [(0.0, False, False)] * 3 + [(0.0, False, True)]


def test_seeds_make_episodes_reproducible():
    first = EnvWorld(FrankaSimEnv(), FRANKA_INPUTS, 4, seed=11)
    second = EnvWorld(FrankaSimEnv(), FRANKA_INPUTS, 4, seed=12)
    cubes = [first.reset()[ENV_STATE] for _ in range(3)]
    assert not torch.equal(cubes[0], cubes[1])
    assert torch.equal(cubes[1], second.reset()[ENV_STATE])  # the next seed, not the one after the check at the start
    assert torch.equal(cubes[2], second.reset()[ENV_STATE])
    first.close()
    second.close()


def test_a_missing_observation_is_named():
    inputs = {**FRANKA_INPUTS, "observation.images.front": PolicyFeature(type=FeatureType.VISUAL, shape=(3, 128, 128))}
    with pytest.raises(ValueError, match=r"--env.type=franka_sim: the policy needs 'observation.images.front'") as caught:
        EnvWorld(FrankaSimEnv(), inputs, 4, seed=0)
    assert "--env.obs_type" in str(caught.value)


def test_what_the_environment_does_give_is_listed():
    with pytest.raises(ValueError, match=rf"'observation.force'.*it gives \['{ENV_STATE}', '{STATE}'\]"):
        EnvWorld(FrankaSimEnv(), {"observation.force": PolicyFeature(type=FeatureType.STATE, shape=(1,))}, 4, seed=0)


def test_another_shape_is_named():
    inputs = {STATE: PolicyFeature(type=FeatureType.STATE, shape=(7,))}
    with pytest.raises(ValueError, match=r"'observation.state' has shape \(18,\), the policy expects \(7,\)"):
        EnvWorld(FrankaSimEnv(), inputs, 4, seed=0)


@pytest.mark.parametrize(("mode", "policy_gives", "shape"), [("ee_delta", 8, r"\(4,\)"), ("joint", 4, r"\(8,\)")])
def test_another_action_size_is_named(mode, policy_gives, shape):
    with pytest.raises(ValueError, match=rf"actions have shape {shape}, the policy gives \({policy_gives},\).*control mode"):
        EnvWorld(FrankaSimEnv(control_mode=mode), FRANKA_INPUTS, policy_gives, seed=0)


def test_an_unknown_reward_source_is_refused():
    with pytest.raises(ValueError, match="reward='dense': expected one of success, environment"):
        counter(reward="dense")


def test_success_ends_the_episode_even_if_the_environment_goes_on():
    assert ends(counter(succeed_at=3), 4) == [(0.0, False, False), (0.0, False, False), (1.0, True, False), (1.0, True, False)]


def test_the_environments_own_reward():
    assert ends(counter("environment", succeed_at=2), 2) == [(-0.25, False, False), (2.0, True, False)]
    assert ends(counter("environment", terminate_at=1), 1) == [(-0.25, True, False)]


def test_a_failure_terminates_without_reward():
    assert ends(counter(terminate_at=2), 2) == [(0.0, False, False), (0.0, True, False)]


def test_success_at_the_time_limit_is_a_success():
    assert ends(counter(succeed_at=2, truncate_at=2), 2) == [(0.0, False, False), (1.0, True, False)]
    assert ends(counter(truncate_at=2), 2) == [(0.0, False, False), (0.0, False, True)]


def test_without_a_report_a_rewarded_termination_is_success_if_a_flag_says_so():
    settings = dict(reports_success=False)
    assert ends(counter("termination", succeed_at=2, terminate_at=2, **settings), 2) == [(0.0, False, False), (1.0, True, False)]
    assert ends(counter("termination", succeed_at=1, **settings), 1) == [(0.0, False, False)]
    assert ends(counter("termination", terminate_at=1, **settings), 1) == [(0.0, True, False)]


def test_actions_are_clipped_to_the_space_and_reported_so():
    world = counter()
    world.reset()
    assert world.step(np.array([7.0, -7.0])).executed.tolist() == [0.5, -1.0]
    assert world.step(np.array([0.25, 0.0], np.float64)).executed.dtype == np.float32


def test_images_come_through_lerobots_conversion_unchanged():
    world = counter()
    image = world.reset()[IMAGE]
    assert image.dtype == torch.uint8
    expected = (np.arange(90, dtype=np.uint8) + np.uint8(100)).reshape(6, 5, 3).transpose(2, 0, 1)
    assert np.array_equal(image.numpy(), expected)


def test_earlier_observations_do_not_change_later():
    world = counter(seed=5)
    first = world.reset()
    second = world.step(np.full(2, 0.5, np.float32)).observation
    third = world.step(np.full(2, 0.5, np.float32)).observation
    assert [o[STATE].tolist() for o in (first, second, third)] == [[0, 5], [1, 5.5], [2, 6]]
    assert world.task == "count to three"


def test_pusht_is_a_world_without_any_code_of_ours() -> None:
    """LeRobot's own environment, state observations; it ends by its time limit."""
    from lerobot.envs.configs import PushtEnv

    inputs = {
        "observation.state": PolicyFeature(FeatureType.STATE, (2,)),
        "observation.environment_state": PolicyFeature(FeatureType.ENV, (16,)),
    }
    config = PushtEnv(obs_type="environment_state_agent_pos", episode_length=5)
    world = EnvWorld(config, inputs, action_dim=2, seed=0)
    try:
        observation = world.reset()
        assert {key: tuple(value.shape) for key, value in observation.items()} == {key: ft.shape for key, ft in inputs.items()}
        results = [world.step(np.array([600.0, 250.0], dtype=np.float32)) for _ in range(5)]
    finally:
        world.close()
    assert [result.truncated for result in results] == [False] * 4 + [True]
    assert results[0].executed.tolist() == [512.0, 250.0]  # clipped to the table
    assert all(result.reward == 0.0 and not result.terminated for result in results)


def test_an_environment_is_never_sent_what_is_not_finite():
    world = EnvWorld(FrankaSimEnv(), FRANKA_INPUTS, 4, seed=0)
    world.reset()
    with pytest.raises(WorldError, match=r"the action's entries \[1\] are not finite; it was not sent"):
        world.step(np.array([0.0, np.nan, 0.0, 0.0], dtype=np.float32))
    world.close()
