"""The real Franka arm without ROS: limits, kinematics, governor, drivers and the server on the real-time PC."""
