"""How a person says that rewards and ends of the demonstrations are to be understood: part of the policy's configuration."""

import math
from dataclasses import dataclass

from .setting_error import checks_settings

# Choice -> what it means.
ENDS = {
    "auto": "decided from the columns",
    "terminated": "an episode terminates at its first next.terminated",
    "success": "an episode terminates at its first next.success",
    "reward": "an episode terminates where its reward rises above {level:g} for the last time: the success",
    "done": "an episode terminates at its first next.done that is not next.truncated",
    "last": "every episode terminates at its last frame",
    "never": "no episode terminates",
}
REWARDS = {
    "auto": "decided from the columns",
    "recorded": "next.reward as recorded",
    "success": "1 at the frame that terminates an episode, 0 elsewhere",
}


@dataclass(frozen=True)
class LabelSettings:
    """``--policy.labels.*``: how rewards and ends of the demonstrations are understood. Practice is always read as it was recorded."""

    # Which frame terminates an episode: "terminated", "success" or "done" (the first next.terminated, next.success or next.done), "reward" (the
    # highest reward, where it stands out from all others), "last" (every episode's last frame), "never", or "auto": decided from the columns.
    ends: str = "auto"
    # "recorded" (next.reward), "success" (1 at the frame that terminates an episode, 0 elsewhere), or "auto".
    reward: str = "auto"
    # Added to every reward, to bring the demonstrations to the scale of practice.
    shift: float = 0.0

    @checks_settings
    def __post_init__(self) -> None:
        for name, allowed in (("ends", ENDS), ("reward", REWARDS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"policy.labels.{name}={getattr(self, name)!r}: expected one of {', '.join(allowed)}. See docs/data.md.")
        if not math.isfinite(self.shift):
            raise ValueError(f"policy.labels.shift={self.shift!r}: expected a finite number.")


AUTO, AS_RECORDED = LabelSettings(), LabelSettings(ends="terminated", reward="recorded")
