"""The critics' own image encoder, alone and inside the agent."""

import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.constants import ACTION
from small_data import make_recording

from lerobot_serl import SerlSacConfig
from lerobot_serl.networks.image_encoder import LATENT_SIZE, ImageEncoder
from lerobot_serl.online.best_weights import keep, restore
from lerobot_serl.online.feature_cache import cache_features
from lerobot_serl.online.weights import WeightPublisher
from lerobot_serl.policy.agent import Agent
from lerobot_serl.policy.configuration_serl_sac import ActArchitecture
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.policy.parts import ActorConfig, CriticConfig
from lerobot_serl.replay.memory import ReplayMemory

CAMERA = "observation.images.front"
SHAPE = (3, 32, 40)


@pytest.fixture
def agent():
    torch.manual_seed(0)
    return Agent(config())


def config(**changes):
    small = ActArchitecture(chunk_size=4, dim_model=16, n_heads=2, dim_feedforward=16, n_encoder_layers=1, latent_dim=4)
    values = {
        "input_features": {
            "observation.state": PolicyFeature(type=FeatureType.STATE, shape=(2,)), CAMERA: PolicyFeature(type=FeatureType.VISUAL, shape=SHAPE),
        },
        "output_features": {ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(2,))},
        "device": "cpu", "act": small, "horizon": 3, "features": "cnn", "actor": ActorConfig(hidden_sizes=(16,)),
        "critic": CriticConfig(members=3, hidden_sizes=(16,)),
    }  # fmt: skip
    return SerlSacConfig(**(values | changes))


def observation(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "observation.state": torch.randn(count, 2, generator=generator),
        CAMERA: torch.randint(0, 256, (count, *SHAPE), generator=generator, dtype=torch.uint8),
    }


def filled_memory(agent):
    memory = ReplayMemory(200, horizon=3, discount=0.9)
    memory.add(cache_features(agent, make_recording(12, observation=observation(12), action=torch.rand(12, 2)), batch_size=4))
    return memory


def test_bytes_and_floats_look_the_same():
    encoder = ImageEncoder({CAMERA: SHAPE, "other": (3, 64, 64)})
    images = {CAMERA: observation(5)[CAMERA], "other": torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)}
    seen = encoder(images)
    assert seen.shape == (5, 2 * LATENT_SIZE) == (5, encoder.size)
    torch.testing.assert_close(seen, encoder({key: value.float() / 255 for key, value in images.items()}))


def test_without_cameras_there_is_nothing_to_see():
    blind = config(input_features={"observation.environment_state": PolicyFeature(type=FeatureType.ENV, shape=(2,))})
    with pytest.raises(ValueError, match=r"policy.features='cnn': expected cameras"):
        blind.validate_features()


def test_the_critics_train_the_eyes_and_the_actor_does_not(agent):
    batch = agent.encode_batch(filled_memory(agent).sample(8, torch.Generator()))
    loss, _ = agent.critic_loss(batch)
    loss.backward()
    gradients = [parameter.grad for parameter in agent.encoder.parameters()]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)
    agent.zero_grad()
    batch = agent.encode_batch(filled_memory(agent).sample(8, torch.Generator()))
    torch.nn.init.uniform_(agent.actor.head.weight)
    agent.actor_loss(batch)[0].backward()
    assert all(parameter.grad is None for parameter in [*agent.encoder.parameters(), *agent.critic.parameters()])
    assert all(parameter.grad is not None for parameter in agent.actor.parameters())


def test_the_memory_keeps_images_and_a_batch_shows_the_windows_ends(agent):
    memory = filled_memory(agent)
    assert memory.bytes_per_frame < 3 * 32 * 40 + 200
    batch = memory.sample(32, torch.Generator())
    assert batch.images[CAMERA].shape == batch.next_images[CAMERA].shape == (32, *SHAPE)
    assert batch.images[CAMERA].dtype == torch.uint8
    joined = type(batch).concatenate([batch, batch])
    assert joined.next_images[CAMERA].shape == (64, *SHAPE)


def test_acting_and_learning_see_the_same(agent):
    raw = observation(4)
    as_policy = {key: value.float() / 255 if key == CAMERA else value for key, value in raw.items()}
    features, base = agent.encode(as_policy)
    stored, base_again = agent.cache_features(as_policy)
    assert features.shape == (4, 2 + LATENT_SIZE)
    assert stored.shape == (4, 2)
    assert torch.equal(base, base_again)
    torch.testing.assert_close(features[:, 2:], agent.encoder(raw))


def test_step_0_is_act_and_a_checkpoint_brings_the_eyes_back(tmp_path):
    policy = SerlSacPolicy(config(act_source="somewhere")).eval()
    seen = {key: value.float() / 255 if key == CAMERA else value for key, value in observation(4).items()}
    assert torch.equal(policy.predict_action_chunk(seen), policy.agent.box.unnormalize(policy.agent.cache_features(seen)[1]))
    assert {id(p) for p in policy.agent.encoder.parameters()} <= {id(p) for p in policy.agent.networks.parameters("critic")}
    torch.nn.init.uniform_(policy.agent.actor.head.weight)
    policy.save_pretrained(tmp_path)
    again = SerlSacPolicy.from_pretrained(tmp_path).eval()
    assert torch.equal(again.predict_action_chunk(seen), policy.predict_action_chunk(seen))


def test_new_eyes_travel_to_the_robot_and_come_back_with_the_best_weights(agent):
    names = {name for name in agent.state_dict() if name.startswith("encoder.")}
    publisher = WeightPublisher(agent, config(), fps=10)
    publisher.publish("actor", 1, 1)
    assert names
    assert names <= publisher.wait_for_newer(0, 0).tensors.keys()
    kept = keep(agent, learnt_updates=1)
    before = {name: value.clone() for name, value in agent.encoder.state_dict().items()}
    with torch.no_grad():
        for parameter in agent.encoder.parameters():
            parameter.add_(1.0)
    restore(agent, kept)
    assert all(torch.equal(value, before[name]) for name, value in agent.encoder.state_dict().items())
