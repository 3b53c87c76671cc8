"""Learner and actor on one machine from one configuration file: `lerobot-serl-run`."""
