"""A scripted expert that hands the cube over: waypoints of both hands, joints by inverse kinematics, and a person's unevenness."""

from dataclasses import astuple, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .aloha_state import AlohaTransferState

LEFT, RIGHT = 0, 1
# Between the finger pads, from the hand's own frame, metres.
PADS = np.array([0.13, 0.0, 0.0])
OPEN, CLOSED = 0.95, 0.07
# Inverse kinematics: damping, iterations, largest error that is left over (metres, or radians).
DAMPING, ITERATIONS, TOLERANCE = 1e-4, 300, 1e-3
# A way from waypoint to waypoint: shares of its time, and of its length, with a smooth start and stop.
PARTS = np.linspace(0, 1, 9)
SMOOTH = PARTS**3 * (10 - 15 * PARTS + 6 * PARTS**2)


@dataclass(frozen=True)
class Waypoint:
    """Where a hand is, and when.

    Attributes:
        step: of the attempt.
        place: between the finger pads, metres.
        down_rad: by how much the hand points down.
        roll_rad: by how much it is turned about the direction in which it points.
        gripper: how far it is open.
    """

    step: float
    place: np.ndarray
    down_rad: float
    roll_rad: float
    gripper: float


class Arm:
    """Inverse kinematics of one arm, with a copy of the scene: damped least squares.

    Args:
        env: whose model is used.
        side: ``LEFT`` or ``RIGHT``.
    """

    def __init__(self, env: "AlohaTransferState", side: int) -> None:
        import mujoco

        self._model, self._data = env.model, mujoco.MjData(env.model)
        self._joints, self._yaw = np.arange(6) + 8 * side, np.pi * side
        self._hand = env.model.body(("vx300s_left", "vx300s_right")[side] + "/gripper_link").id

    def solve(self, waypoint: Waypoint, start: np.ndarray) -> np.ndarray:
        """Six angles for a waypoint, searched from others.

        Raises:
            ValueError: it is out of reach.
        """
        import mujoco

        wanted, jacobian = np.zeros(4), np.zeros((6, self._model.nv))
        mujoco.mju_euler2Quat(wanted, np.array([self._yaw, waypoint.down_rad, waypoint.roll_rad]), "zyx")
        self._data.qpos[self._joints] = start
        for _ in range(ITERATIONS):
            mujoco.mj_kinematics(self._model, self._data)
            mujoco.mj_comPos(self._model, self._data)
            pads = self._data.xpos[self._hand] + self._data.xmat[self._hand].reshape(3, 3) @ PADS
            error = np.concatenate([waypoint.place - pads, self._turn(wanted)])
            if np.abs(error).max() < TOLERANCE:
                return self._data.qpos[self._joints].copy()
            mujoco.mj_jac(self._model, self._data, jacobian[:3], jacobian[3:], pads, self._hand)
            part = jacobian[:, self._joints]
            change = part.T @ np.linalg.solve(part @ part.T + DAMPING * np.eye(6), error)
            low, high = self._model.jnt_range[self._joints].T
            self._data.qpos[self._joints] = np.clip(self._data.qpos[self._joints] + np.clip(change, -0.2, 0.2), low, high)
        raise ValueError(f"{waypoint} is out of reach, by {error.round(3)}.")

    def _turn(self, wanted: np.ndarray) -> np.ndarray:
        """From the hand's orientation to the wanted one, in the world's axes."""
        import mujoco

        turn = np.zeros(3)
        mujoco.mju_subQuat(turn, wanted, self._data.xquat[self._hand])
        return self._data.xmat[self._hand].reshape(3, 3) @ turn


class Expert:
    """One attempt, planned when it begins: the right hand takes the cube to where the left one gets it.

    Args:
        env: has just been reset.
        seed: of what differs from attempt to attempt: pace, timing, how exactly a place is met.
    """

    def __init__(self, env: "AlohaTransferState", seed: int) -> None:
        self._step, joints = 0, env.joints.reshape(2, 7)
        hands = plan(env.cube[:3], np.random.default_rng(seed))
        self._tracks = [track(Arm(env, side), joints[side], waypoints) for side, waypoints in enumerate(hands)]

    def act(self) -> np.ndarray:
        """Joint targets of the next step."""
        self._step += 1
        return np.array([np.interp(self._step, steps, entry) for steps, targets in self._tracks for entry in targets.T])


def track(arm: Arm, start: np.ndarray, waypoints: list[Waypoint]) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and six angles and the gripper at each: to the first waypoint as the joints go, then in straight lines, with a stop at each waypoint."""
    last = np.append(arm.solve(waypoints[0], start[:6]), waypoints[0].gripper)
    steps, targets = list(PARTS * waypoints[0].step), [start + share * (last - start) for share in SMOOTH]
    for before, after in pairwise(waypoints):
        for part, share in zip(PARTS[1:], SMOOTH[1:], strict=True):
            between = Waypoint(*(one + share * (other - one) for one, other in zip(astuple(before), astuple(after), strict=True)))
            steps.append(before.step + part * (after.step - before.step))
            targets.append(np.append(arm.solve(between, targets[-1][:6]), between.gripper))
    return np.array(steps), np.array(targets)


def plan(cube: np.ndarray, rng: np.random.Generator) -> tuple[list[Waypoint], list[Waypoint]]:
    """Waypoints of the left and of the right hand; no two plans have the same pace, tilt and places."""
    above, gripped, closed, up, there = np.cumsum(rng.uniform(0.9, 1.15) * rng.uniform(0.9, 1.1, 5) * [55, 40, 20, 40, 60])
    down, late = rng.uniform(1.15, 1.3), rng.uniform(0, 20)
    meeting = np.array([0.0, 0.5, 0.25]) + rng.normal(0, 0.01, 3)

    def hand(down_rad: float, roll_rad: float, rows: list[tuple[float, np.ndarray, list[float], float]]) -> list[Waypoint]:
        return [Waypoint(step, place + away + rng.normal(0, 0.002, 3), down_rad, roll_rad, grip) for step, place, away, grip in rows]

    grip = np.array([cube[0], cube[1], 0.02])
    right = [(above, grip, [0, 0, 0.08], OPEN), (gripped, grip, [0, 0, 0], OPEN), (closed, grip, [0, 0, 0], CLOSED)]
    right += [(up, grip, [0, 0, 0.12], CLOSED), (there, meeting, [0, 0, 0], CLOSED)]
    left = [(up, meeting, [-0.12, 0, 0], OPEN), (there + late, meeting, [-0.12, 0, 0], OPEN)]
    left += [(there + late + 30, meeting, [0, 0, 0], OPEN), (there + late + 50, meeting, [0, 0, 0], CLOSED)]
    return hand(0.0, np.pi / 2, left), hand(down, 0.0, right)
