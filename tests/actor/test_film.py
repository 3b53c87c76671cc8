"""Images of an episode on their way to disk while it goes on: real threads, real files."""

import resource
import threading
from collections import deque

import pytest
import torch
from pictures import KEYS, SHAPE, scene

from lerobot_serl.actor import film as film_module
from lerobot_serl.actor.film import Film
from lerobot_serl.actor.outbox import OnlineDataset, Outbox
from lerobot_serl.actor.world import EpisodeSpoilt
from lerobot_serl.replay.image_parts import ImageParts
from lerobot_serl.replay.jpeg import decode_jpegs, encode_jpeg
from lerobot_serl.replay.part_message import trusted_part

ONE = OnlineDataset("1" * 32, "me/one")
SHAPES = dict.fromkeys(KEYS, SHAPE)


@pytest.fixture
def outbox(tmp_path):
    opened = Outbox(tmp_path / "spool", 10**9)
    yield opened
    opened.close()


def frame(t):
    return {key: scene(SHAPE, 10 * camera + t) for camera, key in enumerate(KEYS)}


def filmed(outbox, frames, uuid="u", may_wait=False):
    film = Film(uuid, outbox.new_parts(ONE, uuid), SHAPES, may_wait)
    for t in range(frames):
        film.add(frame(t))
    return film


def wanted(key, frames):
    return decode_jpegs([encode_jpeg(frame(t)[key]) for t in range(frames)], SHAPE)


def test_every_frame_is_there_in_order_in_several_parts(outbox, monkeypatch):
    monkeypatch.setattr(film_module, "PART_BYTES", 5000)
    film = filmed(outbox, 13)
    images = film.finish()
    assert len(film.parts) > 2
    assert [trusted_part(film.parts.read(i)).index for i in range(len(film.parts))] == list(range(len(film.parts)))
    for key in KEYS:
        assert torch.equal(images[key][:], wanted(key, 13))
    outbox.write(ONE, "u", b"the rest", film.parts)
    (path,) = outbox.pending(ONE)
    with outbox.parts(path, len(film.parts)) as parts:
        assert parts.frames == 13
    outbox.acknowledge(path)
    assert sorted(each.name for each in path.parent.iterdir()) == ["dataset.json"]


@pytest.mark.parametrize("seen", ["all", "cap", "noise", "hangs", "late", "first"])
def test_a_camera_that_shows_nothing_all_the_time_is_named(outbox, caplog, seen):
    """The other one shows something; one that shows something late has nothing to complain about."""
    torch.manual_seed(0)
    first, still = KEYS[0], frame(0)[KEYS[0]]
    covered = {
        "cap": lambda t: torch.zeros_like(still),
        "noise": lambda t: torch.randint(0, 10, still.shape, dtype=torch.uint8),
        "hangs": lambda t: still,
        "late": lambda t: still if t == 11 else torch.zeros_like(still),
        "first": lambda t: still if t == 0 else torch.zeros_like(still),
        "all": lambda t: frame(t)[first],
    }[seen]
    film = Film("u", outbox.new_parts(ONE, "u"), SHAPES, may_wait=True)
    for t in range(12):
        film.add(frame(t) | {first: covered(t)})
    film.finish()
    said = {"cap": "of one colour in all 12 frames", "noise": "of one colour in all 12 frames", "hangs": "very same picture 12 times"}.get(
        seen
    )
    assert [record.getMessage().split("'")[1] for record in caplog.records] == ([first] if said else [])
    assert said is None or said in caplog.text
    film.parts.close()


def test_a_few_frames_say_nothing_of_a_camera(outbox, caplog):
    film = Film("u", outbox.new_parts(ONE, "u"), SHAPES, may_wait=True)
    for _ in range(5):
        film.add({key: torch.zeros(SHAPE, dtype=torch.uint8) for key in KEYS})
    film.finish()
    assert not caplog.records
    film.parts.close()


def test_what_is_dropped_leaves_nothing(outbox):
    film = filmed(outbox, 3)
    film.drop()
    assert not film.parts.path.exists()
    film = filmed(outbox, 3)
    film.finish()
    film.drop()
    assert not film.parts.path.exists()


def test_what_a_killed_process_was_filming_goes_at_the_next_start_and_what_it_finished_stays(tmp_path):
    first = Outbox(tmp_path / "spool", 10**9)
    film = filmed(first, 3, "finished")
    film.finish()
    first.write(ONE, "finished", b"the rest", film.parts)
    filmed(first, 3, "unfinished").finish()
    first.close()
    second = Outbox(tmp_path / "spool", 10**9)
    assert sorted(path.name for path in (tmp_path / "spool" / ONE.directory).glob("*.images")) == ["finished.images"]
    with second.parts(second.pending(ONE)[0], 1) as parts:
        assert parts.frames == 3
    second.close()


class Slow:
    """Encodes when it may."""

    def __init__(self):
        self.may = threading.Event()

    def __call__(self, image):
        assert self.may.wait(20)
        return encode_jpeg(image)


def test_a_robot_does_not_wait_for_a_slow_machine_and_a_simulation_does(outbox, monkeypatch):
    slow = Slow()
    monkeypatch.setattr(film_module, "encode_jpeg", slow)
    monkeypatch.setattr(film_module, "MOST_WAITING_BYTES", 4 * 2 * 3 * 24 * 40)
    film = Film("robot", outbox.new_parts(ONE, "robot"), SHAPES, may_wait=False)
    for t in range(5):  # the thread holds one or none of them
        film.add(frame(t))
    with pytest.raises(EpisodeSpoilt, match=r"faster than this machine encodes them: \d frames wait"):
        deque((film.add(frame(t)) for t in range(2)), maxlen=0)
    simulated = Film("simulated", outbox.new_parts(ONE, "simulated"), SHAPES, may_wait=True)
    adding = threading.Thread(target=lambda: [simulated.add(frame(t)) for t in range(9)])
    adding.start()
    adding.join(0.3)
    assert adding.is_alive()
    slow.may.set()
    adding.join(20)
    assert not adding.is_alive()
    assert torch.equal(simulated.finish()[KEYS[0]][:], wanted(KEYS[0], 9))
    film.drop()


def test_an_image_that_cannot_be_encoded_spoils_the_episode(outbox):
    film = Film("u", outbox.new_parts(ONE, "u"), {KEYS[0]: (1, 1, 70_000)}, may_wait=True)
    film.add({KEYS[0]: torch.zeros(1, 1, 70_000, dtype=torch.uint8)})
    with pytest.raises(EpisodeSpoilt, match="cannot be encoded: an image of 70000x1 pixels"):
        film.finish()
    film.drop()


def test_a_full_disk_keeps_the_images_in_memory_until_there_is_room(outbox, monkeypatch):
    monkeypatch.setattr(film_module, "PART_BYTES", 5000)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, limit[1]))
    try:
        film = filmed(outbox, 12)
        film.finish()
        assert film.parts.unwritten_bytes > 0
        with pytest.raises(OSError, match="File too large"):
            outbox.write(ONE, "u", b"the rest", film.parts)
        assert outbox.pending(ONE) == []
        monkeypatch.setattr(film_module, "MOST_UNWRITTEN_BYTES", 100)
        with pytest.raises(EpisodeSpoilt, match=r"cannot be written, and 0\.0 GB of images are in memory alone"):
            film.add(frame(0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    outbox.write(ONE, "u", b"the rest", film.parts)
    assert torch.equal(film.finish()[KEYS[1]][:], wanted(KEYS[1], 12))
    assert ImageParts(film.parts.path).frames == 12
