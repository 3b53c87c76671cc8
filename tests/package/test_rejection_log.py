"""The log of refusals: each peer by its address, and never more than so many lines."""

import logging

from lerobot_serl import rejection_log
from lerobot_serl.rejection_log import LINES_PER_PERIOD, RejectionLog


def test_a_flood_is_counted_not_written(caplog, monkeypatch):
    log = RejectionLog(logging.getLogger("test"))
    for index in range(1000):
        log.note(f"ipv4:192.0.2.{index % 250}:1", "no token")
    assert len(caplog.records) == LINES_PER_PERIOD
    assert caplog.records[0].getMessage() == "Refused ipv4:192.0.2.0:1: no token"
    assert "only counted" in caplog.records[-1].getMessage()
    monkeypatch.setattr(rejection_log, "PERIOD_S", -1.0)  # the minute is over
    log.note("ipv4:192.0.2.9:1", "no token")
    assert f"Refused {1000 - LINES_PER_PERIOD} more" in caplog.records[-2].getMessage()
    assert caplog.records[-1].getMessage() == "Refused ipv4:192.0.2.9:1: no token"
    log.close()
    assert len(caplog.records) == LINES_PER_PERIOD + 2  # nothing left to count


def test_the_end_writes_the_count(caplog):
    log = RejectionLog(logging.getLogger("test"))
    for _ in range(LINES_PER_PERIOD + 3):
        log.note("peer", "why")
    log.close()
    log.close()
    assert caplog.text.count("Refused 3 more") == 1


def test_words_of_strangers_stay_in_their_line(caplog):
    RejectionLog(logging.getLogger("test")).note("peer", "name 'x'\nERROR all is lost \x1b[31m" + "y" * 5000)
    message = caplog.records[0].getMessage()
    assert "\n" not in message
    assert "\x1b" not in message
    assert len(message) < 400


def fail(words):
    raise KeyError(words)


def failure(words):
    try:
        fail(words)
    except KeyError as error:
        return error


def test_where_a_failure_came_from_is_written_once(caplog):
    log = RejectionLog(logging.getLogger("test"), "Could not serve", logging.ERROR)
    for number in range(3):
        log.failure("peer", "a call failed", failure(f"{number}\x1b[31m"))
    log.failure("peer", "a call failed", KeyError("made elsewhere"))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("Could not serve peer: a call failed: KeyError: '0\\x1b[31m'\n")
    assert [line.count("in fail\n    raise KeyError(words)") for line in lines] == [1, 0, 0, 0]
    assert all("\x1b" not in line for line in lines)
    assert {record.levelno for record in caplog.records} == {logging.ERROR}
