"""What goes wrong within robots and teleoperators: what may pass, what ends the process, and what to check.

The same table stands in docs/robots.md.
"""

import logging
import re
from dataclasses import dataclass
from functools import wraps
from typing import Any

from .deferred_signals import INTERRUPTS, is_interrupt
from .device_parts import camera_of
from .said import place_of, quoted
from .world import EpisodeSpoilt, WorldError


@dataclass(frozen=True)
class Fault:
    """A row of the table.

    Attributes:
        what: in the words of the documents.
        passes: the episode is dropped and another one tried; else the process ends.
        check: what the person should do.
    """

    what: str
    passes: bool
    check: str


LINK = Fault("robot or teleoperator do not answer", True, "Check its cable and power.")
CAMERA = Fault("a camera gives no frame", True, "Check this camera's cable; a camera slower than its fps does the same.")
STALE = Fault("an observation takes too long", True, "Is a camera slow or a cable loose? The limit is --safety.max_observation_age_s.")
MISSING = Fault("an entry is missing", True, "Check the connection.")
NUMBER = Fault("a number is not finite", True, "Check the sensor.")
FRAME = Fault("a frame has another shape or type", True, "Check the camera.")
CONTRACT = Fault("`send_action` does not say what was executed", False, "Update the robot class.")
DRIVER = Fault("any other exception", False, "What it says comes from that class: follow it, or tell its author.")
FAULTS = (LINK, CAMERA, STALE, MISSING, NUMBER, FRAME, CONTRACT, DRIVER)

# Besides Python's own: names of exceptions, or of their bases, of buses and networks that do not derive from these.
LINK_NAMES = re.compile(
    r"timeout|timedout|stale|connection|connected|communication|packet|^(CanError|ZMQError|RpcError|ModbusException|Empty)$", re.IGNORECASE
)


def error_of(fault: Fault, sentence: str) -> WorldError:
    """What to raise: the sentence, and what to check."""
    return (EpisodeSpoilt if fault.passes else WorldError)(f"{sentence}{'' if sentence[-1] in '.!?' else '.'} {fault.check}")


class Watched:
    """A robot or a teleoperator whose errors are sentences: everything else is its own, read and set.

    Args:
        device: connected.
        role: "robot" or "teleoperator".
    """

    def __init__(self, device: Any, role: str) -> None:
        self.__dict__.update(_device=device, _role=role)

    def __getattr__(self, name: str) -> Any:
        try:
            value = getattr(self._device, name)
        except Exception as error:
            if isinstance(error, AttributeError) or _speaks_for_itself(error):
                raise
            raise self._explained(name, error) from error
        if not callable(value):
            return value

        @wraps(value)
        def call(*arguments: Any, **named: Any) -> Any:
            try:
                return value(*arguments, **named)
            except Exception as error:
                if _speaks_for_itself(error):
                    raise
                raise self._explained(f"{name}()", error) from error

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._device, name, value)

    def _explained(self, method: str, error: Exception) -> WorldError:
        device, may_pass = self._device, _is_of_a_link(error)
        raised = f"{type(device).__name__}.{method} raised {quoted(error)}"
        camera = camera_of(device, error, may_pass) if self._role == "robot" and (may_pass or isinstance(error, RuntimeError)) else None
        if camera is not None:
            return error_of(CAMERA, f"Camera '{camera}' of {device.name} gives no frame: {raised}")
        if may_pass:
            return error_of(LINK, f"The {self._role} {device.name} does not answer: {raised}")
        logging.debug(f"{raised}.", exc_info=error)
        return error_of(DRIVER, f"The {self._role} {device.name} cannot go on: {raised} ({place_of(error)})")


def _speaks_for_itself(error: Exception) -> bool:
    return isinstance(error, WorldError) or (isinstance(error, INTERRUPTS) and is_interrupt(error))


def _is_of_a_link(error: Exception) -> bool:
    return isinstance(error, OSError) or any(LINK_NAMES.search(kind.__name__) for kind in type(error).__mro__)
