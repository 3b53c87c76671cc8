"""LeRobot's traceback about torchcodec, sixty lines long and harmless, as one line."""

import logging

_LOGGER = "lerobot.utils.import_utils"
_TEXT = "Videos are decoded by pyav: torchcodec finds no FFmpeg here. It is slower and otherwise the same (docs/troubleshooting.md)."


def shorten_torchcodec() -> None:
    """For processes that this package starts; in LeRobot's own commands LeRobot decides what it prints."""
    logger = logging.getLogger(_LOGGER)
    if _shortened not in logger.filters:
        logger.addFilter(_shortened)


def _shortened(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    if "torchcodec" in message and "\n" in message:
        record.msg, record.args = _TEXT, None
    return True
