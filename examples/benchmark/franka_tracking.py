"""Measure how well the real driver follows 30 Hz commands, on franky-sim (an FR3 in MuJoCo that speaks the arm's protocol).

    python examples/benchmark/franka_tracking.py --output docs/results/franka/tracking.csv

Needs `pip install franky-control franky-sim`. The simulator shares this computer and may run slower than real time: the motion
follows the simulator's clock, and `real_time_factor` says how slow that was. Read the table as a ranking of the methods, not as
what a real arm does. `standing_still` is the error of an arm that does not move.
"""

import argparse
import csv
import math
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lerobot_serl.franka.controller import ArmController, ControllerSettings
from lerobot_serl.franka.controller_settings import READY_RAD
from lerobot_serl.franka.driver import Impedance
from lerobot_serl.franka.franky_driver import FrankyArm
from lerobot_serl.franka.kinematics import pose7_of_matrix

HZ = 30
PERIOD_S = 1 / HZ
SINE_HZ = 0.25
JOINT_AMPLITUDE_RAD = 0.2
TOOL_AMPLITUDE_M = 0.05
MAX_DELTA_M = 0.02
SLOWEST = 0.2
Vector = NDArray[np.float64]
Send = Callable[[float], None]
Measure = Callable[[], float]


@contextmanager
def simulator() -> Iterator[str]:
    """Start franky-sim on a free loopback address, yield the address, and end it."""
    address = f"127.{random.randint(2, 250)}.{random.randint(2, 250)}.{random.randint(2, 250)}"
    command = [sys.executable, "-u", "-m", "franky_sim.run_server", "-s", "mujoco", "--hostname", address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "Connect to the server" in line:
                break
        else:
            raise RuntimeError("franky-sim did not start:\n" + "".join(said[-20:]))
        yield address
    finally:
        process.kill()
        process.wait()


def sine(amplitude: float, time_s: float) -> float:
    """A motion that begins at rest: a sine whose amplitude grows in its first second."""
    return amplitude * min(time_s, 1.0) * math.sin(2 * math.pi * SINE_HZ * time_s)


def stream(arm: FrankyArm, seconds: float, amplitude: float, send: Send, measure: Measure) -> list[float]:
    """Send the sine at 30 Hz, measure at 100 Hz.

    Returns:
        RMS and largest error, the RMS of the sine itself, and the real-time factor of the simulator.

    Raises:
        RuntimeError: the simulator runs so slowly that the result would say nothing.
    """
    began_s, robot_began_s = time.monotonic(), arm.robot_time_s
    errors, wanted, next_s = [], [], began_s
    while (robot_s := arm.robot_time_s - robot_began_s) < seconds:
        now_s = time.monotonic()
        factor = robot_s / max(now_s - began_s, 1e-3)
        if now_s - began_s > seconds / SLOWEST:
            raise RuntimeError(f"the simulator runs at {factor:.2f} of real time, expected {SLOWEST} or more: end other programs")
        if now_s >= next_s:
            send(sine(amplitude, robot_s + PERIOD_S * factor))
            next_s = max(next_s + PERIOD_S, now_s)
        wanted.append(sine(amplitude, robot_s))
        errors.append(measure() - wanted[-1])
        time.sleep(0.01)
    return [_rms(errors), float(np.max(np.abs(errors))), _rms(wanted), seconds / (time.monotonic() - began_s)]


def _rms(values: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def joint_raw(arm: FrankyArm, seconds: float) -> list[float]:
    """Each command goes to the tracker as it is: steps at 30 Hz without a velocity."""
    arm.start_joint_tracking(Impedance())
    start = arm.read().q_rad
    direction = np.eye(7)[0]
    result = stream(
        arm,
        seconds,
        JOINT_AMPLITUDE_RAD,
        lambda value: arm.set_joint_target(start + value * direction, np.zeros(7)),
        lambda: float((arm.read().q_rad - start)[0]),
    )
    arm.stop_tracking()
    return result


def joint_governed(arm: FrankyArm, controller: ArmController, seconds: float) -> list[float]:
    """As the server does: interpolated at 100 Hz, with the velocity as feed-forward."""
    start = controller.snapshot().state.q_rad
    direction = np.eye(7)[0]
    return stream(
        arm,
        seconds,
        JOINT_AMPLITUDE_RAD,
        lambda value: _ignore(controller.command_joints(start + value * direction, PERIOD_S)),
        lambda: float((controller.snapshot().state.q_rad - start)[0]),
    )


def ee_delta(arm: FrankyArm, controller: ArmController, seconds: float) -> list[float]:
    """As SERL does: the target is the measured pose plus a displacement, here along y."""
    start = pose7_of_matrix(controller.snapshot().state.pose)

    def send(value: float) -> None:
        here = pose7_of_matrix(controller.snapshot().state.pose)
        delta = np.clip(start[:3] + value * np.eye(3)[1] - here[:3], -MAX_DELTA_M, MAX_DELTA_M)
        controller.command_pose(np.concatenate([here[:3] + delta, start[3:]]), PERIOD_S)

    return stream(arm, seconds, TOOL_AMPLITUDE_M, send, lambda: float(controller.snapshot().state.pose[1, 3] - start[1]))


def _ignore(_: object) -> None:
    """The governed target is not needed here."""


def measure_all(address: str, seconds: float) -> list[list[object]]:
    """Return one row of the table per method."""
    arm = FrankyArm(address, realtime="ignore")
    arm.move_joints(np.array(READY_RAD), 0.3)
    while arm.read().in_control:
        time.sleep(0.05)
    arm.stop_tracking()
    settings = ControllerSettings(state_timeout_s=2.0)
    rows = [["joint 30 Hz raw", "rad", *joint_raw(arm, seconds)]]
    controller = ArmController(arm, None, settings)
    controller.start()
    try:
        rows.append(["joint 30 Hz interpolated with feed-forward", "rad", *joint_governed(arm, controller, seconds)])
        controller.reset_joints()
        rows.append(["ee-delta 30 Hz interpolated with feed-forward", "m", *ee_delta(arm, controller, seconds)])
        snapshot = controller.snapshot()
        if snapshot.epoch or snapshot.fault:
            raise RuntimeError(f"the arm had faults: epoch {snapshot.epoch}, {snapshot.fault}")
    finally:
        controller.close()
    return rows


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/results/franka/tracking.csv"), help="table to write")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of each measurement")
    parser.add_argument("--address", help="measure at this running simulator instead of starting one; never give a real arm's")
    options = parser.parse_args()
    if options.address:
        rows = measure_all(options.address, options.seconds)
    else:
        with simulator() as address:
            rows = measure_all(address, options.seconds)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with options.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["method", "unit", "rms", "max", "standing_still", "real_time_factor"])
        for method, unit, *values in rows:
            writer.writerow([method, unit, *(f"{value:.4f}" for value in values)])
            print(f"{method}: rms {values[0]:.4f}, max {values[1]:.4f} {unit}, real-time factor {values[3]:.2f}")


if __name__ == "__main__":
    main()
