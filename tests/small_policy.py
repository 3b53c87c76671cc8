"""A policy small enough to build in a moment, for the data of small_data.py."""

from typing import Any

import torch
from lerobot.configs import FeatureType, PolicyFeature
from small_data import ACTION, INPUTS

from lerobot_serl.policy.agent import Agent
from lerobot_serl.policy.configuration_serl_sac import ActArchitecture, SerlSacConfig
from lerobot_serl.policy.parts import ActorConfig, CriticConfig, OnlineConfig, StartupConfig


def small_config(**changes: Any) -> SerlSacConfig:
    """A policy small enough to build in a moment; chunks of 4 steps, 3 of them executed."""
    architecture = ActArchitecture(
        chunk_size=4, dim_model=16, n_heads=2, dim_feedforward=16, n_encoder_layers=1, n_decoder_layers=1, latent_dim=4
    )
    values: dict[str, Any] = {
        "input_features": dict(INPUTS),
        "output_features": {ACTION: PolicyFeature(type=FeatureType.ACTION, shape=(2,))},
        "device": "cpu",
        "base": "act",
        "act": architecture,
        "horizon": 3,
        "actor": ActorConfig(hidden_sizes=(16,)),
        "critic": CriticConfig(members=3, hidden_sizes=(16,)),
        "startup": StartupConfig(collect_steps=10, critic_updates=20, ramp_updates=4),
        "online": OnlineConfig(),
        "clipped_share": 1.0,  # the small agent's box is not of these datasets
    }
    return SerlSacConfig(**(values | changes))


def small_agent(config: SerlSacConfig, seed: int = 0) -> Agent:
    """An agent whose every tensor is random, also those that start at zero."""
    torch.manual_seed(seed)
    agent = Agent(config)
    with torch.no_grad():
        for parameter in [*agent.actor.parameters(), *agent.critic.parameters()]:
            parameter.add_(0.2 * torch.randn_like(parameter))
    agent.box.set_from_range(torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 1.0]), 0.2, 0.02)
    return agent


def fresh_chunk(policy: Any, observation: Any) -> Any:
    """What a policy does at an observation from a plan that it makes there."""
    policy.see(observation)
    policy.moved()
    return policy.act(observation)
