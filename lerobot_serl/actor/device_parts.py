"""What a robot or a teleoperator is made of: arms, motor buses, cameras."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lerobot.cameras import Camera

# Of the exceptions that led to an exception, so many are looked at.
DEPTH = 5


def parts(device: Any) -> Iterator[tuple[str, Any]]:
    """Name and object of everything directly within a device that can be disconnected by itself."""
    for name, value in list(getattr(device, "__dict__", {}).items()):
        for key, part in _members(name, value):
            if part is not device and hasattr(type(part), "disconnect"):
                yield key, part


def is_connected(part: Any) -> bool:
    """What it says; a part that says nothing counts as connected."""
    try:
        return bool(getattr(part, "is_connected", True))
    except Exception:  # it is asked in order to be disconnected, and then it will say so itself
        return True


def is_camera(part: Any) -> bool:
    """Whether this is a LeRobot camera, or looks like one."""
    return isinstance(part, Camera) or hasattr(type(part), "read_latest") or hasattr(type(part), "async_read")


def is_bus(part: Any) -> bool:
    """Whether motors hang on it, whose torque it can switch off, as LeRobot's buses can."""
    return (
        not is_device(part) and hasattr(type(part), "disable_torque") and isinstance(getattr(part, "motors", None), Mapping | list | tuple)
    )


def is_device(part: Any) -> bool:
    """Whether this is a robot or a teleoperator, as an arm within a robot of two arms is."""
    return hasattr(type(part), "get_observation") or hasattr(type(part), "get_action")


def moving_parts(device: Any) -> Iterator[Any]:
    """The motor buses of a device, and the arms within it with theirs."""
    for _, part in parts(device):
        if is_bus(part):
            yield part
        elif is_device(part):
            yield part
            yield from moving_parts(part)


def camera_of(robot: Any, error: BaseException, may_be_away: bool) -> str | None:
    """Key of the camera that an error comes from, as the observation has it; None if it comes from elsewhere.

    Args:
        may_be_away: the error is of a kind that a camera without its cable causes: then a camera that says that it is not connected counts.
    """
    cameras = dict(_cameras(robot))
    raisers = [owner for owner in _raisers(error) if is_camera(owner)]
    for key, camera in cameras.items():
        if any(camera is raiser for raiser in raisers):
            return key
    text = str(error)
    if re.search("camera|frame|image", text, re.IGNORECASE):
        images = [key for key, kind in getattr(robot, "observation_features", {}).items() if isinstance(kind, tuple)]
        named = [key for key in images if re.search(rf"\b{re.escape(key)}\b", text)]
        named += [key for key, camera in cameras.items() if str(camera) in text]
        if named:
            return named[0]
    return next((key for key, camera in cameras.items() if not is_connected(camera)), None) if may_be_away else None


def _members(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(key), member) for key, member in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"{name}[{index}]", member) for index, member in enumerate(value))
    else:
        yield name, value


def _cameras(robot: Any) -> Iterator[tuple[str, Any]]:
    """Cameras under the keys of the observation: a robot of two arms has those of each under the arm's name as well."""
    features = getattr(robot, "observation_features", {})
    yield from ((key, part) for key, part in parts(robot) if is_camera(part) and key in features)
    for arm, inner in parts(robot):
        if is_device(inner):
            for key, part in _cameras(inner):
                whole = f"{arm.removesuffix('_arm')}_{key}"
                yield whole if whole in features else key, part


def _raisers(error: BaseException) -> Iterator[Any]:
    """Objects whose methods an error, or one that led to it, passed through; the innermost first."""
    now: BaseException | None = error
    for _ in range(DEPTH):
        if now is None:
            return
        owners, trace = [], now.__traceback__
        while trace is not None:
            owners.append(trace.tb_frame.f_locals.get("self"))
            trace = trace.tb_next
        yield from reversed(owners)
        now = now.__cause__ or now.__context__
