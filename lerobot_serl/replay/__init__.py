"""Replay memory: transitions, the memory in RAM, demonstrations, and the durable LeRobotDataset."""
