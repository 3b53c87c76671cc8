"""Discovery shim: LeRobot imports every installed distribution whose name starts with ``lerobot_policy_``.

The code is the package ``lerobot_serl``; importing it registers its configurations with LeRobot.
"""

import os
import sys

import lerobot_serl  # noqa: F401
from lerobot_serl.child_process import STARTED
from lerobot_serl.one_line import shorten_torchcodec
from lerobot_serl.typed_flags import hints

if STARTED in os.environ:
    shorten_torchcodec()
for _hint in hints(sys.argv):
    print(f"serl_sac: {_hint}", file=sys.stderr)
