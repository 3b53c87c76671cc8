"""What `lerobot-serl-doctor` does: find out what is wrong with a LeRobotDataset, and put right what its files allow."""
