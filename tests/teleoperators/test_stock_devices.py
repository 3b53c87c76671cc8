"""LeRobot's own hand-held devices, and ours, are choices of every command that takes a teleoperator."""

import importlib
import logging
import os
import re
import subprocess
import sys

import pytest
from lerobot.teleoperators import TeleoperatorConfig

from lerobot_serl.teleoperators import stock_devices

STOCK = {"gamepad", "keyboard", "keyboard_ee", "phone"}
OURS = {"franka_sim_expert", "bi_franka_sim_expert", "serl_spacemouse", "serl_gello"}


def test_importing_the_module_registers_them():
    assert set(TeleoperatorConfig.get_known_choices()) >= STOCK


def test_a_device_that_cannot_be_imported_is_left_out_with_a_warning(monkeypatch, caplog):
    def import_module(name):
        if name.endswith("phone"):
            raise OSError("libusb is missing")
        imported.append(name)

    imported = []
    monkeypatch.setattr(importlib, "import_module", import_module)
    with caplog.at_level(logging.WARNING):
        importlib.reload(stock_devices)
    assert imported == ["lerobot.teleoperators.gamepad", "lerobot.teleoperators.keyboard"]
    assert "--teleop.type=phone cannot be used here: OSError: libusb is missing" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("command", ["record", "teleoperate", "rollout", "calibrate"])  # lerobot-replay takes no teleoperator
def test_every_command_that_takes_a_teleoperator_offers_them(command, tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "10000"}
    shown = subprocess.run(
        [sys.executable, "-m", f"lerobot.scripts.lerobot_{command}", "--help"],
        capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300, check=False,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr[-2000:]
    choices = re.search(r"--teleop\.type \{([^}]*)\}", shown.stdout)
    assert choices
    assert set(choices.group(1).split(",")) >= STOCK | OURS
