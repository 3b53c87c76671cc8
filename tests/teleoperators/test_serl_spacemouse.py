"""The SpaceMouse: raw HID reports through pyspacemouse's own parser into actions and takeovers. No hardware."""

import struct
import sys
import time
from collections import deque

import pytest
from lerobot.processor.hil_processor import HasTeleopEvents
from lerobot.teleoperators import TeleoperatorConfig, make_teleoperator_from_config
from lerobot.teleoperators.utils import TeleopEvents
from lerobot.utils.errors import DeviceNotConnectedError

from lerobot_serl.actor.controls import Controls
from lerobot_serl.actor.settings import TakeoverConfig
from lerobot_serl.actor.takeover import Moved, Takeover
from lerobot_serl.setting_error import SettingError
from lerobot_serl.teleoperators.config_serl_spacemouse import SerlSpacemouseConfig
from lerobot_serl.teleoperators.serl_spacemouse import SerlSpacemouse

FULL = 350  # counts of a fully pushed cap
TRANSLATION, ROTATION, BUTTONS = 1, 2, 3


class UsbDevice:
    """A SpaceMouse Compact at the level of HID reports: what hidapi hands to pyspacemouse."""

    vendor_id, product_id = 0x256F, 0xC635
    path, product_string, manufacturer_string, serial_number, release_number = "/dev/hidraw9", "Compact", "3Dconnexion", "", 1

    def __init__(self):
        self.reports = deque()
        self.is_open = self.is_unplugged = False

    def open(self):
        self.is_open = True

    def close(self):
        self.is_open = False

    def set_nonblocking(self, nonblocking):
        assert nonblocking

    def read(self, size):
        if self.is_unplugged:
            from easyhid import HIDException

            raise HIDException("Failed to read from HID device: -1")
        return self.reports.popleft()[:size] if self.reports else bytearray()

    def push(self, right=0, toward=0, down=0):
        self.reports.append(bytearray(struct.pack("<Bhhh", TRANSLATION, right, toward, down)))

    def turn(self, about_right=0, about_toward=0, about_down=0):
        self.reports.append(bytearray(struct.pack("<Bhhh", ROTATION, about_right, about_toward, about_down)))

    def press(self, left=False, right=False):
        self.reports.append(bytearray([BUTTONS, left + 2 * right, 0, 0, 0, 0, 0]))


@pytest.fixture
def usb(monkeypatch):
    pytest.importorskip("pyspacemouse")
    device = UsbDevice()

    class Enumeration:
        device_list = (device,)

        def find(self):
            return [device]

    monkeypatch.setattr("pyspacemouse.api.Enumeration", Enumeration)
    return device


@pytest.fixture
def connect(usb, tmp_path):
    """``connect(**settings)``: a connected teleoperator; disconnected in the end."""
    made = []

    def make(**settings):
        teleop = SerlSpacemouse(SerlSpacemouseConfig(calibration_dir=tmp_path, **settings))
        made.append(teleop)
        teleop.connect()
        return teleop

    yield make
    for teleop in made:
        teleop.disconnect()


def settle(usb):
    """Wait until the reader has taken in every report."""
    deadline = time.monotonic() + 30
    while usb.reports and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    assert not usb.reports


def test_lerobot_makes_it_from_the_type_name():
    config = TeleoperatorConfig.get_choice_class("serl_spacemouse")(id="mouse")
    teleop = make_teleoperator_from_config(config)
    assert isinstance(teleop, SerlSpacemouse)
    assert isinstance(teleop, HasTeleopEvents)
    assert (config.type, teleop.is_calibrated, teleop.is_connected) == ("serl_spacemouse", True, False)
    assert list(teleop.action_features) == ["delta_x", "delta_y", "delta_z", "gripper"]


@pytest.mark.parametrize(
    ("push", "expected"),
    [
        ({"toward": -FULL}, {"delta_x": 1.0}),  # away from the person: the robot's x
        ({"right": -FULL}, {"delta_y": 1.0}),
        ({"down": -FULL}, {"delta_z": 1.0}),
        ({"toward": 175, "right": 175}, {"delta_x": -0.5, "delta_y": -0.5}),
        ({"down": 2 * FULL}, {"delta_z": -1.0}),
        ({}, {}),
    ],
)
def test_pushing_the_cap(connect, usb, push, expected):
    teleop = connect()
    usb.push(**push)
    settle(usb)
    still = {"delta_x": 0.0, "delta_y": 0.0, "delta_z": 0.0, "gripper": 1.0}
    assert teleop.get_action() == pytest.approx(still | expected)
    assert teleop.get_teleop_events()[TeleopEvents.IS_INTERVENTION] == bool(expected)


def test_rotation_and_order_and_signs_are_configurable(connect, usb):
    teleop = connect(rotation=True, axes=["-y", "x", "z", "roll", "pitch", "-yaw"], gripper_key="")
    assert list(teleop.action_features) == ["delta_x", "delta_y", "delta_z", "delta_rx", "delta_ry", "delta_rz"]
    usb.push(right=FULL, toward=-FULL)
    usb.turn(about_down=FULL)
    settle(usb)
    action = teleop.get_action()
    assert action == pytest.approx(dict(zip(teleop.action_features, (1.0, 1.0, 0.0, 0.0, 0.0, 1.0), strict=True)))


def test_without_rotation_turning_the_cap_is_no_takeover(connect, usb):
    teleop = connect()
    usb.turn(about_down=FULL, about_right=FULL)
    settle(usb)
    assert not teleop.get_teleop_events()[TeleopEvents.IS_INTERVENTION]


def test_left_closes_right_opens_and_a_button_is_a_takeover(connect, usb):
    teleop = connect()
    for pressed, wish in (({"left": True}, 0), ({}, 1), ({"right": True}, 2), ({"left": True, "right": True}, 1)):
        usb.press(**pressed)
        settle(usb)
        assert teleop.get_action()["gripper"] == wish
        events = teleop.get_teleop_events()
        assert events.pop(TeleopEvents.IS_INTERVENTION) == bool(pressed)
        assert len(events) == 3
        assert not any(events.values())


def test_gripper_positions_are_held_for_recording(connect, usb):
    teleop = connect(keys=["delta_x.pos", "delta_y.pos", "delta_z.pos"], gripper_key="gripper.pos", gripper_positions=[0.0, 1.0])
    seen = [teleop.get_action()["gripper.pos"]]
    for pressed in ({"left": True}, {}, {"right": True}, {}):
        usb.press(**pressed)
        settle(usb)
        seen.append(teleop.get_action()["gripper.pos"])
    assert seen == [0.0, 1.0, 1.0, 0.0, 0.0]


def test_a_push_of_the_cap_leaves_the_gripper_as_the_policy_had_it(connect, usb):
    teleop = connect(keys=["ee_dx.vel", "ee_dy.vel", "ee_dz.vel"], gripper_key="gripper.pos", gripper_positions=[1.0, 0.0])
    moved = Moved(told=lambda: {"ee_dx.vel": 0.5, "gripper.pos": 0.2})
    hand = Takeover(teleop, Controls(), TakeoverConfig(), 0.1, moved)
    assert hand.poll({"gripper.pos": 0.5}) is None
    usb.push(toward=-200)
    settle(usb)
    assert hand.poll({"gripper.pos": 0.5})["gripper.pos"] == 0.2
    usb.press(right=True)
    settle(usb)
    assert hand.poll({"gripper.pos": 0.5})["gripper.pos"] == 1.0  # at the first press, although it began as open
    usb.press()
    settle(usb)
    assert hand.poll({"gripper.pos": 0.9})["gripper.pos"] == 1.0


def test_deadzone_hides_the_rest_and_is_continuous(connect, usb):
    teleop = connect(deadzone=0.2)
    seen = []
    for counts in (70, 71, 210, FULL):
        usb.push(down=-counts)
        settle(usb)
        seen.append(teleop.get_action()["delta_z"])
    assert seen == pytest.approx([0.0, 0.0036, 0.5, 1.0], abs=1e-4)
    usb.push(down=70)
    settle(usb)
    assert not teleop.get_teleop_events()[TeleopEvents.IS_INTERVENTION]


def test_the_threshold_of_the_takeover(connect, usb):
    teleop = connect(intervention_threshold=0.5)
    for counts, takes_over in ((170, False), (180, True)):
        usb.push(down=counts)
        settle(usb)
        assert teleop.get_teleop_events()[TeleopEvents.IS_INTERVENTION] == takes_over


def test_connecting_disconnecting_and_pulling_the_plug(connect, usb):
    teleop = connect()
    teleop.connect()
    assert usb.is_open
    teleop.disconnect()
    teleop.disconnect()
    assert not usb.is_open
    with pytest.raises(DeviceNotConnectedError, match="SerlSpacemouse"):
        teleop.get_action()
    teleop.connect()
    usb.push(down=FULL)
    settle(usb)
    usb.is_unplugged = True
    deadline = time.monotonic() + 30
    while teleop.is_connected and time.monotonic() < deadline:
        time.sleep(0.005)
    for call in (teleop.get_action, teleop.get_teleop_events):  # not the last push for ever
        with pytest.raises(ConnectionError, match="can no longer be read"):
            call()
    usb.is_unplugged = False
    teleop.connect()
    assert teleop.is_connected


def test_by_path(connect, usb, tmp_path):
    usb.path = str(tmp_path / "hidraw9")
    (tmp_path / "hidraw9").touch()
    teleop = connect(path=usb.path)
    assert teleop.is_connected


def test_clear_errors_without_device_or_package(connect, usb, monkeypatch):
    with pytest.raises(ValueError, match=r"teleop.right_button is 5, but the device has 2 buttons"):
        connect(right_button=5)
    assert not usb.is_open
    with pytest.raises(ConnectionError, match=r"(?s)Unknown device: 'Typo'.*udev"):
        connect(device="Typo")
    usb.product_id = 1
    with pytest.raises(ConnectionError, match=r"(?s)no SpaceMouse can be opened.*256f"):
        connect()
    monkeypatch.setitem(sys.modules, "pyspacemouse", None)
    with pytest.raises(ModuleNotFoundError, match="pip install 'pyspacemouse"):
        connect()


def test_without_libhidapi_it_says_what_to_install(monkeypatch, tmp_path):
    pytest.importorskip("pyspacemouse")

    def enumerate_without_library():
        raise AttributeError("hid_enumerate")

    monkeypatch.setattr("pyspacemouse.api.Enumeration", enumerate_without_library)
    for settings in ({}, {"device": "SpaceMouseCompact"}, {"path": str(tmp_path)}):
        with pytest.raises(ModuleNotFoundError, match="libhidapi-hidraw0"):
            SerlSpacemouse(SerlSpacemouseConfig(calibration_dir=tmp_path, **settings)).connect()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"axes": ["x", "y"]}, "teleop.axes has 2 entries, expected 3"),
        ({"axes": ["x", "y", "z"], "rotation": True}, "teleop.axes has 3 entries, expected 6"),
        ({"axes": ["x", "+y", "z"]}, r"teleop.axes contains \['\+y'\]"),
        ({"keys": ["a", "a", "b"]}, "expected different names"),
        ({"keys": ["a", "gripper", "b"]}, "expected different names"),
        ({"deadzone": 1.0}, "teleop.deadzone is 1.0"),
        ({"intervention_threshold": -1.0}, "teleop.intervention_threshold is -1.0"),
        ({"gripper_positions": [1.0]}, "teleop.gripper_positions is"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        SerlSpacemouseConfig(**settings)
