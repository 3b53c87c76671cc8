"""Recording demonstrations in any LeRobot environment: by a scripted expert, or by a person with a teleoperator."""
