"""lerobot-serl-doctor on checkpoints: of every kind, whole, damaged and poisoned. The Hub is in test_hub.py."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from act_checkpoints import save_act, small_act_config, statistics_for
from broken_datasets import doctor, tree
from lerobot.processor import DeviceProcessorStep, ProcessorStepRegistry
from lerobot.rewards.classifier.configuration_classifier import RewardClassifierConfig
from lerobot.rewards.classifier.processor_classifier import make_classifier_processor
from odd_checkpoints import edit_config, make_oldest, rename_tensors, save_adapter, save_old_act
from poisoned_checkpoints import STARTS, edit_step, poison, witnessed
from safetensors.torch import load_file, save_file

from lerobot_serl import SerlSacConfig
from lerobot_serl.policy.act_checkpoint import load_act_checkpoint
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.policy.processor_serl_sac import make_serl_sac_pre_post_processors

PRE, POST, WEIGHTS = "policy_preprocessor.json", "policy_postprocessor.json", "model.safetensors"
HEAD = "model.action_head.weight"


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """ACT, and a serl_sac made of it."""
    root = tmp_path_factory.mktemp("sources")
    config = small_act_config(0)
    save_act(root / "act", config)
    policy = SerlSacPolicy(SerlSacConfig(act_path=str(root / "act"), device="cpu", push_to_hub=False), dataset_stats=statistics_for(config))
    policy.save_pretrained(root / "serl_sac")
    for processor in make_serl_sac_pre_post_processors(policy.config):
        processor.save_pretrained(root / "serl_sac")
    return root


@pytest.fixture
def act(sources, tmp_path):
    return shutil.copytree(sources / "act", tmp_path / "act")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["act", "serl_sac"])
def test_the_command_knows_the_types_in_a_process_of_its_own(sources, kind):
    """Here tests have imported LeRobot's policies already; the command called a good ACT a type that nobody has."""
    command = [sys.executable, "-P", "-m", "lerobot_serl.scripts.lerobot_serl_doctor", str(sources / kind)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0] == f"ok      config.json: a policy of type '{kind}'"


@pytest.mark.parametrize("kind", ["act", "serl_sac"])
@pytest.mark.parametrize("layout", ["", "pretrained_model", "checkpoints/last/pretrained_model"])
def test_a_whole_checkpoint(sources, tmp_path, kind, layout, capsys):
    shutil.copytree(sources / kind, tmp_path / "run" / layout)
    before = tree(tmp_path / "run")
    status, said = doctor(tmp_path / "run", capsys=capsys)
    assert status == 0, said.out
    lines = said.out.splitlines()
    assert lines[0] == f"ok      config.json: a policy of type '{kind}'"
    assert lines[1].startswith(
        f"ok      {PRE}: LeRobot runs rename_observations_processor, to_batch_processor, device_processor, normalizer_p"
    )
    assert lines[2].startswith(f"ok      {POST}: LeRobot runs unnormalizer_processor, device_processor; state files: ")
    tensors = load_file(sources / kind / WEIGHTS)
    assert lines[3].startswith(f"ok      {WEIGHTS}: {len(tensors)} tensors, ")
    assert f"{sum(t.numel() for t in tensors.values() if t.dtype == torch.float32)} numbers in float32" in lines[3]
    assert len(lines) == 4
    assert tree(tmp_path / "run") == before


@pytest.mark.parametrize("file", [PRE, POST])
def test_the_attack_is_found_and_not_run(act, tmp_path, file, capsys):
    poison(act, marker := tmp_path / "marker", file)
    with witnessed() as seen:
        status, said = doctor(act, capsys=capsys)
    assert status == 1
    assert f"{file}: step 0 names the class 'subprocess.run', which LeRobot's loader would import and call" in said.out
    assert not marker.exists()
    assert not [event for event in seen if event[0] in STARTS]


def test_what_else_lerobot_would_load_is_named(act, capsys, monkeypatch):
    class Step(DeviceProcessorStep):
        pass

    monkeypatch.setitem(ProcessorStepRegistry._registry, "of_a_plugin", Step)
    edit_step(act, 0, registry_name="of_a_plugin")
    edit_step(act, 1, registry_name="action_tokenizer_processor", config={"action_tokenizer_name": "some/body"})
    status, said = doctor(act, capsys=capsys)
    assert status == 1
    assert f"note    {PRE}: 'of_a_plugin' is not LeRobot's: an installed plugin has registered it, {__name__}" in said.out
    assert f"note    {PRE}: 'action_tokenizer_processor' loads a model by name" in said.out
    assert "{'action_tokenizer_name': 'some/body'}" in said.out
    assert "problem ValueError" not in said.out
    assert "extra steps ['of_a_plugin', 'action_tokenizer_processor']" in said.out  # so --policy.act_path would refuse it


def test_a_reward_model_names_its_backbone(tmp_path, capsys):
    """LeRobot's own postprocessor of it has a step without a registered name: no reason to worry anybody."""
    config = RewardClassifierConfig(model_name="some/backbone", device="cpu", input_features={}, output_features={})
    config.save_pretrained(tmp_path)
    for processor in make_classifier_processor(config):
        processor.save_pretrained(tmp_path)
    assert "IdentityProcessorStep" in (tmp_path / "classifier_postprocessor.json").read_text()
    save_file({"weight": torch.zeros(3)}, tmp_path / WEIGHTS)
    status, said = doctor(tmp_path, capsys=capsys)
    assert status == 0, said.out
    assert "ok      config.json: a reward model of type 'reward_classifier'" in said.out
    assert (
        "note    config.json names another model, which is not looked at here: model_name='some/backbone'. LeRobot loads it too, in"
        in said.out
    )
    poison(tmp_path, marker := tmp_path / "marker", "classifier_preprocessor.json")
    status, said = doctor(tmp_path, capsys=capsys)
    assert status == 1
    assert "classifier_preprocessor.json: step 0 names the class 'subprocess.run'" in said.out
    assert not marker.exists()


def change_weights(act, change):
    tensors = load_file(act / WEIGHTS)
    save_file({**tensors, HEAD: change(tensors[HEAD])}, act / WEIGHTS)


DAMAGES = {
    "NaN": (lambda act: change_weights(act, lambda t: t * torch.nan), f"{WEIGHTS}: tensor '{HEAD}' holds 128 numbers that are NaN"),
    "int8": (lambda act: change_weights(act, lambda t: t.to(torch.int8)), f"{WEIGHTS}: tensor '{HEAD}' is int8, expected"),
    "another shape": (lambda act: change_weights(act, lambda t: t[:2].clone()), rf"{WEIGHTS}: tensor '{HEAD}' has the shape"),
    "a pickle": (lambda act: (act / WEIGHTS).write_bytes(b"\x80\x04." * 20), f"{WEIGHTS}: 60 bytes with a header"),
    "no weights": (lambda act: (act / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
    "no configuration": (lambda act: (act / "config.json").unlink(), "config.json is missing"),
    "configuration cut off": (lambda act: (act / "config.json").write_text('{"type": "act"'), "config.json: no usable JSON"),
    "unknown type": (lambda act: (act / "config.json").write_text('{"type": "\x1b[2J"}'.replace("\x1b", "\\u001b")), "config.json names the"),
    "no type": (lambda act: (act / "config.json").write_text("{}"), "config.json names the type 'None', which neither LeRobot nor"),
    "unknown field": (lambda act: (act / "config.json").write_text('{"type": "act", "x": 1}'), "not a configuration of LeRobot's ACT"),
    "no preprocessor": (lambda act: (act / PRE).unlink(), f"{PRE} is missing: LeRobot loads no policy without it"),
    "no state file": (lambda act: next(act.glob("policy_pre*.safetensors")).unlink(), "normalizer_processor.safetensors is missing"),
    "state file elsewhere": (lambda act: edit_step(act, 3, state_file="/etc/x.safetensors"), f"{PRE}: step 3 has the state file"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_every_damage_is_a_problem_with_the_files_name(act, name, capsys):
    damage, words = DAMAGES[name]
    damage(act)
    status, said = doctor(act, capsys=capsys)
    assert status == 1, said.err
    problems = [line for line in said.out.splitlines() if line.startswith("problem")]
    assert [line for line in problems if words in line], said.out
    assert "\x1b" not in said.out


def test_files_that_lerobot_does_not_load_are_named(act, capsys):
    for name in ("modeling.py", "weights.PKL", "pytorch_model.bin", "optimizer.pt", "\x1b[2J.pth", "README.md", "movie.mp4"):
        (act / name).write_bytes(b"")
    (act / "code").mkdir()
    (act / "train_config.json").write_text("{")
    status, said = doctor(act, capsys=capsys)
    assert status == 0
    line = next(line for line in said.out.splitlines() if "do not run or unpickle it" in line)
    assert line.startswith("note    ?[2J.pth, modeling.py, optimizer.pt, pytorch_model.bin, weights.PKL: ")
    assert "note    code/, movie.mp4: not part of a LeRobot checkpoint" in said.out
    assert "train_config.json: no usable JSON" in said.out
    assert "README" not in said.out


def test_an_adapter_is_named(act, capsys):
    path = act / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "use_peft": True}))
    status, said = doctor(act, capsys=capsys)
    assert status == 0
    assert "note    config.json says use_peft: LeRobot loads, besides, whatever checkpoint adapter_config.json names" in said.out


def test_what_cannot_be_checked(act, tmp_path, capsys, monkeypatch):
    status, said = doctor(act, "--repair", capsys=capsys)
    assert (status, "--repair is for datasets. A damaged checkpoint" in said.err) == (2, True)
    status, said = doctor(act, "--revision=main", capsys=capsys)
    assert (status, "is here: --revision is for Hub ids" in said.err) == (2, True)
    monkeypatch.chdir(tmp_path)
    status, said = doctor("nobody/nothing", capsys=capsys)  # HF_HUB_OFFLINE
    assert (status, "nobody/nothing does not exist here, nor could it be had from the Hub" in said.err) == (2, True)
    os.mkdir(tmp_path / "data")
    status, said = doctor("data", capsys=capsys)
    assert (status, "expected the directory of a LeRobotDataset" in said.err) == (2, True)


ODD = {
    "statistics in the weights": lambda act: save_old_act(act, *old_statistics_of(small_act_config(0))),
    "before 0.1": lambda act: (save_old_act(act, *old_statistics_of(small_act_config(0))), make_oldest(act)),
    "compiled": lambda act: rename_tensors(act, lambda name: f"_orig_mod.{name}"),
    "a newer configuration": lambda act: edit_config(act, lambda document: document.update(rtc_config=None)),
}


def old_statistics_of(config):
    statistics = statistics_for(config)
    return config, statistics, statistics, statistics


@pytest.mark.parametrize("kind", ODD)
def test_what_act_path_takes_is_not_called_damaged(act, kind, capsys):
    if "before" in kind or "statistics" in kind:
        for path in act.glob("policy_*"):
            path.unlink()
    ODD[kind](act)
    load_act_checkpoint(str(act))
    status, said = doctor(act, capsys=capsys)
    assert status == 0, said.out
    assert "ok      config.json: a policy of type 'act'" in said.out
    assert ("model.safetensors holds the normalisation statistics, as LeRobot before 0.4 wrote them" in said.out) == (
        kind not in ("compiled", "a newer configuration")
    )


def test_an_adapter_is_sound_if_its_base_is_there(sources, tmp_path, capsys):
    base = shutil.copytree(sources / "act", tmp_path / "base")
    save_adapter(base, tmp_path / "lora", {"model.encoder.layers.0.linear1": 4})
    status, said = doctor(tmp_path / "lora", capsys=capsys)
    assert status == 0, said.out
    assert "adapter_model.safetensors: 2 tensors" in said.out
    shutil.rmtree(base)
    status, said = doctor(tmp_path / "lora", capsys=capsys)
    assert status == 1
    assert "which adapter_config.json names, is not here" in said.out


def test_old_statistics_that_were_never_filled_are_a_problem(act, capsys):
    for path in act.glob("policy_*"):
        path.unlink()
    save_old_act(act, *old_statistics_of(small_act_config(0)))
    tensors = load_file(act / WEIGHTS)
    tensors["normalize_inputs.buffer_observation_state.mean"].fill_(torch.inf)
    save_file(tensors, act / WEIGHTS)
    status, said = doctor(act, capsys=capsys)
    assert status == 1
    assert "problem" in said.out
    assert "'normalize_inputs.buffer_observation_state.mean'" in said.out


@pytest.mark.parametrize("place", ["config.json", "model.safetensors"])
def test_a_file_of_the_checkpoint_may_be_given(act, place, capsys):
    status, said = doctor(act / place, capsys=capsys)
    assert status == 0, said.err


def test_which_checkpoint_of_a_run_without_last_was_looked_at_is_said(sources, tmp_path, capsys):
    for step in ("000100", "000200"):
        shutil.copytree(sources / "act", tmp_path / "run" / "checkpoints" / step / "pretrained_model")
    status, said = doctor(tmp_path / "run", capsys=capsys)
    assert status == 0, said.err
    assert (
        f"note    {tmp_path}/run/checkpoints has no 'last': its newest checkpoint is taken, {tmp_path}/run/checkpoints/000200" in said.out
    )
