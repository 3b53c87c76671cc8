"""Simulated environments that LeRobot commands can use with `--env.type=...`, and their scripted experts."""
