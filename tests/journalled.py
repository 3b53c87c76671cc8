"""Episodes in a journal beside a dataset that does not hold them yet."""

from lerobot.datasets.lerobot_dataset import LeRobotDataset
from small_data import ENV_STATE, FPS, STATE, assert_same_recording, vector_features

from lerobot_serl.replay.dataset_writer import StoreSettings
from lerobot_serl.replay.demonstrations import EpisodeReader
from lerobot_serl.replay.episode_message import encode_episode
from lerobot_serl.replay.journal import journal_of
from lerobot_serl.replay.store import online_features


def settings_for(root):
    return StoreSettings("test/online", str(root), FPS, online_features(vector_features(), use_videos=False), False)


def journalled(root, recordings, first=0):
    journal = journal_of(root)
    for index, recording in enumerate(recordings, first):
        journal.write(f"episode-{index}", encode_episode(recording, f"episode-{index}"))
    return journal


def assert_dataset_holds(root, recordings):
    reader = EpisodeReader(LeRobotDataset("test/online", root=root), [STATE, ENV_STATE])
    assert len(reader) == len(recordings)
    for index, recording in enumerate(recordings):
        assert_same_recording(recording, reader.read(index), words=False)
