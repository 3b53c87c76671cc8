"""The commands as processes: refusals, and Ctrl-C."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from act_checkpoints import save_act, small_act_config
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_serl.envs.config_franka_sim import FrankaSimEnv
from lerobot_serl.record.own_expert import record_expert

pytestmark = [pytest.mark.slow, pytest.mark.fresh_python]
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
PATIENCE_S = 900


def test_an_actor_without_a_learner_says_so_and_exits_1(tmp_path):
    done = subprocess.run(
        [
            sys.executable, "-m", "lerobot_serl.scripts.lerobot_serl_actor", "--learner=127.0.0.1:9", "--env.type=franka_sim", "--patience_s=1",
            f"--spool_dir={tmp_path}",
        ],
        capture_output=True, text=True, env=ENVIRONMENT, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 1
    assert "No learner at 127.0.0.1:9 yet; trying again" in done.stderr
    assert "Start lerobot-train --policy.type=serl_sac" in done.stderr
    assert "Traceback" not in done.stderr


def children_of(pid):
    """Processes whose parent is ``pid``."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as handle:
                    if int(handle.read().rpartition(")")[2].split()[1]) == pid:
                        found.append(int(entry))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_learner_and_actor_and_keeps_the_episodes(tmp_path, stop):
    """Also when the shell started it in the background, where SIGINT is ignored unless the command says otherwise."""
    record_expert(FrankaSimEnv(), "local/demos", tmp_path / "demos", n_episodes=2)
    statistics = LeRobotDatasetMetadata("local/demos", root=tmp_path / "demos").stats
    tensors = {key: {name: torch.as_tensor(value) for name, value in named.items()} for key, named in statistics.items()}
    save_act(tmp_path / "act", small_act_config(0), tensors)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"output_dir: {tmp_path / 'run'}\n"
        "train:\n"
        f"  dataset: {{repo_id: local/demos, root: {tmp_path / 'demos'}}}\n"
        f"  policy: {{type: serl_sac, act_path: {tmp_path / 'act'}, device: cpu, push_to_hub: false,\n"
        f"           online: {{repo_id: local/online, root: {tmp_path / 'online'}}}}}\n"
        "  steps: 1000000\n"
        "actor: {env: {type: franka_sim, episode_length: 20}}\n"
    )
    command = [sys.executable, "-m", "lerobot_serl.scripts.lerobot_serl_run", f"--config_path={recipe}"]
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT)
    finally:
        signal.signal(signal.SIGINT, ignored)
    episodes = tmp_path / "run" / "metrics" / "episodes.csv"
    deadline = time.monotonic() + PATIENCE_S
    while not (episodes.exists() and len(episodes.read_text().splitlines()) > 3):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    children = children_of(process.pid)
    assert len(children) == 2
    process.send_signal(stop)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "Stopping the actor, then the learner" in output
    assert not any(os.path.exists(f"/proc/{pid}") for pid in children)
    online = LeRobotDataset("local/online", root=tmp_path / "online")
    assert online.num_episodes >= len(episodes.read_text().splitlines()) - 1 >= 3
