"""Base policies: what proposes the chunk that reinforcement learning edits."""
