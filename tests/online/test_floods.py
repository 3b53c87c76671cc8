"""Floods of calls that come to nothing: a few lines, no tracebacks, and what matters is still said."""

import errno
import logging

import pytest
from small_data import make_recording
from small_learner import RawActor, SmallLearner

from lerobot_serl.online import server as server_module
from lerobot_serl.online.access import Access
from lerobot_serl.online.limits import ServerLimits
from lerobot_serl.rejection_log import LINES_PER_PERIOD
from lerobot_serl.transport import RUN_KEY, VERSION_KEY

CALLS = 300
TOKEN = "a-token-of-more-than-16-letters"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(server_module, "POLL_S", 0.05)
    monkeypatch.setattr(server_module, "GOODBYE_S", 0.1)


def check_lines(caplog, begin, calls=CALLS):
    """As many lines as there may be, each in one piece; the last counts the others."""
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == LINES_PER_PERIOD + 1
    assert all(line.startswith(begin) and len(line) < 2000 for line in lines)
    assert f"{begin} {calls - LINES_PER_PERIOD} more" in lines[-1]
    assert all(record.exc_info is None for record in caplog.records)
    return lines


def test_5000_digits_as_a_version(caplog, capfd):
    with SmallLearner() as learner:
        flood = {RUN_KEY: learner.publisher.run, VERSION_KEY: "9" * 5000}
        with RawActor(learner.address, **flood) as bad, RawActor(learner.address, "other") as honest:
            codes = {bad.status_of(bad.weights)[0] for _ in range(CALLS)}
            assert honest.status_of(honest.weights)[0] == "OK"
    assert codes == {"FAILED_PRECONDITION"}
    assert all(line.isprintable() for line in check_lines(caplog, "Refused"))
    assert "Traceback" not in "".join(capfd.readouterr())


def test_nonsense_in_the_head_of_calls_counts_as_unusable():
    limits = ServerLimits(refusals=3, penalty_s=60.0)
    with SmallLearner(limits=limits) as learner, RawActor(learner.address) as bad:
        good = bad.metadata
        bad.metadata = (*good, (VERSION_KEY, "x"))
        assert [bad.status_of(bad.weights)[0] for _ in range(3)] == ["FAILED_PRECONDITION"] * 3
        bad.metadata = good
        assert bad.status_of(bad.weights)[0] == "RESOURCE_EXHAUSTED"


def test_wrong_tokens(caplog):
    with SmallLearner(access=Access(TOKEN)) as learner, RawActor(learner.address, token=f"{TOKEN}x") as bad:
        assert {bad.status_of(bad.ready)[0] for _ in range(CALLS)} == {"UNAUTHENTICATED"}
    assert TOKEN not in "".join(check_lines(caplog, "Refused"))


def test_tiny_bad_episodes(caplog):
    with SmallLearner(limits=ServerLimits(refusals=50)) as learner, RawActor(learner.address) as bad:
        codes = [bad.status_of(lambda: bad.send(b"\x1b[31m"))[0] for _ in range(CALLS)]
        assert set(codes) == {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
    assert all(line.isprintable() for line in check_lines(caplog, "Refused"))


def test_a_fault_of_ours_at_every_episode(caplog, capfd):
    """Its place is written once."""
    with SmallLearner() as learner, RawActor(learner.address) as actor:
        for _ in range(CALLS):
            learner.failure = RuntimeError("boom\nERROR all is lost")  # anew: whoever keeps one keeps its call, and so its stream, open
            assert actor.status_of(lambda: actor.send_recording(make_recording()))[0] == "UNAVAILABLE"
    lines = check_lines(caplog, "Could not serve")
    assert "RuntimeError: boom?ERROR all is lost" in lines[0]
    assert [line.count("in receive\n    raise self.failure") for line in lines] == [1] + [0] * LINES_PER_PERIOD
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_fault_of_ours_at_every_call(caplog, capfd, monkeypatch):
    with SmallLearner() as learner, RawActor(learner.address) as actor:
        monkeypatch.setattr(learner.publisher, "wait_for_newer", lambda *_: {}["version"])
        for _ in range(CALLS):
            assert actor.status_of(actor.weights) == ("UNAVAILABLE", "the learner could not answer; see its log")
    lines = check_lines(caplog, "Could not serve")
    assert "a call failed: KeyError: 'version'" in lines[-2]
    assert "".join(lines).count("_stream_parameters") == 1
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_full_disk_is_said_in_the_middle_of_a_flood(caplog):
    with SmallLearner(limits=ServerLimits(refusals=10_000)) as learner, RawActor(learner.address) as actor:
        for _ in range(CALLS):
            actor.status_of(lambda: actor.send(b"rubbish"))
        for _ in range(CALLS):
            learner.failure = OSError(errno.ENOSPC, "No space left on device")
            assert actor.status_of(lambda: actor.send_recording(make_recording())) == ("RESOURCE_EXHAUSTED", "the learner's disk is full")
    lines = [record.getMessage() for record in caplog.records]
    said = [line for line in lines if "No space left on device. The actor process keeps it and tries again." in line]
    assert len(said) == LINES_PER_PERIOD
    assert len(lines) == 2 * (LINES_PER_PERIOD + 1)
