"""What a device that takes over, but never judges an episode, reports to LeRobot."""

from typing import Any

from lerobot.teleoperators import TeleopEvents


def intervention_events(is_intervention: bool) -> dict[Any, bool]:
    """Return the four events that `get_teleop_events` promises, with only the takeover possibly true."""
    return {
        TeleopEvents.IS_INTERVENTION: is_intervention,
        TeleopEvents.TERMINATE_EPISODE: False,
        TeleopEvents.SUCCESS: False,
        TeleopEvents.RERECORD_EPISODE: False,
    }
