"""What franky's exceptions mean to the person beside the arm, and what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from lerobot_serl.franka.driver import USER_STOP, ArmFault

# Version of the arm's server -> the arms that have it (franky's compatibility table).
SYSTEMS = {
    4: "a FER with system 4.0 or 4.1",
    5: "a FER with system 4.2.1 or later",
    6: "an FR3 with system 5.2 to 5.4",
    7: "an FR3 with system 5.5 or 5.6",
    8: "an FR3 with system 5.7.0 or 5.7.1",
    9: "an FR3 with system 5.7.2 or later",
    10: "an FR3 with a new system",
}
WHEELS = "https://timschneider42.github.io/franky/whl/by-robot-server-version"
FCI_OFF = "open Desk, unlock the brakes, activate FCI, and check that this address is the arm's"
NO_REALTIME = (
    "this kernel has no real-time scheduling. Boot a PREEMPT_RT kernel (`uname -v` names it) and give your user real-time rights. "
    "Or start with --realtime=ignore: then the arm may stop with communication_constraints_violation at any load of this computer"
)
_REMEDIES = {
    USER_STOP: "a person pressed the stop button: look, release it, then POST /clearerr",
    "guiding": "the arm is in guiding mode: take the hand off the guiding button, activate FCI in Desk",
    "joint_reflex": "a joint felt more torque than the threshold: look what it touched",
    "cartesian_reflex": "the arm felt more force than the threshold: look what it touched",
    "communication_constraints_violation": "packets came late: use a real-time kernel, a direct cable, and no other load on this computer",
    "joint_velocity_violation": "a joint was too fast: lower max_joint_velocity_rad_s or the stiffness",
    "cartesian_velocity_violation": "the tool was too fast: lower max_tool_speed_m_s or the stiffness",
    "joint_position_limits_violation": "a joint is at its limit: move the arm away by hand in Desk's guiding mode",
    "power_limit_violation": "the motion took too much power: lower speeds",
}


def remedy_of(errors: tuple[str, ...]) -> str:
    """Return what to do about error names of the arm."""
    return "; ".join(_REMEDIES[name] for name in errors if name in _REMEDIES) or "see Desk for details"


def explained(error: BaseException, robot_ip: str) -> ArmFault:
    """Return the fault that tells a person what one of franky's exceptions means.

    Args:
        error: from franky.
        robot_ip: of the arm, for the text.
    """
    kind, text = type(error).__name__, str(error).removeprefix("libfranka: ")
    if kind == "IncompatibleVersionException":
        return _version_fault(text, robot_ip)
    if kind == "RealtimeException":
        return ArmFault(f"{robot_ip}: {text} {NO_REALTIME}")
    if kind == "NetworkException" and any(sign in text for sign in ("refused", "not found", "Connection timeout")):
        return ArmFault(f"no connection to an arm at {robot_ip} ({text}): {FCI_OFF}")
    if kind == "NetworkException" or text == "Net Exception":  # the second from the socket library below libfranka
        return ArmFault(f"the connection to the arm at {robot_ip} was lost ({text}): {FCI_OFF}, then POST /clearerr")
    if kind in ("ControlException", "CommandException"):
        names = tuple(name for name in _REMEDIES if name in text)
        return ArmFault(f"the arm at {robot_ip} refused or stopped ({text}): {remedy_of(names)}; then POST /clearerr")
    return ArmFault(f"the arm at {robot_ip}: {kind}: {text}")


def _version_fault(text: str, robot_ip: str) -> ArmFault:
    found = re.search(r"server version: (\d+), library version: (\d+)", text)
    if found is None:
        return ArmFault(f"the arm at {robot_ip} and this franky-control do not speak the same version ({text})")
    server, library = int(found[1]), int(found[2])
    return ArmFault(
        f"the arm at {robot_ip} has server version {server} ({SYSTEMS.get(server, 'of a system that is not in our table')}), "
        f"the installed franky-control speaks version {library}. Install the one for the arm: "
        f"pip install --force-reinstall --no-deps 'franky-control>=2,<3' --extra-index-url {WHEELS}/{server}/"
    )


@contextmanager
def explaining(ip: str) -> Iterator[None]:
    """Turn whatever franky raises inside into an `ArmFault` that says what to do. The traceback is dropped: it would keep the robot alive."""
    try:
        yield
    except ArmFault:
        raise
    except Exception as error:  # all that franky raises, pybind's own included
        raise explained(error, ip) from error.with_traceback(None)
