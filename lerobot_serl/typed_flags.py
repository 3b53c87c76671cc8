"""Flags of ``lerobot-train`` that people try first and that mean nothing to ``serl_sac``: a sentence before LeRobot's own text."""

import json
from collections.abc import Sequence
from pathlib import Path

from .presets import missing_preset

COMMANDS = ("lerobot-train", "lerobot_train.py")
_OF_ACT = ("chunk_size", "n_obs_steps", "vision_backbone", "dim_model", "use_vae")
# Of the fields of serl_sac that ACT does not have, those that stand in commands.
_OURS = (
    "horizon",
    "act_path",
    "base_path",
    "base",
    "batch_size",
    "discount",
    "features",
    "utd",
    "actor.",
    "critic.",
    "online.",
    "startup.",
    "guard.",
    "act_alone",
    "gripper",
    "grasp.",
)
_LARGEST_JSON = 1024 * 1024


def hints(argv: Sequence[str]) -> list[str]:
    """What to say about a command line.

    Args:
        argv: the program's name, and its arguments.
    """
    if not argv or Path(argv[0]).name not in COMMANDS:
        return []
    flags = given(argv[1:])
    ours = flags.get("policy.type") == "serl_sac"
    said = []
    for name in _OF_ACT:
        if ours and f"policy.{name}" in flags:
            said.append(
                f"--policy.{name} is ACT's: it comes with the checkpoint at --policy.act_path. How many steps of its plans are carried out is "
                "--policy.n_action_steps, and after how many of them the policy decides anew --policy.horizon."
            )
    if "config_path" in flags and (missing := missing_preset(flags["config_path"], "policy")) is not None:
        said.append(missing)
    path = flags.get("policy.path")
    for name in ("act_path", "base_path"):
        if f"policy.{name}" in flags and not ours and path is None and "config_path" not in flags:
            said.append(
                f"--policy.{name} is serl_sac's: it takes --policy.type=serl_sac beside it, not {flags.get('policy.type', 'none')}."
            )
    meant = ours or any(name.startswith(f"policy.{own}") for name in flags for own in _OURS)
    kind = None if path is None else _type_at(path)
    if ours and kind == "serl_sac":
        said.append(
            f"--policy.path={path} is a serl_sac checkpoint, with its type and ACT in it: leave out --policy.type and --policy.act_path."
        )
    elif ours and kind not in (None, "act"):
        said.append(
            f"--policy.path={path} is a policy of type {str(kind)[:100]!r}, which lerobot-train would train on by imitation. "
            f"To improve it with serl_sac: --policy.type=serl_sac --policy.base_path={path}"
        )
    if meant and kind == "act":
        said.append(
            f"--policy.path={path} is an ACT, which lerobot-train would train on by imitation. To improve it with serl_sac: "
            f"--policy.type=serl_sac --policy.act_path={path}"
        )
    return said


def given(arguments: Sequence[str]) -> dict[str, str]:
    """Flag -> value, of ``--flag=value`` and ``--flag value``."""
    flags = {}
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            flags[name] = value if equals else following
    return flags


def _type_at(place: str) -> str | None:
    """The policy's type in a local checkpoint's ``config.json``; None: there is none that can be read."""
    path = Path(place).expanduser() / "config.json"
    try:
        if path.stat().st_size > _LARGEST_JSON:
            return None
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kind = document.get("type") if isinstance(document, dict) else None
    return kind if isinstance(kind, str) else None
