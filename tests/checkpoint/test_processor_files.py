"""Processor files as plain data: whatever stands in them, nothing is imported, called, or opened outside the checkpoint."""

import ast
import json
import os
import random
import re
import sys
from pathlib import Path

import lerobot
import pytest
import torch
from act_checkpoints import save_act, small_act_config, statistics_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lerobot.processor import DeviceProcessorStep, ProcessorStep, ProcessorStepRegistry
from poisoned_checkpoints import STARTS, edit_step, witnessed
from safetensors.torch import load_file, save_file

from lerobot_serl.checkpoint.files import LARGEST_JSON, LARGEST_STATE, CheckpointError, CheckpointFiles
from lerobot_serl.checkpoint.processor_files import (
    ELSEWHERE,
    LOADS_MODELS,
    MOST_STEPS,
    POSTPROCESSOR,
    PREPROCESSOR,
    origin_of,
    read_steps,
    require_harmless,
)
from lerobot_serl.policy.act_checkpoint import load_act_checkpoint

REMEDY = "Copy it again."
REMEDIES = (ELSEWHERE, f"Set its float_dtype to null in {PREPROCESSOR}.", "Save ACT without them, and give --policy.act_rename_map.")
CANARY = "serl_canary"
STATE_FILE = "policy_preprocessor_step_3_normalizer_processor.safetensors"


def files_of(directory):
    return CheckpointFiles(str(directory), directory, "policy.path", REMEDY)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    directory = tmp_path_factory.mktemp("act") / "pretrained_model"
    save_act(directory, small_act_config(0))
    return directory


@pytest.fixture
def act(source, tmp_path):
    """A checkpoint to be damaged."""
    directory = tmp_path / "pretrained_model"
    directory.mkdir()
    for path in source.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    return directory


def test_the_steps_that_lerobot_writes_are_read(source):
    steps = read_steps(files_of(source), PREPROCESSOR)
    assert [step.name for step in steps] == [
        "rename_observations_processor", "to_batch_processor", "device_processor", "normalizer_processor",
    ]  # fmt: skip
    assert steps[3].config["eps"] == 1e-8
    expected = statistics_for(small_act_config(0))
    assert torch.equal(steps[3].state["action.mean"], expected["action"]["mean"])
    assert set(steps[3].state) == {f"{key}.{name}" for key, named in expected.items() for name in named}
    assert [dict(step.state) for step in steps[:3]] == [{}, {}, {}]
    assert read_steps(files_of(source), "other_preprocessor.json") is None


def test_a_step_of_a_plugin_counts_by_its_registered_name_and_is_logged(act, caplog):
    assert origin_of("device_processor") == DeviceProcessorStep.__module__
    assert origin_of("of_a_plugin") is None
    edit_step(act, 1, registry_name="of_a_plugin")
    with pytest.raises(CheckpointError, match=r"step 1 is 'of_a_plugin', a name that neither LeRobot nor an installed plugin"):
        read_steps(files_of(act), PREPROCESSOR)

    @ProcessorStepRegistry.register("of_a_plugin")
    class Step(ProcessorStep):
        def __init__(self):
            raise AssertionError("called")

    try:
        require_harmless(files_of(act), [PREPROCESSOR, POSTPROCESSOR])
    finally:
        ProcessorStepRegistry.unregister("of_a_plugin")
    assert [record.message for record in caplog.records] == [f"{act}: {PREPROCESSOR} runs a step of its own, 'of_a_plugin' of {__name__}."]


HOSTILE = {
    "a class": ({"class": "subprocess.Popen", "registry_name": "x"}, r"step 1 names the class 'subprocess.Popen', which LeRobot's loader"),
    "a class that is no text": ({"class": ["os"]}, r"step 1 names the class \"\['os'\]\""),
    "letters that move the cursor": ({"registry_name": "\x1b[2J\u202e"}, r"step 1 is '\\x1b\[2J\\u202e', a name"),
    "a very long name": ({"registry_name": "x" * 5000}, "a name that neither"),
    "another entry": ({"overrides": {}}, r"step 1 has the entries \['config', 'overrides', 'registry_name'\]"),
    "a config that is none": ({"config": ["os.system"]}, "step 1 has the entries"),
    "no name": ({"registry_name": None}, "step 1 has the entries"),
    "a state file elsewhere": ({"state_file": "../../../etc/passwd"}, r"step 1 has the state file '../../../etc/passwd', expected a plain"),
    "an absolute state file": ({"state_file": "/etc/x.safetensors"}, r"step 1 has the state file '/etc/x.safetensors', expected a plain"),
    "a state file of another kind": ({"state_file": "weights.pkl"}, r"expected a plain name that ends in .safetensors"),
    "no such state file": ({"state_file": "none.safetensors"}, r"none.safetensors is missing beside config.json"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_steps_are_refused_by_name(act, name):
    changes, words = HOSTILE[name]
    edit_step(act, 1, **changes)
    with pytest.raises(CheckpointError, match=words) as caught:
        read_steps(files_of(act), PREPROCESSOR)
    assert str(caught.value).startswith(f"policy.path={str(act)!r}: ")
    assert str(caught.value).endswith(ELSEWHERE if "names the class" in words or "a name" in words else REMEDY)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_a_tensors_name_does_not_move_the_cursor(act):
    save_file({"\x1b[2J.mean": torch.tensor([torch.nan])}, act / "other.safetensors")
    edit_step(act, 1, state_file="other.safetensors")
    with pytest.raises(CheckpointError, match=r"other.safetensors: tensor '\?\[2J.mean' holds 1 numbers"):
        read_steps(files_of(act), PREPROCESSOR)


def test_a_class_of_lerobots_own_passes_only_where_it_is_expected_and_hides_nothing(act):
    identity = "lerobot.processor.pipeline.IdentityProcessorStep"
    path = act / POSTPROCESSOR
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "steps": [{"class": identity, "config": {}}]}))
    assert [step.name for step in read_steps(files_of(act), POSTPROCESSOR, {identity})] == [identity]
    with pytest.raises(CheckpointError, match="names the class"):
        read_steps(files_of(act), POSTPROCESSOR)
    path.write_text(json.dumps({**document, "steps": [{"class": identity, "registry_name": "action_tokenizer_processor", "config": {}}]}))
    with pytest.raises(CheckpointError, match="step 0 has the entries"):  # LeRobot would take the registered one
        read_steps(files_of(act), POSTPROCESSOR, {identity})


@pytest.mark.parametrize("name", sorted(LOADS_MODELS))
def test_steps_that_load_models_and_their_code_are_refused(act, name, monkeypatch):
    """Some of them are registered only when their policy or reward model is imported."""
    monkeypatch.setitem(ProcessorStepRegistry._registry, name, DeviceProcessorStep)
    edit_step(act, 1, registry_name=name, config={"action_tokenizer_name": "somebody/code"})
    with pytest.raises(CheckpointError, match=f"step 1, '{name}', would load a model that its config names, and Python code with it"):
        require_harmless(files_of(act), [PREPROCESSOR])
    require_harmless(files_of(act), [PREPROCESSOR], {name})


def loading_steps():
    """Registered names of the steps in LeRobot's source whose class reaches a call of ``from_pretrained`` or the like."""
    found = set()
    for path in Path(lerobot.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "ProcessorStepRegistry.register(" not in text:
            continue
        parts = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.ClassDef | ast.FunctionDef)}

        def loads(node, seen, parts=parts):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.func.attr.startswith("from_pretrained"):
                    return True
                if isinstance(inner, ast.Name) and inner.id in parts and inner.id not in seen and loads(parts[inner.id], seen | {inner.id}):
                    return True
            return False

        for node in parts.values():
            for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else ():
                if ast.unparse(decorator).startswith("ProcessorStepRegistry.register(") and loads(node, {node.name}):
                    found.add((decorator.args or [keyword.value for keyword in decorator.keywords])[0].value)
    return found


def test_no_other_step_of_lerobot_loads_a_model():
    assert loading_steps() == LOADS_MODELS


LAYOUTS = {
    "another entry": (lambda d: {**d, "overrides": {}}, r"has the entries \['name', 'overrides', 'steps'\]"),
    "no name": (lambda d: {"steps": d["steps"]}, r"has the entries \['steps'\]"),
    "steps that are no list": (lambda d: {**d, "steps": {"class": "os.system"}}, "expected a pipeline's name and its steps"),
    "too many steps": (
        lambda d: {**d, "steps": d["steps"][:1] * (MOST_STEPS + 1)},
        f"{MOST_STEPS + 1} steps, expected at most {MOST_STEPS}",
    ),
    "a step that is none": (lambda d: {**d, "steps": ["os.system"]}, "step 0 is no JSON object"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_another_layout_is_refused(act, name):
    change, words = LAYOUTS[name]
    (act / PREPROCESSOR).write_text(json.dumps(change(json.loads((act / PREPROCESSOR).read_text()))))
    with pytest.raises(CheckpointError, match=f"{PREPROCESSOR}: .*{words}"):
        read_steps(files_of(act), PREPROCESSOR)


TEXTS = {
    "empty": (b"", "the file is empty"),
    "garbage": (bytes(range(128, 200)), "no usable JSON"),
    "cut off": (b'{"name": "x", "steps": [', "no usable JSON"),
    "too large": (b" " * (LARGEST_JSON + 1), f"{LARGEST_JSON + 1} bytes, expected at most {LARGEST_JSON}"),
    "too deep": (b'{"name": "x", "steps": ' + b"[" * 500 + b"]" * 500 + b"}", "nested deeper"),
    "a key twice": (b'{"name": "x", "steps": [], "steps": [{"class": "os.system"}]}', "a key stands twice"),
    "not a number": (b'{"name": "x", "steps": [NaN]}', "NaN is no JSON"),
    "no object": (b"[]", "JSON list"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_are_no_json_are_refused(act, name):
    content, words = TEXTS[name]
    (act / PREPROCESSOR).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{PREPROCESSOR}: .*{words}"):
        read_steps(files_of(act), PREPROCESSOR)


def damaged_states(path):
    """What may be wrong with a state file, by the words that say so."""
    good = path.read_bytes()
    tensors = load_file(path)
    yield "the file is empty", lambda: path.write_bytes(b"")
    yield "not a safetensors document", lambda: path.write_bytes(b"\x80\x04pickle" * 10)
    yield "the tensors take", lambda: path.write_bytes(good[:-40])
    yield "has the dtype 'F8'", lambda: path.write_bytes(good.replace(b'"F32"', b'"F8" ', 1))
    yield f"{LARGEST_STATE + 1} bytes, expected at most", lambda: os.truncate(path, LARGEST_STATE + 1)
    for number in ("nan", "inf"):
        changed = {**tensors, "action.mean": torch.full_like(tensors["action.mean"], float(number))}
        yield "tensor 'action.mean' holds 4 numbers", lambda changed=changed: save_file(changed, path)
    yield "no regular file", lambda: (path.unlink(), os.mkfifo(path))
    yield "no regular file", lambda: path.mkdir()


@pytest.mark.parametrize("index", range(9))
def test_damaged_state_files_are_named(act, index):
    words, damage = list(damaged_states(act / STATE_FILE))[index]
    if index == 8:
        (act / STATE_FILE).unlink()
    damage()
    with pytest.raises(CheckpointError, match=f"{STATE_FILE}: .*{words}"):
        read_steps(files_of(act), PREPROCESSOR)


def test_a_column_that_no_feature_uses_may_hold_what_it_likes(act):
    """Statistics of a whole dataset are saved, also of columns with NaN in them."""
    tensors = load_file(act / STATE_FILE)
    save_file({**tensors, "observation.unused.mean": torch.tensor([float("nan")])}, act / STATE_FILE)
    assert "observation.unused.mean" in read_steps(files_of(act), PREPROCESSOR)[3].state


@pytest.mark.parametrize("features", [5, "action", ["action"], None])
def test_features_of_another_kind_are_no_traceback(act, features):
    edit_step(act, 3, config={"eps": 1e-8, "norm_map": {}, "features": features})
    with pytest.raises(CheckpointError, match=rf"'normalizer_processor' has the features {re.escape(str(features))}, expected a table"):
        load_act_checkpoint(str(act))
    edit_step(act, 3, config={"eps": 1e-8, "features": {}})
    with pytest.raises(CheckpointError, match=r"'normalizer_processor' has the norm_map None, expected a table"):
        load_act_checkpoint(str(act))


def test_links_that_lead_out_are_refused_and_the_hubs_cache_is_not(act, tmp_path):
    outside = tmp_path / "outside.safetensors"
    (act / STATE_FILE).rename(outside)
    (act / STATE_FILE).symlink_to(outside)
    with pytest.raises(CheckpointError, match=f"{STATE_FILE}: a link that leads out of the checkpoint, to {outside}; copy the file"):
        read_steps(files_of(act), PREPROCESSOR)
    (act / STATE_FILE).unlink()
    outside.rename(act / "elsewhere.safetensors")
    (act / STATE_FILE).symlink_to("elsewhere.safetensors")
    assert len(read_steps(files_of(act), PREPROCESSOR)) == 4

    snapshot = tmp_path / "models--me--act" / "snapshots" / "0123"
    blobs, others = tmp_path / "models--me--act" / "blobs", tmp_path / "models--me--other" / "blobs"
    for directory in (snapshot, blobs, others):
        directory.mkdir(parents=True)
    for path in act.iterdir():
        (blobs / f"hash{path.name}").write_bytes(path.read_bytes())
        (others / f"hash{path.name}").write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(f"../../blobs/hash{path.name}")
    assert len(read_steps(files_of(snapshot), PREPROCESSOR)) == 4
    (snapshot / STATE_FILE).unlink()
    (snapshot / STATE_FILE).symlink_to(f"../../../models--me--other/blobs/hash{STATE_FILE}")
    with pytest.raises(CheckpointError, match="a link that leads out"):
        read_steps(files_of(snapshot), PREPROCESSOR)
    (act / PREPROCESSOR).unlink()
    (act / PREPROCESSOR).symlink_to(PREPROCESSOR)
    with pytest.raises(CheckpointError, match="no regular file"):
        read_steps(files_of(act), PREPROCESSOR)


# Random files.

DOTTED = (
    f"{CANARY}.Step", f"{CANARY}.deep.Step", "subprocess.run", "subprocess.Popen", "os.system", "os.mkdir", "builtins.exec", "pathlib.Path.touch",
    "lerobot.processor.device_processor.DeviceProcessorStep", "shutil.rmtree", ".x", "", "\x1b[2J",
)  # fmt: skip
STATE_FILES = (
    STATE_FILE, "bad.safetensors", "huge.safetensors", "link.safetensors", "out.safetensors", "fifo.safetensors", "directory.safetensors",
    "missing.safetensors", "../outside.safetensors", "sub/../../outside.safetensors", "model.safetensors", "config.json", "..", "", "~/x.safetensors",
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8) | st.sampled_from(DOTTED),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
HARMFUL = {"args": ["touch", "MARKER"], "path": "MARKER", "name": "MARKER", "command": "touch MARKER", "stats": {"action": {"mean": [0.0]}}}
CONFIG = st.just({}) | st.dictionaries(st.sampled_from([*HARMFUL, "features", "device"]), JSON, max_size=3) | st.just(HARMFUL)
STANDARD = [
    {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
    {"registry_name": "to_batch_processor", "config": {}},
    {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}},
]


def names():
    return st.sampled_from(sorted(ProcessorStepRegistry.list())) | st.sampled_from(DOTTED) | st.text(max_size=12) | JSON


STATEFUL = st.builds(lambda step, file: {**step, "state_file": file}, st.sampled_from(STANDARD), st.sampled_from(STATE_FILES))
ENTRY = (
    st.sampled_from(STANDARD)
    | STATEFUL
    | st.fixed_dictionaries(
        {},
        optional={
            "registry_name": st.deferred(names),
            "class": st.sampled_from(DOTTED) | JSON,
            "config": CONFIG | JSON,
            "state_file": st.sampled_from(STATE_FILES) | st.text(max_size=8) | JSON,
            "overrides": CONFIG,
            "__class__": st.sampled_from(DOTTED),
        },
    )
)
NORMAL_STEPS = st.just([{"registry_name": "normalizer_processor", "config": "NORMALIZER", "state_file": STATE_FILE}])
DOCUMENT = st.tuples(
    st.lists(ENTRY, max_size=4) | st.lists(st.sampled_from(STANDARD), max_size=4),
    NORMAL_STEPS | st.lists(ENTRY, max_size=1),
    st.just({})
    | st.just({})
    | st.just({})
    | st.dictionaries(st.text(max_size=6) | st.sampled_from(["class", "steps", "name"]), JSON, max_size=1),
    st.integers(0, 2**32),
)


def written(document, act, marker):
    """The text of a processor file: mostly whole, sometimes cut off, changed, nested or with a key twice."""
    first, second, extra, seed = document
    normalizer = json.loads((act / "normalizer.json").read_text())
    text = json.dumps({"name": "policy_preprocessor", "steps": [*first, *second], **extra})
    text = text.replace('"NORMALIZER"', json.dumps(normalizer)).replace("MARKER", str(marker))
    chance = random.Random(seed)
    match chance.randrange(16):
        case 0:
            text = text[: chance.randrange(len(text) + 1)]
        case 1:
            text = text.replace("{", '{"class": "subprocess.run", "class": "os.system", ', chance.randrange(1, 3))
        case 2:
            text = "[" * chance.randrange(2000) + text
        case 3:
            place = chance.randrange(len(text))
            text = text[:place] + chr(chance.randrange(256)) + text[place:]
    return text.encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory, source):
    """A checkpoint with every kind of state file beside it, a canary that tells when it is imported or called, and what was seen."""
    root = tmp_path_factory.mktemp("fuzzed")
    act, marker = root / "pretrained_model", root / "marker"
    act.mkdir()
    for path in source.iterdir():
        (act / path.name).write_bytes(path.read_bytes())
    (act / POSTPROCESSOR).unlink()
    (act / "normalizer.json").write_text(json.dumps(json.loads((act / PREPROCESSOR).read_text())["steps"][3]["config"]))
    outside = root / "outside.safetensors"
    save_file({"x": torch.zeros(2)}, outside)
    (act / "bad.safetensors").write_bytes(b"\x80\x04" * 40)
    (act / "huge.safetensors").touch()
    os.truncate(act / "huge.safetensors", LARGEST_STATE * 4)
    (act / "link.safetensors").symlink_to(STATE_FILE)
    (act / "out.safetensors").symlink_to(outside)
    os.mkfifo(act / "fifo.safetensors")
    (act / "directory.safetensors").mkdir()
    (act / "sub").mkdir()
    (root / f"{CANARY}.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).touch()\ndef Step(*_, **__): pass\n")
    sys.path.insert(0, str(root))
    yield act, marker
    sys.path.remove(str(root))


READERS = {
    "act_path": lambda act: load_act_checkpoint(str(act)),
    "policy.path": lambda act: require_harmless(files_of(act), [PREPROCESSOR]),
}


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_a_thousand_random_processor_files_run_nothing(fuzzed, reader):
    act, marker = fuzzed
    counts = {"accepted": 0, "refused": 0}
    READERS[reader](_whole(act))  # what Python imports on the way is imported now

    @settings(max_examples=1000, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(DOCUMENT)
    def examine(document):
        (act / PREPROCESSOR).write_bytes(written(document, act, marker))
        modules = set(sys.modules)
        with witnessed() as seen:
            try:
                READERS[reader](act)
                refusal = None
            except (ValueError, FileNotFoundError) as error:
                refusal = error
        assert not marker.exists()
        assert CANARY not in sys.modules
        assert not [name for name in set(sys.modules) - modules if not name.startswith(("torch", "lerobot", "hypothesis"))]
        assert not [event for event in seen if event[0] in STARTS]
        inside = f"{os.path.realpath(act)}{os.sep}"
        opened = [path for event, path in seen if event == "open" and not path.endswith((".py", ".pyc"))]
        assert not [path for path in opened if not os.path.realpath(path).startswith(inside)], opened
        if refusal is None:
            counts["accepted"] += 1
            for entry in json.loads((act / PREPROCESSOR).read_text())["steps"]:
                assert "class" not in entry
                assert entry["registry_name"] in ProcessorStepRegistry.list()
        else:
            counts["refused"] += 1
            assert ".json" in str(refusal) or ".safetensors" in str(refusal), refusal
            assert str(act) in str(refusal)
            assert "opy " in str(refusal) or str(refusal).endswith(REMEDIES), refusal
            assert "\x1b" not in str(refusal)

    examine()
    assert counts["accepted"] > 30, counts
    assert counts["refused"] > 300, counts


def _whole(act):
    normalizer = json.loads((act / "normalizer.json").read_text())
    step = {"registry_name": "normalizer_processor", "config": normalizer, "state_file": STATE_FILE}
    (act / PREPROCESSOR).write_text(json.dumps({"name": "policy_preprocessor", "steps": [*STANDARD, step]}))
    return act
