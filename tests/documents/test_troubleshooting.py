"""The messages that docs/troubleshooting.md explains are messages that are said."""

import re
from pathlib import Path

import lerobot
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = [cell for row in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE) for cell in re.findall(r"`([^`]+)`", row)]
# What stands for somebody's names and numbers.
PLACEHOLDER = re.compile(r"\.\.\.|\b[A-Z]{3,}\b|\bN\b|\bM\b|'[^']*'|=[\w./\[\]]+|\[\.\.\.\]|--policy\.\w+|--batch_size|\b8\b")


def source():
    """All strings of the package, each on one line."""
    files = [
        *(ROOT / "lerobot_serl").rglob("*.py"),
        ROOT / "lerobot_policy_serl_sac.py",
        Path(lerobot.__file__).parent / "configs" / "train.py",
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    return re.sub(r"\"\s*\n\s*f?\"", "", text)


def fragments(message):
    """The fixed parts of a message that are long enough to be its own."""
    return [part for part in (piece.strip(" :,;()") for piece in PLACEHOLDER.split(message)) if len(part) >= 8]


def test_the_page_has_messages():
    assert len(MESSAGES) > 25
    assert sum(bool(fragments(message)) for message in MESSAGES) > 20


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_is_said_somewhere(message):
    said = source()
    assert [part for part in fragments(message) if part not in said] == []
