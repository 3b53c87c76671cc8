"""Reading ACT checkpoints, and the errors when there is none."""

import json
import os
import shutil

import pytest
import torch
from act_checkpoints import save_act, small_act_config, statistics_for
from lerobot.configs import PreTrainedConfig
from lerobot.policies.factory import make_pre_post_processors
from lerobot.processor import NormalizerProcessorStep
from poisoned_checkpoints import edit_step, poison
from safetensors.torch import load_file, save_file

from lerobot_serl.checkpoint.files import LARGEST_JSON
from lerobot_serl.checkpoint.processor_files import ELSEWHERE
from lerobot_serl.policy.act_checkpoint import load_act_checkpoint


def test_architecture_weights_and_statistics_are_read(tmp_path):
    config = small_act_config(0)
    act, _, _ = save_act(tmp_path, config)
    checkpoint = load_act_checkpoint(str(tmp_path))
    assert checkpoint.config.dim_model == 32
    assert set(checkpoint.weights) == set(act.state_dict())
    expected = statistics_for(config)
    torch.testing.assert_close(checkpoint.processors.features["action"].statistics["std"], expected["action"]["std"])


@pytest.mark.parametrize("layout", ["pretrained_model", "checkpoints/last/pretrained_model"])
def test_a_run_or_checkpoint_directory_is_accepted(tmp_path, layout):
    save_act(tmp_path / layout, small_act_config(0))
    assert load_act_checkpoint(str(tmp_path)).config.chunk_size == 10


def test_a_path_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.*no config.json.*Expected a LeRobot ACT checkpoint"):
        load_act_checkpoint(str(tmp_path / "nowhere"))


def test_a_hub_id_without_a_network_says_that_the_hub_was_not_asked():  # HF_HUB_OFFLINE
    with pytest.raises(
        FileNotFoundError, match=r"policy.act_path='someone/act': no LeRobot checkpoint found .*\(LocalEntryNotFoundError: "
    ):
        load_act_checkpoint("someone/act")


def test_a_checkpoint_of_another_type_is_named(tmp_path):
    save_act(tmp_path, small_act_config(0))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"type": "tdmpc", "device": "cpu", "push_to_hub": False}))
    with pytest.raises(ValueError, match="is of type 'tdmpc', expected 'act'"):
        load_act_checkpoint(str(tmp_path))
    assert config["type"] == "act"


def test_missing_statistics_are_an_error(tmp_path):
    save_act(tmp_path, small_act_config(0))
    (tmp_path / "policy_preprocessor.json").unlink()
    with pytest.raises(
        ValueError, match=r"policy_preprocessor.json: is missing beside policy_postprocessor.json; it has normalisation stat"
    ):
        load_act_checkpoint(str(tmp_path))


def test_missing_weights_are_an_error(tmp_path):
    save_act(tmp_path, small_act_config(0))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model.safetensors is missing"):
        load_act_checkpoint(str(tmp_path))


def test_the_checkpoint_may_disappear_once_it_is_embedded(tmp_path):
    from lerobot_serl import SerlSacConfig
    from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy

    act_config = small_act_config(0)
    save_act(tmp_path / "act", act_config)
    config = SerlSacConfig(act_path=str(tmp_path / "act"), device="cpu", push_to_hub=False)
    SerlSacPolicy(config, dataset_stats=statistics_for(act_config)).save_pretrained(tmp_path / "serl")
    shutil.rmtree(tmp_path / "act")
    assert SerlSacPolicy.from_pretrained(tmp_path / "serl").config.act_source == str(tmp_path / "act")


def test_a_checkpoint_without_any_statistics_is_told_where_they_should_be(tmp_path):
    save_act(tmp_path, small_act_config(0))
    for path in tmp_path.glob("policy_*"):
        path.unlink()
    with pytest.raises(
        ValueError, match=r"missing \(policy_preprocessor.json\), and none lie in model.safetensors, where LeRobot before 0.4 kept"
    ):
        load_act_checkpoint(str(tmp_path))


def test_statistics_are_those_of_lerobots_own_processor(tmp_path):
    save_act(tmp_path, config := small_act_config(2))
    pre, _ = make_pre_post_processors(PreTrainedConfig.from_pretrained(tmp_path), pretrained_path=str(tmp_path))
    (step,) = (step for step in pre.steps if isinstance(step, NormalizerProcessorStep))
    checkpoint = load_act_checkpoint(str(tmp_path))
    read = checkpoint.processors.features
    assert checkpoint.config == PreTrainedConfig.from_pretrained(tmp_path)
    assert read.keys() == step.stats.keys() == {**config.input_features, **config.output_features}.keys()
    for key, named in step.stats.items():
        assert read[key].eps == step.eps
        assert read[key].statistics.keys() == named.keys()
        for name, value in named.items():
            assert torch.equal(read[key].statistics[name], torch.as_tensor(value)), (key, name)


@pytest.mark.parametrize("file", ["policy_preprocessor.json", "policy_postprocessor.json"])
def test_a_class_in_a_processor_file_is_never_imported_or_called(tmp_path, file):
    save_act(tmp_path / "act", small_act_config(0))
    poison(tmp_path / "act", marker := tmp_path / "marker", file)
    with pytest.raises(ValueError, match=rf"{file}: step 0 names the class 'subprocess.run', which LeRobot's loader would import and call"):
        load_act_checkpoint(str(tmp_path / "act"))
    assert not marker.exists()


WEIGHTS, STATE = "model.safetensors", "policy_preprocessor_step_3_normalizer_processor.safetensors"
PRE, POST = "policy_preprocessor.json", "policy_postprocessor.json"
LAST = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"


def content_of(name, content):
    return lambda act: (act / name).write_bytes(content if content is not None else (act / name).read_bytes()[: -len(name)])


def config_of(**changes):
    return lambda act: (act / "config.json").write_text(json.dumps({**json.loads((act / "config.json").read_text()), **changes}))


def tensors_of(name, change):
    def damage(act):
        tensors = load_file(act / name)
        tensors.update(change(tensors))
        save_file({key: tensor for key, tensor in tensors.items() if tensor is not None}, act / name)

    return damage


def normalizer_of(**changes):
    def damage(act):
        config = json.loads((act / PRE).read_text())["steps"][3]["config"]
        edit_step(act, 3, config={**config, **changes})

    return damage


def filled(key, number):
    return lambda tensors: {key: torch.full_like(tensors[key], number)}


HEAD, VAE = "model.action_head.weight", "model.vae_encoder_cls_embed.weight"
# What is done to a checkpoint: the file that the message names, and what it says.
DAMAGES = {
    "config empty": (content_of("config.json", b""), "config.json: the file is empty"),
    "config cut off": (content_of("config.json", None), "config.json: no usable JSON"),
    "config garbage": (content_of("config.json", bytes(range(128, 200))), "config.json: no usable JSON"),
    "config huge": (content_of("config.json", b" " * (LARGEST_JSON + 1)), f"config.json: {LARGEST_JSON + 1} bytes"),
    "config a list": (content_of("config.json", b"[]"), "config.json: JSON list"),
    "config twice": (content_of("config.json", b'{"type": "tdmpc", "type": "act"}'), "config.json: a key stands twice"),
    "config wrong kind": (config_of(dim_model="wide"), "config.json: not a configuration of LeRobot's ACT .*dim_model"),
    "config wrong value": (config_of(vision_backbone="os"), "config.json: not a configuration of LeRobot's ACT"),
    "config without features": (config_of(input_features={}, output_features={}), "config.json: not a configuration of LeRobot's ACT"),
    "config no network": (config_of(n_heads=5), "config.json: describes no network that can be built"),
    "config no backbone": (config_of(vision_backbone="resnet"), "config.json: describes no network that can be built"),
    "config endless": (config_of(n_encoder_layers=10**12), "config.json: describes more layers than model.safetensors has tensors"),
    "config other width": (config_of(dim_model=64), f"{WEIGHTS}: tensor '.*' has the shape .*, its config.json describes"),
    "config astronomical": (config_of(dim_feedforward=2**40), "config.json: describes no network .*expected a whole number from 1 to 65536"),
    "config wide": (config_of(dim_feedforward=65_536), f"{WEIGHTS}: tensor '.*' has the shape"),
    "weights empty": (content_of(WEIGHTS, b""), f"{WEIGHTS}: the file is empty"),
    "weights cut off": (content_of(WEIGHTS, None), f"{WEIGHTS}: the tensors take"),
    "weights garbage": (content_of(WEIGHTS, bytes(range(128, 200))), f"{WEIGHTS}: .*not a safetensors document"),
    "weights a pickle": (content_of(WEIGHTS, b"\x80\x04cos\nsystem\n." * 9), f"{WEIGHTS}: .*not a safetensors document"),
    "weights missing": (lambda act: (act / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
    "weights a directory": (lambda act: ((act / WEIGHTS).unlink(), (act / WEIGHTS).mkdir()), f"{WEIGHTS}: no regular file"),
    "weights NaN": (tensors_of(WEIGHTS, filled(HEAD, float("nan"))), f"{WEIGHTS}: tensor '{HEAD}' holds 128 numbers that are NaN or inf"),
    "weights infinite": (tensors_of(WEIGHTS, filled(HEAD, float("-inf"))), f"{WEIGHTS}: tensor '{HEAD}' holds 128 numbers"),
    "weights too large for float32": (
        tensors_of(WEIGHTS, lambda t: {HEAD: t[HEAD].double() * 1e300}), f"{WEIGHTS}: tensor '{HEAD}' holds",
    ),
    "weights int8": (tensors_of(WEIGHTS, lambda t: {HEAD: t[HEAD].to(torch.int8)}), f"{WEIGHTS}: tensor '{HEAD}' is int8, expected a float"),
    "weights bool": (tensors_of(WEIGHTS, lambda t: {HEAD: t[HEAD] > 0}), f"{WEIGHTS}: tensor '{HEAD}' is bool, expected a float"),
    "weights of another shape": (
        tensors_of(WEIGHTS, lambda t: {HEAD: t[HEAD][:, :16].clone()}), rf"{WEIGHTS}: tensor '{HEAD}' has the shape \(4, 16\).*\(4, 32\)",
    ),
    "weights transposed": (tensors_of(WEIGHTS, lambda t: {HEAD: t[HEAD].T.contiguous()}), f"{WEIGHTS}: tensor '{HEAD}' has the shape"),
    "a weight missing": (tensors_of(WEIGHTS, lambda t: {HEAD: None}), rf"{WEIGHTS}: does not fit.*missing tensors \['{HEAD}'\]"),
    "a weight too many": (tensors_of(WEIGHTS, lambda t: {"model.x": t[HEAD].clone()}), rf"{WEIGHTS}: does not.*unexpected tensors \['model.x'\]"),
    "VAE weights int8": (tensors_of(WEIGHTS, lambda t: {VAE: t[VAE].to(torch.int8)}), f"{WEIGHTS}: tensor '{VAE}' is int8"),
    "processor empty": (content_of(PRE, b""), f"{PRE}: the file is empty"),
    "processor cut off": (content_of(PRE, None), f"{PRE}: no usable JSON"),
    "processor garbage": (content_of(PRE, bytes(range(128, 200))), f"{PRE}: no usable JSON"),
    "processor missing": (lambda act: (act / PRE).unlink(), f"{PRE}: is missing beside {POST}"),
    "post-processor cut off": (content_of(POST, None), f"{POST}: no usable JSON"),
    "statistics empty": (content_of(STATE, b""), f"{STATE}: the file is empty"),
    "statistics cut off": (content_of(STATE, None), f"{STATE}: the tensors take"),
    "statistics garbage": (content_of(STATE, bytes(range(128, 200))), f"{STATE}: .*not a safetensors document"),
    "statistics missing": (lambda act: (act / STATE).unlink(), f"{STATE} is missing beside config.json"),
    "statistics NaN": (tensors_of(STATE, filled("action.std", float("nan"))), f"{STATE}: tensor 'action.std' holds 4 numbers"),
    "statistics short": (tensors_of(LAST, lambda t: {"action.std": t["action.std"][:3].clone()}), f"{POST}: .*has 3 numbers .*'std' of 'action'"),
    "statistics without one": (tensors_of(LAST, lambda t: {"action.std": None}), f"{POST}: .*has nothing as 'std' of 'action', expected 4"),
    "an input's statistics without one": (
        tensors_of(STATE, lambda t: {"observation.state.mean": None}), f"{PRE}: .*has nothing as 'mean' of 'observation.state', expected 18",
    ),
    "a rename to a number": (lambda act: edit_step(act, 0, config={"rename_map": {"a": 3}}), f"{PRE}: .*rename_map .*'a': 3"),
    "statistics in the config": (normalizer_of(stats={"action": {"mean": [0.0]}}), rf"{PRE}: .*further settings \['stats'\]"),
    "an eps that is none": (normalizer_of(eps="small"), f"{PRE}: .*has eps 'small'"),
    "a negative eps": (normalizer_of(eps=-1.0), f"{PRE}: .*has eps -1.0"),
    "an unknown mode": (normalizer_of(norm_map={"STATE": "FANCY"}), f"{PRE}: 'normalizer_processor' treats 'observation.state' as 'FANCY'"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_every_damage_is_refused_with_file_and_remedy(tmp_path, name):
    save_act(tmp_path / "act", small_act_config(1 if name == "config no backbone" else 0))
    damage, words = DAMAGES[name]
    damage(tmp_path / "act")
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        load_act_checkpoint(str(tmp_path / "act"))
    text = str(caught.value)
    assert text.startswith(f"policy.act_path={str(tmp_path / 'act')!r}: ")
    assert "opy the " in text
    assert "again" in text
    assert "\n" not in text
    if "missing" not in name:
        assert f"`lerobot-serl-doctor {tmp_path / 'act'}`" in text


UNWANTED = {
    "an extra step": (
        lambda act: poison(act, act, registry_name="time_limit_processor", config={"max_episode_steps": 3}),
        rf"{PRE}: .*extra steps \['time_limit_processor'\]",
    ),
    "an extra step after ACT": (
        lambda act: poison(act, act, POST, registry_name="time_limit_processor", config={"max_episode_steps": 3}),
        rf"{POST}: .*extra steps \['time_limit_processor'\]",
    ),
    "a class of its owner's": (
        lambda act: poison(act, act, POST, **{"class": "half_way.HalfWay", "config": {}}), rf"{POST}: step 0 names the class 'half_way.HalfWay'"
    ),
    "half precision": (lambda act: edit_step(act, 2, config={"device": "cpu", "float_dtype": "float16"}), f"{PRE}: .*into 'float16'"),
    "renames after ACT": (
        lambda act: poison(act, act, POST, registry_name="rename_observations_processor", config={"rename_map": {"a": "b"}}),
        rf"{POST}: the renames .* stand elsewhere",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNWANTED)
def test_what_is_whole_and_cannot_be_used_has_a_remedy_of_its_own(tmp_path, name):
    save_act(tmp_path / "act", small_act_config(0))
    change, words = UNWANTED[name]
    change(tmp_path / "act")
    with pytest.raises(ValueError, match=words) as caught:
        load_act_checkpoint(str(tmp_path / "act"))
    text = str(caught.value)
    assert text.startswith(f"policy.act_path={str(tmp_path / 'act')!r}: ")
    assert "\n" not in text
    assert "again" not in text, "another copy or training would end in the same"
    assert text.endswith(
        (ELSEWHERE, f"Set its float_dtype to null in {PRE}.", "Save the policy without them, and give --policy.act_rename_map.")
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_taken(tmp_path, dtype):
    from lerobot_serl import SerlSacConfig
    from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy

    act, _, _ = save_act(tmp_path, small_act_config(0))
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(tmp_path / WEIGHTS).items()}
    save_file({**tensors, "model.backbone.bn1.num_batches_tracked": torch.tensor(3)}, tmp_path / WEIGHTS)
    policy = SerlSacPolicy(SerlSacConfig(act_path=str(tmp_path), device="cpu", push_to_hub=False))
    weight = policy.agent.act.tensors_in_act()[HEAD]
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight, act.state_dict()[HEAD], atol=0.01, rtol=0.01)


def test_a_missing_postprocessor_is_no_harm(tmp_path):
    save_act(tmp_path, small_act_config(0))
    (tmp_path / POST).unlink()
    read, saved = load_act_checkpoint(str(tmp_path)).processors.features["action"], load_file(tmp_path / STATE)
    assert torch.equal(read.statistics["std"], saved["action.std"])


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    save_act(tmp_path, small_act_config(0))
    (tmp_path / "config.json").unlink()
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ValueError, match=r"config.json: no regular file"):
        load_act_checkpoint(str(tmp_path))


def test_weights_come_out_as_they_were_saved(tmp_path):
    act, _, _ = save_act(tmp_path, small_act_config(1))
    checkpoint = load_act_checkpoint(str(tmp_path))
    assert all(torch.equal(tensor, checkpoint.weights[name]) for name, tensor in act.state_dict().items())
