"""Client of the server beside the arm: ours, or an existing SERL or HIL-SERL server ("legacy").

Legacy servers take pose targets only, know no limits, and tell neither faults nor the age of their state.
"""

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .keep_alive import GONE, KeepAliveClient, RequestRefused

Vector = NDArray[np.float64]
START_COMMAND = "lerobot-serl-franka-server --robot_ip=ADDRESS_OF_THE_ARM (or --driver=sim to try it without hardware)"
PROBE_S = 3.0
# The first command starts a tracker, which takes some tenths of a second.
START_S = 3.0
SLOW_MOTION_S = 90.0
HOMING_S = 30.0
LARGEST_NUMBER = 1e12
# Legacy servers open or close; between these openings they are left alone. SERL's environment has the same thresholds.
LEGACY_CLOSE, LEGACY_OPEN = 0.25, 0.75


class FrankaError(RuntimeError):
    """The arm or its server does not do what was asked; the message says why and what to do."""


class FrankaUnreachable(ConnectionError):  # noqa: N818
    """No server answers."""


class FrankaFault(FrankaError):  # noqa: N818
    """The arm has stopped, or the command was made before it recovered.

    Attributes:
        fault: what is wrong with the arm; empty when only the command was too old.
    """

    def __init__(self, message: str, fault: str) -> None:
        super().__init__(message)
        self.fault = fault


class StaleStateError(FrankaError):
    """The arm's state is too old to act on."""


@dataclass(frozen=True, eq=False)
class FrankaReading:
    """The arm's state as the server tells it.

    Attributes:
        q_rad, dq_rad_s: (7,) joints.
        pose7: (7,) end effector in the base frame: x, y, z (m), qx, qy, qz, qw.
        wrench: (6,) N and Nm.
        tau_ext_nm: (7,) external torques; None from legacy servers.
        opening: of the gripper, 0 closed to 1 open; None without one.
        mode, fault: of our server; empty from legacy servers.
        epoch: rises with each recovery; None from legacy servers.
    """

    q_rad: Vector
    dq_rad_s: Vector
    pose7: Vector
    wrench: Vector
    tau_ext_nm: Vector | None
    opening: float | None
    mode: str
    fault: str
    epoch: int | None


class FrankaClient:
    """Talks to one server.

    Args:
        url: of the server.
        token: for servers that want one.
        timeout_s: of an ordinary request.
        state_timeout_s: a state that the server has not renewed for so long is stale.
        has_gripper: read the gripper, too.
        certificate: PEM file to trust on https; None: what this machine trusts.
        recovery_wait_s: a state may take so much longer: while the arm recovers there is none, and our server waits with its answer.

    Raises:
        ValueError: the URL or the certificate is not usable.
        OSError: the certificate cannot be read.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout_s: float = 0.5,
        state_timeout_s: float = 0.2,
        has_gripper: bool = True,
        certificate: Path | None = None,
        recovery_wait_s: float = 0.0,
    ) -> None:
        self._http = KeepAliveClient(url, token, timeout_s, certificate)
        self._url = url
        self._timeout_s = timeout_s
        self._state_timeout_s = state_timeout_s
        self._has_gripper, self._reading_s = has_gripper, timeout_s + recovery_wait_s
        self._reads_singly = False
        self._renewed: tuple[float, float] | None = None
        self._legacy_gripper_route = ""
        self.capabilities: dict[str, Any] | None = None

    @property
    def is_legacy(self) -> bool:
        """Whether the server is one of SERL or HIL-SERL; known after `connect`."""
        return self.capabilities is None

    def connect(self) -> None:
        """Find out what the server can do.

        Raises:
            FrankaUnreachable: no server answers.
            FrankaError: the server refuses, or is none for an arm.
        """
        try:
            capabilities = self._post("/capabilities", timeout_s=PROBE_S)
        except FrankaError as error:
            if _status(error) not in (404, 405):
                raise
            self.capabilities = None
            return
        if not isinstance(capabilities, dict) or not isinstance(capabilities.get("targets"), list):
            raise FrankaError(f"{self._url} is no server for a Franka arm; it answers /capabilities with {str(capabilities)[:80]!r}")
        self.capabilities = capabilities

    def read(self) -> FrankaReading:
        """Return the present state.

        Raises:
            StaleStateError: the server has no new state.
            FrankaUnreachable, FrankaError: as `connect`.
        """
        state = self._post_singly() if self._reads_singly else self._post_for_state()
        self._check_age(state)
        opening = state.get("gripper_pos") if self._has_gripper else None
        epoch = state.get("epoch")
        return FrankaReading(
            q_rad=_vector(state, "q", 7),
            dq_rad_s=_vector(state, "dq", 7),
            pose7=_vector(state, "pose", 7),
            wrench=np.concatenate([_vector(state, "force", 3), _vector(state, "torque", 3)]),
            tau_ext_nm=_vector(state, "tau_ext", 7) if "tau_ext" in state else None,
            opening=None if opening is None else float(np.clip(_number(state, "gripper_pos"), 0.0, 1.0)),
            mode=str(state.get("mode", "")),
            fault=str(state.get("fault", "")),
            epoch=epoch if isinstance(epoch, int) else None,
        )

    def command_joints(self, q_rad: Vector, period_s: float, epoch: int | None) -> Vector:
        """Follow joint positions (7,); returns the target (7,) after the server's limits. Not for legacy servers.

        Raises:
            FrankaFault: the arm is in a fault, or has recovered from one since `epoch`.
            FrankaUnreachable, FrankaError: as `connect`.
        """
        return self._target("/joint", q_rad, period_s, epoch)

    def command_pose(self, pose7: Vector, period_s: float, epoch: int | None) -> Vector:
        """Follow a pose (7,); returns the target (7,) after the server's limits, of which legacy servers have none. Errors as above."""
        if self.is_legacy:
            self._post("/pose", {"arr": pose7.tolist()}, patience_s=START_S)
            return pose7
        return self._target("/pose", pose7, period_s, epoch)

    def command_gripper(self, opening: float) -> None:
        """Open the gripper so far, 0 to 1; legacy servers only open or close. Errors as above."""
        if not self.is_legacy:
            self._post("/move_gripper_width", {"width_m": opening * _number(self.capabilities or {}, "gripper_max_width_m")})
        elif opening <= LEGACY_CLOSE or opening >= LEGACY_OPEN:
            route = "/open_gripper" if opening >= LEGACY_OPEN else "/close_gripper"
            if route != self._legacy_gripper_route:
                self._post(route)
                self._legacy_gripper_route = route

    def reset_joints(self, q_rad: Vector) -> None:
        """Move slowly to joint positions (7,) and return when there; legacy servers go to their own position instead."""
        self._post("/jointreset", None if self.is_legacy else {"arr": q_rad.tolist()}, timeout_s=SLOW_MOTION_S)

    def home_gripper(self) -> None:
        """Have the gripper find its end stops."""
        self._post("/reset_gripper", timeout_s=HOMING_S)

    def clear_errors(self) -> None:
        """Recover from a fault; nothing moves."""
        self._post("/clearerr", timeout_s=PROBE_S)

    def stop(self) -> None:
        """End the tracking; legacy servers have no such thing and go on holding their last target."""
        if not self.is_legacy:
            self._post("/stop", timeout_s=PROBE_S)

    def close(self) -> None:
        """Disconnect; may be called twice."""
        self._http.close()

    def _target(self, route: str, target: Vector, period_s: float, epoch: int | None) -> Vector:
        body: dict[str, Any] = {"arr": target.tolist(), "period_s": period_s}
        answer = self._post(route, body | ({} if epoch is None else {"epoch": epoch}), patience_s=START_S)
        return _vector(answer, "target", 7)

    def _post_for_state(self) -> dict[str, Any]:
        try:
            return _object(self._post("/getstate", patience_s=0.0 if self.is_legacy else self._reading_s), "/getstate")
        except FrankaError as error:
            if not self.is_legacy or _status(error) != 500:
                raise
            self._reads_singly = True  # a legacy server without a gripper fails on this route
            return self._post_singly()

    def _post_singly(self) -> dict[str, Any]:
        state: dict[str, Any] = {}
        for route in ("/getpos", "/getforce", "/gettorque", "/getq", "/getdq"):
            state |= _object(self._post(route), route)
        if self._has_gripper:
            state["gripper_pos"] = _object(self._post("/get_gripper"), "/get_gripper").get("gripper")
        return state

    def _check_age(self, state: Mapping[str, Any]) -> None:
        """The server's clock is not ours, but its readings must move on while ours does."""
        if "t" not in state:
            return
        time_s, now_s = _number(state, "t"), time.monotonic()
        if self._renewed is None or self._renewed[0] != time_s:
            self._renewed = (time_s, now_s)
        elif now_s - self._renewed[1] > self._state_timeout_s:
            raise StaleStateError(
                f"{self._url} has told the same state for {now_s - self._renewed[1]:.2f} s (allowed: {self._state_timeout_s} s); "
                "look at the server's log"
            )

    def _post(self, route: str, body: Mapping[str, Any] | None = None, timeout_s: float | None = None, patience_s: float = 0.0) -> Any:
        try:
            if timeout_s is None:
                return self._http.post(route, body, patience_s)
            return self._http.post_slowly(route, body, max(timeout_s, self._timeout_s))
        except RequestRefused as error:
            raise self._explained(route, error) from error
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or error.reason or error
            raise FrankaError(
                f"{self._url} is not trusted ({reason}): give its certificate with --robot.certificate, made for the host in the URL"
            ) from error
        except OSError as error:
            waited_s = max(timeout_s or 0.0, self._timeout_s, patience_s)
            reason = f"no answer within {waited_s:g} s" if isinstance(error, TimeoutError) else error.strerror or error
            if isinstance(error, GONE):
                reason = f"{reason}; the URL of a server with a certificate begins with https://"
            raise FrankaUnreachable(
                f"no server for the arm at {self._url} ({route}: {reason}); start one on the PC beside the arm: {START_COMMAND}"
            ) from error
        except ValueError as error:
            raise FrankaError(f"{self._url}{route}: {error}; is this a server for a Franka arm?") from error

    def _explained(self, route: str, error: RequestRefused) -> FrankaError:
        if error.status == 401:
            return FrankaError(f"{self._url} wants its token: {error}; give the same file with --robot.token_file")
        if error.status == 409:
            return FrankaFault(str(error), str(error.details.get("fault", "")))
        if error.status == 503:
            return StaleStateError(f"{self._url} cannot serve now: {error}")
        return FrankaError(f"{self._url}{route}: {error} (HTTP {error.status})")


def _status(error: FrankaError) -> int | None:
    cause = error.__cause__
    return cause.status if isinstance(cause, RequestRefused) else None


def _object(answer: Any, route: str) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise FrankaError(f"{route} answered {str(answer)[:80]!r}, expected a JSON object; is this a server for a Franka arm?")
    return answer


def _vector(answer: Any, name: str, size: int) -> Vector:
    values = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(values, list) or len(values) != size or not all(_is_number(value) for value in values):
        raise FrankaError(f"the server's {name!r} is {str(values)[:120]}, expected {size} finite numbers")
    return np.array(values, dtype=np.float64)


def _number(answer: Mapping[str, Any], name: str) -> float:
    value = answer.get(name)
    if not _is_number(value):
        raise FrankaError(f"the server's {name!r} is {str(value)[:60]}, expected a finite number")
    return float(value)  # type: ignore[arg-type]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST_NUMBER
