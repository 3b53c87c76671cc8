"""policy.image_size: how large the pictures are that the critics' own encoder sees; chosen, said, kept, refused."""

import json
import logging

import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.utils.constants import ACTION
from small_data import make_recording

from lerobot_serl import SerlSacConfig
from lerobot_serl.networks.image_encoder import LATENT_SIZE
from lerobot_serl.online.feature_cache import cache_features
from lerobot_serl.policy.agent import Agent
from lerobot_serl.policy.configuration_serl_sac import ActArchitecture
from lerobot_serl.policy.construction import settle_image_size
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.policy.parts import ActorConfig, CriticConfig
from lerobot_serl.replay.memory import ReplayMemory
from lerobot_serl.replay.picture_size import reduced
from lerobot_serl.setting_error import SettingError

CAMERA = "observation.images.front"
SHAPE = (3, 90, 120)


def config(**changes):
    small = ActArchitecture(chunk_size=4, dim_model=16, n_heads=2, dim_feedforward=16, n_encoder_layers=1, latent_dim=4)
    values = {
        "input_features": {
            "observation.state": PolicyFeature(type=FeatureType.STATE, shape=(2,)), CAMERA: PolicyFeature(type=FeatureType.VISUAL, shape=SHAPE),
        },
        "output_features": {ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(2,))},
        "device": "cpu", "act": small, "base": "act", "horizon": 3, "features": "cnn", "actor": ActorConfig(hidden_sizes=(16,)),
        "critic": CriticConfig(members=3, hidden_sizes=(16,)),
    }  # fmt: skip
    return SerlSacConfig(**(values | changes))


def observation(count):
    generator = torch.Generator().manual_seed(0)
    return {
        "observation.state": torch.randn(count, 2, generator=generator),
        CAMERA: torch.randint(0, 256, (count, *SHAPE), generator=generator, dtype=torch.uint8),
    }


def test_the_memory_keeps_small_pictures_and_acting_sees_the_same_ones(monkeypatch):
    torch.manual_seed(0)
    agent, raw = Agent(config(image_size=60)), observation(12)
    memory = ReplayMemory(200, horizon=3, discount=0.9)
    memory.add(cache_features(agent, make_recording(12, observation=raw, action=torch.rand(12, 2)), batch_size=4))
    assert memory.bytes_per_frame < 3 * 45 * 60 + 200
    monkeypatch.setattr("lerobot_serl.replay.memory.shifted", lambda images, index, generator: images[index])
    batch = memory.windows(torch.arange(9), torch.Generator())
    assert torch.equal(batch.images[CAMERA], reduced(raw[CAMERA][:9], (3, 45, 60)))
    as_policy = {key: value.float() / 255 if key == CAMERA else value for key, value in raw.items()}
    torch.testing.assert_close(agent.encode_batch(batch).features, agent.encode(as_policy)[0][:9])
    assert agent.feature_size == 2 + LATENT_SIZE


@pytest.mark.parametrize(("device", "expected"), [("cpu", 64), ("cuda", 120)])
def test_without_a_size_the_device_decides_and_it_is_said(device, expected, caplog):
    caplog.set_level(logging.INFO)
    settings = config()
    settings.device = device
    settle_image_size(settings)
    assert settings.image_size == expected
    said = f"{CAMERA}: actor and critics see 48x64 instead of 90x120 pixels (policy.image_size=64)."
    assert (said in caplog.text) == (device == "cpu")


def test_a_new_policy_chooses_once_and_its_checkpoint_keeps_it(tmp_path):
    policy = SerlSacPolicy(config())
    assert policy.config.image_size == 64
    assert policy.agent.picture_shapes == {CAMERA: (3, 48, 64)}
    policy.save_pretrained(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    assert document["image_size"] == 64
    seen = {key: value.float() / 255 if key == CAMERA else value for key, value in observation(3).items()}
    again = SerlSacPolicy.from_pretrained(tmp_path).eval()
    assert torch.equal(again.predict_action_chunk(seen), policy.eval().predict_action_chunk(seen))


def test_a_checkpoint_of_before_sees_pictures_as_they_are():
    policy = SerlSacPolicy(config(act_source="somewhere"))
    assert policy.config.image_size is None
    assert policy.agent.picture_shapes == {CAMERA: SHAPE}


@pytest.mark.parametrize("size", [31, 5000, 64.0, True, "64"])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(SettingError, match=r"policy.image_size=.*expected a whole number of pixels from 32 to 4096, or nothing"):
        config(image_size=size)


@pytest.mark.parametrize("features", ["auto", "state", "act", "both"])
def test_a_size_that_would_have_no_effect_is_refused(features):
    with pytest.raises(ValueError, match=rf"policy.image_size=64: expected nothing with policy.features={features}.*--policy.features=cnn"):
        SerlSacPolicy(config(features=features, image_size=64))
