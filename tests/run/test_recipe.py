"""One file for learner and actor: the flags that come out, and what is refused."""

import socket
from pathlib import Path

import pytest
import yaml

from lerobot_serl.presets import presets
from lerobot_serl.run.recipe import RecipeError, load_recipe

MINIMAL = {
    "output_dir": "out",
    "train": {"policy": {"type": "serl_sac", "online": {"repo_id": "me/online"}}, "steps": 100},
    "actor": {"env": {"type": "franka_sim"}},
}


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(document, *overrides):
        path = tmp_path / "recipe.yaml"
        path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
        return load_recipe(path, overrides)

    return run


def as_dict(flags):
    pairs = [flag.removeprefix("--").partition("=")[::2] for flag in flags]
    assert len(dict(pairs)) == len(pairs)  # no flag twice
    assert all(flag.startswith("--") for flag in flags)
    return dict(pairs)


def test_nested_keys_become_flags(load):
    recipe = load(MINIMAL, "--train.policy.online.port=50999")
    assert recipe.output_dir == Path("out")
    assert recipe.address == "127.0.0.1:50999"
    assert as_dict(recipe.learner_flags) == {
        "batch_size": "1",
        "num_workers": "0",
        "policy.type": "serl_sac",
        "policy.online.repo_id": "me/online",
        "policy.online.port": "50999",
        "policy.metrics_dir": "out",
        "steps": "100",
        "output_dir": "out",
    }
    assert as_dict(recipe.actor_flags) == {
        "learner": "127.0.0.1:50999",
        "spool_dir": "out_spool",
        "patience_s": "600",
        "env.type": "franka_sim",
    }


def test_what_lets_the_actor_in_is_said_once(load):
    access = ("--train.policy.online.token_file=word", "--train.policy.online.certificate=cert.pem", "--train.policy.online.port=50999")
    flags = as_dict(load(MINIMAL, *access, "--train.policy.online.host=0.0.0.0").actor_flags)
    assert (flags["token_file"], flags["certificate"], flags["learner"]) == ("word", "cert.pem", "127.0.0.1:50999")
    assert as_dict(load(MINIMAL, *access, "--actor.token_file=other").actor_flags)["token_file"] == "other"


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        (True, "true"),
        (False, "false"),
        (None, "null"),
        (0.25, "0.25"),
        (1, "1"),
        ([256, 256], "[256, 256]"),
        ("a b=c", "a b=c"),
        ("1", "1"),
    ],
)
def test_values_are_written_as_lerobot_reads_them(load, value, flag):
    recipe = load({**MINIMAL, "train": {**MINIMAL["train"], "x": {"y": value}}})
    assert as_dict(recipe.learner_flags)["x.y"] == flag


def test_overrides_win_in_order(load):
    document = {**MINIMAL, "train": {**MINIMAL["train"], "batch_size": 4}}
    recipe = load(
        document, "--train.steps=5", "--train.steps=7", "--actor.seed=3", "--actor.env.type=pusht", "--output_dir=elsewhere/a=b",
        "--train.new.key=", "--train.job_name=a=b",
    )  # fmt: skip
    learner = as_dict(recipe.learner_flags)
    assert (learner["steps"], learner["batch_size"], learner["new.key"], learner["job_name"]) == ("7", "4", "", "a=b")
    assert recipe.output_dir == Path("elsewhere/a=b")
    assert learner["policy.metrics_dir"] == "elsewhere/a=b"
    actor = as_dict(recipe.actor_flags) | {"learner": ""}
    assert actor == {"learner": "", "spool_dir": "elsewhere/a=b_spool", "patience_s": "600", "env.type": "pusht", "seed": "3"}


@pytest.mark.parametrize("given", [(), ("--train.policy.online.port=0",)])
def test_a_free_port_is_chosen_and_given_to_both(load, given):
    recipe = load(MINIMAL, *given)
    port = int(recipe.address.rpartition(":")[2])
    assert as_dict(recipe.learner_flags)["policy.online.port"] == str(port)
    assert as_dict(recipe.actor_flags)["learner"] == recipe.address
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


def test_an_actor_of_its_own_address_is_kept(load):
    assert as_dict(load(MINIMAL, "--actor.learner=127.0.0.1:1").actor_flags)["learner"] == "127.0.0.1:1"


@pytest.mark.parametrize(
    ("document", "overrides", "named"),
    [
        ("a: [", (), "is not valid YAML"),
        ("- a\n- b", (), "found list, expected output_dir, train and actor"),
        ("", (), "found NoneType"),
        ({**MINIMAL, "eval": {}}, (), r"found \['actor', 'eval', 'output_dir', 'train'\], expected output_dir"),
        ({**MINIMAL, "output_dir": None}, (), "output_dir is missing"),
        ({**MINIMAL, "actor": {}}, (), "the section 'actor' is empty; expected at least env.type"),
        ({**MINIMAL, "actor": None}, (), "the section 'actor' is empty"),
        ({**MINIMAL, "train": {"steps": 1}}, (), "train.policy.online.repo_id is missing"),
        (MINIMAL, ("--steps=1",), "'--steps=1': expected --output_dir=DIR, --train.KEY=VALUE or --actor.KEY=VALUE"),
        (MINIMAL, ("--train.steps",), "'--train.steps': expected"),
        (MINIMAL, ("train.steps=1",), "'train.steps=1': expected"),
        (MINIMAL, ("--train.=1",), "expected --output_dir"),
        (MINIMAL, ("--eval.n=1",), "expected --output_dir"),
        ({**MINIMAL, "train": [1]}, (), r"the section 'train' is \[1\], expected keys with values"),
        ({**MINIMAL, "actor": "franka_sim"}, (), "the section 'actor' is 'franka_sim', expected keys"),
    ],
)
def test_what_is_refused_says_what_was_expected(load, document, overrides, named):
    with pytest.raises(RecipeError, match=named):
        load(document, *overrides)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"--config_path=.*nowhere.yaml: no such file; there are"):
        load_recipe(tmp_path / "nowhere.yaml", [])


def test_an_existing_run_is_not_overwritten_but_can_go_on(load, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(RecipeError, match="exists already") as caught:
        load(MINIMAL)
    way_out = str(caught.value).partition("go on with that run: ")[2].split()
    assert way_out == ["--train.resume=true", "--train.config_path=out/checkpoints/last/pretrained_model/train_config.json"]
    resumed = as_dict(load(MINIMAL, *way_out).learner_flags)
    assert resumed["resume"] == "true"
    assert resumed["output_dir"] == "out"
    checkpoint_knows_the_dataset = {**MINIMAL, "train": {"steps": 200}}
    assert as_dict(load(checkpoint_knows_the_dataset, *way_out).learner_flags)["steps"] == "200"


def test_the_key_in_the_file_may_be_a_boolean(load, tmp_path):
    (tmp_path / "out").mkdir()
    assert load({**MINIMAL, "train": {**MINIMAL["train"], "resume": True}}).output_dir == Path("out")


@pytest.mark.parametrize("path", presets("train"), ids=lambda path: path.stem)
def test_every_shipped_recipe_loads(path, tmp_path):
    recipe = load_recipe(path, [f"--output_dir={tmp_path / 'run'}"])
    assert as_dict(recipe.learner_flags)["policy.type"] == "serl_sac"
    assert "env.type" in as_dict(recipe.actor_flags)
