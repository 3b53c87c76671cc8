"""Stock LeRobot commands as processes, with the plugin installed from a wheel: a franka robot at a simulated arm's server, and franka_sim."""

import os
import re
import signal
import site
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from act_checkpoints import save_act, small_act_config
from lerobot.datasets.lerobot_dataset import LeRobotDataset

from lerobot_serl.robots.config_franka import JOINT_KEYS
from lerobot_serl.robots.franka_client import FrankaClient

pytestmark = [pytest.mark.slow, pytest.mark.fresh_python]
ROOT = Path(__file__).parents[2]
PATIENCE_S = 300
TOKEN = "a-token-of-more-than-16-letters"
PLUGIN = "lerobot_teleoperator_test_franka"

# A teleoperator that swings the joints or pushes like a gamepad, and a camera that sees nothing: what a laboratory would have.
PLUGIN_SOURCE = {
    "__init__.py": "from . import config_swing, config_blank\n",
    "config_swing.py": """
from dataclasses import dataclass
from lerobot.teleoperators import TeleoperatorConfig

@TeleoperatorConfig.register_subclass("test_swing")
@dataclass(kw_only=True)
class SwingConfig(TeleoperatorConfig):
    pad: bool = False
""",
    "swing.py": """
import math
from lerobot.teleoperators import Teleoperator
from .config_swing import SwingConfig

HOME = (0.0, -0.2, 0.0, -2.3, 0.0, 2.2, 0.785)

class Swing(Teleoperator):
    config_class = SwingConfig
    name = "test_swing"
    feedback_features = {}
    is_calibrated = True
    is_connected = False

    def __init__(self, config):
        super().__init__(config)
        self.pad, self.step = config.pad, 0

    @property
    def action_features(self):
        return {}

    def connect(self, calibrate=True):
        self.is_connected = True

    def get_action(self):
        self.step += 1
        wave = math.sin(self.step / 10)
        if self.pad:
            return {"delta_x": wave, "delta_y": 0.0, "delta_z": 0.5, "gripper": 1.0}
        return {**{f"joint_{i + 1}.pos": q + 0.05 * wave for i, q in enumerate(HOME)}, "gripper.pos": float(self.step % 20 < 10)}

    def calibrate(self): pass
    def configure(self): pass
    def send_feedback(self, feedback): pass

    def disconnect(self):
        self.is_connected = False
""",
    "config_blank.py": """
from dataclasses import dataclass
from lerobot.cameras import CameraConfig

@CameraConfig.register_subclass("test_blank")
@dataclass(kw_only=True)
class BlankConfig(CameraConfig):
    pass
""",
    "blank.py": """
import numpy as np
from lerobot.cameras import Camera

class Blank(Camera):
    is_connected = False

    @staticmethod
    def find_cameras():
        return []

    def connect(self, warmup=True):
        self.is_connected = True

    def read(self):
        return np.zeros((self.height, self.width, 3), dtype=np.uint8)

    def async_read(self, timeout_ms=200):
        return self.read()

    def read_latest(self, max_age_ms=500):
        return self.read()

    def disconnect(self):
        self.is_connected = False
""",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Python of a virtual environment with everything that this one has, but our plugin from a wheel, and the test's plugin."""
    folder = tmp_path_factory.mktemp("installed")
    if find_spec("pip"):
        run([sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, ROOT])
    else:  # an environment that uv made
        run(["uv", "build", "--wheel", "--out-dir", folder, ROOT])
    wheel = next(folder.glob("lerobot_policy_serl_sac-*.whl"))
    run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"])
    python = folder / "venv" / "bin" / "python"
    target = next((folder / "venv" / "lib").glob("python*")) / "site-packages"
    for entry in Path(site.getsitepackages()[0]).iterdir():
        if not re.search(r"lerobot_(serl|policy_serl_sac)|^__pycache__$", entry.name):
            (target / entry.name).symlink_to(entry)
    zipfile.ZipFile(wheel).extractall(target)
    package = target / PLUGIN
    package.mkdir()
    for name, source in PLUGIN_SOURCE.items():
        (package / name).write_text(source)
    metadata = target / f"{PLUGIN}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PLUGIN}\nVersion: 1.0\n")
    return python


def environment(**variables):
    """Without anything that would let the checkout's own code be imported."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {**kept, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "LEROBOT_SERL_FRANKA_TOKEN": TOKEN, **variables}


def run(command, cwd=None, expect=0):
    """Output of a command that has to succeed."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=environment(), cwd=cwd, timeout=PATIENCE_S,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == expect, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout + done.stderr


class SimServer:
    """`lerobot-serl-franka-server --driver=sim` as a process, with a token; `stop` ends it as Ctrl-C does."""

    def __init__(self, python, cwd):
        # The machine may be busy: a late tick is no stale state here.
        command = [
            str(python), "-m", "lerobot_serl.scripts.lerobot_serl_franka_server", "--driver=sim", "--port=0",
            "--controller.state_timeout_s=10", "--controller.watchdog_s=10", "--controller.watchdog_stop_s=20",
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(), cwd=cwd)
        self.lines, self.url = [], ""
        for line in self.process.stderr:
            self.lines.append(line)
            if found := re.search(r"Listening at (http://\S+)", line):
                self.url = found.group(1)
                break
        assert self.url, "".join(self.lines)
        threading.Thread(target=lambda: self.lines.extend(self.process.stderr), daemon=True).start()

    def measured_rad(self):
        client = FrankaClient(self.url, TOKEN, timeout_s=5.0, state_timeout_s=5.0)
        client.connect()
        return client.read().q_rad

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(timeout=30) == 0


def franka_session(python, folder):
    """Every command that drives a robot, at a server; the text they printed."""
    server = SimServer(python, folder)
    robot = [
        "--robot.type=franka", "--robot.id=test", f"--robot.calibration_dir={folder}", "--robot.arm=fer",
        f"--robot.server_url={server.url}", "--robot.request_timeout_s=20", "--robot.state_timeout_s=10",
    ]  # fmt: skip
    cameras = "--robot.cameras={front: {type: test_blank, width: 32, height: 32, fps: 30}}"
    teleop = ["--teleop.type=test_swing"]
    data = ["--dataset.repo_id=local/franka", f"--dataset.root={folder / 'data'}"]
    try:
        printed = run([python, "-m", "lerobot.scripts.lerobot_calibrate", *robot], folder)
        assert "Homing of the gripper is skipped" in printed
        run([python, "-m", "lerobot.scripts.lerobot_teleoperate", *robot, "--robot.control_mode=ee_delta", *teleop, "--teleop.pad=true",
             "--fps=20", "--teleop_time_s=2"], folder)  # fmt: skip
        run([python, "-m", "lerobot.scripts.lerobot_record", *robot, cameras, *teleop, *data, "--dataset.fps=10",
             "--dataset.num_episodes=2", "--dataset.episode_time_s=2", "--dataset.reset_time_s=0.3", "--dataset.single_task=swing",
             "--dataset.video=false", "--dataset.push_to_hub=false", "--dataset.no_stamp=true", "--play_sounds=false"], folder)  # fmt: skip
        check_recording(folder / "data")
        run([python, "-m", "lerobot.scripts.lerobot_replay", *robot, *data, "--dataset.episode=1", "--play_sounds=false"], folder)
        last = LeRobotDataset("local/franka", root=folder / "data", episodes=[1])[-1]["action"].numpy()[:7]
        np.testing.assert_allclose(server.measured_rad(), last, atol=0.1)
        save_act(folder / "act", small_act_config(1, state_dim=8, action_dim=8))
        printed = run([python, "-m", "lerobot.scripts.lerobot_rollout", f"--policy.path={folder / 'act'}", "--device=cpu", *robot, cameras,
                       "--fps=10", "--duration=2", "--task=swing"], folder)  # fmt: skip
        assert "Rollout finished" in printed
    finally:
        server.stop()
    printed = "".join(server.lines)
    assert "SIMULATED" in printed
    assert "Traceback" not in printed
    assert "Stopped; the arm is not tracking any more." in printed


def check_recording(root):
    dataset = LeRobotDataset("local/franka", root=root)
    assert dataset.num_episodes == 2
    assert dataset.features["action"]["names"] == [*JOINT_KEYS, "gripper.pos"]
    assert dataset.features["observation.state"]["names"] == [*JOINT_KEYS, "gripper.pos"]
    states = np.stack([frame["observation.state"].numpy() for frame in dataset])
    assert np.isfinite(states).all()
    assert np.ptp(states[:, :7], axis=0).max() > 0.02  # it moved
    assert dataset.meta.robot_type == "franka"


def franka_sim_session(python, folder):
    """The same commands with the simulated robot, which needs no server. Its rollout is in test_franka_sim_robot."""
    robot = ["--robot.type=franka_sim", f"--robot.calibration_dir={folder}", "--robot.fps=10"]
    teleop = ["--teleop.type=franka_sim_expert"]
    data = ["--dataset.repo_id=local/sim", f"--dataset.root={folder / 'data'}"]
    run([python, "-m", "lerobot.scripts.lerobot_calibrate", *robot], folder)
    run([python, "-m", "lerobot.scripts.lerobot_teleoperate", *robot, *teleop, "--fps=10", "--teleop_time_s=1"], folder)
    run([python, "-m", "lerobot.scripts.lerobot_record", *robot, *teleop, *data, "--dataset.fps=10", "--dataset.num_episodes=1",
         "--dataset.episode_time_s=2", "--dataset.single_task=lift", "--dataset.video=false", "--dataset.push_to_hub=false",
         "--dataset.no_stamp=true", "--play_sounds=false"], folder)  # fmt: skip
    assert LeRobotDataset("local/sim", root=folder / "data").num_episodes == 1
    run([python, "-m", "lerobot.scripts.lerobot_replay", *robot, *data, "--dataset.episode=0", "--play_sounds=false"], folder)


def test_every_command_accepts_both_robots_from_an_installed_wheel(installed, tmp_path):
    """The two sessions run beside each other, because a command's start is most of its time."""
    folders = [tmp_path / "franka", tmp_path / "franka_sim"]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(3) as pool:
        where = pool.submit(run, [installed, "-c", "import lerobot_serl; print(lerobot_serl.__file__)"], tmp_path)
        sessions = [
            pool.submit(session, installed, folder) for session, folder in zip((franka_session, franka_sim_session), folders, strict=True)
        ]
        for session in sessions:
            session.result()
    assert str(installed.parents[1]) in where.result()


def test_the_server_explains_itself_in_one_sentence_and_exits_1(tmp_path):
    """All at once, because the start of the process is nearly all of their time."""
    server = [sys.executable, "-m", "lerobot_serl.scripts.lerobot_serl_franka_server"]
    cases = [
        ([], r"robot_ip is missing: .*--robot_ip=.*--driver=sim"),
        (["--driver=sim", "--arm=fr3"], r"the simulated arm is a fer; leave --arm out"),
        (["--driver=sim", "--controller.max_step_rad=9"], r"max_step_rad is 9.0, expected"),
        (["--driver=sim", "--token_file=absent"], r"token_file absent cannot be read: No such file"),
        (["--driver=sim", "--host=0.0.0.0"], r"host '0.0.0.0' lets other machines move the arm"),
    ]

    def check(case):
        arguments, message = case
        kept = {key: value for key, value in os.environ.items() if key != "LEROBOT_SERL_FRANKA_TOKEN"}
        done = subprocess.run(
            [*server, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE_S, env=kept, check=False
        )
        assert done.returncode == 1, done.stderr
        assert re.search(message, done.stderr), done.stderr
        assert "Traceback" not in done.stderr

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(check, cases))
