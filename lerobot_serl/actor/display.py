"""Live pictures and curves of what the robot sees and does, through LeRobot's own viewers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..lerobot_names import VISUALIZATION_MODES, init_visualization, log_visualization_data, shutdown_visualization


@dataclass
class DisplaySettings:
    """Flags of the same names as in lerobot-record and lerobot-rollout."""

    display_data: bool = False
    display_mode: str = "rerun"
    display_ip: str | None = None
    display_port: int | None = None
    display_compressed_images: bool = False

    def __post_init__(self) -> None:
        if self.display_mode not in VISUALIZATION_MODES:
            raise ValueError(f"--display_mode={self.display_mode}: expected one of {', '.join(VISUALIZATION_MODES)}.")


class Display:
    """LeRobot's viewer, if it is wanted."""

    def __init__(self, settings: DisplaySettings) -> None:
        self.on = settings.display_data
        self._settings = settings
        self._started = False

    def start(self) -> None:
        """Start the viewer, before anything moves; does nothing if it is not wanted.

        Raises:
            ImportError, RuntimeError: the viewer is not installed, or not found; the message names the remedy.
        """
        if self.on and not self._started:
            settings = self._settings
            init_visualization(settings.display_mode, session_name="serl_actor", ip=settings.display_ip, port=settings.display_port)
            self._started = True

    def show(self, observation: Mapping[str, Any], action: Mapping[str, float]) -> None:
        """One tick."""
        if self._started:
            log_visualization_data(self._settings.display_mode, dict(observation), dict(action), self._settings.display_compressed_images)

    def close(self) -> None:
        """May be called twice."""
        if self._started:
            self._started = False
            shutdown_visualization(self._settings.display_mode)
