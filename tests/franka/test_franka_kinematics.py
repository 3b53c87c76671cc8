"""Kinematics against MuJoCo's models of both arms, and rotations against their definitions."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lerobot_serl.franka import kinematics
from lerobot_serl.franka.arm_limits import limits_of

# model -> package, file, body that stands on the flange
MODELS = {
    "fer": ("gym_hil", "assets/panda.xml", "attachment"),
    "fr3": ("franky_sim", "assets/fr3.xml", "hand"),
}


@pytest.fixture(scope="module", params=MODELS)
def arm(request):
    """MuJoCo model and data of an arm, its name, and the body that is mounted on its flange."""
    mujoco = pytest.importorskip("mujoco")
    package, path, body = MODELS[request.param]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed, so there is no model of the {request.param} to compare with")
    file = Path(spec.origin).parent / path
    source = mujoco.MjSpec.from_file(str(file))
    if (file.parent / "meshes").is_dir():
        source.meshdir = "meshes"  # franky_sim's file names no folder, the simulator does
    model = source.compile()
    return model, mujoco.MjData(model), request.param, model.body(body).id


def random_joints(model, seed, n=50):
    limits = limits_of(model)
    return np.random.default_rng(seed).uniform(limits.low_rad, limits.high_rad, (n, 7))


def body_pose(data, body):
    pose = np.eye(4)
    pose[:3, 3], pose[:3, :3] = data.xpos[body], data.xmat[body].reshape(3, 3)
    return pose


def test_forward_kinematics_and_jacobian_equal_mujocos(arm):
    import mujoco

    model, data, name, body = arm
    # In both models this body stands 107 mm in front of joint 7; only its turn about z differs.
    for q in random_joints(name, seed=1):
        data.qpos[:7] = q
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        expected = body_pose(data, body)
        base = body_pose(data, model.body("link0" if name == "fer" else "fr3_link0").id)
        tool = kinematics.tool_of(q, np.linalg.solve(base, expected))
        np.testing.assert_allclose(tool[:3, 3], 0, atol=1e-5)
        np.testing.assert_allclose(tool[2, :3], [0, 0, 1], atol=1e-5)
        linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        mujoco.mj_jacBody(model, data, linear, angular, body)
        ours = kinematics.jacobian(q, tool)
        turn = base[:3, :3].T
        np.testing.assert_allclose(ours[:3], turn @ linear[:, :7], atol=1e-5)
        np.testing.assert_allclose(ours[3:], turn @ angular[:, :7], atol=1e-5)


@pytest.mark.parametrize("arm", ["fr3"], indirect=True)
def test_the_hand_frame_is_the_one_in_the_fr3_model(arm):
    """Body `hand` has the turn of 45 degrees; the tip is 103.4 mm in front of it."""
    import mujoco

    model, data, name, body = arm
    q = random_joints(name, seed=2, n=1)[0]
    data.qpos[:7] = q
    mujoco.mj_kinematics(model, data)
    expected = body_pose(data, body)
    ours = kinematics.tool_pose(q)
    np.testing.assert_allclose(ours[:3, :3], expected[:3, :3], atol=1e-5)
    np.testing.assert_allclose(ours[:3, 3], expected[:3, 3] + 0.1034 * expected[:3, 2], atol=1e-5)


def test_the_ready_posture_points_down_in_front_of_the_base():
    pose = kinematics.tool_pose([0, -math.pi / 4, 0, -3 * math.pi / 4, 0, math.pi / 2, math.pi / 4])
    np.testing.assert_allclose(pose[:3, 3], [0.3069, 0.0, 0.4869], atol=1e-3)
    np.testing.assert_allclose(pose[:3, :3], np.diag([1.0, -1.0, -1.0]), atol=1e-9)


@pytest.mark.parametrize("model", ["fer", "fr3"])
def test_jacobian_is_the_derivative(model):
    step = 1e-6
    for q in random_joints(model, seed=3, n=5):
        jacobian = kinematics.jacobian(q)
        for joint in range(7):
            ahead, behind = q.copy(), q.copy()
            ahead[joint] += step
            behind[joint] -= step
            a, b = kinematics.tool_pose(ahead), kinematics.tool_pose(behind)
            np.testing.assert_allclose((a - b)[:3, 3] / (2 * step), jacobian[:3, joint], atol=1e-6)
            turn = kinematics.rotvec_of_matrix(a[:3, :3] @ b[:3, :3].T) / (2 * step)
            np.testing.assert_allclose(turn, jacobian[3:, joint], atol=1e-6)


quaternions = arrays(np.float64, 4, elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q) > 1e-3)


@given(quaternions)
def test_quaternion_round_trip(quaternion):
    unit = quaternion / np.linalg.norm(quaternion)
    matrix = kinematics.matrix_of_quaternion(quaternion)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    back = kinematics.quaternion_of_matrix(matrix)
    assert back[3] >= 0
    assert abs(back @ unit) == pytest.approx(1, abs=1e-9)


@given(arrays(np.float64, 3, elements=st.floats(-1.8, 1.8)))
def test_rotation_vector_round_trip(rotvec):
    if np.linalg.norm(rotvec) > 3.1:
        rotvec = rotvec / 2
    matrix = kinematics.matrix_of_rotvec(rotvec)
    np.testing.assert_allclose(kinematics.rotvec_of_matrix(matrix), rotvec, atol=1e-7)


def test_rotations_match_known_values():
    half_turn_x = np.diag([1.0, -1.0, -1.0])
    np.testing.assert_allclose(kinematics.quaternion_of_matrix(half_turn_x), [1, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(np.abs(kinematics.rotvec_of_matrix(half_turn_x)), [math.pi, 0, 0], atol=1e-9)
    quarter_turn_z = kinematics.matrix_of_rotvec([0, 0, math.pi / 2])
    np.testing.assert_allclose(quarter_turn_z @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    pose7 = np.array([0.1, 0.2, 0.3, 0, 0, math.sqrt(0.5), math.sqrt(0.5)])
    np.testing.assert_allclose(kinematics.matrix_of_pose7(pose7)[:3, :3], quarter_turn_z, atol=1e-12)
    np.testing.assert_allclose(kinematics.pose7_of_matrix(kinematics.matrix_of_pose7(pose7)), pose7, atol=1e-12)


def test_a_zero_quaternion_is_refused():
    with pytest.raises(ValueError, match="quaternion is zero"):
        kinematics.matrix_of_quaternion([0, 0, 0, 0])
