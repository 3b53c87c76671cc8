"""What the learner's server does with peers that are slow, greedy, broken or unlucky, while others go on working."""

import errno
import queue
import socket
import threading
import time

import grpc
import pytest
from lerobot.transport import services_pb2
from small_data import make_recording
from small_learner import RawActor, SmallLearner

from lerobot_serl.online import server as server_module
from lerobot_serl.online.access import Access
from lerobot_serl.online.limits import ServerLimits
from lerobot_serl.online.server import SERVICE, Busy
from lerobot_serl.replay.episode_message import encode_episode
from lerobot_serl.transport import CHUNK_BYTES, FINISHED, RUN_KEY, THROTTLE_KEY, VERSION_KEY, split

BEGIN, MIDDLE = 1, 2


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(server_module, "POLL_S", 0.05)
    monkeypatch.setattr(server_module, "GOODBYE_S", 0.1)


def eventually(condition, timeout_s=20.0):
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it never happened")


def part(data, state=BEGIN):
    return services_pb2.Transition(transfer_state=state, data=data)


def stalling(*parts):
    """These parts, then nothing: an iterator, and how to end it."""
    waiting = queue.Queue()
    for one in parts:
        waiting.put(one)
    return iter(waiting.get, None), lambda: waiting.put(None)


def test_an_upload_that_stalls_is_cut_and_is_not_told_that_learning_is_over(caplog):
    limits = ServerLimits(grace_s=0.3, bytes_per_s=1e6)
    with SmallLearner(limits=limits) as learner, RawActor(learner.address) as slow, RawActor(learner.address, "other") as honest:
        parts, end = stalling(part(b"x" * 1000))
        call = slow.stream(parts)
        honest.send_recording(make_recording())
        error = call.exception(timeout=20)
        end()
        assert error.code() is grpc.StatusCode.CANCELLED
        assert error.details() != FINISHED
        eventually(lambda: "came too slowly, 1000 bytes" in caplog.text)
        slow.send_recording(make_recording())
        assert len(learner.received) == 2


def test_with_all_places_taken_by_stalled_uploads_an_honest_one_gets_in():
    limits = ServerLimits(uploads=3, stalled_s=0.1)
    with SmallLearner(limits=limits) as learner, RawActor(learner.address) as slow, RawActor(learner.address, "other") as honest:
        streams = [stalling(part(b"x")) for _ in range(3)]
        calls = [slow.stream(parts) for parts, _ in streams]
        eventually(lambda: learner.server._uploads.n_bytes() == 3)
        statuses = []
        eventually(lambda: statuses.append(honest.status_of(lambda: honest.send_recording(make_recording()))[0]) or statuses[-1] == "OK")
        assert set(statuses[:-1]) <= {"RESOURCE_EXHAUSTED"}
        assert sum(call.done() for call in calls) >= 1
        for _, end in streams:
            end()


def test_calls_that_never_say_anything_hold_nobody_up():
    """A single request that never comes would keep gRPC waiting in our thread; here every method is answered without it."""
    limits = ServerLimits(calls=4, calls_per_connection=4)
    with SmallLearner(limits=limits) as learner, RawActor(learner.address) as silent, RawActor(learner.address, "other") as honest:
        ends = []
        for _ in range(20):
            call = silent.channel.stream_unary(f"/{SERVICE}/Ready", None, services_pb2.Empty.FromString)
            parts, end = stalling()
            ends.append(end)
            assert call(parts, metadata=silent.metadata, timeout=20) is not None
        honest.ready()
        for end in ends:
            end()


def test_one_connection_cannot_take_all_calls():
    limits = ServerLimits(calls_per_connection=3)
    with SmallLearner(limits=limits) as learner, RawActor(learner.address) as greedy, RawActor(learner.address, "other") as honest:
        streams = [stalling(part(b"x")) for _ in range(3)]
        for parts, _ in streams:
            greedy.stream(parts)
        eventually(lambda: learner.server._uploads.n_bytes() == 3)
        code, details = greedy.status_of(greedy.ready)
        assert (code, details) == ("RESOURCE_EXHAUSTED", "3 calls of this connection are in progress, which is the limit")
        honest.ready()
        for _, end in streams:
            end()
        eventually(lambda: greedy.status_of(greedy.ready)[0] == "OK")


def test_a_slow_reader_of_the_policy_is_cut(monkeypatch):
    limits = ServerLimits(grace_s=2.0, bytes_per_s=1e9, downloads=1)
    with SmallLearner(limits=limits) as learner, RawActor(learner.address) as slow, RawActor(learner.address, "other") as honest:
        small = learner.publisher.message
        monkeypatch.setattr(learner.publisher, "message", lambda *a, **k: bytes(512 * CHUNK_BYTES))
        call = slow.stub.StreamParameters(services_pb2.Empty(), metadata=slow.metadata)
        next(call)
        monkeypatch.setattr(learner.publisher, "message", small)
        eventually(lambda: honest.status_of(honest.weights)[0] == "OK")
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        assert caught.value.details() != FINISHED


@pytest.mark.parametrize(
    ("failure", "code", "said", "is_logged"),
    [
        (Busy("16 episodes wait for the learner"), "RESOURCE_EXHAUSTED", "16 episodes wait for the learner", False),
        (OSError(errno.ENOSPC, "No space left on device"), "RESOURCE_EXHAUSTED", "the learner's disk is full", True),
        (PermissionError(errno.EACCES, "Permission denied", "/secret/path"), "UNAVAILABLE", "the learner cannot write: Permission denied", True),
        (RuntimeError("boom"), "UNAVAILABLE", "the learner could not take the episode in; see its log", True),
    ],
)  # fmt: skip
def test_an_episode_that_cannot_be_stored_now_is_asked_for_again(failure, code, said, is_logged, caplog):
    with SmallLearner() as learner, RawActor(learner.address) as actor:
        learner.failure = failure
        assert actor.status_of(lambda: actor.send_recording(make_recording(), throttle=True)) == (code, said)
        assert bool(caplog.records) == is_logged
        assert "Refused" not in caplog.text  # the peer did nothing wrong
        learner.failure = None
        actor.send_recording(make_recording())
        assert len(learner.received) == 1


def test_an_episode_that_comes_while_the_learner_ends_is_not_taken(monkeypatch):
    """Nobody would make it durable any more: the actor process keeps it, and learns that learning is over."""
    monkeypatch.setattr(server_module, "GOODBYE_S", 2.0)
    with SmallLearner() as learner, RawActor(learner.address) as actor:
        actor.ready()
        ending = threading.Thread(target=learner.server.stop)
        ending.start()
        eventually(learner.server._closing.is_set)
        assert actor.status_of(lambda: actor.send_recording(make_recording())) == ("CANCELLED", FINISHED)
        ending.join()
        assert not learner.received


def test_a_message_over_the_policys_limit_is_refused_on_the_way():
    with SmallLearner(largest_message_bytes=5000) as learner, RawActor(learner.address) as actor:
        taken = []

        def parts(state):
            for index in range(1000):
                taken.append(index)
                yield part(b"x" * 100, BEGIN if index == 0 else state)
                time.sleep(0.001)

        for state in (MIDDLE, BEGIN):  # a new beginning drops what came before, but counts
            taken.clear()
            code, details = actor.status_of(lambda state=state: actor.stream(parts(state)).result(20))
            assert (code, details) == ("INVALID_ARGUMENT", "message larger than 5000 bytes")
            assert len(taken) < 1000


def test_all_uploads_together_are_bounded():
    with SmallLearner(largest_message_bytes=5000) as learner:
        actors = [RawActor(learner.address, f"arm{i}") for i in range(3)]
        streams = [stalling(part(b"x" * 4500)) for _ in range(2)]
        for actor, (parts, _) in zip(actors, streams, strict=False):
            actor.stream(parts)
        eventually(lambda: learner.server._uploads.n_bytes() == 9000)
        code, details = actors[2].status_of(lambda: actors[2].send(b"x" * 2000))
        assert (code, details) == ("RESOURCE_EXHAUSTED", "other large episodes are coming in; try again")
        for _, end in streams:
            end()
        for actor in actors:
            actor.channel.close()


def test_what_is_no_protobuf_is_refused_without_a_traceback(caplog, capfd):
    with SmallLearner() as learner, RawActor(learner.address) as actor:
        call = actor.channel.stream_unary(f"/{SERVICE}/SendTransitions", None, None)
        for data in (b"\xff" * 50, b"", b"\x0a\xff\xff\xff\xff\x0f"):
            code, details = actor.status_of(lambda data=data: call(iter([data]), metadata=actor.metadata, timeout=20))
            assert code == "DATA_LOSS"
            assert "a part of 0 bytes" in details
        actor.send_recording(make_recording())
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


REFUSED = "FAILED_PRECONDITION"
NONSENSE = [
    *((VERSION_KEY, version, REFUSED) for version in ("-1", "1e9", "x", "1 ", "9" * 19, "9" * 100, "9" * 5000)),
    *((VERSION_KEY, version, "OK") for version in ("", "0", "00", "9" * 18)),
    *((RUN_KEY, run, REFUSED) for run in ("a b", "x" * 65, "../..")),
    *((RUN_KEY, run, "OK") for run in ("", "x" * 64)),
    *((THROTTLE_KEY, throttle, REFUSED) for throttle in ("2", "true", "11")),
    *((THROTTLE_KEY, throttle, "OK") for throttle in ("", "0", "1")),
]


def test_metadata_that_make_no_sense_do_no_harm(caplog):
    with SmallLearner() as learner:
        for index, (key, value, code) in enumerate(NONSENSE):
            with RawActor(learner.address, f"arm{index}", **({RUN_KEY: learner.publisher.run} | {key: value})) as actor:
                assert actor.status_of(actor.weights)[0] == code
        with RawActor(learner.address, "big", extra="x" * 20_000) as big:
            assert big.status_of(big.ready)[0] != "OK"
        with RawActor(learner.address, "good") as actor:
            actor.ready()
    assert "Traceback" not in caplog.text


def test_a_name_is_taken_while_its_process_lives_and_free_soon_after():
    limits = ServerLimits(session_s=0.5)
    with SmallLearner(limits=limits) as learner, RawActor(learner.address) as first, RawActor(learner.address) as second:
        first.ready()
        code, details = second.status_of(second.ready)
        assert code == "ALREADY_EXISTS"
        assert "ipv4:127.0.0.1:" in details
        assert "--name" in details
        parts, end = stalling(part(b"x"))
        first.stream(parts)
        eventually(lambda: learner.server._uploads.n_bytes() == 1)
        time.sleep(0.6)
        assert second.status_of(second.ready)[0] == "ALREADY_EXISTS"  # its call goes on
        first.channel.close()  # as when the process is killed
        eventually(lambda: second.status_of(second.ready)[0] == "OK")
        end()


def test_an_episode_that_came_before_is_acknowledged_at_once_to_a_waiting_actor():
    with SmallLearner() as learner, RawActor(learner.address) as actor:
        episode = actor.send_recording(make_recording())
        actor.send_recording(make_recording(), episode, throttle=True)  # nobody would take it in, and let the actor go
        assert learner.received == [episode]
        learner.server.progressed(True)
        code, _ = actor.status_of(lambda: actor.send_recording(make_recording(), episode, throttle=True, timeout_s=0.5))
        assert code == "DEADLINE_EXCEEDED"  # a learner that is behind holds it like any other
        learner.server.progressed(False)


def test_bad_messages_in_a_row_close_the_ear_for_a_while():
    limits = ServerLimits(refusals=3, penalty_s=60.0)
    with SmallLearner(limits=limits) as learner, RawActor(learner.address) as bad, RawActor(learner.address, "other") as honest:
        statuses = [bad.status_of(lambda: bad.send(b"rubbish"))[0] for _ in range(5)]
        assert statuses == ["INVALID_ARGUMENT"] * 3 + ["RESOURCE_EXHAUSTED"] * 2
        honest.send_recording(make_recording())


def is_beyond_the_streams(end):
    """More streams than the connection may have, begun before its settings came: REFUSED_STREAM of HTTP/2."""
    return end.code().name == "UNAVAILABLE" and "RST_STREAM with error code 7" in end.details()


def test_a_connection_whose_machine_is_gone_is_closed():
    """It answers no ping any more. gRPC's own limit is a minute, whatever is asked of its keepalive."""
    with SmallLearner(limits=ServerLimits(keepalive_s=0.5, ping_s=0.5)) as learner:
        host, _, port = learner.address.rpartition(":")
        settings, acknowledged = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)), bytes((0, 0, 0, 4, 1, 0, 0, 0, 0))
        with socket.create_connection((host, int(port)), timeout=30) as gone:
            gone.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + acknowledged)
            received = b""
            while block := gone.recv(4096):
                received += block
        assert b"ping_timeout" in received


def test_a_flood_without_a_token_is_survived_by_who_has_it():
    token = "a-token-of-more-than-16-letters"
    data = encode_episode(make_recording(), "u")
    with SmallLearner(access=Access(token)) as learner, RawActor(learner.address, token=token) as honest:
        stop, refused = threading.Event(), []

        def flood():
            with RawActor(learner.address, "stranger") as stranger:
                while not stop.is_set():
                    calls = [stranger.stream(split(data, services_pb2.Transition)) for _ in range(30)]
                    ends = [call.exception(timeout=20) for call in calls]
                    refused.extend(end.code().name for end in ends if not is_beyond_the_streams(end))

        attackers = [threading.Thread(target=flood) for _ in range(2)]
        for attacker in attackers:
            attacker.start()
        eventually(lambda: refused)
        eventually(lambda: honest.status_of(lambda: honest.send_recording(make_recording()))[0] == "OK" and len(learner.received) >= 5)
        stop.set()
        for attacker in attackers:
            attacker.join()
        assert set(refused) <= {"UNAUTHENTICATED", "RESOURCE_EXHAUSTED"}
