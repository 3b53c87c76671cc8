"""Kinematics of the Franka arms (FER and FR3 have the same geometry), and rotations, in numpy."""

import math

import numpy as np
from numpy.typing import ArrayLike

from lerobot_serl.franka.arm_limits import N_JOINTS
from lerobot_serl.franka.driver import Vector

# Denavit and Hartenberg in Craig's convention: a and d in metres, alpha in radians.
_A_M = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088)
_D_M = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0)
_ALPHA_RAD = (0.0, -math.pi / 2, math.pi / 2, math.pi / 2, -math.pi / 2, math.pi / 2, math.pi / 2)
_FLANGE_M = 0.107
_HAND_ANGLE_RAD = -math.pi / 4
_HAND_TCP_M = 0.1034
_SMALL_RAD = 1e-9

_FLANGE = np.eye(4)
_FLANGE[2, 3] = _FLANGE_M

# Flange to the point between the finger tips of a Franka Hand, as Desk has it by default.
HAND = np.eye(4)
HAND[:2, :2] = [
    [math.cos(_HAND_ANGLE_RAD), -math.sin(_HAND_ANGLE_RAD)],
    [math.sin(_HAND_ANGLE_RAD), math.cos(_HAND_ANGLE_RAD)],
]
HAND[2, 3] = _HAND_TCP_M


def _fixed_part(joint: int) -> Vector:
    """Return the (4, 4) transform from the link before `joint` to its axis: all but the turn about the axis."""
    cos, sin = round(math.cos(_ALPHA_RAD[joint])), round(math.sin(_ALPHA_RAD[joint]))
    return np.array(
        [
            [1.0, 0.0, 0.0, _A_M[joint]],
            [0.0, cos, -sin, -_D_M[joint] * sin],
            [0.0, sin, cos, _D_M[joint] * cos],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )


_LINKS = tuple(_fixed_part(joint) for joint in range(N_JOINTS))


def joint_frames(q_rad: ArrayLike) -> Vector:
    """Return (7, 4, 4) poses of the joints in the base frame, each turning about its own z axis."""
    q = np.asarray(q_rad, dtype=np.float64)
    frames = np.empty((N_JOINTS, 4, 4))
    pose = np.eye(4)
    turn = np.eye(4)
    for joint, (cos, sin) in enumerate(zip(np.cos(q), np.sin(q), strict=True)):
        turn[0, 0] = turn[1, 1] = cos
        turn[0, 1], turn[1, 0] = -sin, sin
        pose = pose @ _LINKS[joint] @ turn
        frames[joint] = pose
    return frames


def flange_pose(q_rad: ArrayLike) -> Vector:
    """Return the (4, 4) pose of the flange in the base frame at joint positions (7,)."""
    return joint_frames(q_rad)[-1] @ _FLANGE


def tool_pose(q_rad: ArrayLike, tool: Vector = HAND) -> Vector:
    """Return the (4, 4) pose of the end effector in the base frame.

    Args:
        q_rad: (7,) joint positions.
        tool: (4, 4) end effector in the frame of the flange.
    """
    return flange_pose(q_rad) @ tool


def jacobian(q_rad: ArrayLike, tool: Vector = HAND) -> Vector:
    """Return the (6, 7) Jacobian of the end effector in the base frame: rows xyz, then rotation.

    Args:
        q_rad: (7,) joint positions.
        tool: (4, 4) end effector in the frame of the flange.
    """
    frames = joint_frames(q_rad)
    point = (frames[-1] @ _FLANGE @ tool)[:3, 3]
    axes = frames[:, :3, 2]
    return np.concatenate([np.cross(axes, point - frames[:, :3, 3]).T, axes.T])


def tool_of(q_rad: ArrayLike, pose: Vector) -> Vector:
    """Return the (4, 4) end effector in the flange's frame, from a measured pose (4, 4) and its joint positions (7,)."""
    return np.asarray(np.linalg.solve(flange_pose(q_rad), pose), dtype=np.float64)


def matrix_of_quaternion(xyzw: ArrayLike) -> Vector:
    """Return the (3, 3) rotation of a quaternion (4,) x, y, z, w; its length does not matter.

    Raises:
        ValueError: the quaternion is zero.
    """
    x, y, z, w = (float(part) for part in np.asarray(xyzw, dtype=np.float64))
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    if norm == 0.0:
        raise ValueError("the quaternion is zero, expected x, y, z, w of length 1")
    x, y, z, w = x / norm, y / norm, z / norm, w / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_of_matrix(rotation: Vector) -> Vector:
    """Return the unit quaternion (4,) x, y, z, w with w >= 0 of a (3, 3) rotation."""
    m = rotation
    # Four times the outer product of (x, y, z, w) with itself: its largest row has no cancellation.
    outer = np.array(
        [
            [1 + m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
            [m[0, 1] + m[1, 0], 1 - m[0, 0] + m[1, 1] - m[2, 2], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]],
            [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], 1 - m[0, 0] - m[1, 1] + m[2, 2], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], 1 + m[0, 0] + m[1, 1] + m[2, 2]],
        ]
    )
    row = outer[int(np.argmax(np.diag(outer)))]
    quaternion = row / np.linalg.norm(row)
    return -quaternion if quaternion[3] < 0 else quaternion


def matrix_of_rotvec(rotvec_rad: ArrayLike) -> Vector:
    """Return the (3, 3) rotation of a rotation vector (3,): its direction is the axis, its length the angle."""
    vector = np.asarray(rotvec_rad, dtype=np.float64)
    angle = float(np.linalg.norm(vector))
    if angle < _SMALL_RAD:
        return matrix_of_quaternion([*(vector / 2), 1.0])
    return matrix_of_quaternion([*(vector * (math.sin(angle / 2) / angle)), math.cos(angle / 2)])


def rotvec_of_matrix(rotation: Vector) -> Vector:
    """Return the rotation vector (3,) of a (3, 3) rotation, no longer than pi."""
    quaternion = quaternion_of_matrix(rotation)
    sin_half = float(np.linalg.norm(quaternion[:3]))
    if sin_half < _SMALL_RAD:
        return 2 * quaternion[:3]
    return quaternion[:3] * (2 * math.atan2(sin_half, float(quaternion[3])) / sin_half)


def pose7_of_matrix(pose: Vector) -> Vector:
    """Return (7,) x, y, z, qx, qy, qz, qw of a pose (4, 4)."""
    return np.concatenate([pose[:3, 3], quaternion_of_matrix(pose[:3, :3])])


def matrix_of_pose7(pose7: ArrayLike) -> Vector:
    """Return the (4, 4) pose of (7,) x, y, z, qx, qy, qz, qw.

    Raises:
        ValueError: the quaternion is zero.
    """
    values = np.asarray(pose7, dtype=np.float64)
    pose = np.eye(4)
    pose[:3, 3] = values[:3]
    pose[:3, :3] = matrix_of_quaternion(values[3:])
    return pose
