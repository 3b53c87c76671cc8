"""A seeded flood of broken, lying and malicious messages: each is refused, nothing is executed, honest actors go on."""

import importlib
import importlib.util
import pickle
import threading
from pathlib import Path

import pytest
from lerobot.transport import services_pb2
from small_data import make_recording
from small_learner import RawActor, SmallLearner

from lerobot_serl.online import server as server_module
from lerobot_serl.online.limits import ServerLimits
from lerobot_serl.replay.episode_message import decode_episode
from lerobot_serl.transport import MessageError

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmark" / "hostile_messages.py"
specification = importlib.util.spec_from_file_location("hostile_messages", SCRIPT)
hostile = importlib.util.module_from_spec(specification)
specification.loader.exec_module(hostile)

KINDS = sorted(hostile.Attacks(0, Path("unused")).kinds)


@pytest.mark.parametrize("kind", KINDS)
def test_every_hostile_message_is_refused(tmp_path, kind):
    marker = tmp_path / "executed"
    attacks = hostile.Attacks(KINDS.index(kind), marker)
    reasons = []
    for _ in range(200):
        data = attacks.kinds[kind]()
        try:
            _, recording = decode_episode(data, hostile.INPUTS, hostile.ACTION_DIM)
        except MessageError as error:
            reasons.append(str(error))
        else:
            assert kind == hostile.CHANGED, data[:300]
            assert hostile.is_sound(recording)
    assert max(map(len, reasons)) < 1000  # they go into a status line and a log
    assert not marker.exists()


def test_the_bomb_is_live(tmp_path):
    pickle.loads(pickle.dumps(importlib.import_module("hostile_attacks").Bomb(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()


def test_an_honest_actor_goes_on_beside_garbage_and_slow_senders(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(server_module, "POLL_S", 0.05)
    monkeypatch.setattr(server_module, "GOODBYE_S", 0.1)
    attacks = hostile.Attacks(1, tmp_path / "executed")
    limits = ServerLimits(grace_s=1.0, refusals=10_000, uploads=4, stalled_s=0.2)
    done = threading.Event()

    def stall():
        yield services_pb2.Transition(transfer_state=1, data=b"x")
        done.wait(30)

    with SmallLearner(limits=limits) as learner, RawActor(learner.address, "honest") as honest:
        strangers = [RawActor(learner.address, f"stranger{i}") for i in range(3)]
        slow = [strangers[0].stream(stall()) for _ in range(4)]
        statuses = {"garbage": [], "honest": []}

        def send_garbage(stranger):
            for index in range(120):
                data = attacks.kinds[KINDS[index % len(KINDS)]]()
                statuses["garbage"].append(stranger.status_of(lambda data=data: stranger.send(data))[0])

        threads = [threading.Thread(target=send_garbage, args=(stranger,)) for stranger in strangers[1:]]
        for thread in threads:
            thread.start()
        sent = 0
        while sent < 20 or any(thread.is_alive() for thread in threads):
            statuses["honest"].append(honest.status_of(lambda: honest.send_recording(make_recording()))[0])
            sent += statuses["honest"][-1] == "OK"
        for thread in threads:
            thread.join()
        for call in slow:
            assert call.exception(timeout=30) is not None
        done.set()
        assert set(statuses["garbage"]) <= {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
        assert "INVALID_ARGUMENT" in statuses["garbage"]
        assert set(statuses["honest"]) <= {"OK", "RESOURCE_EXHAUSTED"}  # the latter is tried again
        assert len(learner.received) == sent >= 20
        for stranger in strangers:
            stranger.channel.close()
    assert not (tmp_path / "executed").exists()
    assert "Traceback" not in caplog.text
    assert sum("Refused" in record.getMessage() for record in caplog.records) <= 25  # hundreds of refusals, a few lines
