"""A real Franka arm behind LeRobot's `Robot` interface: `--robot.type=franka`."""

import logging
import statistics
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from lerobot.cameras import make_cameras_from_configs
from lerobot.robots import Robot
from lerobot.utils import DeviceNotConnectedError, check_if_already_connected, check_if_not_connected

from ..access_token import FRANKA_TOKEN_VARIABLE, read_token
from ..franka.kinematics import matrix_of_pose7, pose7_of_matrix
from .config_franka import EE_KEYS, EFFORT_KEYS, GRIPPER_KEY, JOINT_KEYS, VELOCITY_KEYS, FrankaConfig
from .franka_action import FrankaCommand, Vector, in_own_keys, parse_action
from .franka_client import FrankaClient, FrankaError, FrankaFault, FrankaReading, StaleStateError
from .gamepad_action import AXES, GRIPPER
from .tool_aim import ToolAim

FIRST_PERIOD_S = 0.1
SHORTEST_PERIOD_S, LONGEST_PERIOD_S = 0.01, 0.5
SAME = 1e-6
GRIPPER_WAIT_S = 3.0
IDLE = "idle"  # the server's word for no tracking; SERL's servers have none

logger = logging.getLogger(__name__)


class Franka(Robot):
    """One arm. Observations and actions are dictionaries of Python floats; images are uint8 arrays.

    `gripper.pos` is 0 closed to 1 open, the other way round than that of `franka_sim`.

    Attributes:
        n_clamped: actions since `connect` that were not carried out as they were asked for.
        n_dropped: actions since `connect` that were not carried out at all, because the arm was recovering from a fault.
    """

    config_class = FrankaConfig
    name = "franka"

    def __init__(self, config: FrankaConfig) -> None:
        super().__init__(config)
        self.config = config
        self.cameras = make_cameras_from_configs(config.cameras)
        self.n_clamped = self.n_dropped = 0
        self._client: FrankaClient | None = None
        self._epoch: int | None = None
        self._tool = ToolAim(config)
        self._held_opening: float | None = None
        self._last_action_s: float | None = None
        self._periods_s: deque[float] = deque(maxlen=5)

    @property
    def observation_features(self) -> dict[str, type | tuple[int, int, int]]:
        features: dict[str, type | tuple[int, int, int]] = dict.fromkeys(self.config.observation_keys, float)
        for name, camera in self.cameras.items():
            if getattr(camera, "use_rgb", True):
                features[name] = (int(camera.height or 0), int(camera.width or 0), 3)
            if getattr(camera, "use_depth", False):
                features[f"{name}_depth"] = (int(camera.height or 0), int(camera.width or 0), 1)
        return features

    @property
    def action_features(self) -> dict[str, type]:
        return dict.fromkeys(self.config.action_keys, float)

    @property
    def action_aliases(self) -> tuple[tuple[str, ...], ...]:
        """Keys of other devices' actions that `send_action` takes too."""
        return (AXES, (*AXES, GRIPPER)) if self.config.control_mode == "ee_delta" else ()

    def translate_action(self, action: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an action in this robot's own keys, whichever of its devices it came from."""
        return in_own_keys(action, self.config, self._held_opening)

    @property
    def is_connected(self) -> bool:
        return self._client is not None

    @property
    def is_calibrated(self) -> bool:
        return True

    @property
    def client(self) -> FrankaClient:
        """Connection to the server.

        Raises:
            DeviceNotConnectedError: `connect` has not been called.
        """
        if self._client is None:
            raise DeviceNotConnectedError("Franka is not connected. Run `.connect()` first.")
        return self._client

    @check_if_already_connected
    def connect(self, calibrate: bool = True) -> None:
        """Connect to the server and the cameras; the arm moves only with `home_on_connect`.

        Raises:
            DeviceAlreadyConnectedError: it is connected.
            FrankaUnreachable: no server answers.
            FrankaError: the server does not suit the configuration.
            ValueError, OSError: the token or the certificate is not usable.
        """
        config = self.config
        token = read_token(config.token_file, FRANKA_TOKEN_VARIABLE)
        client = FrankaClient(
            config.server_url,
            token,
            timeout_s=config.request_timeout_s,
            state_timeout_s=config.state_timeout_s,
            has_gripper=config.gripper != "none",
            certificate=config.certificate,
            recovery_wait_s=config.recovery_wait_s,
        )
        try:
            client.connect()
            self._check_server(client)
            self._client = client
            self._begin(self._first_reading(client))
            for camera in self.cameras.values():
                camera.connect()
            self.n_clamped = self.n_dropped = 0
            if config.home_on_connect:
                self.reset()
        except BaseException:
            self._client = client
            self.disconnect()
            raise
        if config.observe_efforts:
            logger.warning("robot.observe_efforts: lerobot-rollout gives a policy only keys that end in .pos or .vel, so no efforts")
        logger.info("%s connected to %s", self, "a SERL or HIL-SERL server" if client.is_legacy else config.server_url)

    def calibrate(self) -> None:
        """Have the gripper find its end stops, after a person has agreed; skipped without a terminal. The arm does not move.

        Raises:
            DeviceNotConnectedError: `connect` has not been called.
        """
        client = self.client
        if self.config.gripper == "none" or (client.is_legacy and self.config.gripper == "franka"):
            logger.info("Nothing to calibrate: there is no gripper that this server can home.")
        elif not sys.stdin.isatty():
            logger.info("Homing of the gripper is skipped: no terminal to ask at.")
        elif input("The gripper will close and open fully; keep it free. Type 'y' and press Enter to home it: ").strip().lower() == "y":
            client.home_gripper()
            logger.info("The gripper is homed.")

    def configure(self) -> None:
        """Do nothing: the arm is configured at its server."""

    @check_if_not_connected
    def get_observation(self) -> dict[str, Any]:
        """Return the present observation.

        Raises:
            DeviceNotConnectedError: `connect` has not been called.
            StaleStateError: the server has no new state.
            FrankaUnreachable, FrankaError: the server does not answer, or not as it should.
        """
        reading = self.client.read()
        self._epoch = reading.epoch
        values = dict(zip(JOINT_KEYS, reading.q_rad.tolist(), strict=True))
        if self.config.gripper_keys:
            values[GRIPPER_KEY] = _opening(reading)
        if self.config.observe_velocities:
            values |= zip(VELOCITY_KEYS, reading.dq_rad_s.tolist(), strict=True)
        if self.config.observe_ee_pose:
            pose = matrix_of_pose7(reading.pose7)
            values |= zip(EE_KEYS, [*pose[:3, 3].tolist(), *pose[:3, 0].tolist(), *pose[:3, 1].tolist()], strict=True)
        if self.config.observe_efforts:
            torques = np.zeros(len(JOINT_KEYS)) if reading.tau_ext_nm is None else reading.tau_ext_nm
            values |= zip(EFFORT_KEYS, [*torques.tolist(), *reading.wrench.tolist()], strict=True)
        return {**values, **self._images()}

    @check_if_not_connected
    def send_action(self, action: Mapping[str, Any]) -> dict[str, float]:
        """Move towards an action and return what is going to be carried out: the same keys, after every limit.

        While the arm recovers from a fault by itself, actions are dropped: the answer then says that it stays where it is.

        Args:
            action: one number for each of `action_features`. In ee_delta also `delta_x`, `delta_y`, `delta_z` (-1 to 1) with
                `gripper` (0 close, 1 stay, 2 open), or joint keys only. Further keys that end in .pos are ignored.

        Raises:
            DeviceNotConnectedError: `connect` has not been called.
            ValueError: a key is missing or unknown, or a value is not finite.
            FrankaFault: the arm is in a fault and does not recover within `recovery_wait_s`.
            StaleStateError, FrankaUnreachable, FrankaError: as `get_observation`.
        """
        command = parse_action(self.translate_action(action), self.config)
        if command.is_joint and self.client.is_legacy:
            raise FrankaError(
                f"{self.config.server_url} is a SERL or HIL-SERL server, which takes no joint targets; "
                "with lerobot-rollout use --return_to_initial_position=false"
            )
        reading, period_s = self.client.read(), self._period_s()
        try:
            values = (self._follow_joints if command.is_joint else self._displace)(command, reading, period_s)
            if command.opening is not None:
                self.client.command_gripper(command.opening)
                self._held_opening = command.opening
        except FrankaFault as refusal:
            return self._drop(command, refusal)
        self.n_clamped += bool(np.abs(values - command.values).max() > SAME)
        return command.as_action(values, self._opening_target(reading))

    @check_if_not_connected
    def reset(self) -> None:
        """Move slowly to `home_joints`, or where a SERL or HIL-SERL server's own reset leads; returns when there.

        Raises:
            DeviceNotConnectedError: `connect` has not been called.
            FrankaFault, StaleStateError, FrankaUnreachable, FrankaError: as `send_action`.
        """
        if self.client.is_legacy:
            logger.warning("This SERL or HIL-SERL server resets to its own joint positions, not to robot.home_joints.")
        self.client.reset_joints(np.array(self.config.home_joints, dtype=np.float64))
        self._begin(self.client.read())

    def disconnect(self) -> None:
        """End the tracking without a motion, and disconnect; does nothing when not connected, and never raises."""
        client, self._client = self._client, None
        if client is None:
            return
        for what, action in (("the arm", client.stop), *((name, _disconnect(camera)) for name, camera in self.cameras.items())):
            try:
                action()
            except Exception as error:
                logger.warning("Disconnecting from %s: %s", what, error)
        client.close()

    def _check_server(self, client: FrankaClient) -> None:
        config, able = self.config, client.capabilities
        if able is None:
            if config.control_mode == "joint":
                raise FrankaError(
                    f"{config.server_url} is a SERL or HIL-SERL server, which takes no joint targets; "
                    "set --robot.control_mode=ee_delta, or run lerobot-serl-franka-server instead"
                )
            return
        if able.get("arm") != config.arm:
            raise FrankaError(f"robot.arm is {config.arm!r}, but the server drives a {able.get('arm')!r}; set --robot.arm to that")
        if config.gripper not in ("none", able.get("gripper")):
            raise FrankaError(
                f"robot.gripper is {config.gripper!r}, but the server has {able.get('gripper')!r}; "
                f"set --robot.gripper={able.get('gripper')}, or start the server with another --gripper"
            )

    def _first_reading(self, client: FrankaClient) -> FrankaReading:
        """The gripper's first reading comes later than the arm's."""
        until_s = time.monotonic() + GRIPPER_WAIT_S
        while True:
            reading = client.read()
            if not self.config.gripper_keys or reading.opening is not None or time.monotonic() > until_s:
                return reading
            time.sleep(0.05)

    def _begin(self, reading: FrankaReading) -> None:
        """Nothing has been commanded since the arm came where it is."""
        self._epoch = reading.epoch
        self._tool.forget()
        self._held_opening = self._last_action_s = None
        self._periods_s.clear()

    def _opening_target(self, reading: FrankaReading) -> float | None:
        """Where the gripper is going, or where it is; None without a gripper."""
        if not self.config.gripper_keys:
            return None
        return _opening(reading) if self._held_opening is None else self._held_opening

    def _period_s(self) -> float:
        """Time between two actions, robust against a single pause."""
        now_s = time.monotonic()
        if self._last_action_s is not None:
            self._periods_s.append(now_s - self._last_action_s)
        self._last_action_s = now_s
        period_s = statistics.median(self._periods_s) if self._periods_s else FIRST_PERIOD_S
        return min(max(period_s, SHORTEST_PERIOD_S), LONGEST_PERIOD_S)

    def _follow_joints(self, command: FrankaCommand, reading: FrankaReading, period_s: float) -> Vector:
        steps_rad = np.array(self.config.largest_steps_rad)
        target_rad = np.clip(command.values, reading.q_rad - steps_rad, reading.q_rad + steps_rad)
        self._tool.forget()
        return _unless_same(self.client.command_joints(target_rad, period_s, self._epoch), command.values)

    def _displace(self, command: FrankaCommand, reading: FrankaReading, period_s: float) -> Vector:
        if reading.mode == IDLE:  # without tracking, somebody may have moved the arm by hand
            self._tool.forget()
        origin, target = self._tool.aim(matrix_of_pose7(reading.pose7), command.values)
        executed = matrix_of_pose7(self.client.command_pose(pose7_of_matrix(target), period_s, self._epoch))
        return _unless_same(self._tool.displacement(origin, executed), command.values)

    def _drop(self, command: FrankaCommand, refusal: FrankaFault) -> dict[str, float]:
        """After a fault the server recovers by itself; what was commanded before must not be carried out afterwards."""
        until_s = time.monotonic() + self.config.recovery_wait_s
        reading = self.client.read()
        if not reading.fault and not refusal.fault and reading.epoch == self._epoch:
            raise refusal
        while reading.fault:
            if time.monotonic() > until_s:
                raise FrankaFault(f"the arm has stopped and does not recover by itself: {reading.fault}", reading.fault) from refusal
            time.sleep(0.02)
            reading = self.client.read()
        logger.warning("An action was dropped: %s", refusal)
        self.n_dropped += 1
        self._begin(reading)
        still = reading.q_rad if command.is_joint else np.zeros_like(command.values)
        return command.as_action(still, self._opening_target(reading))

    def _images(self) -> dict[str, Any]:
        images: dict[str, Any] = {}
        for name, camera in self.cameras.items():
            if getattr(camera, "use_rgb", True):
                images[name] = camera.read_latest()
            if getattr(camera, "use_depth", False):
                images[f"{name}_depth"] = camera.read_latest_depth()
        return images


def _opening(reading: FrankaReading) -> float:
    if reading.opening is None:
        raise StaleStateError(
            "the server does not tell the gripper's opening; home the gripper (lerobot-calibrate), or set --robot.gripper=none"
        )
    return reading.opening


def _unless_same(executed: Vector, wanted: Vector) -> Vector:
    """What differs by rounding only has been carried out as wanted."""
    return np.where(np.abs(executed - wanted) <= SAME, wanted, executed)


def _disconnect(camera: Any) -> Any:
    return lambda: camera.disconnect() if camera.is_connected else None
