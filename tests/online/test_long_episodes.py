"""Episodes with camera images from the robot's outbox to the learner's dataset: real server, files and threads, many parts."""

import threading
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from pictures import SHAPE, scene
from small_data import INPUTS, STATE, assert_same_recording, frames_of, make_recording
from small_policy import small_agent, small_config

from lerobot_serl.actor import film as film_module
from lerobot_serl.actor.client import LearnerClient
from lerobot_serl.actor.film import Film
from lerobot_serl.actor.outbox import Outbox
from lerobot_serl.actor.sender import Sender
from lerobot_serl.online import arriving_parts, server
from lerobot_serl.online.collection import Collection
from lerobot_serl.online.learner import Learner
from lerobot_serl.policy.parts import OnlineConfig, StartupConfig
from lerobot_serl.policy.progress import Progress
from lerobot_serl.replay.dataset_writer import StoreSettings, write_pending
from lerobot_serl.replay.demonstrations import EpisodeReader
from lerobot_serl.replay.episode_message import encode_episode, parts_before
from lerobot_serl.replay.journal import journal_of
from lerobot_serl.replay.jpeg import decode_jpegs, encode_jpeg
from lerobot_serl.replay.plausible import Plausible
from lerobot_serl.transport import MessageError

FRAMES = 12
FRONT = "observation.images.front"
PATIENCE_S = 60


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(server, "POLL_S", 0.05)
    monkeypatch.setattr(server, "GOODBYE_S", 0.1)
    monkeypatch.setattr(film_module, "PART_BYTES", 3000)


def inputs(shape):
    return {**INPUTS, FRONT: PolicyFeature(type=FeatureType.VISUAL, shape=shape)}


def image(t, shape=SHAPE):
    return scene(shape, t)


def decoded(frames, shape=SHAPE):
    return decode_jpegs([encode_jpeg(image(t, shape)) for t in range(frames)], shape)


@pytest.fixture(scope="module")
def seen(make_dataset):
    """Demonstrations with a camera."""
    flags = [t == 4 for t in range(5)]
    frames = frames_of(5, 1, next_reward=flags, next_success=flags, next_done=flags)
    for t, frame in enumerate(frames):
        frame[FRONT] = image(t).permute(1, 2, 0).numpy()
    feature = {"dtype": "image", "shape": (*SHAPE[1:], 3), "names": ["height", "width", "channels"]}
    return make_dataset([frames], {FRONT: feature})


def configured(tmp_path, shape=SHAPE, **changes):
    online = OnlineConfig(repo_id="test/online", root=str(tmp_path / "online"), port=0)
    startup = StartupConfig(collect_steps=1, critic_updates=1)
    base = {"base": "none", **changes}  # ACT's backbone takes a quarter of a second to make
    return small_config(input_features=inputs(shape), online=online, startup=startup, metrics_dir=str(tmp_path), **base)


class Side:
    """A robot's side; ``film`` makes an episode as a session does."""

    def __init__(self, tmp_path, address):
        self.outbox = Outbox(tmp_path / "spool", 10**9)
        self.client = LearnerClient(address, patience_s=PATIENCE_S, name="arm")
        self.sender = Sender(self.outbox, self.client)
        self.client.connect()
        self.sent = []
        send = self.client.send
        self.client.send = lambda uuid, data, wait_for_learner: (self.sent.append(uuid), send(uuid, data, wait_for_learner))[1]

    def film(self, uuid, frames=FRAMES, shape=SHAPE, seen=image, **changes):
        film = Film(uuid, self.outbox.new_parts(self.client.dataset, uuid), {FRONT: shape}, may_wait=True)
        for t in range(frames):
            film.add({FRONT: seen(t)})
        recording = make_recording(frames, intervention=torch.zeros(frames, dtype=torch.bool), **changes)
        recording = replace(recording, observation={**recording.observation, **film.finish()})
        self.sender.keep(self.client.dataset, uuid, encode_episode(recording, uuid), film.parts)
        return recording

    def close(self):
        self.sender.finish(0.0, 0.0)
        self.client.close()
        self.sender.join(10)
        self.outbox.close()


def stop(collection):
    collection._writer.finish = lambda: None
    collection._server.stop()


def learner_for(config, dataset):
    return Learner(small_agent(config), config, Progress(config), dataset.meta)


def completed(collection):
    """The online dataset with what the journal held."""
    store = collection.store
    settings = StoreSettings(store.repo_id, str(store.root), store.fps, store.features, False)
    write_pending(settings)
    return EpisodeReader(store.open(), [*INPUTS, FRONT])


@pytest.mark.parametrize("features", ["auto", "cnn"])
def test_an_episode_in_parts_is_learnt_from_and_stored(tmp_path, seen, features):
    learner = learner_for(configured(tmp_path, base="act", features=features), seen)
    side = Side(tmp_path, learner.collection.address)
    recording = side.film("long")
    side.sender.start()
    assert side.sender.wait_for("long", lambda: True)
    assert len(side.sent) > 3
    while len(learner.online) < FRAMES:
        learner._take(learner.collection, 0.1)
    if features == "cnn":
        assert torch.equal(learner.online._columns[FRONT][:FRAMES], decoded(FRAMES))
    reader = completed(learner.collection)
    (back,) = [reader.read(index) for index in range(len(reader))]
    assert torch.equal(back.observation[FRONT], decoded(FRAMES))
    assert torch.equal(back.observation[STATE], recording.observation[STATE])
    assert [path.name for path in journal_of(tmp_path / "online").directory.iterdir()] == []
    assert list((tmp_path / "spool").rglob("*.images")) == []
    side.close()
    stop(learner.collection)
    again = learner_for(learner.config, seen)  # reads the dataset
    assert len(again.online) == FRAMES
    stop(again.collection)


@pytest.fixture
def collection(tmp_path, seen):
    config = configured(tmp_path)
    opened = Collection(small_agent(config), config, Progress(config), seen.meta, Plausible())
    opened.start(0, 0, resumed=False)
    yield opened
    stop(opened)


@pytest.fixture
def side(tmp_path, collection):
    opened = Side(tmp_path, collection.address)
    yield opened
    opened.close()


def test_a_message_of_an_earlier_release_is_understood(collection, side):
    pixels = torch.stack([image(t) for t in range(3)])
    recording = make_recording(3)
    recording = replace(recording, observation={**recording.observation, FRONT: pixels})
    side.sender.keep(side.client.dataset, "raw", encode_episode(recording, "raw"))
    side.sender.start()
    assert side.sender.wait_for("raw", lambda: True)
    assert_same_recording(recording, collection.arrived(0.0))
    assert torch.equal(completed(collection).read(0).observation[FRONT], pixels)


def test_sending_twice_is_harmless_and_brings_no_part_twice(collection, side):
    side.film("one")
    (path,) = side.outbox.pending(side.client.dataset)
    side.sender._send_file(path)
    first, side.sent = side.sent, []
    assert len(first) > 3
    recording = collection.arrived(0.0)
    assert torch.equal(recording.observation[FRONT][:], decoded(FRAMES))
    side.film("one")  # as a restored outbox would
    (path,) = side.outbox.pending(side.client.dataset)
    side.sender._send_file(path)
    assert side.sent == ["one", "one"]  # the first part, whose receipt says that all is here, and the end
    assert collection.arrived(0.0) is None


def test_an_interrupted_transfer_goes_on_where_it_was(collection, side):
    side.film("one")
    (path,) = side.outbox.pending(side.client.dataset)
    data = side.outbox.read(path)
    with side.outbox.parts(path, parts_before(data)) as parts:
        n_parts = len(parts)
        for index in range(2):
            assert side.client.send("one", parts.read(index), False) == index + 1
        assert side.client.send("one", parts.read(0), False) == 2  # one that is here
        assert side.client.send("one", parts.read(3), False) == 2  # one that is early
    with pytest.raises(Exception, match=f"{n_parts} parts of episode one come before its end, and 2 are here"):
        side.client.send("one", data, False)
    side.sent.clear()
    side.sender.start()
    assert side.sender.wait_for("one", lambda: True)
    assert len(side.sent) == n_parts  # part 0, then from part 2 on, and the end
    assert torch.equal(collection.arrived(0.0).observation[FRONT][:], decoded(FRAMES))


def test_a_learner_that_was_started_again_gets_every_part_again(tmp_path, seen, side, collection):
    side.film("one")
    (path,) = side.outbox.pending(side.client.dataset)
    with side.outbox.parts(path, parts_before(side.outbox.read(path))) as parts:
        for index in range(2):
            side.client.send("one", parts.read(index), False)
    journal = journal_of(tmp_path / "online")
    assert [each.name for each in journal.directory.iterdir()] == ["one.images"]
    collection._parts = arriving_parts.ArrivingParts(journal, 1000)  # as at a start
    assert list(journal.directory.iterdir()) == []
    side.sender.start()
    assert side.sender.wait_for("one", lambda: True)
    assert torch.equal(collection.arrived(0.0).observation[FRONT][:], decoded(FRAMES))


def test_what_was_acknowledged_survives_a_learner_that_is_killed(tmp_path, seen, collection, side):
    side.film("one")
    side.sender.start()
    assert side.sender.wait_for("one", lambda: True)
    collection._lock.release()
    journal = journal_of(tmp_path / "online")
    arriving_parts.ArrivingParts(journal, 1000)  # the next learner's
    assert torch.equal(completed(collection).read(0).observation[FRONT], decoded(FRAMES))
    assert list(journal.directory.iterdir()) == []


@pytest.mark.parametrize("harm", ["changed", "short", "gone"])
def test_damaged_images_set_the_episode_aside_on_either_side(tmp_path, collection, side, harm):
    def damage(path):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.unlink() if harm == "gone" else path.write_bytes(content if harm == "changed" else content[:-9])

    side.film("bad")
    side.film("good")
    damage(next((tmp_path / "spool").rglob("bad.images")))
    side.sender.start()
    assert side.sender.wait_for("good", lambda: True)
    assert side.sender.wait_for("bad", lambda: True)
    assert len(list((tmp_path / "spool").rglob("damaged/*bad.episode"))) == 1
    side.film("late")
    assert side.sender.wait_for("late", lambda: True)
    journal = journal_of(tmp_path / "online")
    damage(journal.images("good"))
    reader = completed(collection)
    assert len(reader) == 1
    assert len(list(journal.directory.glob("damaged/*-good.episode"))) == 1


def test_an_episode_too_long_is_refused_at_the_part_that_makes_it_so(collection, side):
    collection._parts._most_frames = 5
    side.film("long")
    side.sender.start()
    assert side.sender.wait_for("long", lambda: True)
    (refused,) = list(side.outbox.directory.rglob("refused/*-long.episode"))
    assert (refused.parent / "long.images").exists()


def test_an_episode_that_is_refused_leaves_no_images(tmp_path, collection, side):
    side.film("bad", action=torch.zeros(FRAMES, 3))
    side.sender.start()
    assert side.sender.wait_for("bad", lambda: True)
    assert list(journal_of(tmp_path / "online").directory.iterdir()) == []


def test_so_many_episodes_come_in_at_once_and_one_more_costs_the_oldest_its_parts(tmp_path, collection, side, monkeypatch):
    monkeypatch.setattr(arriving_parts, "MAX_UNFINISHED", 2)
    every = {}
    for uuid in ("a", "b", "c"):
        side.film(uuid)
        path = next(path for path in side.outbox.pending(side.client.dataset) if f"-{uuid}." in path.name)
        every[uuid] = side.outbox.parts(path, parts_before(side.outbox.read(path)))
        assert side.client.send(uuid, every[uuid].read(0), False) == 1
    assert sorted(path.name for path in journal_of(tmp_path / "online").directory.iterdir()) == ["b.images", "c.images"]
    assert side.client.send("a", every["a"].read(1), False) == 0
    side.sender.start()
    for uuid in every:
        assert side.sender.wait_for(uuid, lambda: True)
    assert {collection.arrived(0.0).action.shape for _ in range(3)} == {(FRAMES, 2)}


def test_another_number_of_images_than_frames_is_refused(collection, side):
    recording = side.film("one")
    (path,) = side.outbox.pending(side.client.dataset)
    with side.outbox.parts(path, parts_before(side.outbox.read(path))) as parts:
        for index in range(len(parts)):
            side.client.send("one", parts.read(index), False)
    fewer = make_recording(FRAMES - 2)
    fewer = replace(fewer, observation={**fewer.observation, FRONT: recording.observation[FRONT].narrow(0, 0, FRAMES - 2)})
    with pytest.raises(MessageError, match=rf"parts with {FRAMES} images, expected . parts with {FRAMES - 2}, one for each frame"):
        collection._receive(encode_episode(fewer, "one"))


class Peak(threading.Thread):
    """Largest resident memory of this process while it runs."""

    def __init__(self):
        super().__init__(daemon=True)
        self._process, self._ended = psutil.Process(), threading.Event()
        self.start_bytes = self.peak_bytes = self._process.memory_info().rss
        self.start()

    def run(self):
        while not self._ended.wait(0.005):
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)

    def end(self):
        self._ended.set()
        self.join()
        return self.peak_bytes - self.start_bytes


@pytest.mark.slow
def test_neither_side_holds_the_images_of_a_long_episode(tmp_path, make_dataset, monkeypatch):
    """250 frames of 640x480 are 230 MB as they are seen."""
    monkeypatch.setattr(film_module, "PART_BYTES", 1024 * 1024)
    monkeypatch.setattr(film_module, "MOST_WAITING_BYTES", 30_000_000)
    shape, frames = (3, 480, 640), 250
    pictures = [image(t, shape) for t in range(3)]
    few = frames_of(3, 1)
    for frame in few:
        frame[FRONT] = np.zeros((480, 640, 3), np.uint8)
    feature = {"dtype": "image", "shape": (480, 640, 3), "names": ["height", "width", "channels"]}
    dataset = make_dataset([few], {FRONT: feature})
    config = configured(tmp_path, shape)
    collection = Collection(small_agent(config), config, Progress(config), dataset.meta, Plausible())
    collection.start(0, 0, resumed=False)
    side = Side(tmp_path, collection.address)
    side.film("warm", 20, shape, lambda t: pictures[t % 3].clone())
    side.sender.start()
    assert side.sender.wait_for("warm", lambda: True)
    peak, started_s = Peak(), time.monotonic()
    side.film("long", frames, shape, lambda t: pictures[t % 3].clone())
    assert side.sender.wait_for("long", lambda: time.monotonic() - started_s < PATIENCE_S)
    assert collection.arrived(0.0) is not None
    recording = collection.arrived(0.0)
    for first in range(0, frames, 10):
        recording.observation[FRONT][first : first + 10]
    assert peak.end() < 120e6
    assert len(recording) == frames
    side.close()
    stop(collection)
