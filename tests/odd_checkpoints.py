"""ACT checkpoints as older versions of LeRobot, torch.compile and PEFT saved them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from safetensors.torch import load_file, save_file
from torch import Tensor

Statistics = Mapping[str, Mapping[str, Tensor]]
CONFIG, WEIGHTS = "config.json", "model.safetensors"
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Fields of config.json that LeRobot 0.1 to 0.3 did not have.
NEWER = ("use_peft", "pretrained_path", "pretrained_revision")
NAMES_OF_MODE = {"MEAN_STD": ("mean", "std"), "MIN_MAX": ("min", "max"), "IDENTITY": ()}


def edit_config(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = directory / CONFIG
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def rename_tensors(directory: Path, new_name: Callable[[str], str], file: str = WEIGHTS) -> None:
    tensors = load_file(directory / file)
    save_file({new_name(name): tensor for name, tensor in tensors.items()}, directory / file)


def save_old_act(directory: Path, config: ACTConfig, inputs: Statistics, outputs: Statistics, targets: Statistics) -> ACTPolicy:
    """As LeRobot 0.1 to 0.3: no processors, statistics as parameters of the policy, each module with its own here."""
    torch.manual_seed(0)
    policy = ACTPolicy(config).eval()
    policy.save_pretrained(directory)
    buffers = {}
    for module, features, statistics in (
        ("normalize_inputs", config.input_features, inputs),
        ("unnormalize_outputs", config.output_features, outputs),
        ("normalize_targets", config.output_features, targets),
    ):
        for key, feature in features.items():
            mode = config.normalization_mapping.get(feature.type.value, "IDENTITY")
            for name in NAMES_OF_MODE[getattr(mode, "value", mode)]:
                buffers[f"{module}.buffer_{key.replace('.', '_')}.{name}"] = statistics[key][name].clone()
    save_file({**load_file(directory / WEIGHTS), **buffers}, directory / WEIGHTS)
    edit_config(directory, lambda document: [document.pop(name) for name in NEWER])
    return policy


def make_oldest(directory: Path) -> None:
    """The configuration as LeRobot before 0.1 wrote it, and the one tensor's name of before July 2024."""

    def change(document: dict[str, Any]) -> None:
        mapping = document.pop("normalization_mapping")
        for kind in ("input", "output"):
            features = document.pop(f"{kind}_features")
            modes = {key: mapping.get(feature["type"], "IDENTITY").lower() for key, feature in features.items()}
            document[f"{kind}_shapes"] = {key: feature["shape"] for key, feature in features.items()}
            document[f"{kind}_normalization_modes"] = {key: mode for key, mode in modes.items() if mode != "identity"}
        for name in ("type", "device", "use_amp", "push_to_hub", "repo_id", "private", "tags", "license"):
            document.pop(name)
        for name in [name for name in document if name.startswith("optimizer_")]:
            document.pop(name)

    edit_config(directory, change)
    rename_tensors(directory, lambda name: name.replace("encoder_1d_feature_pos_embed", "encoder_robot_and_latent_pos_embed"))


def save_adapter(base: Path, directory: Path, targets: Mapping[str, int], settings: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    """A LoRA adapter of random numbers on a checkpoint, as PEFT 0.18 saves it, and what ``W + B A * alpha / r`` makes of the base's weights.

    Args:
        targets: name of a module of the base -> rank.
    """
    directory.mkdir()
    for path in base.iterdir():
        if path.name != WEIGHTS:
            (directory / path.name).write_bytes(path.read_bytes())
    edit_config(directory, lambda document: document.update(use_peft=True, pretrained_path=str(base)))
    generator, merged, adapter, alpha = torch.Generator().manual_seed(5), load_file(base / WEIGHTS), {}, 12
    for module, rank in targets.items():
        weight = merged[f"{module}.weight"]
        down = torch.randn(rank, *weight.shape[1:], generator=generator) / 4
        up = torch.randn(weight.shape[0], rank, *[1] * (weight.dim() - 2), generator=generator) / 4
        adapter[f"base_model.model.{module}.lora_A.weight"] = down
        adapter[f"base_model.model.{module}.lora_B.weight"] = up
        product = torch.einsum("or,r...->o...", up.flatten(1), down)
        merged[f"{module}.weight"] = weight + product * (alpha / rank)
    document = {
        "peft_type": "LORA", "base_model_name_or_path": str(base), "revision": None, "r": max(targets.values(), default=8), "lora_alpha": alpha,
        "bias": "none", "use_dora": False, "use_rslora": False, "fan_in_fan_out": False, "init_lora_weights": True, "rank_pattern": {},
        "alpha_pattern": {}, "loftq_config": {}, "modules_to_save": None, "megatron_core": "megatron.core", "qalora_group_size": 16,
    }  # fmt: skip
    (directory / ADAPTER_CONFIG).write_text(json.dumps({**document, **(settings or {})}))
    save_file(adapter, directory / ADAPTER_WEIGHTS)
    return merged
