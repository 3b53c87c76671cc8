"""Checkpoints through the Hugging Face Hub: ``act_path`` as a Hub id, pushing, and pulling again, with LeRobot's and the Hub's own code.

The Hub is a server on this machine (``hub_server.py``). Its address is read when ``huggingface_hub`` is imported, so all clients are
processes of their own. This file is also the client that pulls: see ``pull``.
"""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from act_checkpoints import random_observations, save_act, small_act_config
from hub_server import TOKEN, HubServer
from safetensors.torch import load, load_file

pytestmark = pytest.mark.slow
HELPERS = Path(__file__).parents[1]
PROCESSORS = {"policy_preprocessor.json", "policy_postprocessor.json"}
SMALL = (
    "--policy.device=cpu", "--policy.batch_size=32", "--batch_size=1", "--num_workers=0", "--env_eval_freq=0", "--log_freq=5", "--seed=3",
)  # fmt: skip
SMALL_NETWORKS = (
    "--policy.critic.members=2", "--policy.critic.hidden_sizes=[32,32]", "--policy.actor.hidden_sizes=[32,32]",
    "--policy.startup.critic_updates=1", "--policy.actor.lr=20",  # so high that one update moves the edits, early in the warm-up
)  # fmt: skip


def actions_of(place: str) -> np.ndarray:
    """What the checkpoint at a directory or Hub id does on twelve fixed observations, processors included: ``(12, steps, 4)``."""
    from lerobot.policies.factory import make_pre_post_processors

    from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy

    policy = SerlSacPolicy.from_pretrained(place)
    pre, post = make_pre_post_processors(policy.config, pretrained_path=place)
    steps = []
    for index in range(12):
        policy.reset()
        observation = {key: value[index] for key, value in random_observations(small_act_config(0), 12).items()}
        steps.append(torch.stack([post(policy.select_action(pre(dict(observation)))) for _ in range(policy.config.horizon)]))
    return torch.stack(steps).numpy()


def pull(place: str, file: str, *act_paths: str) -> None:
    """The client's side: save the actions of ``place``, print what every wrong ``act_path`` is answered, or ``policy@revision``."""
    from lerobot_serl import SerlSacConfig
    from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy

    np.save(file, actions_of(place))
    answers = {}
    for act_path in act_paths:
        try:
            repository, _, revision = act_path.partition("@")
            if revision:
                SerlSacPolicy.from_pretrained(repository, revision=revision)
            else:
                SerlSacPolicy(SerlSacConfig(act_path=act_path, device="cpu", push_to_hub=False))
        except Exception as error:
            answers[act_path] = [type(error).__name__, str(error)]
    print(json.dumps(answers))


def client(hub, home, module, *flags, status=0):
    """A module in a process whose Hub is ``hub`` and whose cache starts empty; it ends with ``status``."""
    environment = {
        **os.environ, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_LEROBOT_HOME", "HF_TOKEN_PATH"):
        environment.pop(name, None)
    arguments = [sys.executable, str(HELPERS / "hub_server.py"), module, *flags]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, cwd=home.parent, timeout=300)
    assert done.returncode == status, done.stdout[-1000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """A small dataset, and an ACT whose statistics are the dataset's."""
    from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata

    from lerobot_serl.envs.config_franka_sim import FrankaSimEnv
    from lerobot_serl.record.own_expert import record_expert

    root = tmp_path_factory.mktemp("hub")
    record_expert(FrankaSimEnv(), "local/demos", root / "demos", n_episodes=2, seed=0)
    statistics = LeRobotDatasetMetadata("local/demos", root=root / "demos").stats
    tensors = {key: {name: torch.as_tensor(value) for name, value in named.items()} for key, named in statistics.items()}
    save_act(root / "act", small_act_config(0), tensors)
    return root


@pytest.fixture(scope="module")
def hub(ground):
    with HubServer() as server:
        server.add("me/act", ground / "act")
        yield server
        assert not server.unknown


@pytest.fixture(scope="module")
def pushed(ground, hub):
    """Three updates on top of the Hub's ``me/act``, pushed as ``me/tuned``; the local checkpoint. Afterwards ``me/act`` is gone."""
    client(
        hub, ground / "trainer", "lerobot.scripts.lerobot_train", "--policy.type=serl_sac", "--policy.act_path=me/act",
        "--policy.repo_id=me/tuned", "--policy.push_to_hub=true", "--dataset.repo_id=local/demos", f"--dataset.root={ground / 'demos'}",
        *SMALL, *SMALL_NETWORKS, f"--output_dir={ground / 'run'}", "--steps=3",
    )  # fmt: skip
    del hub.repositories["me/act"]
    return ground / "run" / "checkpoints" / "last" / "pretrained_model"


def test_training_on_an_act_of_the_hub_pushes_a_whole_checkpoint(ground, hub, pushed):
    tuned = hub.repositories["me/tuned"]
    assert {"config.json", "model.safetensors", "train_config.json", "README.md"} | PROCESSORS <= set(tuned)
    for name in {"config.json", "model.safetensors"} | PROCESSORS:
        assert tuned[name] == (pushed / name).read_bytes(), name
    weights, act = load(tuned["model.safetensors"]), load_file(ground / "act" / "model.safetensors")
    embedded = {name: value for name, value in weights.items() if name.startswith("agent.act.")}
    for key, value in act.items():
        if "vae_encoder" not in key:  # serves ACT's own training only
            (name,) = (name for name in embedded if name.endswith("." + key.removeprefix("model.")))
            assert torch.equal(embedded[name], value), key
    assert weights["agent.actor.head.weight"].abs().mean() > 0.01  # the edits are no longer zero
    config = json.loads(tuned["config.json"])
    assert (config["type"], config["act_path"], config["act_source"]) == ("serl_sac", None, "me/act")
    assert json.loads(tuned["train_config.json"])["policy"]["act_path"] is None
    card = tuned["README.md"].decode()
    assert "library_name: lerobot" in card
    assert "- serl_sac" in card
    assert "local/demos" in card
    assert {repository for repository, _ in hub.commits} == {"me/tuned"}


def test_the_pulled_checkpoint_acts_like_the_local_one_without_act(ground, hub, pushed, tmp_path):
    """And an act_path of the Hub that is unknown, or lacks a file, is named."""
    act = {path.name: path.read_bytes() for path in (ground / "act").iterdir()}
    lacking = {
        "me/no_weights": {"model.safetensors"},
        "me/no_statistics": {name for name in act if name.startswith("policy_preprocessor") and name.endswith(".safetensors")},
        "me/before_processors": {name for name in act if name.startswith("policy_")},
    }
    for repository, names in lacking.items():
        assert names
        hub.repositories[repository] = {name: content for name, content in act.items() if name not in names}
    marker = tmp_path / "marker"
    hub.repositories["me/poisoned_act"] = poisoned(act, marker)
    # lerobot-eval loads the policy from --policy.pretrained_revision, and the processors from the default branch.
    hub.repositories["me/poisoned"], hub.tags["me/poisoned", "good"] = poisoned(hub.repositories["me/tuned"], marker), "me/tuned"
    hub.tags["me/tuned", "bad"], hub.tags["me/tuned", "good"] = "me/poisoned", "me/tuned"
    wrong = ("me/poisoned@good", "me/tuned@bad", "me/tuned@good", "me/unknown", "me/poisoned_act", *lacking)
    hub.requests.clear()
    done = client(hub, tmp_path / "home", "commands.test_hub", "me/tuned", str(tmp_path / "actions.npy"), *wrong)
    pulled, expected = np.load(tmp_path / "actions.npy"), actions_of(str(pushed))
    np.testing.assert_array_equal(pulled, expected)
    assert np.ptp(expected, axis=0).max() > 0.01
    assert any("/me/tuned/resolve/main/model.safetensors" in request for request in hub.requests)
    assert not any("me/act/" in request for request in hub.requests)

    answers = json.loads(done.stdout.splitlines()[-1])
    for act_path, kind, text in (
        ("me/unknown", "FileNotFoundError", "no LeRobot checkpoint found there"),
        ("me/no_weights", "MissingFileError", "model.safetensors is missing"),
        ("me/no_statistics", "MissingFileError", "_normalizer_processor.safetensors is missing beside config.json"),
        ("me/before_processors", "ValueError", "normalisation statistics missing"),
        ("me/poisoned_act", "CheckpointError", "policy_preprocessor.json: step 0 names the class 'subprocess.run'"),
    ):
        assert answers[act_path][0] == kind, answers[act_path]
        assert f"policy.act_path='{act_path}'" in answers[act_path][1]
        assert text in answers[act_path][1]
    for place in ("me/poisoned@good", "me/tuned@bad"):
        assert f"policy.path='{place.partition('@')[0]}': policy_preprocessor.json: step 0 names the class" in answers[place][1]
    assert "me/tuned@good" not in answers
    assert not marker.exists()


def poisoned(files, marker):
    """The repository's files with a processor step that writes ``marker`` when LeRobot loads it."""
    name = "policy_preprocessor.json"
    document = json.loads(files[name])
    steps = [{"class": "subprocess.run", "config": {"args": ["touch", str(marker)]}}, *document["steps"]]
    return {**files, name: json.dumps({**document, "steps": steps}).encode()}


def test_lerobot_eval_is_refused_a_poisoned_checkpoint(hub, pushed, tmp_path):
    hub.repositories["me/poisoned"] = poisoned(hub.repositories["me/tuned"], marker := tmp_path / "marker")
    done = client(
        hub, tmp_path / "home", "lerobot.scripts.lerobot_eval", "--policy.path=me/poisoned", "--policy.device=cpu", "--env.type=franka_sim",
        "--eval.n_episodes=1", "--eval.batch_size=1", "--eval.use_async_envs=false", f"--output_dir={tmp_path / 'out'}", status=1,
    )  # fmt: skip
    assert "policy.path='me/poisoned': policy_preprocessor.json: step 0 names the class 'subprocess.run'" in done.stderr
    assert not marker.exists()


def test_the_doctor_fetches_only_json_and_safetensors_and_says_where_they_lie(hub, pushed, tmp_path):
    hub.repositories["me/mixed"] = {**hub.repositories["me/tuned"], "evil.py": b"raise SystemExit(9)", "weights.pkl": b"\x80\x04."}
    hub.repositories["me/attack"] = poisoned(hub.repositories["me/mixed"], marker := tmp_path / "marker")
    hub.requests.clear()
    places = ("me/mixed", "me/attack", "me/mixed --revision=other", "me/nobody")
    done = client(hub, tmp_path / "home", "commands.test_hub", "--doctor", *places)
    (mixed, attack, other, nobody) = (json.loads(line) for line in done.stdout.splitlines()[-len(places) :])
    assert mixed[0] == 0
    assert "ok      config.json: a policy of type 'serl_sac'" in mixed[1]
    assert "note    evil.py, weights.pkl: LeRobot loads no such file of a checkpoint; do not run or unpickle it" in mixed[1]
    where = f"me/mixed at commit {hub.revision('me/mixed')} lies in "
    line = next(line for line in mixed[1].splitlines() if where in line)
    directory = Path(line.partition(where)[2].partition(": use that directory")[0])
    assert directory.is_relative_to(tmp_path / "home")
    assert {path.suffix for path in directory.iterdir()} == {".json", ".safetensors"}
    assert not [request for request in hub.requests if "/resolve/" in request and not request.endswith((".json", ".safetensors"))]

    assert attack[0] == 1
    assert "problem checkpoint='" in attack[1]
    assert "policy_preprocessor.json: step 0 names the class 'subprocess.run', which LeRobot's loader would import and call" in attack[1]
    assert not marker.exists()
    for place, (status, said) in {"me/mixed": other, "me/nobody": nobody}.items():
        assert status == 2
        assert f"{place} does not exist here, nor could it be had from the Hub" in said


def doctor(*places):
    """The client's side: the status of the command for each place, and what it printed."""
    from lerobot_serl.scripts.lerobot_serl_doctor import main

    answers = []
    for place in places:
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            answers.append((main(place.split()), said))
    print("\n".join(json.dumps([status, said.getvalue()]) for status, said in answers))


def test_training_goes_on_from_the_hub(ground, hub, pushed, tmp_path):
    """--policy.path=me/tuned: ACT stays what it was, counters restart, and pushing again replaces the checkpoint."""
    before = load(hub.repositories["me/tuned"]["model.safetensors"])
    client(
        hub, tmp_path / "home", "lerobot.scripts.lerobot_train", "--policy.path=me/tuned", "--policy.repo_id=me/again",
        "--policy.push_to_hub=true", "--dataset.repo_id=local/demos", f"--dataset.root={ground / 'demos'}", *SMALL,
        f"--output_dir={tmp_path / 'run'}", "--steps=2",
    )  # fmt: skip
    after = load(hub.repositories["me/again"]["model.safetensors"])
    for name, value in before.items():
        if name.startswith(("agent.act.", "agent.box.")):
            assert torch.equal(after[name], value), name


if __name__ == "__main__":
    doctor(*sys.argv[2:]) if sys.argv[1] == "--doctor" else pull(*sys.argv[1:])
