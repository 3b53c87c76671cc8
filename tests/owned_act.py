"""An owner's dataset and ACT: small, with cameras, and moving over the whole of the dataset's range."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from act_checkpoints import small_act_config
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.act.processor_act import make_act_pre_post_processors
from lerobot.policies.factory import make_policy
from lerobot.utils.feature_utils import dataset_to_policy_features

from lerobot_serl.policy.configuration_serl_sac import SerlSacConfig
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy

STATE, ENVIRONMENT, ACTION = "observation.state", "observation.environment_state", "action"
REPO = "owner/pick"
JOINTS = ("pan.pos", "lift.pos", "elbow.pos", "gripper.pos")


Edit = Callable[[dict[str, Any], int, int], object]


def own_dataset(
    root: Path,
    cameras: tuple[str, ...] = (),
    scale: float = 1.0,
    episodes: int = 3,
    frames: int = 20,
    edit: Edit | None = None,
    **extra: int,
) -> LeRobotDataset:
    """Joints in degrees on sines; ``extra`` names further columns and their sizes; ``edit`` may change a frame of an episode."""
    features: dict[str, Any] = {
        ACTION: {"dtype": "float32", "shape": (4,), "names": list(JOINTS)},
        STATE: {"dtype": "float32", "shape": (4,), "names": list(JOINTS)},
    }
    columns = {**({} if cameras else {ENVIRONMENT: 3}), **{f"observation.{name}": size for name, size in extra.items()}}
    features |= {key: {"dtype": "float32", "shape": (size,), "names": [f"e{i}" for i in range(size)]} for key, size in columns.items()}
    for key in cameras:
        features[f"observation.images.{key}"] = {"dtype": "image", "shape": (32, 32, 3), "names": ["height", "width", "channels"]}
    dataset = LeRobotDataset.create(REPO, fps=10, features=features, root=root, use_videos=False)
    rng = np.random.default_rng(0)
    for episode in range(episodes):
        phase, reach = rng.uniform(0, 6, 4), rng.uniform(20, 60, 4)
        for t in range(frames):
            action = (scale * reach * np.sin(phase + 3 * t / frames)).astype(np.float32)
            frame: dict[str, Any] = {"task": "Pick up.", ACTION: action, STATE: action * 0.95}
            frame |= {key: np.sin(phase[0] + np.arange(size) + t / frames).astype(np.float32) for key, size in columns.items()}
            frame |= {key: rng.integers(0, 255, (32, 32, 3), dtype=np.uint8) for key in features if key.startswith("observation.images.")}
            if edit is not None:
                edit(frame, episode, t)
            dataset.add_frame(frame)
        dataset.save_episode()
    dataset.finalize()
    return LeRobotDataset(REPO, root=root)


def own_act(directory: Path, root: Path, gain: float = 1.0, without: tuple[str, ...] = (), **changes: object) -> ACTPolicy:
    """ACT as ``lerobot-train`` leaves it, with the dataset's statistics; ``gain`` makes its random outputs larger."""
    meta = LeRobotDatasetMetadata(REPO, root=root)
    features = dataset_to_policy_features(meta.features)
    config = small_act_config(0, **changes)
    config.input_features = {key: feature for key, feature in features.items() if key not in (ACTION, *without)}
    config.output_features = {ACTION: features[ACTION]}
    statistics = {
        key: {name: torch.as_tensor(np.asarray(value)).float() for name, value in named.items()} for key, named in meta.stats.items()
    }
    torch.manual_seed(0)
    policy = ACTPolicy(config).eval()
    with torch.no_grad():
        policy.model.action_head.weight *= gain
    before, after = make_act_pre_post_processors(config, statistics)
    shutil.rmtree(directory, ignore_errors=True)
    for part in (policy, before, after):
        part.save_pretrained(directory)
    return policy


def adopted(act: Path, root: Path, **settings: Any) -> SerlSacPolicy:
    """The policy as ``lerobot-train`` makes it of ACT and a dataset."""
    config = SerlSacConfig(act_path=str(act), device="cpu", push_to_hub=False, **settings)
    policy = make_policy(config, ds_meta=LeRobotDatasetMetadata(REPO, root=root))
    assert isinstance(policy, SerlSacPolicy)
    return policy.eval()
