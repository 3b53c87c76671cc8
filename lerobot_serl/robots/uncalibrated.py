"""Devices that need neither calibration nor configuration."""


class Uncalibrated:
    """Mixin for LeRobot robots and teleoperators; put it before the base class."""

    @property
    def is_calibrated(self) -> bool:
        """Always true."""
        return True

    def calibrate(self) -> None:
        """Do nothing: there is nothing to calibrate."""

    def configure(self) -> None:
        """Do nothing: there is nothing to configure."""
