"""Names of ACT's tensors under what may wrap a policy when it is saved."""

import pytest
import torch
from act_checkpoints import save_act, small_act_config
from odd_checkpoints import WEIGHTS, rename_tensors
from safetensors.torch import load_file, save_file

from lerobot_serl.checkpoint.act_weights import plain_name
from lerobot_serl.policy.act_checkpoint import load_act_checkpoint

WRAPPED = {
    "the policy compiled": lambda name: f"_orig_mod.{name}",
    "the network compiled": lambda name: name.replace("model.", "model._orig_mod.", 1),
    "the backbone compiled": lambda name: name.replace("model.backbone.", "model.backbone._orig_mod."),
    "each layer compiled": lambda name: name.replace("layers.0.", "layers.0._orig_mod."),
    "DDP": lambda name: f"module.{name}",
    "DDP around a compiled one": lambda name: f"module._orig_mod.{name}",
    "FSDP": lambda name: name.replace("layers.0.", "layers.0._fsdp_wrapped_module._checkpoint_wrapped_module."),
}


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_a_wrapped_policy_loads(tmp_path, wrapped):
    act, _, _ = save_act(tmp_path, small_act_config(1))
    rename_tensors(tmp_path, WRAPPED[wrapped])
    assert load_file(tmp_path / WEIGHTS).keys() != act.state_dict().keys()
    weights = load_act_checkpoint(str(tmp_path)).weights
    assert weights.keys() == act.state_dict().keys()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in act.state_dict().items())


def test_torch_compile_writes_such_names():
    network = torch.nn.Sequential(torch.nn.Linear(1, 1))
    network[0] = torch.compile(network[0])
    assert [plain_name(name) for name in network.state_dict()] == ["0.weight", "0.bias"]


def test_only_whole_parts_of_a_name_are_left_out():
    assert plain_name("model.module_list.my_orig_mod.weight") == "model.module_list.my_orig_mod.weight"


def test_two_names_of_one_tensor_are_refused(tmp_path):
    save_act(tmp_path, small_act_config(0))
    tensors = load_file(tmp_path / WEIGHTS)
    twice = {"module.model.action_head.bias": torch.zeros(4)}
    save_file({**tensors, **twice}, tmp_path / WEIGHTS)
    with pytest.raises(
        ValueError, match=r"'model.action_head.bias' and 'module.model.action_head.bias' are both ACT's|'module.*' and 'model"
    ):
        load_act_checkpoint(str(tmp_path))
