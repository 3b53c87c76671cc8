"""The robot side takes every robot, teleoperator and camera that LeRobot's own commands take."""

import importlib
import logging
import subprocess
import sys

from lerobot.cameras import CameraConfig
from lerobot.robots import RobotConfig
from lerobot.teleoperators import TeleoperatorConfig

from lerobot_serl.stock_hardware import register_stock_hardware

CHOICES = """
import lerobot.scripts.lerobot_record, lerobot.scripts.lerobot_teleoperate
from lerobot.cameras import CameraConfig
from lerobot.robots import RobotConfig
from lerobot.teleoperators import TeleoperatorConfig
for kind in (RobotConfig, TeleoperatorConfig, CameraConfig):
    print(*kind.get_known_choices())
"""


def test_what_lerobots_commands_offer_is_offered():
    shown = subprocess.run([sys.executable, "-c", CHOICES], capture_output=True, text=True, timeout=300, check=True).stdout
    register_stock_hardware()
    for kind, line in zip((RobotConfig, TeleoperatorConfig, CameraConfig), shown.splitlines(), strict=True):
        assert len(line.split()) >= 2
        assert set(kind.get_known_choices()) >= set(line.split())


def test_an_arm_a_leader_and_a_camera_of_lerobot_can_be_chosen():
    """Up to the learner, which is not there; before the arm's port, which is not there either."""
    command = (
        "lerobot_serl.scripts.lerobot_serl_actor", "--learner=127.0.0.1:1", "--patience_s=1", "--robot.type=so101_follower",
        "--robot.port=/dev/null", "--robot.cameras={top: {type: opencv, index_or_path: 0, width: 640, height: 480, fps: 30}}",
        "--teleop.type=so101_leader", "--teleop.port=/dev/null",
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "No learner at 127.0.0.1:1 within 1 s." in done.stderr + done.stdout


def test_a_kind_that_cannot_be_imported_is_left_out_with_a_warning(monkeypatch, caplog):
    imported = []

    def import_module(name):
        if name.endswith("so_follower"):
            raise OSError("no serial port")
        imported.append(name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    with caplog.at_level(logging.WARNING):
        register_stock_hardware()
    assert "lerobot.robots.so_follower cannot be used here: OSError: no serial port" in caplog.text
    assert {"lerobot.robots.koch_follower", "lerobot.teleoperators.so_leader", "lerobot.cameras.opencv"} <= set(imported)
