"""What the longest episode takes is compared with what there is room for, in words, before anything is collected."""

import logging
from types import SimpleNamespace

import pytest

from lerobot_serl.actor import episode_size as episode_size_module
from lerobot_serl.actor import outbox as outbox_module
from lerobot_serl.actor.episode_size import EpisodeSize
from lerobot_serl.actor.outbox import FLOOR_BYTES, Outbox
from lerobot_serl.replay.part_message import MAX_FRAMES

VGA = (3, 480, 640)
TWO, THREE = dict.fromkeys("ab", VGA), dict.fromkeys("abc", VGA)
CAPACITY = 200_000


@pytest.fixture
def outbox(tmp_path):
    opened = Outbox(tmp_path / "spool", 10**10)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def large_disk(monkeypatch):
    monkeypatch.setattr(outbox_module.os, "statvfs", lambda path: SimpleNamespace(f_bavail=10**9, f_frsize=512, f_files=0, f_favail=0))


def size(shapes, frames, in_real_time=False):
    return EpisodeSize(shapes, 30, frames, in_real_time)


def test_what_fits_is_said_and_expected_by_the_outbox(outbox, caplog):
    caplog.set_level(logging.INFO)
    size(TWO, 1800).check(CAPACITY, outbox)
    assert (
        "An episode of at most 60 s with 2 cameras takes up to 0.66 GB as JPEG (quality 95); --spool_limit_gb=10 holds 15 of them"
        in caplog.text
    )
    assert outbox.needed_bytes == 1800 * 2 * 184_320
    outbox.check_room()


def test_what_is_small_is_said_in_small_units(outbox, caplog):
    caplog.set_level(logging.INFO)
    size({"a": (3, 64, 64)}, 45).check(CAPACITY, outbox)
    assert "An episode of at most 1.5 s with 1 camera takes up to 0.1 MB as JPEG" in caplog.text


def test_an_hour_of_three_cameras_needs_another_limit_and_nothing_else(tmp_path, outbox):
    hour = size(THREE, 108_000)
    with pytest.raises(
        ValueError,
        match=r"at most 3600 s with 3 cameras takes up to 59\.72 GB.*Set --spool_limit_gb=60 \(the disk has 512 GB.*--episode_time_s=602",
    ):
        hour.check(CAPACITY, outbox)
    assert MAX_FRAMES > 108_000
    larger = Outbox(tmp_path / "larger", 60 * 10**9)
    hour.check(CAPACITY, larger)
    larger.check_room()
    larger.close()


def test_a_disk_that_is_too_small_is_named(outbox, monkeypatch):
    monkeypatch.setattr(outbox_module.os, "statvfs", lambda path: SimpleNamespace(f_bavail=10**6, f_frsize=512, f_files=0, f_favail=0))
    with pytest.raises(ValueError, match=r"0\.66 GB.*the disk of .*spool has 0\.5 GB left"):
        size(TWO, 1800).check(CAPACITY, outbox)


def test_what_the_learner_would_refuse_is_not_collected(outbox):
    with pytest.raises(
        ValueError, match=r"1800 frames \(60 s\), and the learner takes at most 1500\. Set --episode_time_s=50 or less; or at the learner"
    ):
        size(TWO, 1800).check(1500, outbox)
    with pytest.raises(ValueError, match=f"the learner takes at most {MAX_FRAMES}"):
        size({}, MAX_FRAMES + 1).check(10**9, outbox)


def test_without_cameras_or_without_an_end_there_is_less_to_say(outbox, caplog):
    caplog.set_level(logging.INFO)
    size({}, 1800).check(CAPACITY, outbox)
    assert not caplog.text
    size(TWO, None).check(CAPACITY, outbox)
    assert "Images of 2 cameras: about 0.66 GB a minute" in caplog.text
    assert outbox.needed_bytes == FLOOR_BYTES


def test_a_machine_that_is_too_slow_is_told_before_an_arm_moves(outbox, monkeypatch):
    monkeypatch.setattr(episode_size_module, "_seconds_to_encode", lambda image: 0.02)
    with pytest.raises(ValueError, match=r"takes this machine up to 40 ms, and at 30 Hz the next one comes after 33 ms"):
        size(TWO, 1800, in_real_time=True).check(CAPACITY, outbox)
    size(TWO, 1800).check(CAPACITY, outbox)  # a simulation waits
