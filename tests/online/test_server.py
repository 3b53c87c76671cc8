"""Learner server, weight publisher, actor client and received policy, over gRPC on loopback."""

import itertools
import json
import logging
import os
import queue
import socket
import threading
import time

import grpc
import pytest
import torch
from lerobot.transport import services_pb2, services_pb2_grpc
from small_data import FPS, assert_same_recording, make_recording
from small_policy import fresh_chunk, small_agent, small_config

from lerobot_serl.actor import client as client_module
from lerobot_serl.actor.client import LearnerClient, LearnerRefused, LearnerUnreachable
from lerobot_serl.actor.received_policy import ReceivedPolicy
from lerobot_serl.actor.rpc_errors import LearnerAway, answer
from lerobot_serl.online import server as server_module
from lerobot_serl.online.collection import MAX_WAITING_EPISODES, Collection
from lerobot_serl.online.limits import ServerLimits
from lerobot_serl.online.server import Busy, EpisodeReceipt, LearnerServer
from lerobot_serl.online.weights import WeightPublisher
from lerobot_serl.policy.parts import OnlineConfig, StartupConfig
from lerobot_serl.policy.progress import Progress
from lerobot_serl.replay.demonstration_stats import DemonstrationStats
from lerobot_serl.replay.episode import policy_input
from lerobot_serl.replay.episode_message import decode_episode, encode_episode
from lerobot_serl.replay.journal import journal_of
from lerobot_serl.replay.plausible import Plausible
from lerobot_serl.replay.store import EpisodeStore, online_features
from lerobot_serl.transport import ACTOR_KEY, PROTOCOL, PROTOCOL_KEY, SESSION_KEY, MessageError, decode, split

DEMO_STATS = DemonstrationStats(
    action_names=("a", "b"), state_names=("a", "x", "y", "z"), action_low=(-2.0, 0.0), action_high=(2.0, 1.0),
    action_step=(0.5, None), start=(0.25, None), median_length=5, longest=6,
)  # fmt: skip
ONE_ENTRY = {"action_low": [0.0], "action_high": [1.0], "action_step": [None], "start": [None]}


NUMBERS = itertools.count()

# Names are free again at once: each test has an actor process of its own.
LIMITS = ServerLimits(session_s=0.0)


class Learner:
    """Server and publisher of a small agent; episodes land in ``received``."""

    def __init__(self):
        self.config = small_config()
        self.agent = small_agent(self.config)
        self.publisher = WeightPublisher(self.agent, self.config, fps=FPS)
        self.received = []
        self.gate = threading.Event()  # receive() returns when this is set
        self.gate.set()
        self.exits = 0
        self.server = LearnerServer("127.0.0.1", 0, self.publisher, self.receive, self.at_exit, limits=LIMITS)

    def receive(self, data):
        uuid, recording = decode_episode(data, self.config.input_features, self.agent.action_dim)
        assert self.gate.wait(20)
        self.received.append((uuid, recording))
        return EpisodeReceipt(uuid, len(recording))

    def at_exit(self):
        self.exits += 1


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch):
    monkeypatch.setattr(client_module, "RETRY_S", 0.05)
    monkeypatch.setattr(server_module, "POLL_S", 0.05)
    monkeypatch.setattr(server_module, "GOODBYE_S", 0.1)


@pytest.fixture(scope="module")
def shared():
    learner = Learner()
    learner.publisher.publish("collect", 0, 0)
    learner.server.start()
    yield learner
    learner.server.stop()


@pytest.fixture
def learner(shared):
    shared.received.clear()
    shared.gate.set()
    shared.server.progressed(False)
    return shared


@pytest.fixture
def client(learner):
    opened = LearnerClient(learner.server.address, patience_s=5, name=f"actor-{next(NUMBERS)}")  # an old name is free only after seconds
    yield opened
    opened.close()


def eventually(condition, timeout_s=15.0):
    """The condition's first truthy value."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("it never happened")


def observation(seed=0):
    recording = make_recording(1, mark=seed + 0.01)
    return {key: value[0] / 100 for key, value in recording.observation.items()}


def send(client, recording, wait_for_learner):
    client.send("an-episode", encode_episode(recording, "an-episode"), wait_for_learner)


def in_thread(function):
    """Run a call elsewhere; its outcome arrives in the queue."""
    outcome = queue.Queue()

    def run():
        try:
            outcome.put(("returned", function()))
        except Exception as error:
            outcome.put(("raised", error))

    threading.Thread(target=run, daemon=True).start()
    return outcome


# The policy on the robot side


@pytest.mark.parametrize("phase", ["collect", "actor"])
def test_a_received_policy_acts_as_the_agent_does(learner, client, phase):
    learner.publisher.publish(phase, 123, 45)
    header, tensors = client.connect()
    policy = ReceivedPolicy(header, tensors, "cpu", seed=7)
    assert (policy.fps, policy.phase, policy.action_dim) == (FPS, phase, 2)
    assert (header["updates"], header["env_steps"]) == (123, 45)
    assert policy.inputs == learner.config.input_features
    generator = torch.Generator().manual_seed(7)
    choices = set()
    policy.begin_episode()
    if phase == "collect":
        policy.begin_episode()  # the first episode is ACT's
    for seed in range(8):
        seen = observation(seed)
        batch = policy_input({key: value.unsqueeze(0) for key, value in seen.items()})
        features, base = learner.agent.cache_features(batch)
        theirs = policy._agent.cache_features(batch)
        assert torch.equal(theirs[0], features)
        assert torch.equal(theirs[1], base)
        assert torch.equal(policy._agent.propose(features, base).chunk, learner.agent.propose(features, base).chunk)
        expected = learner.agent.explore(features, base, phase == "actor", generator)
        chunk = fresh_chunk(policy.practice, seen)
        assert torch.equal(torch.from_numpy(chunk.actions), learner.agent.box.unnormalize(expected.chunk)[0])
        assert chunk.choice == expected.choice.item()
        assert chunk.actions.shape == (learner.config.horizon, 2)
        choices.add(chunk.choice)
    assert len(choices) > (phase == "actor")  # not always the same branch


def test_the_learners_own_tensors_stay_there(learner, client):
    _, tensors = client.connect()
    everything = set(learner.agent.state_dict())
    assert {name for name in everything if name.startswith("critic_target.")}
    assert set(tensors) == {name for name in everything if not name.startswith(("critic_target.", "raw_temperature"))}


def test_newer_weights_arrive_newest_only(learner, client):
    learner.publisher.publish("collect", 0, 0)
    header, tensors = client.connect()
    policy = ReceivedPolicy(header, tensors, "cpu", seed=0)
    assert client.newer_weights() is None
    first = header["version"]
    for updates in (100, 200, 300):
        with torch.no_grad():
            learner.agent.critic.head_bias.fill_(updates)
        learner.publisher.publish("actor", updates, 9)
    newest = eventually(lambda: client._newest is not None and client._newest[0]["version"] == first + 3 and client.newer_weights())
    assert newest[0]["updates"] == 300
    assert {name.partition(".")[0] for name in newest[1]} == {"actor", "corrector", "critic", "edit_scale"}  # ACT travels once
    policy.load(*newest)
    assert (policy.version, policy.phase) == (first + 3, "actor")
    assert policy._agent.critic.head_bias.unique().tolist() == [300.0]
    assert client.newer_weights() is None  # taken


def test_published_weights_are_a_copy(learner):
    learner.publisher.publish("collect", 0, 0)
    snapshot = learner.publisher.wait_for_newer(0, 0)
    before = snapshot.tensors["actor.head.bias"].clone()
    with torch.no_grad():
        learner.agent.actor.head.bias.add_(1.0)
    assert torch.equal(snapshot.tensors["actor.head.bias"], before)
    assert learner.publisher.wait_for_newer(snapshot.version, 0.01) is None


def test_weights_of_another_policy_are_refused(learner, client):
    header, tensors = client.connect()
    policy = ReceivedPolicy(header, tensors, "cpu", seed=0)
    with pytest.raises(MessageError, match="do not fit"):
        policy.load(header, {"actor.head.bias": torch.zeros(1)})
    with pytest.raises(MessageError, match="unknown weights"):
        policy.load(header, {"extra": torch.zeros(1)})
    with pytest.raises(MessageError, match="lacks"):
        ReceivedPolicy(header, {k: v for k, v in tensors.items() if not k.startswith("act.")}, "cpu", 0)
    with pytest.raises(MessageError, match="type 'act', expected 'serl_sac'"):
        ReceivedPolicy({**header, "config": {**header["config"], "type": "act"}}, tensors, "cpu", 0)


# Episodes


def test_an_episode_arrives_as_it_was_sent(learner, client):
    client.connect()
    recording = make_recording(4, "truncated")
    send(client, recording, wait_for_learner=False)
    ((_, received),) = learner.received
    assert_same_recording(recording, received)


def test_large_episodes_are_cut_and_joined(learner, client):
    client.connect()
    recording = make_recording(90_000, "truncated")  # 4 MB of numbers: three parts
    send(client, recording, wait_for_learner=False)
    assert_same_recording(recording, learner.received[0][1])


def test_the_acknowledgement_comes_after_receive_returned(learner, client):
    client.connect()
    learner.gate.clear()
    outcome = in_thread(lambda: send(client, make_recording(), wait_for_learner=False))
    with pytest.raises(queue.Empty):
        outcome.get(timeout=0.4)
    assert learner.received == []
    learner.gate.set()
    assert outcome.get(timeout=15) == ("returned", None)
    assert len(learner.received) == 1


def test_the_throttle_holds_the_acknowledgement_until_the_learner_caught_up(learner, client):
    client.connect()
    outcome = in_thread(lambda: send(client, make_recording(), wait_for_learner=True))
    eventually(lambda: learner.received)
    with pytest.raises(queue.Empty):
        outcome.get(timeout=0.5)
    learner.server.progressed(True)
    with pytest.raises(queue.Empty):
        outcome.get(timeout=0.3)
    learner.server.progressed(False)
    assert outcome.get(timeout=15) == ("returned", None)


def test_a_real_robot_is_never_held(learner, client):
    client.connect()
    learner.server.progressed(True)
    outcome = in_thread(lambda: send(client, make_recording(), wait_for_learner=False))
    assert outcome.get(timeout=15) == ("returned", None)


def raw_stub(learner):
    channel = grpc.insecure_channel(learner.server.address)
    return channel, services_pb2_grpc.LearnerServiceStub(channel)


OURS = ((PROTOCOL_KEY, str(PROTOCOL)), (ACTOR_KEY, "raw"), (SESSION_KEY, "0" * 32))


@pytest.mark.parametrize("data", [b"garbage" * 100, b"", encode_episode(make_recording(action=torch.zeros(5, 3)), "u")])
def test_a_bad_message_is_refused_and_the_server_goes_on(learner, client, data):
    client.connect()
    channel, stub = raw_stub(learner)
    with channel, pytest.raises(grpc.RpcError) as caught:
        stub.SendTransitions(split(data, services_pb2.Transition), metadata=OURS, timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details()
    assert learner.received == []
    send(client, make_recording(), wait_for_learner=False)
    assert len(learner.received) == 1


def test_a_refusal_reaches_the_sender_in_words(learner, client):
    client.connect()
    bad = make_recording(action=torch.full((5, 2), float("nan")))
    with pytest.raises(LearnerRefused, match=r"INVALID_ARGUMENT: '.*action' contains NaN"):
        send(client, bad, wait_for_learner=True)
    send(client, make_recording(), wait_for_learner=False)  # a refusal holds nobody


def test_an_episode_that_breaks_off_is_not_received(learner):
    parts = list(split(bytes(3 * 1024 * 1024), services_pb2.Transition))
    channel, stub = raw_stub(learner)
    with channel, pytest.raises(grpc.RpcError) as caught:
        stub.SendTransitions(iter(parts[:1]), metadata=OURS, timeout=20)
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS
    assert "ended in the middle" in caught.value.details()
    assert learner.received == []


@pytest.mark.parametrize("way", ["there", "back"])
def test_what_was_changed_on_the_way_is_asked_for_again_and_not_refused(learner, client, monkeypatch, way):
    """On the way there an episode, on the way back the weights; both would still decode."""
    good = split(encode_episode(make_recording(), "good"), services_pb2.Transition)

    def change(parts):
        for part in parts:
            part.data = part.data[:-40] + bytes([part.data[-40] ^ 1]) + part.data[-39:]
            yield part

    if way == "there":
        channel, stub = raw_stub(learner)
        with channel, pytest.raises(grpc.RpcError) as caught:
            stub.SendTransitions(change(good), metadata=OURS, timeout=20)
        assert isinstance(answer(caught.value), LearnerAway)
        assert "does not have the checksum" in str(caught.value)
        assert learner.received == []
    else:
        faults = [change]
        real = client_module.join
        monkeypatch.setattr(client_module, "join", lambda parts: real(faults.pop()(parts) if faults else parts))
        header, _ = client.connect()
        assert header["kind"] == "policy"
        assert not faults


# Who may talk to whom


def test_another_protocol_version_is_refused_naming_both(learner, client, monkeypatch):
    monkeypatch.setattr(client_module, "PROTOCOL", 99)
    with pytest.raises(LearnerRefused, match=f"learner speaks protocol {PROTOCOL}, this actor process 99: install the same"):
        client.connect()


@pytest.mark.parametrize("call", ["Ready", "StreamParameters", "SendTransitions"])
def test_every_call_needs_the_protocol_version(learner, call):
    channel, stub = raw_stub(learner)
    episode = split(encode_episode(make_recording(), "u"), services_pb2.Transition)
    calls = {
        "Ready": lambda: stub.Ready(services_pb2.Empty(), timeout=20),
        "StreamParameters": lambda: list(stub.StreamParameters(services_pb2.Empty(), timeout=20)),
        "SendTransitions": lambda: stub.SendTransitions(episode, timeout=20),
    }
    with channel, pytest.raises(grpc.RpcError) as caught:
        calls[call]()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "this actor process none" in caught.value.details()
    assert learner.received == []


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_without_a_learner_patience_ends_with_what_to_do(free_port):
    nobody = LearnerClient(f"127.0.0.1:{free_port}", patience_s=0.5)
    started = time.monotonic()
    with pytest.raises(LearnerUnreachable, match=f"No learner at 127.0.0.1:{free_port} within 0 s. Start lerobot-train"):
        nobody.connect()
    assert 0.5 < time.monotonic() - started < 5
    nobody.close()
    nobody.close()  # may be called twice


def test_a_learner_that_comes_later_is_found(free_port):
    early = LearnerClient(f"127.0.0.1:{free_port}", patience_s=15)
    outcome = in_thread(early.connect)
    time.sleep(0.2)
    learner = Learner()
    learner.server = LearnerServer("127.0.0.1", free_port, learner.publisher, learner.receive, learner.at_exit)
    learner.server.start()
    learner.publisher.publish("critic", 1, 2)
    kind, message = outcome.get(timeout=20)
    assert kind == "returned"
    assert message[0]["phase"] == "critic"
    # The end of the learner reaches the actor; stopping again is harmless.
    learner.server.stop()
    assert early.finished.wait(10)
    learner.server.stop()
    assert learner.exits == 1
    early.close()


def test_for_a_learner_that_is_restarted_the_robot_side_waits(free_port):
    def serve(comes_back):
        learner = Learner()
        learner.publisher.publish("collect", 0, 0)
        address = ("127.0.0.1", free_port)
        learner.server = LearnerServer(*address, learner.publisher, learner.receive, learner.at_exit, limits=LIMITS, comes_back=comes_back)
        learner.server.start()
        return learner

    first = serve(lambda: True)
    lost, back = queue.Queue(), queue.Queue()
    client = LearnerClient(f"127.0.0.1:{free_port}", 15, "arm", on_lost=lost.put, on_back=lambda: back.put("back"))
    client.connect()
    first.server.stop()
    assert "the learner was stopped, and may be started again" in lost.get(timeout=15)
    assert not client.finished.is_set()
    time.sleep(4 * client_module.RETRY_S)
    second = serve(lambda: False)
    assert back.get(timeout=15) == "back"
    assert lost.empty()  # said once, however often it was tried since
    second.server.stop()
    assert client.finished.wait(10)
    client.close()


def test_a_stopped_server_leaves_no_thread():
    """gRPC leaves those of the pool that it was given."""
    before = threading.active_count()
    learner = Learner()
    learner.server.start()
    learner.server.stop()
    eventually(lambda: threading.active_count() <= before)


def test_a_closed_client_does_nothing_more():
    """Its thread reads weights with PyTorch. A process that exits meanwhile is aborted: seen in two of eight tries, and once in CI."""
    learner = Learner()
    learner.publisher.publish("collect", 0, 0)
    learner.server = LearnerServer(
        "127.0.0.1", 0, learner.publisher, learner.receive, learner.at_exit, limits=LIMITS, comes_back=lambda: True
    )
    learner.server.start()
    inside, outside = threading.Event(), threading.Event()

    def busy(_: str) -> None:
        inside.set()
        time.sleep(1.0)
        outside.set()

    client = LearnerClient(learner.server.address, patience_s=15, name="arm", on_lost=busy)
    client.connect()
    learner.server.stop()
    assert inside.wait(15)
    client.close()
    assert outside.is_set()
    client.close()


@pytest.mark.parametrize("address", ["localhost", ":50051", "localhost:", "localhost:http", ""])
def test_an_address_needs_host_and_port(address):
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        LearnerClient(address, 1)


def test_a_port_in_use_is_named(learner):
    port = int(learner.server.address.rpartition(":")[2])
    with pytest.raises(OSError, match=rf"policy.online.port={port}: cannot listen at 127.0.0.1:{port}.*--policy.online.port"):
        LearnerServer("127.0.0.1", port, learner.publisher, learner.receive, learner.at_exit)


# The whole online half


def test_collection_stores_an_episode_once_and_before_it_is_acknowledged(tmp_path, demonstrations, caplog):
    root = tmp_path / "online"
    config = small_config(online=OnlineConfig(repo_id="test/online", root=str(root), port=0, max_lead_steps=5))
    progress = Progress(config)
    collection = Collection(small_agent(config), config, progress, demonstrations.meta, Plausible())
    assert collection.existing() is None
    with caplog.at_level(logging.INFO):
        collection.start(0, 0, resumed=False)
    assert f"lerobot-serl-actor --learner={collection.address}" in caplog.text
    channel = grpc.insecure_channel(collection.address)
    stub = services_pb2_grpc.LearnerServiceStub(channel)
    recording = make_recording(3)
    for uuid in ("one", "one", "two", "one"):
        data = encode_episode(recording, uuid)
        _, call = stub.SendTransitions.with_call(split(data, services_pb2.Transition), metadata=OURS, timeout=20)
        receipt = json.loads(dict(call.trailing_metadata())["serl-receipt"])
        assert (receipt["uuid"], receipt["frames"]) == (uuid, 3)
        assert uuid in journal_of(root).uuids()
    for _ in range(2):
        assert_same_recording(collection.arrived(1.0), recording)
    assert collection.arrived(0.0) is None
    channel.close()
    # The process is not started here: a later run moves what the journal holds into the dataset, and knows what it has.
    collection._writer.finish = lambda: None
    collection._server.stop()
    later = Collection(small_agent(config), config, Progress(config), demonstrations.meta, Plausible())
    assert later.existing().num_episodes == 2
    assert journal_of(root).pending() == []
    receipt = later._receive(encode_episode(recording, "two"))  # the acknowledgement had been lost
    assert (receipt.uuid, receipt.frames) == ("two", 3)
    assert later.arrived(0.0) is None


def test_an_episode_that_no_memory_can_hold_is_refused_before_it_is_acknowledged(tmp_path, demonstrations):
    """Afterwards it ended the learner, at each start again."""
    config = small_config(online=OnlineConfig(repo_id="test/online", root=str(tmp_path / "online"), port=0), buffer_capacity=20)
    collection = Collection(small_agent(config), config, Progress(config), demonstrations.meta, Plausible())
    assert collection._receive(encode_episode(make_recording(20), "fits")).frames == 20
    with pytest.raises(MessageError, match=r"episode of 21 steps, expected at most 20: that is --policy.buffer_capacity"):
        collection._receive(encode_episode(make_recording(21), "does-not"))
    assert journal_of(tmp_path / "online").uuids() == {"fits"}
    collection._writer.finish = lambda: None
    collection._server.stop()


def test_so_many_episodes_may_wait_and_the_next_is_left_with_its_sender(tmp_path, demonstrations):
    config = small_config(online=OnlineConfig(repo_id="test/online", root=str(tmp_path / "online"), port=0))
    collection = Collection(small_agent(config), config, Progress(config), demonstrations.meta, Plausible())
    for number in range(MAX_WAITING_EPISODES):
        collection._receive(encode_episode(make_recording(3), f"{number:02d}"))
    late = encode_episode(make_recording(3), "late")
    with pytest.raises(Busy, match=f"{MAX_WAITING_EPISODES} episodes wait"):
        collection._receive(late)
    assert "late" not in journal_of(tmp_path / "online").uuids()
    collection._receive(encode_episode(make_recording(3), "00"))  # one that is here is acknowledged all the same
    collection.arrived(0.0)
    assert collection._receive(late).is_new
    collection._writer.finish = lambda: None
    collection._server.stop()


def test_a_simulated_actor_waits_from_the_first_step_beyond_the_lead(tmp_path, demonstrations):
    online = OnlineConfig(repo_id="test/online", root=str(tmp_path / "online"), port=0, max_lead_steps=5)
    config = small_config(online=online, startup=StartupConfig(collect_steps=10, critic_updates=0))
    progress = Progress(config)
    collection = Collection(small_agent(config), config, progress, demonstrations.meta, Plausible())
    told = []
    collection._server.progressed = told.append
    for progress.env_steps in (torch.tensor(steps) for steps in (9, 15, 16)):
        collection.ingested()
    assert told == [False, False, True]


def test_the_same_episode_on_two_connections_at_once_is_stored_once(tmp_path, demonstrations):
    config = small_config(online=OnlineConfig(repo_id="test/online", root=str(tmp_path / "online"), port=0))
    collection = Collection(small_agent(config), config, Progress(config), demonstrations.meta, Plausible())
    data = encode_episode(make_recording(3), "one")
    together = threading.Barrier(8)
    real_write = collection._journal.write

    def slow_write(uuid, data):
        time.sleep(0.1)
        real_write(uuid, data)

    collection._journal.write = slow_write

    def receive():
        together.wait()
        return collection._receive(data).uuid

    outcomes = [in_thread(receive) for _ in range(8)]
    assert [outcome.get(timeout=15) for outcome in outcomes] == [("returned", "one")] * 8
    assert collection.arrived(0.0) is not None
    assert collection.arrived(0.0) is None
    assert len(journal_of(tmp_path / "online").pending()) == 1


def test_a_journal_that_cannot_be_written_for_a_while_costs_no_episode(tmp_path, demonstrations):
    """Permission denied; as root, whom nothing is denied, a file stands where the directory has to be."""
    is_root = os.geteuid() == 0
    config = small_config(online=OnlineConfig(repo_id="test/online", root=str(tmp_path / "online"), port=0))
    collection = Collection(small_agent(config), config, Progress(config), demonstrations.meta, Plausible())
    collection.start(0, 0, resumed=False)
    collection._writer.finish = lambda: None
    client = LearnerClient(collection.address, patience_s=5, name="arm")
    client.connect()
    directory, away = journal_of(tmp_path / "online").directory, tmp_path / "away"

    def send(uuid):
        client.send(uuid, encode_episode(make_recording(3), uuid), wait_for_learner=False)

    send("before")
    if is_root:
        directory.rename(away)
        directory.touch()
    else:
        directory.chmod(0o500)
    with pytest.raises(LearnerAway, match=r"UNAVAILABLE: the learner cannot write: (Permission denied|File exists|Not a directory)"):
        send("denied")
    if is_root:
        directory.unlink()
        away.rename(directory)
    else:
        directory.chmod(0o700)
    send("denied")
    client.close()
    collection._server.stop()
    assert journal_of(tmp_path / "online").uuids() == {"before", "denied"}
    assert [collection.arrived(0.0) is None for _ in range(3)] == [False, False, True]  # the one that was denied came in once


def test_the_online_dataset_must_not_be_the_demonstrations(demonstrations):
    config = small_config(online=OnlineConfig(repo_id=demonstrations.repo_id, root=str(demonstrations.root), port=0))
    with pytest.raises(ValueError, match=r"policy\.online\.repo_id='test/tiny'"):
        Collection(small_agent(config), config, Progress(config), demonstrations.meta, Plausible())


def test_nor_when_the_demonstrations_are_an_older_online_dataset(tmp_path, demonstrations):
    older = EpisodeStore("test/older", str(tmp_path / "older"), FPS, online_features(demonstrations.features, False), use_videos=False)
    older.append([("one", make_recording(3))])
    config = small_config(online=OnlineConfig(repo_id="test/older", root=str(tmp_path / "older"), port=0))
    with pytest.raises(ValueError, match="need a dataset of their own"):
        Collection(small_agent(config), config, Progress(config), older.open().meta, Plausible())


def test_counting_on_after_resume(tmp_path, demonstrations):
    config = small_config(online=OnlineConfig(repo_id="test/online", root=str(tmp_path / "online"), port=0))
    progress = Progress(config)
    collection = Collection(small_agent(config), config, progress, demonstrations.meta, Plausible())
    collection._server.start = lambda: None
    collection.start(100, 10, resumed=False)  # episodes of an earlier run are not this run's
    assert (progress.env_steps, progress.episodes) == (0, 0)
    collection.start(130, 13, resumed=True)
    assert (progress.env_steps, progress.episodes) == (30, 3)


def test_a_resumed_run_misses_episodes_that_are_gone(tmp_path, demonstrations, caplog):
    """60 episodes that had become 3 were learnt from in silence. Accepting it counts for one start."""
    root = tmp_path / "online"
    config = small_config(online=OnlineConfig(repo_id="test/online", root=str(root), port=0), in_progress=True)
    store = EpisodeStore("test/online", str(root), FPS, online_features(demonstrations.features, False), use_videos=False)
    store.append([("one", make_recording(3))])
    progress = Progress(config)
    progress.first_online_episode = 2
    progress.first_online_frame = 10
    progress.episodes = 4
    progress.env_steps = 20
    said = rf"{root} holds 1 episodes, and held 6 when.*0 acknowledged episodes wait in.*lerobot-serl-doctor.*accept_lost_episodes=true"
    with pytest.raises(ValueError, match=said):
        Collection(small_agent(config), config, progress, demonstrations.meta, Plausible())
    config.online.accept_lost_episodes = True
    collection = Collection(small_agent(config), config, progress, demonstrations.meta, Plausible())
    assert "The run goes on without them" in caplog.text
    collection._server.start = lambda: None
    collection.start(3, 1, resumed=True)
    assert (progress.env_steps, progress.episodes) == (20, 4)  # pacing and phases go on where they were
    assert not config.online.accept_lost_episodes
    collection.start(8, 2, resumed=True)  # a later start, from the next checkpoint
    assert (progress.env_steps, progress.episodes) == (25, 5)


def test_new_weights_every_publish_every_updates_and_at_every_phase(tmp_path, demonstrations):
    online = OnlineConfig(repo_id="test/online", root=str(tmp_path / "online"), port=0, publish_every=8)
    config = small_config(online=online)
    progress = Progress(config)
    collection = Collection(small_agent(config), config, progress, demonstrations.meta, Plausible())
    collection._server.start = lambda: None
    collection.start(0, 0, resumed=False)
    published = []
    collection._publisher.publish = published_spy(collection._publisher.publish, published)
    progress.env_steps = 10
    progress.episodes = 1
    collection.ingested()
    for _ in range(24):
        progress.updates += 1
        collection.after_update()
    assert published == [("critic", 0), ("critic", 8), ("critic", 16), ("actor", 20), ("actor", 24)]


def whole_policy(publisher):
    return publisher.message(publisher.wait_for_newer(0, 5), whole_policy=True)


def test_the_demo_stats_of_the_demonstrations_reach_the_actor(tmp_path, demonstrations):
    config = small_config(online=OnlineConfig(repo_id="test/online", root=str(tmp_path / "online"), port=0))
    collection = Collection(small_agent(config), config, Progress(config), demonstrations.meta, Plausible(), DEMO_STATS)
    collection._server.start = lambda: None
    collection.start(0, 0, resumed=False)
    header, tensors = decode(whole_policy(collection._publisher))
    assert ReceivedPolicy(header, tensors, "cpu", seed=0).demo_stats == DEMO_STATS


@pytest.mark.parametrize(
    ("demo_stats", "said"),
    [
        ({**DEMO_STATS.to_json(), "longest": 0}, "'longest' is 0"),
        ({**DEMO_STATS.to_json(), "start": [10**400, None]}, "'start' is"),
        ({**DEMO_STATS.to_json(), **ONE_ENTRY}, "1 action entries, its policy 2"),
        ("nonsense", "other entries"),
    ],
)  # fmt: skip
def test_demo_stats_that_do_not_fit_are_refused(demo_stats, said):
    learner = Learner()
    learner.publisher.publish("collect", 0, 0)
    header, tensors = decode(whole_policy(learner.publisher))
    assert header["demonstrations"] is None  # an actor for an environment needs none
    assert ReceivedPolicy(header, tensors, "cpu", seed=0).demo_stats is None
    with pytest.raises(MessageError, match=said):
        ReceivedPolicy({**header, "demonstrations": demo_stats}, tensors, "cpu", seed=0)


def published_spy(publish, published):
    """Calls ``publish`` and notes phase and updates."""

    def spy(phase, updates, env_steps):
        published.append((phase, updates))
        publish(phase, updates, env_steps)

    return spy


def test_a_restarted_learner_is_followed_although_it_counts_from_one_again():
    """Another run's version numbers say nothing: the actor gets the new learner's weights at once."""
    old = Learner()
    for _ in range(5):
        old.publisher.publish("actor", 100, 100)
    old.server.start()
    host, _, port = old.server.address.rpartition(":")
    follower = LearnerClient(old.server.address, patience_s=20)
    try:
        header, _ = follower.connect()
        assert header["version"] == 5
        old.server.stop()
        new = Learner()
        new.server = LearnerServer(host, int(port), new.publisher, new.receive, new.at_exit)
        with torch.no_grad():
            new.agent.actor.head.bias.fill_(0.125)
        new.publisher.publish("collect", 0, 0)
        new.server.start()
        follower._version, follower._run = 5, header["run"]
        message = follower._fetch()
        assert message is not None
        assert message[0]["version"] == 1
        assert message[0]["run"] == new.publisher.run != header["run"]
        assert message[1]["actor.head.bias"].eq(0.125).all()
        follower._remember(message)
        new.publisher.publish("collect", 1, 1)
        message = follower._fetch()
        assert message is not None
        assert message[0]["version"] == 2
        new.server.stop()
    finally:
        follower.close()
