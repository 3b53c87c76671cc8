"""Makes all robots, teleoperators and cameras that LeRobot brings selectable, as in `lerobot-record`."""

import importlib
import logging
import pkgutil

import lerobot.cameras
import lerobot.robots
import lerobot.teleoperators

logger = logging.getLogger(__name__)


def register_stock_hardware() -> None:
    """Import every kind; a type can be chosen only once its module has been imported.

    Takes half a second, so that commands call it and the plugin's own import does not. Never fails: a kind whose own packages are missing or broken
    is left out, with a warning.
    """
    for parent in (lerobot.robots, lerobot.teleoperators, lerobot.cameras):
        for module in pkgutil.iter_modules(parent.__path__):
            if not module.ispkg:
                continue
            try:
                importlib.import_module(f"{parent.__name__}.{module.name}")
            except Exception as error:  # a driver's import may raise anything, and must not take the other types with it
                logger.warning("%s.%s cannot be used here: %s: %s", parent.__name__, module.name, type(error).__name__, error)
