"""The thread that sends outbox's episodes, against a real server on loopback."""

import resource
import threading
import time

import grpc
import pytest
import torch
from restartable_learner import ROBOT, RestartableLearner, uuids
from small_data import make_recording

from lerobot_serl.actor import client as client_module
from lerobot_serl.actor import rpc_errors
from lerobot_serl.actor.client import LearnerClient
from lerobot_serl.actor.outbox import OnlineDataset, Outbox
from lerobot_serl.actor.received_policy import ReceivedPolicy
from lerobot_serl.actor.rpc_errors import LearnerAway, LearnerFinished, LearnerRefused, NameTaken, answer
from lerobot_serl.actor.sender import Sender, UnsavedError
from lerobot_serl.online import server as server_module
from lerobot_serl.replay.episode_message import encode_episode
from lerobot_serl.transport import FINISHED, MessageError

ONE, TWO = OnlineDataset("one", "test/one"), OnlineDataset("two", "test/two")
PATIENCE_S = 30


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(client_module, "RETRY_S", 0.05)
    monkeypatch.setattr(server_module, "POLL_S", 0.05)
    monkeypatch.setattr(server_module, "GOODBYE_S", 0.1)


def eventually(condition):
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)


def message(uuid, frames=5, **changes):
    return encode_episode(make_recording(frames, **changes), uuid)


class Side:
    """A robot's side: outbox, client, sender."""

    def __init__(self, directory, port, **told):
        self.outbox = Outbox(directory, 10**9)
        self.client = LearnerClient(f"127.0.0.1:{port}", patience_s=PATIENCE_S, name=directory.name, **told)
        self.sender = Sender(self.outbox, self.client)

    def connect(self):
        self.client.connect()
        self.sender.start()

    def keep(self, *names, dataset=ONE):
        for name in names:
            self.sender.keep(dataset, name, message(name))

    def close(self):
        self.sender.finish(0.0, 0.0)
        self.client.close()
        self.sender.join(10)
        self.outbox.close()


@pytest.fixture
def learners(tmp_path):
    """``learners(port=0, **settings)`` starts one; all keep what they get in one directory."""
    started = []

    def start(port=0, **settings):
        started.append(RestartableLearner(tmp_path / "learner", port, **settings))
        return started[-1]

    yield start
    for learner in started:
        learner.server.stop()


@pytest.fixture
def side(tmp_path, learners):
    opened = Side(tmp_path / "spool", learners().port)
    yield opened
    opened.close()


@pytest.fixture
def received(tmp_path):
    return lambda: uuids(tmp_path / "learner")


def crash(learner):
    """End a server as a kill does: without a goodbye."""
    learner.server._server.stop(None).wait(PATIENCE_S)


def test_what_an_earlier_process_left_is_sent_first_and_in_order(tmp_path, learners, received):
    earlier = Outbox(tmp_path / "spool", 10**9)
    names = [f"old-{number:02d}" for number in range(12)]
    for name in names:
        earlier.write(ONE, name, message(name))
    earlier.close()
    side = Side(tmp_path / "spool", learners().port)
    side.keep("new")
    side.connect()
    assert side.sender.wait_for("new", lambda: True)
    assert received() == [*names, "new"]
    assert (side.outbox.pending(ONE), side.sender.waiting, side.sender.problem) == ([], 0, None)
    side.close()


def test_a_bad_episode_and_a_damaged_one_hold_up_no_other(side, received, tmp_path):
    side.sender.keep(ONE, "bad", message("bad", action=torch.zeros(5, 3)))
    side.keep("damaged", "good")
    damaged = side.outbox.pending(ONE)[1]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    side.connect()
    for name in ("bad", "damaged", "good"):
        assert side.sender.wait_for(name, lambda: True)
    assert received() == ["good"]
    assert (tmp_path / "spool" / ONE.directory / "refused" / "00000001-bad.episode").exists()
    assert (tmp_path / "spool" / ONE.directory / "damaged" / "00000002-damaged.episode").exists()
    assert side.sender.waiting == 0


def test_a_learner_that_can_not_write_gets_the_episode_again(tmp_path, learners, received):
    learner = learners()
    learner.failures += [OSError(28, "No space left on device"), server_module.Busy("busy"), OSError(13, "Permission denied")]
    side = Side(tmp_path / "spool", learner.port)
    side.keep("episode")
    side.connect()
    assert side.sender.wait_for("episode", lambda: True)
    assert (learner.calls, received()) == (["episode"] * 4, ["episode"])
    side.close()


def test_wrong_acknowledgements_end_sending_while_weights_come(tmp_path, learners, received):
    learner = learners()
    side = Side(tmp_path / "spool", learner.port)
    side.connect()
    side.keep("first")
    assert side.sender.wait_for("first", lambda: True)
    learner.acknowledged = str.upper
    side.keep("second")
    eventually(lambda: side.sender.problem is not None)
    assert type(side.sender.problem) is LearnerRefused
    assert 'acknowledged {"uuid": "SECOND"' in str(side.sender.problem)
    assert learner.calls == ["first"] + ["second"] * rpc_errors.CONNECTIONS_BELIEVED
    learner.publisher.publish("actor", 7, 8)
    eventually(lambda: side.client._version == 2)
    side.client.check()
    side.close()


def test_three_refused_in_a_row_end_collection(side, received):
    """Whoever collects what will never be taken should know; those that an earlier process left say nothing about now."""
    bad = torch.zeros(5, 3)
    for name in ("old-1", "old-2", "old-3"):
        side.outbox.write(ONE, name, message(name, action=bad))
    for names, action in ((("bad-1", "bad-2"), bad), (("good",), None), (("bad-3", "bad-4"), bad)):
        for name in names:
            side.sender.keep(ONE, name, message(name) if action is None else message(name, action=action))
    side.connect()
    assert side.sender.wait_for("bad-4", lambda: True)
    assert (received(), side.sender.problem) == (["good"], None)
    side.sender.keep(ONE, "bad-5", message("bad-5", action=bad))
    eventually(lambda: side.sender.problem is not None)
    assert str(side.sender.problem).startswith(
        "The learner refused 3 episodes in a row, the last one because of: INVALID_ARGUMENT: 'action' is "
    )


def test_episodes_for_another_dataset_stay(side, received):
    side.keep("theirs", dataset=TWO)
    side.keep("ours")
    side.connect()
    assert side.sender.wait_for("ours", lambda: True)
    assert received() == ["ours"]
    assert len(side.outbox.pending(TWO)) == 1


def test_a_learner_that_is_killed_and_started_again_gets_everything_once(tmp_path, learners, received):
    first = learners()
    lost, back = [], []
    side = Side(tmp_path / "spool", first.port, on_lost=lost.append, on_back=lambda: back.append(side.client._version))
    side.connect()
    side.keep("a")
    assert side.sender.wait_for("a", lambda: True)
    (tmp_path / "learner" / "hold").touch()
    side.keep("b")
    eventually(lambda: "b" in first.calls)
    crash(first)
    eventually(lambda: not side.client.reachable)
    side.keep("c", "d")
    assert (side.sender.waiting, len(lost)) == (3, 1)
    assert side.client.away_s > 0
    (tmp_path / "learner" / "hold").unlink()
    second = learners(first.port)
    for name in ("b", "c", "d"):
        assert side.sender.wait_for(name, lambda: True)
    assert sorted(received()) == ["a", "b", "c", "d"]
    assert side.client.newer_weights()[0]["run"] == second.publisher.run
    assert (back, side.client.away_s) == ([1], 0)
    side.close()


def test_another_learner_at_the_same_place_does_not_get_what_was_collected_for_the_first(tmp_path, learners, received):
    first = learners()
    side = Side(tmp_path / "spool", first.port)
    side.connect()
    crash(first)
    eventually(lambda: not side.client.reachable)
    side.keep("first")
    learners(first.port, dataset="two")
    eventually(lambda: side.client.reachable)
    side.keep("second", dataset=TWO)
    assert side.sender.wait_for("second", lambda: True)
    assert received() == ["second"]
    assert side.outbox.others(TWO) == {"test/one": 1}
    side.close()


def test_a_whole_policy_is_not_lost_over_weights_that_follow_it(learners):
    learner = learners()
    client = LearnerClient(f"127.0.0.1:{learner.port}", patience_s=PATIENCE_S)
    header, tensors = client.connect()
    crash(learner)
    again = learners(learner.port)
    eventually(lambda: client._run == again.publisher.run)
    with torch.no_grad():
        again.agent.critic.head_bias.fill_(3.0)
    again.publisher.publish("actor", 7, 8)
    eventually(lambda: client._version == 2)
    newest = client.newer_weights()
    assert (newest[0]["kind"], newest[0]["version"], newest[0]["fps"]) == ("policy", 2, header["fps"])
    assert newest[1].keys() == tensors.keys()
    assert newest[1]["critic.head_bias"].eq(3.0).all()
    client.close()


def test_a_restarted_learner_with_a_policy_that_does_not_fit_is_refused_by_name(learners):
    learner = learners(**ROBOT)
    client = LearnerClient(f"127.0.0.1:{learner.port}", patience_s=PATIENCE_S)
    header, tensors = client.connect()
    policy = ReceivedPolicy(header, tensors, "cpu", 0)
    policy.replace({**header, "version": 5, "dataset": {"id": "new", "repo_id": "me/new"}}, tensors)
    assert (policy.version, policy.dataset.id) == (5, "new")
    with pytest.raises(MessageError, match=r"horizon was 3, is 2. Start this actor process again too"):
        policy.replace({**header, "config": {**header["config"], "horizon": 2}}, tensors)
    with pytest.raises(MessageError, match="control rate was 10, is 20"):
        policy.replace({**header, "fps": 20}, tensors)
    with pytest.raises(MessageError, match="what the demonstrations say about the robot was"):
        policy.replace({**header, "demonstrations": {**header["demonstrations"], "longest": 7}}, tensors)
    assert (policy.version, policy.config.horizon) == (5, 3)
    client.close()


def test_the_end_of_the_learner_ends_sending_and_keeps_the_rest(tmp_path, learners):
    learner = learners()
    side = Side(tmp_path / "spool", learner.port)
    side.connect()
    learner.server.stop()
    assert side.client.finished.wait(PATIENCE_S)
    side.keep("late")
    assert not side.sender.wait_for("late", lambda: not side.client.finished.is_set())
    assert (side.sender.waiting, side.sender.problem) == (1, None)
    side.close()


def test_a_name_that_stays_taken_ends_the_attempt(tmp_path, learners, monkeypatch):
    monkeypatch.setattr(rpc_errors, "NAME_PATIENCE_S", 0.5)
    learner = learners()
    side = Side(tmp_path / "spool", learner.port)
    side.connect()
    other = LearnerClient(f"127.0.0.1:{learner.port}", patience_s=PATIENCE_S, name="spool")
    with pytest.raises(LearnerRefused, match=r"ALREADY_EXISTS.*--name"):
        other.connect()
    other.close()
    side.close()


class Failed(grpc.RpcError):
    """A call's end, as gRPC reports it."""

    def __init__(self, code, details=""):
        self._code, self._details = code, details

    def code(self):
        return self._code

    def details(self):
        return self._details


@pytest.mark.parametrize(
    ("code", "details", "meaning"),
    [
        ("UNAVAILABLE", "", LearnerAway),
        ("DEADLINE_EXCEEDED", "", rpc_errors.LearnerSilent),
        ("DATA_LOSS", "", LearnerAway),
        ("RESOURCE_EXHAUSTED", "the learner's disk is full", LearnerAway),
        ("INTERNAL", "", LearnerAway),
        ("CANCELLED", FINISHED, LearnerFinished),
        ("CANCELLED", "too slow", LearnerAway),
        ("ALREADY_EXISTS", "", NameTaken),
        ("INVALID_ARGUMENT", "", rpc_errors.EpisodeRefused),
        ("UNAUTHENTICATED", "", LearnerRefused),
        ("FAILED_PRECONDITION", "", LearnerRefused),
        ("UNIMPLEMENTED", "", LearnerRefused),
    ],
)
def test_what_a_status_means(code, details, meaning):
    assert type(answer(Failed(grpc.StatusCode[code], details))) is meaning


def test_without_the_token_it_says_where_to_put_it():
    assert "--token_file=FILE" in str(answer(Failed(grpc.StatusCode.UNAUTHENTICATED, "no token")))


@pytest.fixture
def full_disk():
    """Files can not grow beyond 4 kB, whatever file system it is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda full: resource.setrlimit(resource.RLIMIT_FSIZE, (4096 if full else soft, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def keep_on_full_disk(side, full_disk):
    data = message("large", 1000)
    full_disk(True)
    try:
        with pytest.raises(UnsavedError, match=r"could not be written to the outbox .*File too large.*The episode is in memory"):
            side.sender.keep(ONE, "large", data)
        assert (side.sender.unsaved, side.sender.waiting, side.outbox.pending(ONE)) == (1, 1, [])
    finally:
        full_disk(False)


def test_an_episode_that_can_not_be_written_is_sent_from_memory(side, received, full_disk, monkeypatch, tmp_path):
    monkeypatch.setattr(Outbox, "write", failing_from(2, Outbox.write))  # once by the disk, then for good
    keep_on_full_disk(side, full_disk)
    side.connect()
    side.sender.finish(PATIENCE_S, PATIENCE_S)
    assert received() == ["large"]
    assert (side.sender.unsaved, list((tmp_path / "spool").glob("*/*.episode"))) == (0, [])


def failing_from(first, write):
    calls = []

    def wrapped(self, *arguments):
        calls.append(None)
        if len(calls) >= first:
            raise OSError(28, "No space left on device")
        return write(self, *arguments)

    return wrapped


def test_or_written_when_there_is_room_again(tmp_path, full_disk):
    nobody = Side(tmp_path / "spool", 9)
    nobody.client.dataset = ONE
    keep_on_full_disk(nobody, full_disk)
    nobody.sender.start()  # never connected
    nobody.sender.finish(0.0, PATIENCE_S)
    assert (nobody.sender.unsaved, nobody.sender.waiting) == (0, 1)
    assert nobody.outbox.read(nobody.outbox.pending(ONE)[0]) == message("large", 1000)
    nobody.close()


def test_the_end_does_not_wait_for_a_learner_that_is_away(tmp_path):
    nobody = Side(tmp_path / "spool", 9)
    nobody.client.dataset = ONE
    nobody.keep("a")
    nobody.sender.start()
    done = threading.Thread(target=nobody.sender.finish, args=(10 * PATIENCE_S, 10 * PATIENCE_S))
    done.start()
    done.join(PATIENCE_S)
    assert not done.is_alive()
    assert nobody.sender.waiting == 1
    nobody.close()
