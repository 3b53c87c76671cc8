"""lerobot-serl-push: an online dataset on the Hub, in one commit, with a page that says what it is; and back again with LeRobot's own loader."""

import json
import shutil

import pytest
import yaml
from hub_server import HubServer
from small_data import ACTION, FPS, make_recording, vector_features
from test_hub import client

from lerobot_serl.replay.dataset_card import Outcome, dataset_card, outcomes
from lerobot_serl.replay.snapshot import snapshot
from lerobot_serl.replay.store import EpisodeStore, online_features
from lerobot_serl.scripts.lerobot_serl_push import CannotPushError, find_dataset, main

FEATURES = online_features(vector_features(), use_videos=False)
COMMAND = "lerobot_serl.scripts.lerobot_serl_push"
KINDS = ("ACT", "exploring", "deployed", "exploring")


def store_in(root):
    return EpisodeStore("local/online", str(root), FPS, FEATURES, use_videos=False)


def episodes(first, count):
    """Every fourth episode fails; people act in those that the recording says."""
    recordings = [
        make_recording(4 + number % 3, "terminated", number, success=number % 4 != 3, info={"acted_as": KINDS[number % 4], "actor": "test"})
        for number in range(first, first + count)
    ]
    return [(f"episode-{first + index}", recording) for index, recording in enumerate(recordings)]


@pytest.fixture
def store(tmp_path):
    made = store_in(tmp_path / "online")
    made.append(episodes(0, 8))
    return made


def test_outcomes_are_those_of_the_episodes(store, tmp_path):
    found = outcomes(tmp_path / "online")
    assert [outcome.frames for outcome in found] == [4, 5, 6, 4, 5, 6, 4, 5]
    assert [outcome.success for outcome in found] == [True, True, True, False] * 2
    assert [outcome.acted_as for outcome in found] == [*KINDS, *KINDS]
    assert all(outcome.helped for outcome in found)


def test_the_page_tells_success_over_time_of_each_kind(store, tmp_path):
    meta = store.open().meta
    quarter = [Outcome(10, number % 4 != 3, number % 10 == 0, KINDS[number % 4]) for number in range(40)]
    card = dataset_card(meta, quarter, "mit", "lerobot-train --policy.type=serl_sac")
    head = yaml.safe_load(str(card).split("---\n")[1])
    assert (head["license"], head["task_categories"]) == ("mit", ["robotics"])
    assert {"LeRobot", "lerobot_serl", "reinforcement-learning"} == set(head["tags"])
    assert "| episodes | all | as deployed | base policy alone | a person acted |" in card.text
    assert "| 1 to 4 | 75 % of 4 | 100 % of 1 | 100 % of 1 | 1 |" in card.text
    assert "| 37 to 40 | 75 % of 4 | 100 % of 1 | 100 % of 1 | 0 |" in card.text
    assert card.text.count("% of 4 |") == 10
    assert "- **task**: touch the dot" in card.text
    assert f"- **episodes**: 40, with 400 frames at {FPS} Hz: {400 / FPS / 60:.1f} minutes" in card.text
    assert "- **successes**: 30 of 40" in card.text
    assert "    lerobot-train --policy.type=serl_sac\n" in card.text
    assert f"| {ACTION} | float32 |" in card.text


def test_demonstrations_have_no_practice_on_their_page(store):
    card = dataset_card(store.open().meta, [Outcome(10, None, False, "")] * 3, "mit", "")
    assert "Recorded episodes" in card.text
    assert "reinforcement-learning" not in str(card)
    assert "Success over time" not in card.text
    assert "How it was made" not in card.text


def test_words_of_a_dataset_cannot_become_markup(tmp_path):
    made = store_in(tmp_path / "online")
    made.append([("one", make_recording(4, task="pick | <script>alert(1)</script>\x1b[2J [x](http://evil)"))])
    card = dataset_card(made.open().meta, outcomes(tmp_path / "online"), "mit", "")
    (line,) = [line for line in card.text.splitlines() if line.startswith("- **task**")]
    assert not any(letter in line for letter in "<>|[]\x1b")


def test_a_snapshot_is_the_dataset_of_its_instant_and_leaves_nothing(store, tmp_path):
    with snapshot(tmp_path / "online") as still:
        store.append(episodes(8, 3))
        assert json.loads((still / "meta" / "info.json").read_text())["total_episodes"] == 8
        assert len(outcomes(still)) == 8
        assert len((still / "meta" / "serl_episodes.jsonl").read_text().splitlines()) == 8
    assert store.n_episodes == 11
    shutil.copytree((tmp_path / "online").resolve(), tmp_path / "plain")
    with snapshot(tmp_path / "plain") as still:
        assert len(outcomes(still)) == 11
    shutil.rmtree(tmp_path / "plain")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["online", "online.versions"]


def test_the_page_is_not_written_into_the_dataset(store, tmp_path):
    """Its files are the snapshot's too, under other names."""
    present = (tmp_path / "online").resolve()
    (present / "README.md").write_text("mine")
    with snapshot(tmp_path / "online") as still:
        from lerobot_serl.scripts.lerobot_serl_push import write_card

        write_card(still, "me/online", "mit", "")
        assert "# online" in (still / "README.md").read_text()
    assert (present / "README.md").read_text() == "mine"


def test_a_run_names_its_online_dataset_and_its_command(store, tmp_path):
    run = tmp_path / "run"
    place = run / "checkpoints" / "last" / "pretrained_model"
    place.mkdir(parents=True)
    (run / "metrics").mkdir()
    (run / "metrics" / "run.json").write_text(json.dumps({"command": "lerobot-train --seed=1"}))
    online = {"repo_id": "local/online", "root": str(tmp_path / "online")}
    (place / "train_config.json").write_text(json.dumps({"policy": {"online": online}}))
    assert find_dataset(run) == (tmp_path / "online", "lerobot-train --seed=1")
    assert find_dataset(tmp_path / "online") == (tmp_path / "online", "")
    (place / "train_config.json").write_text(json.dumps({"policy": {"online": {"repo_id": None, "root": None}}}))
    with pytest.raises(CannotPushError, match=r"is an offline run: it collected no episodes"):
        find_dataset(run)
    (place / "train_config.json").write_text("{")
    with pytest.raises(CannotPushError, match=r"is neither a dataset \(no meta/info.json\) nor a run with a checkpoint .*Name the"):
        find_dataset(run)


@pytest.mark.parametrize(
    ("path", "repo_id", "said"),
    [
        ("online", "just_a_name", "--repo_id=just_a_name: expected OWNER/NAME"),
        ("online", "me/../there", "--repo_id=me/../there: expected OWNER/NAME"),
        ("nowhere", "me/online", "nowhere is no LeRobotDataset: there is no meta/info.json"),
        ("online", "me/online", "HF_HUB_OFFLINE=1 keeps this machine off the Hub: unset it."),
    ],
)
def test_what_cannot_be_pushed_is_a_sentence(store, tmp_path, monkeypatch, capsys, path, repo_id, said):
    import huggingface_hub.constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert main([path, f"--repo_id={repo_id}"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"lerobot-serl-push: {said}")
    assert printed.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["online", "online.versions"]


@pytest.mark.slow
def test_pushed_and_pulled_it_is_the_same_and_pushing_again_brings_what_came_since(store, tmp_path):
    home = tmp_path / "home"
    with HubServer() as hub:
        for count, more in ((8, 3), (11, 0)):
            done = client(hub, home, COMMAND, str(tmp_path / "online"), "--repo_id=me/practice", "--private")
            assert done.stdout.splitlines()[-1] == f"{hub.endpoint}/datasets/me/practice"
            files = hub.repositories["datasets/me/practice"]
            assert {"README.md", "meta/info.json", "meta/serl_episodes.jsonl"} <= set(files)
            assert f"- **episodes**: {count}, with" in files["README.md"].decode()
            assert hub.commits[-1] == ("datasets/me/practice", f"{count} episodes, by lerobot-serl-push")
            pulled = tmp_path / f"pulled-{count}"
            client(hub, pulled.with_suffix(".home"), "dataset_client", "me/practice", str(pulled))
            found, dataset = json.loads(pulled.read_text()), store.open()
            assert (found["episodes"], len(found["frames"])) == (count, len(dataset)) == (dataset.num_episodes, len(dataset))
            for frame, own in zip(found["frames"], dataset, strict=True):
                assert all(frame[key] == own[key].tolist() for key in frame)
            if more:
                store.append(episodes(count, more))
        assert len(hub.commits) == 2
        assert not hub.unknown


@pytest.mark.slow
def test_a_hub_that_is_away_or_does_not_know_the_person_is_a_sentence(store, tmp_path, monkeypatch):
    hub = HubServer()
    with hub:
        monkeypatch.setattr("test_hub.TOKEN", "hf_wrong")
        refused = client(hub, tmp_path / "home", COMMAND, str(tmp_path / "online"), "--repo_id=me/practice", status=1)
        assert "lerobot-serl-push: The Hub refused me/practice: " in refused.stderr
        assert "(status 401). Is the token in HF_TOKEN valid, and may it write there?" in refused.stderr
    away = client(hub, tmp_path / "home", COMMAND, str(tmp_path / "online"), "--repo_id=me/practice", status=1)
    assert f"lerobot-serl-push: The Hub at {hub.endpoint} cannot be reached: " in away.stderr
    assert "Traceback" not in refused.stderr + away.stderr
    assert not hub.repositories
