"""What is wrong with a setting reaches the person who typed it, through LeRobot's own parser."""

import subprocess
import sys

import pytest

from lerobot_serl.setting_error import SettingError, checks_settings

LEARN = ("lerobot_train", "--policy.type=serl_sac", "--dataset.repo_id=local/none")
ACT = ("lerobot_serl.scripts.lerobot_serl_actor", "--learner=127.0.0.1:1")


def last_words(module, *flags):
    """Exit code and standard error of a command, from its word "error" on."""
    module = f"lerobot.scripts.{module}" if module.startswith("lerobot_train") else module
    done = subprocess.run([sys.executable, "-m", module, *flags], capture_output=True, text=True, timeout=300)
    text = f"\n{done.stderr}"
    return done.returncode, text[text.rfind("\nerror: ") :]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((*LEARN, "--policy.actor.edit_scale=nan"), "policy.actor.edit_scale=nan: expected numbers from above 0 to 2"),
        ((*ACT, "--robot.type=franka", "--robot.ee_step_m=7"), "robot.ee_step_m is 7.0, expected more than 0 and at most 0.05"),
        ((*ACT, "--env.type=franka_sim", "--max_disconnected_s=-1"), "--max_disconnected_s=-1.0: expected 0 or more seconds"),
    ],
)
def test_the_command_says_it_and_nothing_else(command, words):
    code, text = last_words(*command)
    assert code == 1
    assert words in text
    assert "Traceback" not in text
    assert "Couldn't instantiate" not in text


@pytest.mark.parametrize("kind", [ValueError, TypeError])
def test_what_the_check_raises_is_its_text(kind):
    class Settings:
        @checks_settings
        def __post_init__(self):
            raise kind("speed=9: expected less")

    with pytest.raises(SettingError, match=r"^speed=9: expected less$"):
        Settings().__post_init__()
