"""Between a robot's dictionaries and the policy's tensors: order, sizes, cameras, and everything that a robot may do wrong."""

import json
import re
import shlex

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature

from lerobot_serl.actor.robot_io import RobotIo
from lerobot_serl.actor.world import EpisodeSpoilt, WorldError

OBSERVED = {"b.pos": float, "front": (6, 5, 3), "a.pos": float, "wrist": (6, 5, 3), "a.vel": float}
ACTED = {"b.pos": float, "a.pos": float}
STATE = {"observation.state": PolicyFeature(FeatureType.STATE, (3,))}
NAMES = dict(state_names=("a.pos", "b.pos", "a.vel"), action_names=("a.pos", "b.pos"))


def image_feature(*shape):
    return PolicyFeature(FeatureType.VISUAL, shape or (3, 6, 5))


def images(*cameras):
    return {f"observation.images.{camera}": image_feature() for camera in cameras}


def make_io(inputs=STATE, observed=OBSERVED, acted=ACTED, action_dim=2, **changes):
    return RobotIo("arm", observed, acted, inputs, action_dim, **(NAMES | changes))


def raw(**changes):
    image = np.arange(90, dtype=np.uint8).reshape(6, 5, 3)
    return {"b.pos": 2.0, "front": image, "a.pos": 1.0, "wrist": image + np.uint8(100), "a.vel": 3.0, **changes}


def test_vectors_have_the_order_of_the_demonstrations_not_of_the_robot():
    io = make_io()
    assert io.action_keys == ("a.pos", "b.pos")
    assert io.positions == ("a.pos", "b.pos")
    state = io.observation(raw(), io.numbers(raw()))["observation.state"]
    assert state.dtype == torch.float32
    assert state.tolist() == [1.0, 2.0, 3.0]
    assert io.action(np.array([0.25, 0.5], np.float32)) == {"a.pos": 0.25, "b.pos": 0.5}
    executed = io.executed({"b.pos": 0.5, "extra": 9, "a.pos": 0.25})
    assert executed.dtype == np.float32
    assert executed.tolist() == [0.25, 0.5]


def test_without_names_the_robots_order_is_taken():
    io = make_io(state_names=(), action_names=())
    assert io.action_keys == ("b.pos", "a.pos")
    assert io.observation(raw(), io.numbers(raw()))["observation.state"].tolist() == [2.0, 1.0, 3.0]


def test_some_of_the_robots_numbers_are_enough():
    io = make_io({"observation.state": PolicyFeature(FeatureType.STATE, (1,))}, state_names=("a.vel",))
    assert io.observation(raw(), io.numbers(raw()))["observation.state"].tolist() == [3.0]


def test_positions_are_what_is_both_set_and_measured():
    assert make_io(acted={"delta.pos": float, "b.pos": float}, action_names=()).positions == ("b.pos",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(state_names=(), inputs={"observation.state": PolicyFeature(FeatureType.STATE, (7,))}),
         r"observation.state has 3 entries \['b.pos', 'a.pos', 'a.vel'\], the policy expects 7"),
        (dict(action_names=(), action_dim=6), r"action has 2 entries \['b.pos', 'a.pos'\], the policy expects 6"),
        (dict(action_names=("a.pos", "c.pos")), r"demonstrations' action has \['c.pos'\], which this robot lacks"),
        (dict(state_names=("a.pos", "x", "y")), r"observation.state has \['x', 'y'\]"),
        (dict(inputs={"observation.environment_state": PolicyFeature(FeatureType.ENV, (3,))}), "'observation.environment_state', which no robot"),
        (dict(rename_map={"observation.images.side": "observation.images.front"}), r"--rename_map names \['observation.images.side'\]"),
        (dict(inputs={"observation.images.front": image_feature(3, 5, 6)}), r"gives \(6, 5, 3\) \(height, width, channels\).*\(3, 5, 6\)"),
        (dict(inputs=images("front"), observed={"front": (6, 5)}), r"gives \(6, 5\)"),
    ],
)  # fmt: skip
def test_a_robot_that_does_not_fit_is_refused_by_name(changes, said):
    with pytest.raises(ValueError, match=said) as caught:
        make_io(**changes)
    assert "arm" in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        (("top",), None),
        (("front", "top"), None),  # front is needed itself and must not be renamed
        (("top", "side"), None),
        (("wrist", "top", "front"), "observation.images.spare"),
        (("top", "side"), {"observation.images.front": "observation.images.side"}),
    ],
)
def test_the_rename_map_in_the_message_works_when_it_is_used(wanted, given):
    observed = OBSERVED | ({"spare": (6, 5, 3)} if isinstance(given, str) else {})
    rename_map = given if isinstance(given, dict) else {}
    with pytest.raises(ValueError, match="needs the image") as caught:
        make_io(images(*wanted), observed, rename_map=rename_map)
    (flag,) = re.findall(r"--rename_map='[^']*'", str(caught.value))
    (word,) = shlex.split(flag)
    io = make_io(images(*wanted), observed, rename_map=json.loads(word.partition("=")[2]))
    assert set(io.observation(raw(spare=raw()["front"]), {})) == set(images(*wanted))


def test_no_rename_map_is_suggested_where_none_would_help():
    with pytest.raises(ValueError, match=r"needs the images \['observation.images.top', 'observation.images.side'\]") as caught:
        make_io(images("front", "wrist", "top", "side"))
    assert "rename_map" not in str(caught.value)
    with pytest.raises(ValueError, match=r"this robot gives none. Add the camera\.$"):
        make_io(images("top"), {"a.pos": float}, action_names=())


def test_renamed_cameras_show_their_own_picture():
    inputs = images("top", "front")
    io = make_io(
        inputs, rename_map={"observation.images.front": "observation.images.top", "observation.images.wrist": "observation.images.front"}
    )
    observation = io.observation(raw(), {})
    assert observation["observation.images.top"].dtype == torch.uint8
    assert observation["observation.images.top"].shape == (3, 6, 5)
    assert observation["observation.images.top"][:, 0, 1].tolist() == [3, 4, 5]
    assert observation["observation.images.front"][:, 0, 1].tolist() == [103, 104, 105]


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_a_copy(channels):
    """Cameras write into the same memory again and again; with one channel a transposed image would still be that memory."""
    buffer = np.zeros((6, 5, channels), np.uint8)
    io = make_io({"observation.images.eye": image_feature(channels, 6, 5)}, {"eye": buffer.shape, **OBSERVED})
    image = io.observation({"eye": buffer}, {})["observation.images.eye"]
    buffer[:] = 255
    assert image.max() == 0


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (None, r"gave None, expected uint8\(6, 5, 3\)"),
        (np.zeros((5, 6, 3), np.uint8), r"gave uint8\(5, 6, 3\), expected uint8\(6, 5, 3\)"),
        (np.zeros((6, 5, 3), np.float32), r"gave float32\(6, 5, 3\)"),
    ],
)
def test_a_picture_that_is_none_is_refused(image, said):
    with pytest.raises(EpisodeSpoilt, match=f"camera 'front' {said}"):
        make_io(images("front")).observation(raw(front=image), {})


def test_a_missing_picture_is_named():
    incomplete = raw()
    del incomplete["front"]
    with pytest.raises(EpisodeSpoilt, match="camera 'front'"):
        make_io(images("front")).observation(incomplete, {})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "cold", [1.0, 2.0]])
def test_a_reading_that_is_no_finite_number_is_refused(value):
    with pytest.raises(EpisodeSpoilt, match=r"arm: 'a.vel' reads .*expected a finite number"):
        make_io().numbers(raw(**{"a.vel": value}))


def test_a_missing_reading_is_named():
    with pytest.raises(EpisodeSpoilt, match=r"get_observation\(\) lacks 'a.vel'"):
        make_io().numbers({"a.pos": 1.0, "b.pos": 2.0})


def test_an_observation_that_is_none_is_refused():
    with pytest.raises(EpisodeSpoilt, match=r"arm: get_observation\(\) returned None, expected a dictionary"):
        make_io().numbers(None)


def test_readings_of_numpy_are_numbers():
    numbers = make_io().numbers(raw(**{"a.vel": np.float32(0.5), "a.pos": np.int64(2)}))
    assert numbers == {"b.pos": 2.0, "a.pos": 2.0, "a.vel": 0.5}
    assert all(type(value) is float for value in numbers.values())


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, r"send_action\(\) returned None, expected the action that was executed"),
        ([0.1, 0.2], r"returned \[0.1, 0.2\], expected the action"),
        ({"a.pos": 0.1}, r"returned \['a.pos'\] without \['b.pos'\]"),
        ({}, r"without \['a.pos', 'b.pos'\]"),
        ({"a.pos": 0.1, "b.pos": float("nan")}, "returned nan for 'b.pos'"),
        ({"a.pos": None, "b.pos": 0.0}, "returned None for 'a.pos'"),
    ],
)
def test_what_send_action_must_not_return(returned, said):
    with pytest.raises(WorldError, match=said):
        make_io().executed(returned)
