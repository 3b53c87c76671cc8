"""What a LeRobot checkpoint of type ``serl_sac`` contains: configuration, model, processors."""
