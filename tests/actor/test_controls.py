"""What the person asks for with keys and buttons."""

import io
import logging
import os
import pty
import sys
import threading
import time

import pytest
from lerobot.teleoperators.utils import TeleopEvents
from lerobot.utils import keyboard_input

from lerobot_serl.actor import controls as module
from lerobot_serl.actor.controls import FAILURE, GO, KEYS, QUIT, REDO, SUCCESS, TAKEOVER, Controls, keys_arrive, require_keys

EVERYTHING = (SUCCESS, FAILURE, REDO, QUIT, TAKEOVER, GO)


def asked(controls):
    return {request for request in EVERYTHING if controls.asked(request)}


@pytest.mark.parametrize(
    ("key", "request_"),
    [
        ("s", SUCCESS),
        ("f", FAILURE),
        ("r", REDO),
        ("q", QUIT),
        ("esc", QUIT),
        ("enter", GO),
        ("space", TAKEOVER),
        ("S", SUCCESS),
        ("Q", QUIT),
    ],
)
def test_each_key(key, request_):
    controls = Controls()
    controls.press(key)
    assert asked(controls) == {request_}


@pytest.mark.parametrize("key", ["x", "up", "", "1", "SPACEBAR"])
def test_other_keys_do_nothing(key):
    controls = Controls()
    controls.press(key)
    assert asked(controls) == set()


def test_a_request_is_taken_once_in_the_order_of_the_question():
    controls = Controls()
    controls.press("f")
    controls.press("s")
    assert controls.take(REDO) is None
    assert controls.take(SUCCESS, FAILURE) == SUCCESS
    assert controls.take(SUCCESS, FAILURE) == FAILURE
    assert controls.take(SUCCESS, FAILURE) is None


def test_the_takeover_key_pressed_twice_is_back_again():
    controls = Controls()
    for presses, wanted in ((1, True), (1, False), (3, True)):
        for _ in range(presses):
            controls.press("space")
        assert controls.asked(TAKEOVER) == wanted


def test_another_takeover_key():
    controls = Controls("tab")
    controls.press("space")
    assert asked(controls) == set()
    controls.press("tab")
    assert asked(controls) == {TAKEOVER}
    assert "tab=takeover" in controls.help
    assert "s=success" in controls.help


@pytest.mark.parametrize("key", KEYS)
def test_a_takeover_key_that_means_something_else_is_refused(key):
    with pytest.raises(ValueError, match=rf"--takeover.key='{key}' means \w+ already"):
        Controls(key)


@pytest.mark.parametrize("can_take_over", [True, False])
def test_without_a_teleoperator_the_takeover_s_key_is_not_offered_and_says_why(can_take_over, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "create_key_listener", lambda press, controls_help: None)
    controls = Controls()
    controls.listen(can_take_over)
    assert ("space=takeover" in controls.help) == can_take_over
    assert "s=success" in controls.help
    controls.press("space")
    assert bool(asked(controls)) == can_take_over
    assert ("space takes over only with a teleoperator: --teleop.type=" in caplog.text) != can_take_over


class Buttons:
    """A teleoperator with buttons."""

    def get_teleop_events(self):
        return {}


@pytest.mark.parametrize("arrive", [True, False])
def test_whoever_decides_with_keys_needs_a_terminal_or_buttons(arrive, monkeypatch):
    monkeypatch.setattr(module, "keys_arrive", lambda: arrive)
    for decides in ("robot", "model", "function", "success"):
        require_keys(decides, None)
    require_keys("keys", Buttons())
    if arrive:
        require_keys("keys", None)
        return
    for teleop in (None, object()):
        with pytest.raises(
            ValueError, match=r"no key reaches this process: there is no terminal.*Start it in a terminal.*--reward.function"
        ):
            require_keys("keys", teleop)


def test_keys_arrive_from_a_terminal_or_from_a_window_system(monkeypatch):
    monkeypatch.setattr(keyboard_input, "pynput_can_capture", lambda: False)
    for stdin in (None, open(os.devnull), io.StringIO()):  # noqa: SIM115
        monkeypatch.setattr(sys, "stdin", stdin)
        assert not keys_arrive()
    master, slave = pty.openpty()
    with os.fdopen(slave) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        assert keys_arrive()
    assert not keys_arrive()  # closed
    os.close(master)
    monkeypatch.setattr(keyboard_input, "pynput_can_capture", lambda: True)
    monkeypatch.setattr(keyboard_input, "keyboard", None)
    assert not keys_arrive()
    monkeypatch.setattr(keyboard_input, "keyboard", object())
    assert keys_arrive()


def test_forget_keeps_the_wish_to_stop():
    controls = Controls()
    for key in ("s", "f", "r", "q", "enter", "space"):
        controls.press(key)
    controls.forget()
    assert asked(controls) == {QUIT}
    controls.forget()
    assert controls.asked(QUIT)  # asking does not take it


@pytest.mark.parametrize(
    ("events", "requests"),
    [
        ({TeleopEvents.SUCCESS: True, TeleopEvents.TERMINATE_EPISODE: True}, {SUCCESS}),  # LeRobot's gamepad sends both
        ({TeleopEvents.TERMINATE_EPISODE: True, TeleopEvents.SUCCESS: False}, {FAILURE}),
        ({TeleopEvents.FAILURE: True}, {FAILURE}),
        ({TeleopEvents.RERECORD_EPISODE: True}, {REDO}),
        ({TeleopEvents.RERECORD_EPISODE: True, TeleopEvents.TERMINATE_EPISODE: True}, {REDO, FAILURE}),
        ({TeleopEvents.IS_INTERVENTION: True}, set()),
        ({event: False for event in TeleopEvents}, set()),
        ({}, set()),
    ],
)
def test_buttons_of_a_teleoperator(events, requests):
    controls = Controls()
    controls.add_teleop_events(events)
    assert asked(controls) == requests


def test_a_button_does_not_undo_a_key():
    controls = Controls()
    controls.press("r")
    controls.add_teleop_events({event: False for event in TeleopEvents})
    assert asked(controls) == {REDO}


def test_stopping_is_announced(caplog):
    caplog.set_level(logging.INFO)
    Controls().press("q")
    assert "Stopping after this episode." in caplog.text


def test_no_press_of_any_thread_is_lost_or_counted_twice():
    controls, taken, done = Controls(), [], threading.Event()
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def press():
        for _ in range(5000):
            controls.press("space")
            controls.press("s")

    def take():
        while not done.is_set():
            if controls.take(SUCCESS):
                taken.append(SUCCESS)

    threads, taker = [threading.Thread(target=press) for _ in range(4)], threading.Thread(target=take)
    try:
        taker.start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        done.set()
        taker.join()
        sys.setswitchinterval(switch_s)
    assert not controls.asked(TAKEOVER)  # an even number of presses; a lost one would leave it on
    assert 1 <= len(taken) + controls.asked(SUCCESS) <= 20_000


def test_a_terminal_is_listened_to_and_given_back(monkeypatch):
    monkeypatch.setattr("lerobot.utils.keyboard_input.pynput_can_capture", lambda: False)
    master, slave = pty.openpty()
    controls = Controls()
    with os.fdopen(slave) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        controls.listen()
        try:
            os.write(master, b"s \n")
            deadline = time.monotonic() + 20
            while asked(controls) != {SUCCESS, TAKEOVER, GO} and time.monotonic() < deadline:
                time.sleep(0.01)
            assert asked(controls) == {SUCCESS, TAKEOVER, GO}
        finally:
            controls.close()
            controls.close()
    os.close(master)


def test_without_a_keyboard_a_warning_says_so(monkeypatch, caplog):
    monkeypatch.setattr("lerobot.utils.keyboard_input.pynput_can_capture", lambda: False)
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        controls = Controls()
        controls.listen()
    assert "Keyboard controls unavailable" in caplog.text
    controls.close()
