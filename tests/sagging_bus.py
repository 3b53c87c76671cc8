"""LeRobot's own SO-101 and LeKiwi without hardware: a motor bus in memory whose arm rests below its targets, as under a load."""

from contextlib import contextmanager


class SaggingBus:
    """In the place of `FeetechMotorsBus`. A P-controlled shoulder comes to rest `SAG` below its goal; everything else is at once where it goes.

    Attributes:
        goals: everything that was written, as (register, values).
    """

    SAG = 3.0

    def __init__(self, port, motors, calibration=None):
        self.port, self.motors, self.calibration = port, motors, calibration
        self.is_connected, self.is_calibrated, self.torque = False, True, False
        self.present = {"Present_Position": dict.fromkeys(motors, 0.0), "Present_Velocity": dict.fromkeys(motors, 0.0)}
        self.goals = []

    def connect(self, handshake=True):
        self.is_connected = True

    def disconnect(self, disable_torque=True):
        self.is_connected, self.torque = False, self.torque and not disable_torque

    def sync_read(self, name, motors=None, *, normalize=True, num_retry=0):
        return {motor: self.present[name][motor] for motor in motors or self.motors}

    def sync_write(self, name, values, *, normalize=True, num_retry=0):
        self.goals.append((name, dict(values)))
        reached = {motor: value - self.SAG * motor.endswith("shoulder_lift") for motor, value in values.items()}
        self.present[name.replace("Goal", "Present")] |= reached

    def enable_torque(self, motors=None, num_retry=0):
        self.torque = True

    def disable_torque(self, motors=None, num_retry=0):
        self.torque = False

    @contextmanager
    def torque_disabled(self, motors=None):
        yield
        self.enable_torque()

    def configure_motors(self):
        pass

    def write(self, name, motor, value, **_):
        pass

    def written(self, name, motor):
        """Every goal of one motor, in order."""
        return [values[motor] for register, values in self.goals if register == name]
