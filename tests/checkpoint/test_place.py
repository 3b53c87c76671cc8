"""Whatever place of a training run a person points at: the model is found, or the path that would work is named."""

import os
from pathlib import Path

import pytest

from lerobot_serl.checkpoint.place import directory_of, locate, may_be_hub_id, way_on
from lerobot_serl.policy.act_checkpoint import load_act_checkpoint

MODEL = "pretrained_model"


def make_model(directory: Path, *names: str) -> Path:
    directory.mkdir(parents=True)
    for name in names or ("config.json", "model.safetensors"):
        (directory / name).write_text("{}")
    return directory


@pytest.fixture
def run(tmp_path):
    """A run of three checkpoints, the last of which was begun only."""
    for step in ("000100", "000200"):
        make_model(tmp_path / "run" / "checkpoints" / step / MODEL)
        (tmp_path / "run" / "checkpoints" / step / "training_state").mkdir()
    make_model(tmp_path / "run" / "checkpoints" / "000300" / MODEL, "config.json")
    (tmp_path / "run" / "checkpoints" / "best_000100").mkdir()
    (tmp_path / "run" / "checkpoints" / "last").symlink_to("000100")
    return tmp_path / "run"


PLACES = {
    "the run": "",
    "its checkpoints": "checkpoints",
    "last": "checkpoints/last",
    "last, the model": f"checkpoints/last/{MODEL}",
    "a checkpoint": "checkpoints/000100",
    "a model": f"checkpoints/000100/{MODEL}",
    "its configuration": f"checkpoints/000100/{MODEL}/config.json",
    "its weights": f"checkpoints/000100/{MODEL}/model.safetensors",
    "with a slash": f"checkpoints/000100/{MODEL}/",
    "the run with a slash": "./",
    "the training state": "checkpoints/000100/training_state",
}


@pytest.mark.parametrize("place", PLACES)
def test_the_model_is_found(run, place):
    found = locate(f"{run}/{PLACES[place]}")
    assert found.directory.resolve() == run / "checkpoints" / "000100" / MODEL
    assert bool(found.words) == ("training_state" in PLACES[place])
    assert not may_be_hub_id(f"{run}/{PLACES[place]}")


def test_from_where_a_person_stands_or_lives(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    monkeypatch.setenv("HOME", str(run.parent))
    for place in ("run/checkpoints", "run", "run/", "./run", "~/run", "~/run/checkpoints/"):
        assert directory_of(place).resolve() == run / "checkpoints" / "000100" / MODEL, place
        assert not may_be_hub_id(place), place
    monkeypatch.chdir(run / "checkpoints" / "000100")
    assert directory_of(".") == Path(MODEL)
    assert directory_of("~nobody-of-that-name/run") is None


@pytest.mark.parametrize("place", ["", "checkpoints"])
@pytest.mark.parametrize("dangling", [False, True])
def test_without_last_the_newest_whole_checkpoint_is_taken_and_named(run, place, dangling):
    last, checkpoints = run / "checkpoints" / "last", run / "checkpoints"
    last.unlink()
    if dangling:
        last.symlink_to("000999")
    found = locate(run / place)
    assert found.directory == checkpoints / "000200" / MODEL
    assert found.words == f"{checkpoints} has no 'last': its newest checkpoint is taken, {found.directory}"


def test_the_newest_is_that_of_the_highest_step(tmp_path):
    for step in ("900000", "1000000", "0000002"):
        make_model(tmp_path / step / MODEL)
    assert directory_of(tmp_path) == tmp_path / "1000000" / MODEL


def test_an_adapter_is_a_whole_checkpoint(tmp_path):
    make_model(tmp_path / "000200" / MODEL, "config.json", "adapter_model.safetensors")
    make_model(tmp_path / "000100" / MODEL)
    assert directory_of(tmp_path) == tmp_path / "000200" / MODEL


@pytest.mark.parametrize("text", ["you/act", "lerobot/act_aloha_sim_transfer_cube_human"])
def test_hub_ids_are_hub_ids(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert directory_of(text) is None
    assert may_be_hub_id(text)
    assert not may_be_hub_id(f"{text}/config.json")
    assert not may_be_hub_id(f"./{text}")
    assert not may_be_hub_id("act/model.safetensors")
    assert not may_be_hub_id("act/")


def test_what_is_no_model_is_none(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "other.json").write_text("{}")
    os.mkfifo(tmp_path / "pipe")
    for place in (
        tmp_path,
        tmp_path / "notes.txt",
        tmp_path / "other.json",
        tmp_path / "pipe",
        tmp_path / "none",
        f"{tmp_path}/{'x' * 5000}",
        "\0",
    ):
        assert locate(place) is None, place
        assert way_on(f"{place}/below").endswith("last/pretrained_model.")


WAYS = {
    "runs": ("runs", r"Below it are .*runs/act1/checkpoints/last/pretrained_model, .*runs/act2/checkpoints/000100/pretrained_model: choose one"),
    "another step": (
        "runs/act2/checkpoints/000200/pretrained_model",
        r"000200/pretrained_model does not exist, but .*act2/checkpoints/000100/pretrained_model does",
    ),
    "nowhere": ("nowhere", "nowhere does not exist. Expected a LeRobot ACT checkpoint, for example"),
    "empty": ("empty", "Expected a LeRobot ACT checkpoint"),
    "address": ("https://huggingface.co/you/act/tree/main", "That is an address: give the Hub id, such as 'you/act'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WAYS)
def test_the_path_that_would_work_is_named(tmp_path, name):
    make_model(tmp_path / "runs" / "act1" / "checkpoints" / "last" / MODEL)
    make_model(tmp_path / "runs" / "act2" / "checkpoints" / "000100" / MODEL)
    (tmp_path / "empty").mkdir()
    place, words = WAYS[name]
    place = place if name == "address" else str(tmp_path / place)
    with pytest.raises(FileNotFoundError, match=rf"^policy.act_path='{place}': no config.json in .*{words}"):
        load_act_checkpoint(place)
    assert "\n" not in way_on(place)


def test_in_the_hubs_cache_the_snapshot_is_named(tmp_path):
    model = make_model(tmp_path / "models--me--act" / "snapshots" / "abc123")
    assert way_on(tmp_path / "models--me--act") == f"Below it are {model}: choose one."


def test_what_was_chosen_is_said(run, caplog):
    (run / "checkpoints" / "last").unlink()
    with pytest.raises(ValueError, match=r"config.json names no type|is of type 'None'"):
        load_act_checkpoint(str(run))
    assert f"policy.act_path='{run}': {run}/checkpoints has no 'last': its newest checkpoint is taken" in caplog.text
