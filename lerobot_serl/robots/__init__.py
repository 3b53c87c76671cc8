"""Robots that LeRobot commands can use with `--robot.type=...`."""
