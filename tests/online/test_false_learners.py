"""Learners that lie: whatever one says, the robot side answers with one printable sentence, before it takes memory for it."""

import copy
import json
import logging
import time
from dataclasses import replace

import grpc
import pytest
import torch
from false_learner import FalseLearner, genuine, genuine_of_robot, with_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lerobot.configs import FeatureType, PolicyFeature
from restartable_learner import DEMO_STATS, ROBOT
from small_data import ENV_STATE, INPUTS, STATE, make_recording
from small_policy import fresh_chunk, small_config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lerobot_serl.actor import client as client_module
from lerobot_serl.actor import received_policy
from lerobot_serl.actor.client import LearnerClient
from lerobot_serl.actor.outbox import OnlineDataset, Outbox
from lerobot_serl.actor.received_policy import ReceivedPolicy
from lerobot_serl.online.arriving_parts import ArrivingParts
from lerobot_serl.rejection_log import LINES_PER_PERIOD
from lerobot_serl.replay.episode_message import decode_episode, encode_episode
from lerobot_serl.replay.journal import EpisodeJournal
from lerobot_serl.transport import MessageError, encode

# What run() of lerobot-serl-actor turns into one line and the exit code 1.
ONE_LINE = (MessageError, RuntimeError, ConnectionError)
HUGE = 10**9
ESCAPE = "\x1b[2J\x1b[31m\r\nTraceback (most recent call last):\u202e"
MOST_BYTES = 8 * 1024 * 1024
POLICY = genuine()


class Allocations(TorchDispatchMode):
    """Memory that tensors were given, or asked for in vain, but for those without any."""

    def __init__(self):
        super().__init__()
        self.largest, self.failed = 0, False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        try:
            result = function(*args, **(kwargs or {}))
        except RuntimeError as error:
            self.failed = self.failed or "alloc" in str(error)
            raise
        found = [leaf.nbytes for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor) and not leaf.is_meta]
        self.largest = max([self.largest, *found])
        return result


def field(name, value):
    """A header with another field; ``...`` leaves it out. Dots lead into the configuration."""

    def change(header, tensors):
        *path, last = name.split("/")
        inside = header
        for part in path:
            inside = inside[part]
        if value is ...:
            del inside[last]
        else:
            inside[last] = value

    return name, value, change


def config(name, value):
    return field(f"config/{name}", value)


def tensor(what, change):
    return "tensor", what, change


def raw(what, make):
    return "raw", what, make


def features(count, key="observation.x{}", shape=(1,), kind="STATE"):
    return {"observation.state": {"type": "STATE", "shape": [4]}} | {
        key.format(index): {"type": kind, "shape": list(shape)} for index in range(count)
    }


def poisoned(value):
    return lambda header, tensors: tensors["actor.head.bias"].view(-1)[:1].fill_(value)


def cast(dtype):
    return lambda header, tensors: tensors.update({"actor.head.bias": tensors["actor.head.bias"].to(dtype)})


GOOD = encode(*POLICY)
FALSE = [
    *(field("fps", value) for value in (0, -1, 1001, HUGE, 2**62, "10", 2.5, [10], {}, True, None, ESCAPE, ...)),
    *(field("version", value) for value in (0, -1, "1", 1.0, True, [1], None, ESCAPE, ...)),
    *(field("phase", value) for value in ("", "ACTOR", ESCAPE, ["actor"], 3, None, {}, ...)),
    *(field("updates", value) for value in (-1, "many", 1.5, None, False, ...)),
    *(field("env_steps", value) for value in (-1, [], ESCAPE, ...)),
    *(field("run", value) for value in ("", 3, "a b", "x" * 65, "x\n", ESCAPE, "\u00e9", None, ...)),
    *(field("kind", value) for value in ("weights", "episode", ESCAPE, 3, [], ...)),
    *(field("dataset", value) for value in ("x", [], {"id": 3, "repo_id": "x"}, {"id": "x" * 300, "repo_id": ""}, {"id": ESCAPE})),
    *(field("demonstrations", value) for value in ("x", [], {}, 3, {**DEMO_STATS.to_json(), "longest": 0}, {**DEMO_STATS.to_json(), ESCAPE: 1})),
    field("demonstrations", json.loads(json.dumps(DEMO_STATS.to_json()))),  # of a robot with four joints
    *(field("config", value) for value in (None, [], "serl_sac", 3, {}, [["type", "serl_sac"]], ...)),
    *(config("type", value) for value in ("act", ESCAPE, ["serl_sac"], None, ...)),
    config("unknown", 1), config(ESCAPE, 1), config("x" * 900, "y" * 9000), config("act", 3), config("act", None), config("actor", ESCAPE),
    config("critic", [1]), config("act/dim_model", "large"), config("act/dim_model", None), config("act/dim_model", 2.0),
    config("act/unknown", 1), config("act/feedforward_activation", "tanh"), config("act/normalization_mapping", {"STATE": ESCAPE}),
    config("act/normalization_mapping", None), config("act/normalization_mapping", 3), config("horizon", None), config("horizon", 0),
    config("discount", 2), config("discount", "nan"), config("features", "pixels"), config("features", "cnn"),
    config("schema_version", 2), config("value_range", [1]), config("value_range", [2, 1]), config("actor/edit_scale", [0.1] * 3),
    config("actor/init_std", 5e-324), config("actor/init_std", "nan"), config("actor/hidden_sizes", []), config("actor/hidden_sizes", None),
    *(config(name, HUGE) for name in (
        "horizon", "batch_size", "act/chunk_size", "act/dim_model", "act/n_heads", "act/dim_feedforward", "act/n_encoder_layers",
        "act/n_decoder_layers", "act/latent_dim", "critic/members",
    )),
    *(config(f"{network}/hidden_sizes", sizes) for network in ("actor", "corrector", "critic") for sizes in ([HUGE], [16] * 10_000, [0])),
    # Within the bounds, each on its own; the tensors that came are small.
    config("act", {"chunk_size": 10_000, "dim_model": 8192, "n_heads": 128, "dim_feedforward": 65_536, "n_encoder_layers": 64}),
    config("critic", {"members": 100, "hidden_sizes": [8192] * 16}), config("actor/hidden_sizes", [8192] * 16),
    config("act/n_heads", 3), config("act/vision_backbone", "vgg16"), config("act/vision_backbone", "__doc__"), config("act/n_heads", 32),
    *(config("input_features", value) for value in (
        None, {}, [], 3, "x", {STATE: None}, {STATE: {"type": "STATE"}}, {STATE: {"type": ESCAPE, "shape": [4]}},
        {ENV_STATE: {"type": "ENV", "shape": [3]}}, {STATE: {"type": "STATE", "shape": [4]}}, features(65), features(1, ESCAPE),
        features(1, "x" * 201), features(1, ""), features(1, "observation__state"), features(1, kind="VISUAL", shape=(3, HUGE, HUGE)),
        features(1, kind="VISUAL", shape=(3, 8192, 8192)), features(60, "observation.images.{}", (3, 4096, 4096), "VISUAL"),
        features(1, shape=[]), features(1, shape=[0]), features(1, shape=[-1]), features(1, shape=[1] * 5), features(1, shape=[HUGE]),
        features(1, shape=[2, 2]), features(1, kind="ENV", shape=[100_000]),
    )),
    *(config("output_features", value) for value in (
        None, {}, {"action": {"type": "STATE", "shape": [2]}}, {"move": {"type": "ACTION", "shape": [2]}},
        {"action": {"type": "ACTION", "shape": [3]}}, {"action": {"type": "ACTION", "shape": []}},
        {"action": {"type": "ACTION", "shape": [100_000]}}, {"action": {"type": "ACTION", "shape": [HUGE]}},
    )),
    *(tensor(str(value), poisoned(value)) for value in (float("nan"), float("inf"), -float("inf"))),
    *(tensor(str(dtype), cast(dtype)) for dtype in (torch.float16, torch.float64, torch.int64, torch.bool, torch.uint8, torch.bfloat16)),
    tensor("missing", lambda header, tensors: tensors.pop("actor.head.bias")),
    tensor("all missing", lambda header, tensors: tensors.clear()),
    tensor("unknown", lambda header, tensors: tensors.update(extra=torch.zeros(1))),
    tensor("escape", lambda header, tensors: tensors.update({ESCAPE: torch.zeros(1)})),
    tensor("of the learner", lambda header, tensors: tensors.update(raw_temperature=torch.zeros(()))),
    tensor("larger", lambda header, tensors: tensors.update({"edit_scale": torch.zeros(3)})),
    tensor("scalar", lambda header, tensors: tensors.update({"edit_scale": torch.zeros(())})),
    tensor("nothing", lambda header, tensors: tensors.update({"edit_scale": torch.zeros(0)})),
    raw("1e400", lambda: with_text(GOOD, '"fps": 10', '"fps": 1e400')),
    raw("NaN", lambda: with_text(GOOD, '"fps": 10', '"fps": NaN')),
    raw("5000 digits", lambda: with_text(GOOD, '"version": 1', f'"version": {"9" * 5000}')),
    raw("twice", lambda: with_text(GOOD, '"fps": 10', '"fps": 10, "fps": 20')),
    raw("deep", lambda: with_text(GOOD, '"fps": 10', f'"fps": {"[" * 400_000}')),
    raw("no unicode", lambda: with_text(GOOD, '"fps": 10', '"fps": "\\ud800"')),
    raw("nothing", lambda: b""), raw("garbage", lambda: b"\xff" * 1000), raw("pickle", lambda: b"\x80\x04cos\nsystem\n"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(client_module, "RETRY_S", 0.02)


@pytest.fixture(scope="module")
def learner():
    with FalseLearner() as running:
        yield running


def receive(address):
    """What lerobot-serl-actor does before it looks for a world."""
    client = LearnerClient(address, patience_s=0.0)
    try:
        header, tensors = client.connect()
        return ReceivedPolicy(header, tensors, "cpu", seed=0)
    finally:
        client.close()


def is_one_sentence(text):
    return text.isprintable() and 10 < len(text) < 1000


def test_the_genuine_policy_is_taken_and_acts(learner):
    learner.messages = [encode(*POLICY)]
    chunk = fresh_chunk(receive(learner.address).practice, {key: value[0] for key, value in make_recording(1).observation.items()})
    assert chunk.actions.shape == (3, 2)


@pytest.mark.parametrize(("name", "value", "change"), FALSE, ids=[f"{i}" for i in range(len(FALSE))])
def test_a_lie_becomes_one_sentence_and_takes_no_memory(learner, name, value, change):
    if name == "raw":
        message = change()
    else:
        header, tensors = copy.deepcopy(POLICY)
        change(header, tensors)
        message = encode(header, tensors)
    learner.messages = [message]
    started = time.monotonic()
    with Allocations() as memory, pytest.raises(ONE_LINE) as caught:
        receive(learner.address)
    assert is_one_sentence(str(caught.value)), str(caught.value)
    assert (memory.largest < MOST_BYTES, memory.failed) == (True, False), (name, value)
    assert time.monotonic() - started < 10  # it takes a fraction of a second; without bounds it is hours


def test_there_are_enough_of_them():
    assert len(FALSE) >= 60


def test_networks_that_cannot_act_are_not_tried_on_a_robot(learner):
    """Every tensor is there; but LeRobot's ACT halves the numbers between two of its layers with this setting, and does not fit itself."""
    learner.messages = [encode(*genuine(act=replace(small_config().act, feedforward_activation="glu")))]
    with pytest.raises(MessageError, match=r"the learner's policy cannot act: RuntimeError: "):
        receive(learner.address)


def test_numbers_that_do_not_travel_are_counted_too(learner, monkeypatch):
    """Interpolation is no tensor of the message."""
    header, tensors = copy.deepcopy(POLICY)
    learner.messages = [encode(header, tensors)]
    receive(learner.address)
    monkeypatch.setattr(received_policy, "SPARE_BYTES", -sum(value.nbytes for value in tensors.values()))
    with pytest.raises(MessageError, match="would take 0 MB, of which it sent 0 MB"):
        receive(learner.address)


def test_nothing_of_a_learners_configuration_names_a_file_or_is_downloaded(learner, monkeypatch):
    import torch.hub

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("it is downloaded"))
    camera = {"observation.images.front": PolicyFeature(FeatureType.VISUAL, (3, 32, 32))}
    header, tensors = genuine(input_features={**INPUTS, **camera})
    places = {
        "act_path": "/etc", "act_source": ESCAPE, "metrics_dir": "/etc", "pretrained_path": "/etc/passwd", "pretrained_revision": "x",
        "repo_id": "me/x", "push_to_hub": True, "device": "cuda:7", "online": {"token_file": "/etc/passwd", "repo_id": "me/x"},
    }  # fmt: skip
    header["config"].update(places)
    learner.messages = [encode(header, tensors)]
    config = receive(learner.address).config
    assert not any(str(getattr(config, name)) == str(value) for name, value in places.items())
    assert (config.device, config.online.enabled) == ("cpu", False)


def test_a_learner_of_an_earlier_release_has_settings_that_went(learner):
    header, tensors = copy.deepcopy(POLICY)
    header["config"]["act"]["pretrained_backbone_weights"] = None
    header["config"]["actor"]["mode"] = "edit"
    learner.messages = [encode(header, tensors)]
    receive(learner.address)
    header["config"]["act"]["pretrained_backbone_weights"] = "ResNet18_Weights.IMAGENET1K_V1"
    learner.messages = [encode(header, tensors)]
    with pytest.raises(MessageError, match=r"pretrained_backbone_weights='ResNet18_Weights.IMAGENET1K_V1': expected None"):
        receive(learner.address)


def test_names_of_joints_are_made_printable_and_may_not_be_the_same():
    header, tensors = genuine_of_robot(**ROBOT)
    header["demonstrations"] = json.loads(json.dumps(header["demonstrations"]))
    header["demonstrations"]["action_names"][0] = f"a{ESCAPE}"
    assert ReceivedPolicy(header, tensors, "cpu", 0).demo_stats.action_names[0].isprintable()
    header["demonstrations"]["action_names"] = ["a"] * 4
    with pytest.raises(MessageError, match="two entries alike"):
        ReceivedPolicy(header, tensors, "cpu", 0)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_what_a_status_says_is_made_printable(learner, code):
    learner.status = code, f"{ESCAPE}{'x' * 3000}"
    try:
        with pytest.raises(ONE_LINE) as caught:
            receive(learner.address)
    finally:
        learner.status = None
    assert is_one_sentence(str(caught.value)), str(caught.value)


@pytest.mark.parametrize("receipt", ["", "\x7f[2J", "[" * 5000, '{"uuid": 3}', '"u"', "9" * 5000])
def test_a_false_receipt_acknowledges_nothing(learner, receipt):
    learner.messages, learner.receipt = [encode(*POLICY)], lambda data: receipt
    client = LearnerClient(learner.address, patience_s=0.0)
    try:
        client.connect()
        with pytest.raises(ONE_LINE) as caught:
            client.send("u", encode_episode(make_recording(), "u"), wait_for_learner=False)
    finally:
        client.close()
    assert is_one_sentence(str(caught.value)), str(caught.value)


# Newer weights


TRAINED = ("actor.", "corrector.", "critic.", "edit_scale")


def weights(header, tensors, version, change=lambda header, tensors: None):
    """A message with newer ones, as the learner's publisher makes it."""
    said = {name: header[name] for name in ("run", "phase", "updates", "env_steps")} | {"kind": "weights", "version": version}
    newer = {name: value.clone() for name, value in tensors.items() if name.startswith(TRAINED)}
    change(said, newer)
    return encode(said, newer)


BAD_WEIGHTS = [
    ("seen by the client", lambda header, tensors: header.update(phase=ESCAPE)),
    ("seen by the client", lambda header, tensors: header.update(version="2")),
    ("seen by the client", lambda header, tensors: header.update(run="another")),
    ("seen by the policy", poisoned(float("nan"))),
    ("seen by the policy", cast(torch.float64)),
    ("seen by the policy", lambda header, tensors: tensors.update({ESCAPE: torch.zeros(1)})),
    ("seen by the policy", lambda header, tensors: tensors.update({"edit_scale": torch.zeros(3)})),
    ("seen by the policy", lambda header, tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("corrector.")]),
]


def test_a_network_that_is_missing_is_named():
    """The robot would act with its old weights, and nobody would know."""
    header, tensors = POLICY
    policy = ReceivedPolicy(header, tensors, "cpu", 0)
    newer = {name: value.clone() for name, value in tensors.items() if name.startswith(TRAINED) and not name.startswith("critic.")}
    with pytest.raises(MessageError, match=r"the learner's weights lack critic \(critic.biases.0, "):
        policy.load({**header, "kind": "weights", "version": 2}, newer)
    assert policy.version == 1


def test_a_learner_that_has_nothing_and_says_so_at_once_is_not_asked_without_end(learner, monkeypatch, caplog):
    """It kept a core of the robot side busy, at first and afterwards."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(client_module, "EMPTY_CALL_S", pause_s := 0.1)
    learner.messages, learner.calls = [None] * 3 + [encode(*POLICY), None], 0
    client = LearnerClient(learner.address, patience_s=5.0)
    try:
        began_s = time.monotonic()
        client.connect()
        assert learner.calls >= 4
        assert caplog.text.count("has no policy to send yet; waiting for it.") == 1
        time.sleep(0.5)
        # The policy itself is followed by the next question at once.
        assert learner.calls <= 2 + (time.monotonic() - began_s) / pause_s
    finally:
        client.close()


@pytest.mark.parametrize(("by", "change"), BAD_WEIGHTS)
def test_bad_newer_weights_are_asked_for_again_and_the_old_ones_go_on(learner, by, change, caplog):
    header, tensors = POLICY
    bad, good = weights(header, tensors, 2, change), weights(header, tensors, 3, lambda _, newer: newer["actor.head.bias"].fill_(3.0))
    learner.messages, learner.run = [encode(header, tensors), None], header["run"]
    client = LearnerClient(learner.address, patience_s=5.0)
    try:
        policy = ReceivedPolicy(*client.connect(), "cpu", 0)
        before = {name: value.clone() for name, value in policy._agent.state_dict().items()}
        learner.messages = [*[bad] * 30, good, None]
        until = time.monotonic() + 30
        while policy.version == 1 and time.monotonic() < until:
            if (newer := client.newer_weights()) is not None:
                try:
                    policy.load(*newer)
                except MessageError as error:
                    assert torch.equal(policy._agent.actor.head.bias, before["actor.head.bias"])
                    client.ask_again(policy.version, error)
            time.sleep(0.005)
        assert policy.version == 3
        assert policy._agent.actor.head.bias.unique().tolist() == [3.0]
        assert client.reachable
        client.check()
    finally:
        client.close()
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert f"Unusable weights from {learner.address}: " in lines[0]
    assert all(line.isprintable() and len(line) < 1000 for line in lines)
    assert len(lines) <= LINES_PER_PERIOD + 1
    assert all(record.exc_info is None for record in caplog.records)


def test_bad_weights_behind_a_whole_policy_that_nobody_has_taken_do_not_spoil_it(learner):
    header, tensors = POLICY
    learner.messages, learner.run = [encode(header, tensors), None], header["run"]
    client = LearnerClient(learner.address, patience_s=5.0)
    try:
        policy = ReceivedPolicy(*client.connect(), "cpu", 0)
        client._remember((header, tensors))  # of a learner that was started anew
        good = weights(header, tensors, 3)
        learner.messages = [weights(header, tensors, 2, poisoned(float("nan"))), good, None]
        until = time.monotonic() + 30
        while client._version != 3 and time.monotonic() < until:
            time.sleep(0.01)
        policy.replace(*client.newer_weights())
        assert policy.version == 3
    finally:
        client.close()


# Anything else


def places(value, path=()):
    """Paths of everything in a JSON value."""
    yield path
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*path, key))


PLAIN = json.loads(json.dumps(POLICY[0]))
PATHS = [path for path in places(PLAIN) if path]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
    | st.sampled_from([0, 1, -1, HUGE, 2**31, 2**62, "nan", "inf", ESCAPE, [], {}, [1] * 100]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(PATHS), VALUES | st.just(...)), min_size=1, max_size=3))
def test_any_header_makes_a_policy_or_a_message_error(changes):
    header = copy.deepcopy(PLAIN)
    for path, value in changes:
        inside = header
        for key in path[:-1]:
            inside = inside.get(key) if isinstance(inside, dict) else None
        if isinstance(inside, dict) and path[-1] in inside:
            if value is ...:
                del inside[path[-1]]
            else:
                inside[path[-1]] = value
    with Allocations() as memory:
        try:
            policy, said = ReceivedPolicy(header, dict(POLICY[1]), "cpu", 0), "it was taken"
            fresh_chunk(policy.practice, {key: torch.zeros(feature.shape) for key, feature in policy.inputs.items()})
        except MessageError as error:
            said = str(error)
    assert is_one_sentence(said)
    assert (memory.largest < MOST_BYTES, memory.failed) == (True, False)


NOT_OURS = ["lock", "damaged", "refused", "unnamed", ".", "..", "dataset.json", "a/b", "A" * 32, "g" * 32, "1" * 31, "1" * 33, ESCAPE]


@pytest.mark.parametrize("name", NOT_OURS)
def test_no_id_of_a_dataset_meets_another_name_in_the_outbox(tmp_path, name):
    dataset = OnlineDataset.of({"dataset": {"id": name, "repo_id": f"me/{ESCAPE}"}})
    assert dataset.repo_id.isprintable()
    assert dataset.directory not in NOT_OURS
    outbox = Outbox(tmp_path / "spool", 10**9)
    outbox.write(dataset, "a", b"1")
    assert [outbox.read(path) for path in outbox.pending(dataset)] == [b"1"]
    assert all(other.isprintable() for other in outbox.others(OnlineDataset()))
    outbox.close()


# The real process


def actor(processes, learner, tmp_path, *flags):
    world = ("--robot.type=two_arms", "--robot.lockstep=true", "--episode_time_s=0.4", "--safety.max_observation_age_s=10")
    where = (f"--learner={learner.address}", f"--spool_dir={tmp_path / 'spool'}", "--name=arm", "--patience_s=1")
    return processes.start("actor", tmp_path / "log", *where, *world, *flags)


def robots_policy():
    return genuine_of_robot(**ROBOT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [("phase", ESCAPE), ("config/act/n_encoder_layers", HUGE), ("fps", 0), ("config/input_features", {ESCAPE: {}})],
)
def test_the_process_ends_with_a_sentence(processes, learner, tmp_path, name, value):
    header, tensors = robots_policy()
    field(name, value)[2](header, tensors)
    learner.messages = [encode(header, tensors)]
    process = actor(processes, learner, tmp_path)
    assert process.end() == 1, process.output
    assert not any(line.startswith("Traceback") for line in process.output.splitlines())
    assert all(line.isprintable() and len(line) < 1200 for line in process.output.splitlines())
    assert "learner" in process.output


@pytest.mark.slow
def test_the_process_ends_with_the_learners_refusal(processes, learner, tmp_path):
    learner.status = grpc.StatusCode.FAILED_PRECONDITION, f"no\n{ESCAPE}{'x' * 5000}"
    try:
        process = actor(processes, learner, tmp_path)
        assert process.end() == 1, process.output
    finally:
        learner.status = None
    assert "FAILED_PRECONDITION: no?" in process.output
    assert all(line.isprintable() and len(line) < 1200 for line in process.output.splitlines())


@pytest.mark.slow
def test_the_process_outlives_bad_weights(processes, learner, tmp_path):
    header, tensors = robots_policy()
    bad, good = weights(header, tensors, 2, poisoned(float("nan"))), weights(header, tensors, 3)
    asked = []

    def answer(known):
        asked.append(known)
        if known == 1:
            return bad if asked.count(1) <= 3 * LINES_PER_PERIOD else good
        time.sleep(0.02)
        return encode(header, tensors) if known == 0 else None

    parts = ArrivingParts(EpisodeJournal(tmp_path / "parts"), 1000)

    def receipt(data):
        if (part := parts.take(data, ROBOT["input_features"])) is not None:
            return json.dumps({"uuid": part.uuid, "frames": 0, "parts": part.parts})
        uuid, recording = decode_episode(data, ROBOT["input_features"], 4, parts.find)
        return json.dumps({"uuid": uuid, "frames": len(recording)})

    learner.answer, learner.receipt, learner.run = answer, receipt, header["run"]
    try:
        process = actor(processes, learner, tmp_path, "--n_episodes=80")
        assert process.end() == 0, process.output
    finally:
        learner.answer = None
    assert "Stopped after 80 episodes" in process.output
    assert "weights 3" in process.output.splitlines()[-3]
    assert asked.count(1) == 3 * LINES_PER_PERIOD + 1
    assert process.output.count("Unusable weights from") == LINES_PER_PERIOD + 1  # and how many more there were
    assert "Traceback" not in process.output
    assert all(line.isprintable() for line in process.output.splitlines())
