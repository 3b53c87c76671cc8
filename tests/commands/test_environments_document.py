"""docs/environments.md, command by command, with smaller numbers: an environment that is not ours, from nothing to a comparison."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from test_actor_process import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]  # a dozen processes
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")
PLUGIN = "lerobot_env_so101_lift"
BIN = Path(sys.executable).parent
PATIENCE_S = 1500
SMALL_LEARNER = (
    "--steps=40", "--save_freq=40", "--policy.batch_size=16", "--policy.startup.collect_steps=20", "--policy.startup.critic_updates=5",
    "--policy.startup.ramp_updates=5",
)  # fmt: skip
EVALUATED = ("--n_episodes=5", "--env.episode_length=6")
# Part of a command's first words -> flags behind its own, which then count.
SMALLER = {
    "lerobot-serl-record": ("--n_episodes=2",),
    "lerobot-train --policy.type=act": ("--steps=4", "--save_freq=4"),
    "lerobot-train --policy.type=serl_sac": SMALL_LEARNER,
    "lerobot-serl-actor --learner": ("--env.episode_length=10",),
    "lerobot-serl-actor --policy.path": EVALUATED,
    "lerobot-serl-report": (),
}


def commands():
    """Of the page, in order, each on one line."""
    text = PAGE.replace("\\\n", " ")
    return [" ".join(line.split()) for line in re.findall(r"^    ((?:lerobot-|pip ).*)$", text, re.MULTILINE)]


def smaller(command):
    (flags,) = [flags for words, flags in SMALLER.items() if command.startswith(words)]
    return [*shlex.split(command), *flags]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working directory, and the plugin as pip would install it."""
    place = tmp_path_factory.mktemp("environments")
    shutil.copytree(ROOT / "examples" / PLUGIN / PLUGIN, place / "site" / PLUGIN)
    about = place / "site" / f"{PLUGIN}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PLUGIN}\nVersion: 1.0\n")
    return place


def start(place, command, address):
    path = os.pathsep.join([str(ROOT), str(place / "site"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_LEROBOT_HOME": str(place / "home"), "PYTHONPATH": path}
    program, *flags = [part.replace("127.0.0.1:50051", address) for part in command]
    if "--policy.type=serl_sac" in flags:
        flags.append(f"--policy.online.port={address.partition(':')[2]}")
    with (place / "log").open("a") as log:
        return subprocess.Popen([str(BIN / program), *flags], cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def test_the_page_is_walked_from_nothing_to_a_comparison(place):
    first, *others = commands()
    assert first == "pip install ./examples/lerobot_env_so101_lift"
    assert (ROOT / "examples" / PLUGIN / "pyproject.toml").is_file()
    address, learner = f"127.0.0.1:{free_port()}", None
    for command in others:
        process = start(place, smaller(command), address)
        if "--policy.type=serl_sac" in command:
            learner = process
            continue
        try:
            code = process.wait(PATIENCE_S)
        finally:
            process.kill()
        assert code == 0, (command, (place / "log").read_text()[-3000:])
        if "--learner" in command:
            assert learner.wait(PATIENCE_S) == 0, (place / "log").read_text()[-3000:]
    outputs = place / "outputs" / "so101_lift"
    demonstrations = LeRobotDataset("local/so101_lift", root=outputs / "demonstrations")
    assert demonstrations.num_episodes == 2
    assert demonstrations.features["action"]["names"] == ["dx", "dy", "dz", "grasp"]
    assert (outputs / "after" / "compare_with_before" / "index.html").is_file()
    assert "Starts " in (place / "log").read_text()
    assert "the same seeds, which both files hold" in (place / "log").read_text()


def test_the_experts_of_the_other_page_are_experts(place):
    """docs/data.md: the controller with phases, and noise of its own."""
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^    # my_experts.py.*?\n((?:    .*\n|\n)+)", text, re.MULTILINE)
    (place / "my_experts.py").write_text(textwrap.dedent(block))
    command = shlex.split(
        "lerobot-serl-record --env.type=so101_lift --expert=my_experts:place --repo_id=local/noisy --root=noisy --n_episodes=2"
    )
    assert start(place, command, "").wait(PATIENCE_S) == 0, (place / "log").read_text()[-3000:]
    dataset = LeRobotDataset("local/noisy", root=place / "noisy")
    assert dataset.num_episodes == 2
    assert len(set(np.array(dataset.hf_dataset["action"])[:10, 1].tolist())) == 10
