"""Teleoperators that LeRobot commands can use with `--teleop.type=...`."""
