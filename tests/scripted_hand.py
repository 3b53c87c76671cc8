"""A person's device in memory, of two numbers: what the person presses, and when, is in its configuration."""

from dataclasses import dataclass, field
from typing import Any

from lerobot.teleoperators import Teleoperator, TeleoperatorConfig
from lerobot.teleoperators.utils import TeleopEvents

from lerobot_serl.robots.uncalibrated import Uncalibrated
from lerobot_serl.teleoperators.events import intervention_events


@TeleoperatorConfig.register_subclass("serl_test_hand")
@dataclass(kw_only=True)
class ScriptedHandConfig(TeleoperatorConfig):
    """`--teleop.type=serl_test_hand`.

    Attributes:
        presses: number of a tick, counted from 1 over all attempts -> "success", "failure" or "rerecord_episode".
        takes_over: ticks at which the device says that the person takes over.
        breaks_at: the tick at which the cable comes off for good; 0: never.
    """

    presses: dict[int, str] = field(default_factory=dict)
    takes_over: tuple[int, ...] = ()
    breaks_at: int = 0


class ScriptedHand(Uncalibrated, Teleoperator):
    """Moves by a tenth of the tick's number."""

    config_class = ScriptedHandConfig
    name = "serl_test_hand"

    def __init__(self, config: ScriptedHandConfig) -> None:
        super().__init__(config)
        self.config, self.ticks, self.is_connected_now = config, -1, False  # it is read once before the first tick

    @property
    def action_features(self) -> dict[str, Any]:
        return {"x": float, "y": float}

    @property
    def feedback_features(self) -> dict[str, Any]:
        return {}

    @property
    def is_connected(self) -> bool:
        return self.is_connected_now

    def connect(self, calibrate: bool = True) -> None:
        self.is_connected_now = True

    def disconnect(self) -> None:
        self.is_connected_now = False

    def get_action(self) -> dict[str, float]:
        self.ticks += 1
        if 0 < self.config.breaks_at <= self.ticks:
            raise ConnectionError("no answer")
        return {"x": self.ticks / 10, "y": 0.0}

    def get_teleop_events(self) -> dict[Any, bool]:
        pressed = self.config.presses.get(self.ticks)
        return {**intervention_events(self.ticks in self.config.takes_over), **({TeleopEvents(pressed): True} if pressed else {})}

    def send_feedback(self, feedback: dict[str, Any]) -> None:
        raise AssertionError("no motors")
