"""What is wrong with a setting, in words that reach whoever typed it."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from draccus.utils import DecodingError


class SettingError(DecodingError):
    """A setting has a value that it cannot have.

    Not a ValueError: of those draccus, which reads command lines and configuration files for LeRobot, shows nothing but "Couldn't instantiate class
    ... using the given arguments". Errors of its own kind it passes on, and LeRobot prints them without a traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__((), message)


def checks_settings(check: Callable[[Any], None]) -> Callable[[Any], None]:
    """Decorate ``__post_init__`` of a configuration: what it raises is raised as :class:`SettingError`."""

    @wraps(check)
    def checked(self: Any) -> None:
        try:
            check(self)
        except (ValueError, TypeError) as error:
            raise SettingError(str(error)) from error

    return checked
