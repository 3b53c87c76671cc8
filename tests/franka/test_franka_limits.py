"""Joint limits of the arms: against the MuJoCo models, and against each other."""

import importlib.util
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from lerobot_serl.franka.arm_limits import ARMS, N_JOINTS, limits_of
from lerobot_serl.franka.controller_settings import READY_RAD


@pytest.mark.parametrize("model", ARMS)
def test_tables_are_complete_and_ordered(model):
    limits = limits_of(model)
    assert limits.model == model
    for values in (limits.low_rad, limits.high_rad, limits.velocity_rad_s, limits.acceleration_rad_s2):
        assert values.shape == (N_JOINTS,)
        assert np.isfinite(values).all()
    assert (limits.low_rad < limits.high_rad).all()
    assert (limits.velocity_rad_s > 0).all()
    assert (limits.acceleration_rad_s2 > 0).all()


@pytest.mark.parametrize("model", ARMS)
def test_the_ready_posture_is_inside(model):
    limits = limits_of(model)
    assert (limits.low_rad + 0.05 < READY_RAD).all()
    assert (limits.high_rad - 0.05 > READY_RAD).all()


def test_joint_6_of_an_fr3_does_not_go_where_a_fer_goes():
    assert limits_of("fr3").low_rad[5] > limits_of("fer").low_rad[5] + 0.5


def test_unknown_arm_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'panda'.*fer.*fr3"):
        limits_of("panda")


MODEL_FILES = {"fer": ("gym_hil", "assets/panda.xml"), "fr3": ("franky_sim", "assets/fr3.xml")}


@pytest.mark.parametrize("model", MODEL_FILES)
def test_positions_equal_the_ranges_in_the_mujoco_model(model):
    package, path = MODEL_FILES[model]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    root = ET.parse(Path(spec.origin).parent / path).getroot()
    ranges = [joint.get("range") for joint in root.findall(".//worldbody//joint")]
    # The default class of the arm holds the range of most joints; those that differ write their own.
    default = next(joint.get("range") for joint in root.findall(".//default//joint") if joint.get("range"))
    found = np.array([[float(x) for x in (text or default).split()] for text in ranges[:N_JOINTS]])
    limits = limits_of(model)
    np.testing.assert_allclose(found[:, 0], limits.low_rad, atol=1e-4)
    np.testing.assert_allclose(found[:, 1], limits.high_rad, atol=1e-4)
