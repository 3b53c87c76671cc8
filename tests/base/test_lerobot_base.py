"""LeRobot's Diffusion Policy, and any other policy that plans chunks, as the base policy: step 0 is its own chunk."""

import json

import pytest
import torch
from act_checkpoints import random_observations, save_act, small_act_config
from diffusion_checkpoints import own_diffusion, save_diffusion, small_diffusion_config
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.policies.factory import make_policy
from owned_act import REPO, own_dataset
from small_data import make_recording

from lerobot_serl.base.plan_noise import PlanNoise, seeds_of
from lerobot_serl.online.feature_cache import cache_features
from lerobot_serl.policy.configuration_serl_sac import SerlSacConfig
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy

pytest.importorskip("diffusers", reason="lerobot[diffusion] is not installed")

FRAMES = 21


def based_on(path, **settings):
    """A new policy without a dataset: its box is of the base policy's own statistics."""
    config = SerlSacConfig(base_path=str(path), device="cpu", push_to_hub=False, **{"horizon": 8, **settings})
    return SerlSacPolicy(config).eval()


def spans(policy):
    return 2 * policy.agent.box.half_width


def episode_of(config, seed=3):
    """Raw observations of one episode, a frame after the other."""
    observations = random_observations(config, FRAMES, seed)
    return [{key: value[t : t + 1] for key, value in observations.items()} for t in range(FRAMES)]


def stock_actions(policy, before, after, frames):
    """LeRobot's own ``select_action``, with the noise that belongs to the observation in each plan."""
    policy.reset()
    actions = []
    for frame in frames:
        torch.manual_seed((seeds_of(frame, 1) or [0])[0])  # the only numbers that are drawn are the plan's
        actions.append(after(policy.select_action(before(dict(frame)))))
    return torch.cat(actions)


@pytest.mark.parametrize(
    "changes", [{}, {"noise_scheduler_type": "DDIM", "num_inference_steps": 3}, {"n_obs_steps": 1}, {"n_obs_steps": 3, "n_action_steps": 1}]
)
def test_step_zero_is_the_diffusion_policy_over_an_episode(tmp_path, changes):
    """DDPM draws noise in every denoising step too; two, one and three frames of history, the first of them repeated at the start."""
    config = small_diffusion_config(**changes)
    stock = save_diffusion(tmp_path / "dp", config)
    policy = based_on(tmp_path / "dp", horizon=config.n_action_steps)
    frames = episode_of(config)[: FRAMES if config.n_action_steps > 1 else 5]
    expected = stock_actions(*stock, frames)
    for _ in range(2):  # a second episode does not remember the first
        policy.reset()
        actions = torch.cat([policy.select_action(dict(frame)) for frame in frames])
        assert ((actions - expected).abs() / spans(policy)).max() < 1e-5
    assert expected.std() > 0


def test_step_zero_is_what_its_noise_argument_gives(tmp_path):
    config = small_diffusion_config(noise_scheduler_type="DDIM", num_inference_steps=4)
    stock, before, after = save_diffusion(tmp_path, config)
    policy = based_on(tmp_path)
    frame = episode_of(config)[0]
    noise = torch.randn(1, config.horizon, 4, generator=torch.Generator().manual_seed(seeds_of(frame, 1)[0]))
    batch = {key: torch.stack([value, value], dim=1) for key, value in before(dict(frame)).items() if isinstance(value, torch.Tensor)}
    expected = after(stock.predict_action_chunk(batch, noise=noise))
    assert ((policy.predict_action_chunk(frame) - expected).abs() / spans(policy)).max() < 1e-5


@pytest.mark.parametrize("cameras", [0, 2])
def test_saved_and_loaded_it_acts_the_same(tmp_path, cameras):
    """The checkpoint is complete: the base policy's own directory is gone."""
    config = small_diffusion_config(cameras=cameras)
    save_diffusion(tmp_path / "dp", config)
    policy = based_on(tmp_path / "dp")
    frames = episode_of(config)[:10]
    before = [policy.select_action(dict(frame)) for frame in frames]
    policy.save_pretrained(tmp_path / "ours")
    (tmp_path / "dp").rename(tmp_path / "gone")
    loaded = SerlSacPolicy.from_pretrained(tmp_path / "ours")
    assert (loaded.config.base, loaded.config.base_path, loaded.config.act_source) == ("lerobot", None, str(tmp_path / "dp"))
    assert (loaded.agent.encoder is None) == (cameras == 0)
    for value, frame in zip(before, frames, strict=True):
        assert torch.equal(value, loaded.select_action(dict(frame)))


def test_recorded_frames_get_the_chunks_that_were_acted(tmp_path):
    """Annotation in batches, with the history of the recording, is what :meth:`select_action` planned frame by frame."""
    config = small_diffusion_config()
    save_diffusion(tmp_path, config)
    policy = based_on(tmp_path)
    observations = {key: value for key, value in random_observations(config, FRAMES, 5).items()}
    recording = make_recording(FRAMES, observation=observations, action=torch.zeros(FRAMES, 4))
    for batch_size in (1, 5, FRAMES):
        base = cache_features(policy.agent, recording, batch_size).cached["base"]
        for t in range(FRAMES):
            history = {key: value[[max(0, t - 1), t]].unsqueeze(0) for key, value in observations.items()}
            acted = policy.agent.encode(history)[1][0]
            assert (base[t] - acted).abs().max() < 1e-4, (batch_size, t)  # other noise makes a difference of 1


def test_act_through_the_generic_door_is_act(tmp_path):
    for cameras in (0, 2):
        config = small_act_config(cameras)
        save_act(tmp_path / str(cameras), config)
        one = SerlSacPolicy(SerlSacConfig(act_path=str(tmp_path / str(cameras)), device="cpu", push_to_hub=False)).eval()
        two = based_on(tmp_path / str(cameras), horizon=10)
        observations = random_observations(config, 6)
        difference = one.predict_action_chunk(observations) - two.predict_action_chunk(observations)
        assert (difference.abs() / spans(one)).max() < 1e-5
        assert torch.equal(one.agent.box.half_width, two.agent.box.half_width)


def test_a_checkpoint_from_before_there_was_a_choice_has_act_in_it(tmp_path):
    config = small_act_config(0)
    save_act(tmp_path / "act", config)
    policy = SerlSacPolicy(SerlSacConfig(act_path=str(tmp_path / "act"), device="cpu", push_to_hub=False)).eval()
    policy.save_pretrained(tmp_path / "ours")
    path = tmp_path / "ours" / "config.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in document.items() if key not in ("base", "base_path", "lerobot")}))
    loaded = SerlSacPolicy.from_pretrained(tmp_path / "ours")
    assert loaded.config.base == "act"
    observations = random_observations(config, 3)
    assert torch.equal(loaded.predict_action_chunk(observations), policy.predict_action_chunk(observations))


def test_begins_as_its_owner_runs_it_measured_on_the_dataset(tmp_path, caplog):
    own_dataset(tmp_path / "data")
    own_diffusion(tmp_path / "dp", REPO, tmp_path / "data")
    config = SerlSacConfig(base_path=str(tmp_path / "dp"), device="cpu", push_to_hub=False, horizon=8)
    with caplog.at_level("INFO"):
        make_policy(config, ds_meta=LeRobotDatasetMetadata(REPO, root=tmp_path / "data"))
    assert "Step 0 is diffusion: on " in caplog.text


def test_noise_is_that_of_the_rows_seed_in_each_call():
    def drawn(seeds):
        rows = len(seeds)
        with PlanNoise(rows, seeds):
            return torch.randn(rows, 3), torch.rand((rows, 2)), torch.randn_like(torch.zeros(rows, 4)), torch.randn(size=(rows, 2))

    def expected(seed):
        torch.manual_seed(seed)
        return torch.randn(1, 3), torch.rand(1, 2), torch.randn(1, 4), torch.randn(1, 2)

    for seeds in ([5], [7, 5, 7, 2**55]):
        wanted = [torch.cat(parts) for parts in zip(*map(expected, seeds), strict=True)]
        for value, want in zip(drawn(seeds), wanted, strict=True):
            assert torch.equal(value, want)
    assert drawn([1, 2])[0].is_contiguous()
    with PlanNoise(3, None):
        assert torch.equal(torch.randn(3, 2), torch.zeros(3, 2))


def test_the_newest_vectors_decide_the_noise_whatever_their_names_and_whatever_is_beside_them():
    generator = torch.Generator().manual_seed(0)
    state, cube = torch.randn(4, 2, 3, generator=generator), torch.randn(4, 2, 5, generator=generator)
    seeds = seeds_of({"state": state, "cube": cube, "camera": torch.rand(4, 2, 3, 8, 8)}, 2)
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds == seeds_of({"a": cube.double().flip(1).flip(1), "z": state}, 2)
    assert seeds == seeds_of({"state": state[:, -1], "cube": cube[:, -1]}, 1)  # the frames before do not count
    assert [seeds_of({"state": state[row : row + 1, -1], "cube": cube[row : row + 1, -1]}, 1)[0] for row in range(4)] == seeds
    assert len(set(seeds_of({"state": state, "again": state}, 2))) == 4
    other = state.clone()
    other[2, 1, 0] += 1e-6
    assert [one == two for one, two in zip(seeds, seeds_of({"state": other, "cube": cube}, 2), strict=True)] == [True, True, False, True]
    assert seeds_of({"state": torch.tensor([[0.0, 1.0]])}, 1) == seeds_of({"state": torch.tensor([[-0.0, 1.0]])}, 1)
    assert seeds_of({"camera": torch.rand(2, 3, 8, 8), "nothing": torch.zeros(2, 0)}, 1) is None


def test_another_observation_has_another_noise_and_the_same_one_the_same(tmp_path):
    """One noise for all plans is a policy that no owner runs: of the same policy 1 of 30 attempts succeeded with it, and 22 with noise drawn anew."""
    config = small_diffusion_config()
    save_diffusion(tmp_path / "dp", config)
    policy, frame = based_on(tmp_path / "dp"), episode_of(config)[0]
    nearby = {key: value + 1e-6 for key, value in frame.items()}
    policy.reset()
    plan = policy.predict_action_chunk(frame)
    policy.reset()
    assert torch.equal(policy.predict_action_chunk(frame), plan)
    policy.reset()
    assert ((policy.predict_action_chunk(nearby) - plan).abs() / spans(policy)).max() > 0.01
