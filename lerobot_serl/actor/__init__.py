"""The robot-side process: runs episodes in a world with a policy that the learner sends, and sends the episodes back."""
