"""LeRobot's training loop, as a policy inside it sees it."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Self

from lerobot.utils.constants import PRETRAINED_MODEL_DIR

from ..lerobot_names import TRAIN_CONFIG_NAME, TrainPipelineConfig, get_step_checkpoint_dir, save_checkpoint, update_last_checkpoint


class TrainLoop:
    """What ``lerobot-train`` tells no policy: its configuration, its step, and how it saves.

    A policy learns none of it through LeRobot's interface, so the caller's frames are searched, here and nowhere else. With a hook
    ``policy.on_train_start(cfg, save)`` and ``step`` among the arguments of ``forward`` this class would not be needed.

    Args:
        frame: of the function ``lerobot.scripts.lerobot_train.train``.
    """

    def __init__(self, frame: FrameType) -> None:
        self._frame = frame

    @classmethod
    def find(cls) -> Self | None:
        """The loop that this call comes from; None outside ``lerobot-train``, and before it makes steps."""
        return next((cls(frame) for frame in _callers() if isinstance(frame.f_locals.get("step"), int)), None)

    @staticmethod
    def command() -> TrainPipelineConfig | None:
        """What ``lerobot-train``, which this call comes from, was asked for; None outside it."""
        return next((frame.f_locals["cfg"] for frame in _callers()), None)

    @property
    def output_dir(self) -> Path:
        """Where checkpoints go."""
        output_dir = self._config.output_dir
        assert output_dir is not None  # LeRobot's validation fills it in
        return Path(output_dir)

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self._config.steps

    @property
    def step(self) -> int:
        """Steps that are finished. While ``forward`` runs, the one in progress is not among them."""
        return int(self._frame.f_locals["step"])

    @property
    def saves(self) -> bool:
        """Whether LeRobot writes checkpoints at all."""
        return self._config.save_checkpoint

    def save_config(self, directory: Path) -> None:
        """Write ``train_config.json``, as LeRobot has it in a checkpoint."""
        self._config.save_pretrained(directory)

    @property
    def checkpoint(self) -> Path:
        """Of the last finished step, whether it was written or not."""
        return get_step_checkpoint_dir(self.output_dir, self.steps, self.step)

    def save(self) -> None:
        """Let LeRobot write a checkpoint of the last finished step."""
        found = self._frame.f_locals
        logging.info(f"Checkpoint policy after step {self.step}")
        save_checkpoint(
            checkpoint_dir=self.checkpoint, step=self.step, cfg=self._config, policy=found["accelerator"].unwrap_model(found["policy"]),
            optimizer=found["optimizer"], scheduler=found["lr_scheduler"], preprocessor=found["preprocessor"],
            postprocessor=found["postprocessor"], num_processes=1, batch_size=self._config.batch_size,
        )  # fmt: skip
        update_last_checkpoint(self.checkpoint)

    @property
    def resume_command(self) -> str:
        """How to go on from the checkpoint."""
        return f"lerobot-train --resume=true --config_path={self.checkpoint / PRETRAINED_MODEL_DIR / TRAIN_CONFIG_NAME}"

    @property
    def _config(self) -> TrainPipelineConfig:
        config: TrainPipelineConfig = self._frame.f_locals["cfg"]
        return config


def _callers() -> Iterator[FrameType]:
    """The frames of callers that have LeRobot's configuration of a training run, the nearest first."""
    frame = sys._getframe()
    while frame is not None:
        if isinstance(frame.f_locals.get("cfg"), TrainPipelineConfig):
            yield frame
        frame = frame.f_back  # type: ignore[assignment]
