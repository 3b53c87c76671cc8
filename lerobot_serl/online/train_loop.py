"""LeRobot's training loop, as a policy inside it sees it."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from lerobot.common.train_utils import get_step_checkpoint_dir
from lerobot.configs.train import TRAIN_CONFIG_NAME, TrainPipelineConfig
from lerobot.utils.constants import PRETRAINED_MODEL_DIR


class _Always(int):
    """A ``save_freq`` at which a checkpoint is due after every step. Written into ``train_config.json`` it is the number it stands for."""

    def __gt__(self, other: Any) -> bool:
        return True

    def __rmod__(self, other: Any) -> int:
        return 0


class TrainLoop:
    """``lerobot-train`` tells a policy neither its output directory nor its step, and decides alone when to save; found in the caller's frames.

    Args:
        config: LeRobot's own, not a copy: it decides by ``config.save_freq`` after each update.
        step: of LeRobot, updates made so far.
    """

    def __init__(self, config: TrainPipelineConfig, step: int) -> None:
        self._config, self._step = config, step

    @classmethod
    def find(cls) -> Self | None:
        """The loop that this call comes from; None outside ``lerobot-train``, and before it makes steps."""
        for found in _callers():
            if isinstance(step := found.get("step"), int):
                return cls(found["cfg"], step)
        return None

    @staticmethod
    def command() -> TrainPipelineConfig | None:
        """What ``lerobot-train``, which this call comes from, was asked for; None outside it."""
        return next((found["cfg"] for found in _callers()), None)

    @property
    def output_dir(self) -> Path:
        """Where checkpoints go."""
        assert self._config.output_dir is not None  # LeRobot's validation fills it in
        return Path(self._config.output_dir)

    def save_config(self, directory: Path) -> None:
        """Write ``train_config.json``, as LeRobot has it in a checkpoint."""
        self._config.save_pretrained(directory)

    @property
    def steps_left(self) -> int:
        """Steps that LeRobot has not made yet."""
        return self._config.steps - self._step

    @property
    def saves(self) -> bool:
        """Whether LeRobot writes checkpoints at all."""
        return self._config.save_checkpoint

    @property
    def resume_command(self) -> str:
        """How to go on from the checkpoint of the step that was made last."""
        config = self._checkpoint / PRETRAINED_MODEL_DIR / TRAIN_CONFIG_NAME
        return f"lerobot-train --resume=true --config_path={config}"

    @property
    def checkpoint_written(self) -> Path | None:
        """The checkpoint of the step that was made last, if it is there."""
        return self._checkpoint if self._checkpoint.is_dir() else None

    def stepped(self) -> None:
        """LeRobot has made a step."""
        self._step += 1

    def save_after_this_step(self) -> None:
        """Make the decision that LeRobot takes next a yes."""
        self._config.save_freq = _Always(self._config.save_freq)

    def save_as_planned(self) -> None:
        """Take :meth:`save_after_this_step` back."""
        self._config.save_freq = int(self._config.save_freq)

    @property
    def _checkpoint(self) -> Path:
        return get_step_checkpoint_dir(self.output_dir, self._config.steps, self._step)


def _callers() -> Iterator[Mapping[str, Any]]:
    """The local variables of callers that have LeRobot's configuration of a training run, the nearest first."""
    frame = sys._getframe()
    while frame is not None:
        if isinstance(frame.f_locals.get("cfg"), TrainPipelineConfig):
            yield frame.f_locals
        frame = frame.f_back  # type: ignore[assignment]
