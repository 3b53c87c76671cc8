"""LoRA adapters on ACT: merged from their tensors as PEFT would merge them, or refused by name."""

import json

import pytest
import torch
from act_checkpoints import save_act, small_act_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_checkpoints import ADAPTER_CONFIG, ADAPTER_WEIGHTS, edit_config, save_adapter
from poisoned_checkpoints import STARTS, witnessed
from safetensors.torch import load_file, save_file

from lerobot_serl.policy.act_checkpoint import load_act_checkpoint

LINEAR, CONVOLUTION = "model.encoder.layers.0.linear1", "model.backbone.layer1.0.conv1"


@pytest.fixture
def base(tmp_path):
    save_act(tmp_path / "base", small_act_config(1))
    return tmp_path / "base"


def settings_of(directory, **changes):
    path = directory / ADAPTER_CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_weights_are_those_that_the_adapter_makes(base, tmp_path):
    merged = save_adapter(base, tmp_path / "lora", {LINEAR: 4, CONVOLUTION: 4})
    weights = load_act_checkpoint(str(tmp_path / "lora")).weights
    assert weights.keys() == merged.keys()
    for name, tensor in merged.items():
        torch.testing.assert_close(weights[name], tensor, atol=1e-5, rtol=1e-5)
    assert (weights[f"{LINEAR}.weight"] - load_act_checkpoint(str(base)).weights[f"{LINEAR}.weight"]).abs().max() > 0.1


def test_without_config_json_saying_so_an_adapter_is_known_by_its_files(base, tmp_path):
    merged = save_adapter(base, tmp_path / "lora", {LINEAR: 4})
    edit_config(tmp_path / "lora", lambda document: document.update(use_peft=False))
    torch.testing.assert_close(load_act_checkpoint(str(tmp_path / "lora")).weights[f"{LINEAR}.weight"], merged[f"{LINEAR}.weight"])


def test_whole_modules_come_from_the_adapter(base, tmp_path):
    save_adapter(base, tmp_path / "lora", {LINEAR: 4}, {"modules_to_save": ["action_head"]})
    own = {f"base_model.model.model.action_head.{name}": torch.full(shape, 3.0) for name, shape in (("weight", (4, 32)), ("bias", (4,)))}
    save_file({**load_file(tmp_path / "lora" / ADAPTER_WEIGHTS), **own}, tmp_path / "lora" / ADAPTER_WEIGHTS)
    assert load_act_checkpoint(str(tmp_path / "lora")).weights["model.action_head.weight"].unique().tolist() == [3.0]


def test_rank_stabilised_lora_has_another_scale(base, tmp_path):
    merged = save_adapter(base, tmp_path / "lora", {LINEAR: 4})
    settings_of(tmp_path / "lora", use_rslora=True, lora_alpha=6)  # 6 / sqrt(4) = 12 / 4
    torch.testing.assert_close(load_act_checkpoint(str(tmp_path / "lora")).weights[f"{LINEAR}.weight"], merged[f"{LINEAR}.weight"])


def test_what_attention_never_calls_is_left_as_it_is(base, tmp_path):
    """PyTorch's attention takes the weight of out_proj; an adapter around that module is not asked, so LeRobot runs without it."""
    name = "model.decoder.layers.0.multihead_attn.out_proj"
    save_adapter(base, tmp_path / "lora", {name: 4, LINEAR: 4})
    weights = load_act_checkpoint(str(tmp_path / "lora")).weights
    assert torch.equal(weights[f"{name}.weight"], load_act_checkpoint(str(base)).weights[f"{name}.weight"])


def test_a_checkpoint_that_is_merged_already_is_taken(base, caplog):
    edit_config(base, lambda document: document.update(use_peft=True))
    assert load_act_checkpoint(str(base)).config.use_peft
    assert "model.safetensors is taken as merged already" in caplog.text


def tensors_of(change):
    def damage(lora):
        tensors = load_file(lora / ADAPTER_WEIGHTS)
        change(tensors)
        save_file(tensors, lora / ADAPTER_WEIGHTS)

    return damage


A = f"base_model.model.{LINEAR}.lora_A.weight"
REFUSED = {
    "another method": (lambda d: settings_of(d, peft_type="IA3"), f"{ADAPTER_CONFIG}: an adapter of type 'IA3', expected plain LoRA"),
    "DoRA": (lambda d: settings_of(d, use_dora=True), "LoRA with use_dora='True', expected plain LoRA"),
    "ranks of its own": (lambda d: settings_of(d, rank_pattern={"x": 2}), "LoRA with rank_pattern="),
    "biases": (lambda d: settings_of(d, bias="all"), "LoRA with bias='all'"),
    "a base that was changed": (lambda d: settings_of(d, init_lora_weights="pissa"), "LoRA with init_lora_weights='pissa'"),
    "no rank": (lambda d: settings_of(d, r="four"), "r='four' and lora_alpha='12', expected numbers"),
    "no base": (lambda d: settings_of(d, base_model_name_or_path=None), "names no base checkpoint"),
    "a base elsewhere": (lambda d: settings_of(d, base_model_name_or_path="/far/away/act"), "base checkpoint '/far/away/act'.* is not here"),
    "a base on the Hub": (  # HF_HUB_OFFLINE
        lambda d: settings_of(d, base_model_name_or_path="someone/act"), "checkpoint 'someone/act'.* is neither here nor to be had from the Hub"
    ),
    "itself": (lambda d: settings_of(d, base_model_name_or_path=str(d)), "is neither here nor .*no model.safetensors there"),
    "a pickle": (lambda d: (d / ADAPTER_WEIGHTS).write_bytes(b"\x80\x04." * 20), f"{ADAPTER_WEIGHTS}: 60 bytes with a header"),
    "no weights": (lambda d: (d / ADAPTER_WEIGHTS).unlink(), f"{ADAPTER_WEIGHTS} is missing"),
    "another shape": (tensors_of(lambda t: t.update({A: torch.zeros(4, 31)})), r"'.*lora_A.weight' of shape \(4, 31\) cannot be merged into"),
    "another rank": (tensors_of(lambda t: t.update({A: torch.zeros(5, 32)})), r"'.*lora_A.weight' of shape \(5, 32\) cannot be merged into"),
    "half of a pair": (tensors_of(lambda t: t.pop(A)), r"'.*lora_B.weight' of shape \(64, 4\) cannot be merged"),
    "integers": (tensors_of(lambda t: t.update({A: torch.zeros(4, 32, dtype=torch.int32)})), r"lora_A.weight' of shape \(4, 32\) cannot be"),
    "an unknown module": (tensors_of(lambda t: t.update({"base_model.model.x.lora_A.weight": torch.zeros(4, 3)})), "the base has no such tensor"),
    "NaN": (tensors_of(lambda t: t[A].fill_(torch.nan)), f"{ADAPTER_WEIGHTS}: tensor '{A}' holds 128 numbers that are NaN"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_merged_is_refused_in_one_sentence(base, tmp_path, name):
    save_adapter(base, tmp_path / "lora", {LINEAR: 4})
    damage, words = REFUSED[name]
    damage(tmp_path / "lora")
    with pytest.raises(ValueError, match=words) as caught:
        load_act_checkpoint(str(tmp_path / "lora"))
    assert str(caught.value).startswith(f"policy.act_path='{tmp_path / 'lora'}': ")
    assert "\n" not in str(caught.value)
    if "expected plain LoRA" in str(caught.value) or "base checkpoint" in str(caught.value):
        assert "model.merge_and_unload().save_pretrained(DIR)" in str(caught.value)
        assert "Copy the checkpoint again" not in str(caught.value)


LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats(allow_nan=False) | st.sampled_from(["LORA", "os.system", "\x1b"])
)
JSON = LEAVES | st.lists(LEAVES, max_size=2) | st.dictionaries(st.text(max_size=4), LEAVES, max_size=2)
PLACES = st.sampled_from(
    ["BASE", "LORA", "../base", "~", "", "/", "\0", "x" * 5000, "someone/act", "\x1b[2J", "https://huggingface.co/a/b"]
)


def test_a_hundred_random_settings_run_nothing(tmp_path):
    base, lora = tmp_path / "base", tmp_path / "lora"
    save_act(base, small_act_config(0))
    save_adapter(base, lora, {LINEAR: 4})
    whole = json.loads((lora / ADAPTER_CONFIG).read_text())
    counts = {"taken": 0, "refused": 0}
    names = st.sampled_from([*whole, "trainable_token_indices", "auto_mapping"])

    @settings(max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(names, JSON, max_size=2), st.just("BASE") | PLACES)
    def examine(changes, place):
        place = {"BASE": str(base), "LORA": str(lora)}.get(place, place)
        (lora / ADAPTER_CONFIG).write_text(json.dumps({**whole, "base_model_name_or_path": place, **changes}))
        refusal = None
        with witnessed() as seen:
            try:
                load_act_checkpoint(str(lora))
            except (ValueError, FileNotFoundError) as error:
                refusal = str(error)
        assert not [event for event in seen if event[0] in STARTS]
        assert not [path for event, path in seen if event == "open" and path.endswith((".pkl", ".bin", ".pt"))]
        counts["taken" if refusal is None else "refused"] += 1
        if refusal is not None:
            assert refusal.startswith(f"policy.act_path={str(lora)!r}: ")
            assert refusal.isprintable()

    examine()
    assert min(counts.values()) > 15, counts
