"""serl_sac checkpoints through LeRobot's own order of loading: policy first, then the processors, whose files have been looked at."""

import inspect
import json
import shutil

import pytest
import torch
from act_checkpoints import save_act, small_act_config, statistics_for
from draccus.utils import DecodingError
from lerobot.async_inference.policy_server import PolicyServer
from lerobot.configs import PreTrainedConfig
from lerobot.policies.factory import make_policy, make_pre_post_processors
from lerobot.rollout import context
from lerobot.scripts import lerobot_eval, lerobot_train
from poisoned_checkpoints import edit_step, poison
from safetensors.torch import load_file, save_file

from lerobot_serl import SerlSacConfig
from lerobot_serl.envs.config_franka_sim import FrankaSimEnv
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.policy.processor_serl_sac import make_serl_sac_pre_post_processors

PRE, POST, WEIGHTS = "policy_preprocessor.json", "policy_postprocessor.json", "model.safetensors"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """As lerobot-train saves it: the policy, and both processors."""
    root = tmp_path_factory.mktemp("serl")
    config = small_act_config(0)
    save_act(root / "act", config)
    policy = SerlSacPolicy(SerlSacConfig(act_path=str(root / "act"), device="cpu", push_to_hub=False), dataset_stats=statistics_for(config))
    policy.save_pretrained(root / "saved")
    for processor in make_serl_sac_pre_post_processors(policy.config):
        processor.save_pretrained(root / "saved")
    return root / "saved"


@pytest.fixture
def saved(source, tmp_path):
    return shutil.copytree(source, tmp_path / "saved")


def load(saved):
    """The way of lerobot-eval and lerobot-train --policy.path."""
    config = PreTrainedConfig.from_pretrained(saved)
    config.pretrained_path = saved
    policy = make_policy(config, env_cfg=FrankaSimEnv())
    return policy, *make_pre_post_processors(config, pretrained_path=str(saved))


def test_a_whole_checkpoint_is_loaded(saved, caplog):
    policy, pre, post = load(saved)
    assert policy.config.type == "serl_sac"
    assert [len(pre.steps), len(post.steps)] == [4, 2]
    assert not [record for record in caplog.records if "step of its own" in record.message]


@pytest.mark.parametrize("file", [PRE, POST])
def test_the_attack_is_refused_before_lerobot_loads_the_processors(saved, tmp_path, file):
    poison(saved, marker := tmp_path / "marker", file)
    with pytest.raises(ValueError, match=rf"policy.path=.*{file}: step 0 names the class 'subprocess.run'"):
        load(saved)
    assert not marker.exists()


def test_a_step_that_loads_a_model_with_its_code_is_refused(saved, tmp_path):
    """It is registered, so that LeRobot asks nobody: its tokenizer may be a directory with Python code."""
    code = tmp_path / "tokenizer"
    code.mkdir()
    (code / "processing_x.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')\n")
    (code / "processor_config.json").write_text(json.dumps({"auto_map": {"AutoProcessor": "processing_x.X"}}))
    poison(saved, tmp_path, registry_name="action_tokenizer_processor", config={"action_tokenizer_name": str(code)})
    with pytest.raises(ValueError, match=r"step 0, 'action_tokenizer_processor', would load a model that its config names, and Python"):
        load(saved)
    assert not (tmp_path / "marker").exists()


def test_another_registered_step_is_logged(saved, caplog):
    poison(saved, saved, registry_name="time_limit_processor", config={"max_episode_steps": 3})
    load(saved)
    assert f"{PRE} runs a step of its own, 'time_limit_processor' of lerobot.processor.hil_processor." in caplog.text


def test_lerobots_commands_load_the_policy_before_its_processors():
    """What the check rests on."""
    for place, first in ((lerobot_train.train, "make_policy("), (lerobot_eval.eval_main, "make_policy("),
                         (context.build_rollout_context, "_load_pretrained_policy("),
                         (PolicyServer.SendPolicyInstructions, "policy_class.from_pretrained(")):  # fmt: skip
        text = inspect.getsource(place)
        assert 0 < text.index(first) < text.index("make_pre_post_processors("), place
    assert "from_pretrained(" not in inspect.getsource(make_policy).split("policy_cls = get_policy_class(cfg.type)")[0]


def test_an_adapter_is_refused_when_its_configuration_is_read(saved):
    """LeRobot would take the policy from the place that adapter_config.json names, and the processors from here."""
    path = saved / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "use_peft": True}))
    with pytest.raises(DecodingError, match=r"policy.use_peft=True: expected false"):
        load(saved)


def weights_of(change):
    def damage(saved):
        tensors = load_file(saved / WEIGHTS)
        tensors.update(change(tensors))
        save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, saved / WEIGHTS)

    return damage


HEAD = "agent.actor.head.weight"


def test_the_counters_of_version_0_1_are_left_out(saved):
    """They stood among the weights."""
    before = load(saved)[0].state_dict()
    weights_of(lambda _: {"progress.updates": torch.tensor(7), "progress.generator_state": torch.zeros(5056, dtype=torch.uint8)})(saved)
    after = load(saved)[0].state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


DAMAGES = {
    "NaN": (weights_of(lambda t: {HEAD: torch.full_like(t[HEAD], torch.nan)}), f"{WEIGHTS}: tensor '{HEAD}' holds .* NaN or infinite"),
    "infinite": (weights_of(lambda t: {HEAD: torch.full_like(t[HEAD], torch.inf)}), f"{WEIGHTS}: tensor '{HEAD}' holds"),
    "int8": (weights_of(lambda t: {HEAD: t[HEAD].to(torch.int8)}), f"{WEIGHTS}: tensor '{HEAD}' is int8, expected a floating-point type"),
    "another shape": (weights_of(lambda t: {HEAD: t[HEAD][:1].clone()}), f"{WEIGHTS}: tensor '{HEAD}' has the shape"),
    "one missing": (weights_of(lambda t: {HEAD: None}), rf"{WEIGHTS}: does not fit.*missing tensors \['{HEAD}'\]"),
    "cut off": (lambda saved: (saved / WEIGHTS).write_bytes((saved / WEIGHTS).read_bytes()[:-10]), f"{WEIGHTS}: the tensors take"),
    "weights missing": (lambda saved: (saved / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
    "config empty": (lambda saved: (saved / "config.json").write_bytes(b""), "config.json: the file is empty"),
    "config of another type": (lambda saved: (saved / "config.json").write_text('{"type": "act"}'), "of type 'act', expected 'serl_sac'"),
    "processor cut off": (lambda saved: (saved / PRE).write_text("{"), f"{PRE}: no usable JSON"),
    "state file elsewhere": (lambda saved: edit_step(saved, 0, state_file="../x.safetensors"), f"{PRE}: step 0 has the state file"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_every_damage_is_refused_with_file_and_remedy(saved, name):
    damage, words = DAMAGES[name]
    config = PreTrainedConfig.from_pretrained(saved)
    damage(saved)
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        SerlSacPolicy.from_pretrained(saved, config=config)
    assert str(caught.value).startswith(f"policy.path={str(saved)!r}: ")
    assert f"Copy the checkpoint again, or take an earlier one; `lerobot-serl-doctor {saved}`" in str(caught.value)


def test_a_place_that_is_nowhere(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"policy.path='.*nowhere': no whole serl_sac checkpoint here or on the Hub"):
        SerlSacPolicy.from_pretrained(tmp_path / "nowhere")
