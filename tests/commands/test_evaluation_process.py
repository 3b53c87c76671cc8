"""Before and after on the simulated arm, as commands: a person's keys, Ctrl-C, and the comparison."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from act_checkpoints import save_act, small_act_config
from test_actor_process import ACTOR, ENVIRONMENT, PATIENCE_S, REAL_TIME, ROBOT, Terminal, record

from lerobot_serl.replay.demonstration_stats_file import FILE

pytestmark = pytest.mark.slow
DEMOS = ("--dataset.repo_id=local/demos", "--dataset.root={root}/demos")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Demonstrations of the arm, ACT, and a serl_sac checkpoint that lerobot-train has written."""
    root = tmp_path_factory.mktemp("evaluation")
    ENVIRONMENT["HF_LEROBOT_HOME"] = str(root / "home")
    try:
        statistics = record(root / "demos")
    except RuntimeError as error:
        pytest.skip(f"no OpenGL: {error}")
    tensors = {key: {name: torch.as_tensor(value) for name, value in named.items()} for key, named in statistics.items()}
    save_act(root / "act", small_act_config(1), tensors)
    trained = subprocess.run(
        [
            sys.executable, "-c",
            "from lerobot.utils.import_utils import register_third_party_plugins; register_third_party_plugins();"
            "from lerobot.scripts.lerobot_train import main; main()",
            "--policy.type=serl_sac", f"--policy.act_path={root / 'act'}", "--policy.device=cpu", "--policy.push_to_hub=false",
            *(flag.format(root=root) for flag in DEMOS), "--policy.batch_size=8", "--batch_size=1", "--num_workers=0", "--steps=2", "--save_freq=2",
            f"--output_dir={root / 'serl'}",
        ],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr[-3000:]
    return root


@pytest.fixture(scope="module")
def before(root):
    """ACT at a terminal: the person ends five episodes. Returns exit code, output, whether the terminal is as it was."""
    flags = [flag.format(root=root) for flag in DEMOS]
    actor = Terminal(*ACTOR, f"--policy.path={root / 'act'}", *flags, *REAL_TIME, "--n_episodes=5", f"--output_dir={root / 'before'}")
    try:
        assert actor.wait_for("acts as ACT, 5 times."), actor.output[-3000:]
        for number, (key, word) in enumerate((("s", "success"), ("f", "failure"), ("s", "success"), ("s", "success"), ("f", "failure")), 1):
            actor.press(key, f"Episode {number} of 5: {word} (person)")
    finally:
        code, restored = actor.end()
    return code, actor.output, restored


@pytest.fixture(scope="module")
def after(root):
    """The checkpoint, which knows its demonstrations itself, in lockstep; Ctrl-C after five episodes."""
    flags = (*ROBOT, "--robot.cameras=true", "--episode_time_s=0.5", "--n_episodes=100000", f"--output_dir={root / 'after'}")
    with (root / "after.log").open("w") as log:
        actor = subprocess.Popen(
            [*ACTOR, f"--policy.path={root / 'serl'}", *flags], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=ENVIRONMENT,
        )  # fmt: skip
    deadline = time.monotonic() + PATIENCE_S
    results = root / "after" / "eval_info.json"
    while not results.exists() or len(json.loads(results.read_text())["per_episode"]) < 5:
        assert actor.poll() is None, (root / "after.log").read_text()[-3000:]
        assert time.monotonic() < deadline, (root / "after.log").read_text()[-3000:]
        time.sleep(0.1)
    actor.send_signal(signal.SIGINT)
    return actor.wait(PATIENCE_S), (root / "after.log").read_text()


def test_act_is_evaluated_under_limits_with_the_persons_keys(root, before):
    code, output, restored = before
    assert code == 0, output[-3000:]
    assert restored
    assert re.search(r"Robot franka_sim at 10 Hz; episodes of at most 300.0 s; success decided by: the robot", output)
    assert "Limits of every target:\n  delta_x.pos: " in output
    assert "acts as ACT, 5 times." in output
    assert "3 of 5 episodes succeed without help, 60 % (95 % interval 23 to 88 %)" in output
    episodes = json.loads((root / "before" / "eval_info.json").read_text())["per_episode"]
    assert [episode["success"] for episode in episodes] == [True, False, True, True, False]
    assert {(episode["decided_by"], episode["acted_as"]) for episode in episodes} == {("person", "ACT")}


def test_ctrl_c_leaves_a_file_of_what_was_finished(root, after):
    code, output = after
    assert code == 0, output[-3000:]
    assert "Traceback" not in output
    assert "Interrupted; the unfinished episode is dropped." in output
    assert "Limits of every target:\n  delta_x.pos: " in output  # of the checkpoint's own file
    assert (root / "serl" / "checkpoints" / "last" / "pretrained_model" / FILE).is_file()
    episodes = json.loads((root / "after" / "eval_info.json").read_text())["per_episode"]
    assert f"{sum(episode['success'] for episode in episodes)} of {len(episodes)} episodes succeed without help" in output
    assert {episode["steps"] for episode in episodes} == {5}


def test_the_two_are_compared(root, before, after):
    command = [sys.executable, "-m", "lerobot_serl.scripts.lerobot_serl_report", "--compare", str(root / "before"), str(root / "after")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == str(root / "after" / "compare_with_before" / "index.html")
    assert lines[1].startswith("A ")
    assert "3 of 5, 60 %" in lines[1]
    assert "independent" in done.stdout


def test_a_wrong_flag_is_a_sentence(root):
    command = [*ACTOR, f"--policy.path={root / 'act'}", *ROBOT, "--robot.cameras=true", f"--output_dir={root / 'none'}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert "neither the checkpoint nor a flag says what its demonstrations were like" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (root / "none" / "eval_info.json").exists()
