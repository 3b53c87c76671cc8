"""The joint leader through LeRobot's real Dynamixel bus and SDK, against motors on a pseudo terminal. No hardware."""

import json
import math
from contextlib import suppress

import pytest
from lerobot.teleoperators import TeleoperatorConfig, make_teleoperator_from_config
from lerobot.utils.errors import DeviceNotConnectedError

from lerobot_serl.robots.config_franka_sim_robot import ACTION_KEYS
from lerobot_serl.setting_error import SettingError
from lerobot_serl.teleoperators.config_serl_gello import SerlGelloConfig

pytest.importorskip("dynamixel_sdk")

from dynamixel_chain import OPERATING_MODE, TORQUE_ENABLE, DynamixelChain
from dynamixel_sdk import port_handler

from lerobot_serl.teleoperators.serl_gello import SerlGello

TURN = 4096
HOME = {i: 1000 + 300 * i for i in range(1, 8)}
OPEN, CLOSED = 2000, 1400  # closed is the smaller


# The SDK gives a question up after twice this and 2 ms. A simulated chain on a computer that does much else answers later than motors do.
LATENCY_MS = 250


@pytest.fixture
def chain(monkeypatch):
    monkeypatch.setattr(port_handler, "LATENCY_TIMER", LATENCY_MS)
    chain = DynamixelChain({**dict.fromkeys(range(1, 8), "xl330-m288"), 8: "xl330-m077"})
    yield chain
    chain.close()


@pytest.fixture
def make(chain, tmp_path):
    """``make(**settings)``: a leader that is not connected; closed in the end."""
    made = []

    def make_one(**settings):
        teleop = SerlGello(SerlGelloConfig(id="leader", port=chain.port, calibration_dir=tmp_path, **settings))
        made.append(teleop)
        return teleop

    yield make_one
    for teleop in made:
        if teleop.is_connected:
            teleop.disconnect()


@pytest.fixture
def person(chain, monkeypatch):
    """Somebody who follows the instructions of the calibration."""
    asked = []

    def answer(prompt):
        asked.append(prompt)
        chain.turn_to({"Hold": HOME, "Release": {8: OPEN}, "Pull": {8: CLOSED}}[prompt.split()[0]])
        return ""

    monkeypatch.setattr("builtins.input", answer)
    return asked


def test_lerobot_makes_it_from_the_type_name():
    config = TeleoperatorConfig.get_choice_class("serl_gello")(port="/dev/null")
    teleop = make_teleoperator_from_config(config)
    assert isinstance(teleop, SerlGello)
    assert tuple(teleop.action_features) == ACTION_KEYS["joint"]
    assert not teleop.is_calibrated
    assert teleop.feedback_features == {}
    with pytest.raises(DeviceNotConnectedError):
        teleop.get_action()


def test_calibration_gives_home_and_survives_in_lerobots_file(chain, make, person):
    for motor_id in range(1, 9):
        chain.set_register(motor_id, TORQUE_ENABLE, 1)
    teleop = make()
    teleop.connect()
    assert len(person) == 3
    assert "-0.785" in person[0]
    home = dict(zip(teleop.config.keys, teleop.config.home_rad, strict=True))
    assert teleop.get_action() == pytest.approx(home | {"gripper.pos": 1.0})
    for motor_id in range(1, 9):
        assert (chain.register(motor_id, TORQUE_ENABLE), chain.register(motor_id, OPERATING_MODE)) == (0, 4)

    chain.turn_to({i: HOME[i] + TURN // 8 for i in HOME} | {8: OPEN})
    eighth = {key: rad + sign * math.pi / 4 for (key, rad), sign in zip(home.items(), teleop.config.signs, strict=True)}
    assert teleop.get_action() == pytest.approx(eighth | {"gripper.pos": 0.0})
    teleop.disconnect()

    saved = json.loads(teleop.calibration_fpath.read_text())
    assert saved["joint_2"]["homing_offset"] == HOME[2]
    assert (saved["gripper"]["range_min"], saved["gripper"]["range_max"], saved["gripper"]["drive_mode"]) == (CLOSED, OPEN, 1)
    chain.turn_to({i: HOME[i] + TURN // 8 - 2 * TURN for i in HOME} | {8: OPEN + TURN})  # switched off and on
    again = make()
    again.connect()
    assert len(person) == 3
    assert again.get_action() == pytest.approx(eighth | {"gripper.pos": 0.0})
    chain.turn_to({1: HOME[1] + TURN // 8 - 2 * TURN + TURN})  # and a whole turn after that is a turn
    assert again.get_action()["joint_1.pos"] == pytest.approx(eighth["joint_1.pos"] + 2 * math.pi)


def answered(teleop):
    """On a busy machine the chain's thread may be too late for the second question, too: then nothing is read, but never something wrong."""
    for _ in range(100):
        with suppress(ConnectionError):
            return teleop.get_action()
    raise AssertionError("no answer to any of 100 questions")


def test_a_late_answer_is_not_taken_for_that_to_the_next_question(chain, make, person):
    """What still comes after a second question, since the first was given up, would be read as the answer to the third."""
    teleop = make(gripper_id=None)
    teleop.connect()
    for quarter_turns in (0, 1, 2):
        chain.turn_to({i: HOME[i] + quarter_turns * TURN // 4 for i in HOME})
        chain.late_s = (2 * LATENCY_MS + 100) / 1000
        assert answered(teleop)["joint_1.pos"] == pytest.approx(teleop.config.signs[0] * quarter_turns * math.pi / 2)


def test_order_sign_offset_keys_and_flip_are_configurable(chain, make, person):
    teleop = make(
        motor_ids=[3, 1], signs=[-1, 1], home_rad=[0.0, 1.0], offset_rad=[0.1, 0.0], keys=["a.pos", "b.pos"], gripper_flip=True, gripper_key="g"
    )  # fmt: skip
    teleop.connect()
    chain.turn_to({3: HOME[3] + TURN // 4, 1: HOME[1] - TURN // 4})
    assert teleop.get_action() == pytest.approx({"a.pos": 0.1 - math.pi / 2, "b.pos": 1.0 - math.pi / 2, "g": 0.0})


def test_without_a_trigger(make, person):
    teleop = make(gripper_id=None)
    teleop.connect()
    assert len(person) == 1
    assert tuple(teleop.get_action()) == tuple(teleop.action_features) == ACTION_KEYS["joint"][:-1]


def test_a_calibration_of_other_motors_is_not_used(make, person):
    first = make()
    first.connect()
    first.disconnect()
    other = make(motor_ids=[2, 1, 3, 4, 5, 6, 7])
    assert not other.is_calibrated
    other.connect()
    assert len(person) == 6


def test_lerobot_calibrate_may_connect_without_calibration(make):
    teleop = make()
    teleop.connect(calibrate=False)
    with pytest.raises(RuntimeError, match=r"not calibrated; run lerobot-calibrate --teleop.type=serl_gello --teleop.id=leader"):
        teleop.get_action()


@pytest.mark.slow
def test_a_silent_motor_is_named_and_the_port_is_free_again(chain, make, person):
    teleop = make()
    chain.dead.add(4)
    with pytest.raises(ConnectionError, match=r"motors \[4\] on .* do not answer at 57600 baud"):
        teleop.connect()
    assert not teleop.is_connected
    chain.dead.clear()
    teleop.connect()
    chain.dead.add(2)
    with pytest.raises(ConnectionError):
        teleop.get_action()


def test_a_trigger_that_was_not_pulled_is_refused(chain, make, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda prompt: "")
    with pytest.raises(ValueError, match="pull the trigger fully"):
        make().connect()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"signs": [1, -1]}, "teleop.signs has 2 entries, expected 7"),
        ({"signs": [2] * 7}, "teleop.signs is"),
        ({"gripper_id": 3}, "teleop.motor_ids and teleop.gripper_id are"),
        ({"gripper_key": "joint_1.pos"}, "teleop.keys and teleop.gripper_key are"),
        ({"home_rad": [math.nan] * 7}, "expected finite numbers"),
        ({"baud_rate": 0}, "teleop.baud_rate is 0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        SerlGelloConfig(port="/dev/null", **settings)
