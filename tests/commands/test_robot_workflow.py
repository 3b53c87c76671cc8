"""The workflow of a real arm on the simulated one, with the commands that its owner types."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_serl.envs.gl_platform import choose_gl_platform
from lerobot_serl.replay.episode import Decider

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def workflow(tmp_path_factory):
    if choose_gl_platform() == "disable":
        pytest.skip("no OpenGL library for rendering without a display (libegl1 or libosmesa6)")
    root = tmp_path_factory.mktemp("workflow") / "run"
    command = [sys.executable, str(ROOT / "examples" / "robot_workflow.py"), "--small", f"--root={root}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False)
    logs = "\n".join(f"== {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in sorted(root.glob("*.log")))
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:] + logs
    return root, done.stdout


@pytest.mark.slow
def test_record_train_fine_tune_on_the_robot_and_roll_out(workflow):
    root, printed = workflow
    with (root / "robot_workflow.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["act", "fine_tuned"]
    assert int(rows[1]["episodes"]) >= 1
    assert "Limits of every target" in (root / "actor.log").read_text()
    assert printed.count("lerobot-rollout") == 1
    assert "attempt 1: " in printed


@pytest.mark.slow
def test_what_the_robot_did_is_a_dataset_with_the_person_s_part_marked(workflow):
    root, _ = workflow
    dataset = LeRobotDataset("local/pick_cube_online", root=root / "online")
    rows = dataset.hf_dataset.with_format("numpy")[:]
    assert dataset.features["action"]["names"] == ["delta_x.pos", "delta_y.pos", "delta_z.pos", "gripper.pos"]
    assert set(dataset.features) >= {"observation.images.front", "observation.images.wrist", "next.decided_by"}
    by_hand = rows["is_intervention"].ravel()
    assert by_hand.any()
    ends = rows["next.decided_by"].ravel()[rows["next.done"].ravel()]
    assert set(ends.tolist()) <= {Decider.ROBOT.number, Decider.TIME_LIMIT.number}
    # The expert takes over after two seconds of ten frames each, and not before.
    assert (rows["frame_index"].ravel()[by_hand] >= 19).all()


@pytest.mark.slow
def test_lerobot_dataset_viz_opens_it(workflow, tmp_path):
    root, _ = workflow
    flags = ["--repo-id=local/pick_cube_online", f"--root={root / 'online'}", "--episode-index=0", "--save=1", f"--output-dir={tmp_path}"]
    done = subprocess.run(
        [str(BIN / "lerobot-dataset-viz"), *flags, "--num-workers=0"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [file.stat().st_size > 10_000 for file in tmp_path.glob("*.rrd")] == [True]
