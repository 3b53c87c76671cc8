"""Joint limits of the two Franka arms, from the manufacturer's robot specifications."""

from dataclasses import dataclass

import numpy as np

from lerobot_serl.franka.driver import Vector

N_JOINTS = 7


@dataclass(frozen=True, eq=False)
class ArmLimits:
    """What one arm model allows.

    Attributes:
        model: "fer" (Franka Emika Robot, "Panda") or "fr3" (Franka Research 3).
        low_rad: (7,) lowest joint positions.
        high_rad: (7,) highest joint positions.
        velocity_rad_s: (7,) highest joint speeds. An FR3 allows less close to its position limits.
        acceleration_rad_s2: (7,) highest joint accelerations.
    """

    model: str
    low_rad: Vector
    high_rad: Vector
    velocity_rad_s: Vector
    acceleration_rad_s2: Vector


_FER = ArmLimits(
    model="fer",
    low_rad=np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973]),
    high_rad=np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973]),
    velocity_rad_s=np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61]),
    acceleration_rad_s2=np.array([15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0]),
)
_FR3 = ArmLimits(
    model="fr3",
    low_rad=np.array([-2.7437, -1.7837, -2.9007, -3.0421, -2.8065, 0.5445, -3.0159]),
    high_rad=np.array([2.7437, 1.7837, 2.9007, -0.1518, 2.8065, 4.5169, 3.0159]),
    velocity_rad_s=np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26]),
    acceleration_rad_s2=np.full(N_JOINTS, 10.0),
)
ARMS = {limits.model: limits for limits in (_FER, _FR3)}


def limits_of(model: str) -> ArmLimits:
    """Return the limits of an arm model.

    Raises:
        ValueError: no such model.
    """
    try:
        return ARMS[model]
    except KeyError:
        raise ValueError(f"arm model is {model!r}, expected one of {tuple(ARMS)} (fer is the older Panda, fr3 the Research 3)") from None
