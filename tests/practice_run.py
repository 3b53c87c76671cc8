"""A policy in training, and its practice, without a loop."""

import torch
from small_data import make_recording
from small_policy import small_config

from lerobot_serl.online.learner import Learner
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.policy.parts import ActorConfig, OnlineConfig, StartupConfig
from lerobot_serl.policy.progress import Phase
from lerobot_serl.replay.episode import ACTED_AS

SOURCE = {"existing": lambda self: None, "arrived": lambda self, wait_s: None}
SOURCE |= dict.fromkeys(("start", "ingested", "after_update", "publish", "remind"), lambda self, *_, **__: None)


class Run:
    """A policy in training, and the episodes of its practice one by one; each of them moves the edits."""

    def __init__(self, demonstrations, directory, online=True):
        config = small_config(
            online=OnlineConfig(repo_id="local/here" if online else None), startup=StartupConfig(collect_steps=10, critic_updates=0),
            metrics_dir=str(directory), actor=ActorConfig(hidden_sizes=(16,), candidates=False),
        )  # fmt: skip
        meta = demonstrations.meta
        torch.manual_seed(0)
        self.policy = policy = SerlSacPolicy(config, dataset_stats=meta.stats, dataset_meta=meta)
        source = type("Source", (), SOURCE)() if online else None
        policy._learner = self.learner = Learner(policy.agent, config, policy.progress, meta, source)
        self.checkpoints = directory / "checkpoints"

    def practise(self, pattern, acted_as, learning=True):
        for success in pattern:
            if learning:
                self.policy.progress.env_steps = 10
                with torch.no_grad():
                    self.policy.agent.actor.head.bias += 0.1
                    self.policy.agent.critic.head_bias += 0.1
                self.policy.progress.updates += 1
            recording = make_recording(
                success=success == "1", intervention=torch.zeros(5, dtype=torch.bool), info={ACTED_AS: acted_as.value}
            )
            self.learner.watch.episode(recording, Phase.ACTOR if learning else Phase.COLLECT)
        return self

    def save(self, step):
        """As LeRobot does."""
        model = self.checkpoints / f"{step:06d}" / "pretrained_model"
        self.policy.save_pretrained(model)
        return self.checkpoints / "best"


def actions(policy, act_alone=None):
    """What it does on some observations."""
    if act_alone is not None:
        policy.config.act_alone = act_alone
    generator = torch.Generator().manual_seed(1)
    observations = {key: torch.rand(9, *feature.shape, generator=generator) for key, feature in policy.config.input_features.items()}
    return policy.predict_action_chunk(observations)
