"""Discovery shim: LeRobot imports every installed distribution whose name starts with ``lerobot_policy_``.

The code is the package ``lerobot_serl``; importing it registers its configurations with LeRobot.
"""

import os
import sys
from pathlib import Path


def _asks_for_us(argument: str) -> bool:
    """Whether a flag names a type of this package, or a checkpoint of its policy."""
    value = argument.rpartition("=")[2]
    try:
        is_ours = '"serl_sac"' in (Path(value) / "config.json").read_text(encoding="utf-8")
    except (OSError, ValueError):
        is_ours = False
    return is_ours or value.startswith(("serl_", "franka", "bi_franka"))


try:
    import lerobot_serl  # noqa: F401
except SystemExit as unsupported:  # LeRobot only logs other errors, with a traceback
    if any(map(_asks_for_us, sys.argv[1:])):
        raise
    print(f"serl_sac is left out: {unsupported}", file=sys.stderr)
else:
    from lerobot_serl.child_process import STARTED
    from lerobot_serl.one_line import shorten_torchcodec
    from lerobot_serl.policy.removed_settings import without_removed_flags
    from lerobot_serl.typed_flags import hints

    if STARTED in os.environ:
        shorten_torchcodec()
    for _hint in hints(sys.argv):
        print(f"serl_sac: {_hint}", file=sys.stderr)
    try:
        sys.argv[1:] = without_removed_flags(sys.argv[1:])
    except ValueError as _gone:
        raise SystemExit(str(_gone)) from None
