"""LeRobot's names that may move: the one place that knows where they are, and which LeRobot they are of.

The rule: what one of LeRobot's packages lists in its ``__all__`` is public, and may be imported from that package by whoever needs it, and so may
``lerobot.utils.constants``. Everything else, which LeRobot is free to move, and packages that LeRobot 0.7 replaces, come from here.
``tests/package/test_lerobot_names.py`` holds the rule.

A name is looked up in LeRobot when it is asked for first, so that the import of this module costs nothing. On another LeRobot this module, and with
it the package and each of its commands, ends with a sentence (SystemExit): a traceback about whichever name is missing first would tell nobody what
to do. LeRobot's own commands go on without the package, unless they ask for it (``lerobot_policy_serl_sac.py``).
"""

import re
from importlib import import_module, metadata
from typing import Any

OLDEST, TOO_NEW = "0.6.1", "0.7"
"""As in pyproject.toml."""

BORROWED = {
    "lerobot.common.control_utils": ("teleop_supports_feedback",),
    "lerobot.common.train_utils": ("get_step_checkpoint_dir", "save_checkpoint", "update_last_checkpoint"),
    "lerobot.configs": ("parser",),
    "lerobot.configs.rewards": ("RewardModelConfig",),
    "lerobot.configs.train": ("TRAIN_CONFIG_NAME", "TrainPipelineConfig"),
    "lerobot.datasets.compute_stats": ("auto_downsample_height_width", "compute_episode_stats", "sample_indices"),
    "lerobot.datasets.io_utils": ("write_table_one_row_group_per_episode",),
    "lerobot.datasets.utils": ("DEFAULT_DATA_PATH", "DEFAULT_TASKS_PATH", "DEFAULT_VIDEO_PATH", "DatasetInfo"),
    "lerobot.datasets.video_utils": ("decode_video_frames", "get_video_duration_in_s", "get_video_info"),
    "lerobot.motors": ("Motor", "MotorCalibration", "MotorNormMode"),
    "lerobot.motors.dynamixel": ("DynamixelMotorsBus", "OperatingMode"),
    "lerobot.policies.act.modeling_act": ("ACT", "ACTTemporalEnsembler"),
    "lerobot.policies.utils": ("populate_queues",),
    "lerobot.transport": ("services_pb2", "services_pb2_grpc"),
    "lerobot.transport.utils": ("TransferState",),
    "lerobot.utils": ("keyboard_input",),
    "lerobot.utils.device_utils": ("resolve_safetensors_device",),
    "lerobot.utils.feature_utils": ("dataset_to_policy_features",),
    "lerobot.utils.import_utils": ("register_third_party_plugins",),
    "lerobot.utils.keyboard_input": ("create_key_listener",),
    "lerobot.utils.robot_utils": ("precise_sleep",),
    "lerobot.utils.utils": ("init_logging", "log_say", "unflatten_dict"),
    "lerobot.utils.visualization_utils": (
        "VISUALIZATION_MODES", "init_visualization", "log_visualization_data", "shutdown_visualization",
    ),
}  # fmt: skip
"""Module of LeRobot -> what is taken from it, an attribute or a submodule."""

_MODULE_OF = {name: module for module, names in BORROWED.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(_MODULE_OF[name])
    value = getattr(module, name, None)
    globals()[name] = import_module(f"{module.__name__}.{name}") if value is None else value
    return globals()[name]


def _check() -> None:
    try:
        installed = metadata.version("lerobot")
    except metadata.PackageNotFoundError:  # run from its source: nobody knows
        return
    if not _numbers(OLDEST) <= _numbers(installed) < _numbers(TOO_NEW):
        raise SystemExit(
            f"lerobot_serl works with LeRobot {OLDEST} up to, not including, {TOO_NEW}; LeRobot {installed} is installed here. Install another: "
            f"pip install 'lerobot[training,hilserl]>={OLDEST},<{TOO_NEW}'"
        )


def _numbers(version: str) -> list[int]:
    """``0.7.0rc1`` is 0.7.0: what it changes is in it."""
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


_check()
