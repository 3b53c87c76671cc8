"""What the person beside the robot asks for, with keys or with the buttons of a teleoperator."""

import logging
import sys
import threading
from collections.abc import Mapping
from typing import Any, Protocol

from lerobot.teleoperators import TeleopEvents

from ..lerobot_names import create_key_listener, keyboard_input

SUCCESS, FAILURE, REDO, QUIT, TAKEOVER, GO = "success", "failure", "redo", "quit", "takeover", "go"
KEYS = {"s": SUCCESS, "f": FAILURE, "r": REDO, "q": QUIT, "esc": QUIT, "enter": GO}
TELEOP_REQUESTS = {
    TeleopEvents.SUCCESS: SUCCESS,
    TeleopEvents.FAILURE: FAILURE,
    TeleopEvents.RERECORD_EPISODE: REDO,
    TeleopEvents.TERMINATE_EPISODE: FAILURE,
}


def keys_arrive() -> bool:
    """Whether a key that somebody presses reaches this process: from the window system, or from a terminal."""
    if keyboard_input.pynput_can_capture() and keyboard_input.keyboard is not None:
        return True
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def require_keys(decides: str, teleop: object | None) -> None:
    """Before anything moves: a person who is to decide success can do so.

    Args:
        decides: who decides success.
        teleop: whose buttons may say it too.

    Raises:
        ValueError: no key reaches this process, and no teleoperator has buttons.
    """
    if decides == "keys" and not keys_arrive() and not callable(getattr(teleop, "get_teleop_events", None)):
        raise ValueError(
            "Success is decided by keys (s success, f failure), and no key reaches this process: there is no terminal, as under nohup, "
            "lerobot-serl-run or ssh without -t. Start it in a terminal (tmux keeps one), or let something else decide, for example "
            "--reward.path=MODEL or --reward.function=MODULE:FUNCTION on a robot (docs/rewards.md)."
        )


class Stoppable(Protocol):
    """A key listener."""

    def stop(self) -> None:
        """End it."""


class Controls:
    """Requests, each taken once. Keys arrive from the listener's thread.

    Args:
        takeover_key: toggles the takeover, in LeRobot's key names, for example "space".
    """

    def __init__(self, takeover_key: str = "space") -> None:
        if takeover_key in KEYS:
            raise ValueError(f"--takeover.key={takeover_key!r} means {KEYS[takeover_key]} already; choose another key, for example space.")
        self._keys = {**KEYS, takeover_key: TAKEOVER}
        self._requests: set[str] = set()
        self._lock = threading.Lock()
        self._listener: Stoppable | None = None
        self._can_take_over = True

    @property
    def help(self) -> str:
        """Keys and what they do, on one line."""
        return ", ".join(f"{key}={what}" for key, what in self._keys.items() if what != TAKEOVER or self._can_take_over)

    def listen(self, can_take_over: bool = True) -> None:
        """Start LeRobot's key listener (its own window system or this terminal); without either, a warning says so.

        Args:
            can_take_over: there is a teleoperator; without one the takeover's key is not offered.
        """
        self._can_take_over = can_take_over
        self._listener = create_key_listener(self.press, controls_help=self.help)

    def press(self, key: str) -> None:
        """A key was pressed; unknown ones are ignored. Any thread may call this."""
        request = self._keys.get(key) or self._keys.get(key.lower())
        if request is None:
            return
        if request == TAKEOVER and not self._can_take_over:
            logging.info(f"{key} takes over only with a teleoperator: --teleop.type=...")
            return
        with self._lock:
            if request == TAKEOVER:  # pressed twice is back again
                self._requests ^= {TAKEOVER}
            else:
                self._requests.add(request)
        if request == QUIT:
            logging.info("Stopping after this episode.")

    def add_teleop_events(self, events: Mapping[Any, Any]) -> None:
        """Requests among a teleoperator's events. ``TERMINATE_EPISODE`` together with ``SUCCESS`` is a success."""
        with self._lock:
            self._requests |= {request for event, request in TELEOP_REQUESTS.items() if events.get(event)}
            if SUCCESS in self._requests:
                self._requests.discard(FAILURE)

    def take(self, *requests: str) -> str | None:
        """The first of these that was asked for, which is then done with; None if none was."""
        with self._lock:
            for request in requests:
                if request in self._requests:
                    self._requests.discard(request)
                    return request
        return None

    def asked(self, request: str) -> bool:
        """Whether this was asked for; it stays so."""
        with self._lock:
            return request in self._requests

    def forget(self) -> None:
        """Before an episode: what was pressed in between does not count, except the wish to stop."""
        with self._lock:
            self._requests &= {QUIT}

    def close(self) -> None:
        """Stop listening and give the terminal back; may be called twice."""
        if self._listener is not None:
            self._listener.stop()
            self._listener = None
