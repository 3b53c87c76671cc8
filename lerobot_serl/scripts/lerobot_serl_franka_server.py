"""`lerobot-serl-franka-server --robot_ip=...`: drive a Franka arm for robots of type `franka`, and for clients of SERL and HIL-SERL."""

import logging
import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from lerobot_serl.access_token import FRANKA_TOKEN_VARIABLE, read_token
from lerobot_serl.franka.arm_server import FrankaServer, check_host
from lerobot_serl.franka.connection import ConnectionLimits
from lerobot_serl.franka.controller import ArmController, ControllerSettings
from lerobot_serl.franka.driver import ArmDriver, ArmFault, GripperDriver
from lerobot_serl.franka.routes import Routes
from lerobot_serl.lerobot_names import init_logging, parser
from lerobot_serl.tls import server_context

DRIVERS = ("franky", "sim")
GRIPPERS = ("franka", "none")


@dataclass
class FrankaServerConfig:
    """Flags of `lerobot-serl-franka-server`.

    Attributes:
        robot_ip: address of the arm's control box, for example 172.16.0.2.
        driver: "franky" drives an arm, "sim" a simulated one, to try everything without hardware.
        arm: "fr3" (Research 3) or "fer" (the older Panda); empty: fr3, and fer for the simulated arm.
        gripper: "franka" (the Franka Hand) or "none".
        host: address to listen at. Others than loopback need a token.
        port: to listen at; 0 takes any free one.
        token_file: file with the token that clients have to know; without it the environment variable LEROBOT_SERL_FRANKA_TOKEN, if set.
        certificate, certificate_key: PEM files of the certificate to show and of its private key; without them plain HTTP.
        realtime: "enforce" needs a real-time kernel; "ignore" does without, and the arm may stop under load.
        torque_threshold_nm: the arm stops where a joint feels more.
        force_threshold_n: the arm stops where its end effector feels more.
        max_connections: open at the same time.
        controller: limits on motions, stiffness, watchdog and home (see `ControllerSettings`).
    """

    robot_ip: str = ""
    driver: str = "franky"
    arm: str = ""
    gripper: str = "franka"
    host: str = "127.0.0.1"
    port: int = 5000
    token_file: Path | None = None
    certificate: Path | None = None
    certificate_key: Path | None = None
    realtime: str = "enforce"
    torque_threshold_nm: float = 20.0
    force_threshold_n: float = 30.0
    max_connections: int = 32
    controller: ControllerSettings = field(default_factory=ControllerSettings)


@parser.wrap()
def run(config: FrankaServerConfig) -> int:
    """Serve until SIGINT or SIGTERM; the exit code."""
    init_logging()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    try:
        serve(config, stopping)
    except (ArmFault, OSError, ValueError) as error:
        logging.error(error)
        return 1
    logging.info("Stopped; the arm is not tracking any more.")
    return 0


def serve(config: FrankaServerConfig, stopping: threading.Event) -> None:
    """Serve until an event; the controller is closed whatever happens.

    Raises:
        ValueError: the settings make no sense.
        ArmFault: there is no connection to the arm.
        OSError: the address cannot be listened at, or the token file cannot be read.
    """
    token = read_token(config.token_file, FRANKA_TOKEN_VARIABLE)
    _check(config, token)
    tls = server_context(config.certificate, config.certificate_key) if config.certificate and config.certificate_key else None
    arm, gripper = connect(config)
    try:
        controller = ArmController(arm, gripper, config.controller)
    except ValueError:
        arm.close()
        raise
    try:
        routes = Routes(controller, config.controller, arm.model, config.driver, gripper is not None)
        server = FrankaServer(config.host, config.port, routes, token, ConnectionLimits(connections=config.max_connections), tls)
        try:
            controller.start()
            server.start()
            logging.info(describe(config, arm.model, server.url, token is not None))
            stopping.wait()
        finally:
            server.close()
    finally:
        controller.close()


def connect(config: FrankaServerConfig) -> tuple[ArmDriver, GripperDriver | None]:
    """Connect to the arm, and to its gripper if there is one.

    Raises:
        ArmFault: no connection; the message says what to do.
        ValueError: no such arm model.
    """
    if config.driver == "sim":
        from lerobot_serl.franka.sim_driver import SimArm, SimGripper, SimWorld

        world = SimWorld()
        return SimArm(world), SimGripper(world) if config.gripper == "franka" else None
    from lerobot_serl.franka.franky_driver import FrankyArm, FrankyGripper

    arm = FrankyArm(config.robot_ip, config.arm or "fr3", config.realtime, config.torque_threshold_nm, config.force_threshold_n)
    try:
        return arm, FrankyGripper(config.robot_ip) if config.gripper == "franka" else None
    except ArmFault:
        arm.close()
        raise


def describe(config: FrankaServerConfig, model: str, url: str, has_token: bool) -> str:
    """What the server is connected to, what it permits, and where it listens, in plain words."""
    settings = config.controller
    what = "a SIMULATED arm (nothing real moves)" if config.driver == "sim" else f"the arm at {config.robot_ip}"
    hand = "with its gripper" if config.gripper == "franka" else "without a gripper"
    box = " to ".join(str([round(value, 3) for value in corner]) for corner in (settings.workspace_min_m, settings.workspace_max_m))
    impedance = settings.impedance
    return "\n".join(
        [
            f"Connected to {what}, model {model}, {hand}. It has not moved, and moves only when a client asks.",
            f"Limits: joints {settings.max_joint_velocity_rad_s} rad/s and {settings.max_step_rad} rad per action, "
            f"end effector {settings.max_tool_speed_m_s} m/s and {settings.max_step_m} m per action, in the box {box} m.",
            f"Stiffness: joints {impedance.joint_stiffness_nm_rad} Nm/rad, end effector {impedance.translational_stiffness_n_m} N/m "
            f"and {impedance.rotational_stiffness_nm_rad} Nm/rad.",
            f"Without commands it holds after {settings.watchdog_s} s and stops tracking after {settings.watchdog_stop_s} s.",
            f"Listening at {url} ({'token needed' if has_token else 'no token, this computer only'}). Ctrl-C stops.",
            f"In LeRobot: --robot.type=franka --robot.arm={model} --robot.gripper={config.gripper} --robot.server_url={url}",
        ]
    )


def _check(config: FrankaServerConfig, token: str | None) -> None:
    check_host(config.host, token)
    for name, choices in (("driver", DRIVERS), ("gripper", GRIPPERS)):
        if getattr(config, name) not in choices:
            raise ValueError(f"{name} is {getattr(config, name)!r}, expected one of {choices}; use --{name}={choices[0]}")
    if config.driver == "franky" and not config.robot_ip:
        raise ValueError("robot_ip is missing: give the address of the arm's control box with --robot_ip=..., or try --driver=sim")
    if config.driver == "sim" and config.arm not in ("", "fer"):
        raise ValueError(f"arm is {config.arm!r}, but the simulated arm is a fer; leave --arm out")
    if not 0 <= config.port <= 65535:
        raise ValueError(f"port is {config.port}, expected 0 to 65535")
    if (config.certificate is None) != (config.certificate_key is None):
        raise ValueError("give both --certificate and --certificate_key, or none of them")
    if config.max_connections < 1:
        raise ValueError(f"max_connections is {config.max_connections}, expected at least 1")


def main() -> None:
    """Entry point."""
    sys.exit(run())


if __name__ == "__main__":
    main()
