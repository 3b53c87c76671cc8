"""Which device the replay memories lie on: decided once, when the first episode tells how large a frame is."""

import logging

import torch

# Of a device's free memory; the rest is for ACT's batches, gradients and captured graphs.
LARGEST_SHARE = 0.5


class MemoryPlace:
    """Called with the bytes of a frame; the device that it chooses first holds for all memories.

    Args:
        setting: ``policy.memory_device``: ``cpu``, ``cuda``, or ``auto``: the policy's device if it has the room, else the host.
        policy_device: where the networks are.
        frames: that all memories may hold together.

    Raises:
        ValueError: ``cuda``, and the networks are elsewhere.
    """

    def __init__(self, setting: str, policy_device: torch.device, frames: int) -> None:
        if setting == "cuda" and policy_device.type != "cuda":
            raise ValueError(
                f"policy.memory_device='cuda': expected a policy on the same device, not on {policy_device}. "
                "Set --policy.device=cuda, or --policy.memory_device=cpu."
            )
        self._setting = setting
        self._policy_device = policy_device
        self._frames = frames
        self._device: torch.device | None = None

    def __call__(self, frame_bytes: int) -> torch.device:
        """The memories' device.

        Raises:
            ValueError: ``cuda``, and they do not fit there.
        """
        if self._device is None:
            self._device = self._chosen(frame_bytes)
        return self._device

    def _chosen(self, frame_bytes: int) -> torch.device:
        needed, host = self._frames * frame_bytes, torch.device("cpu")
        size = f"{self._frames:,} frames with {frame_bytes:,} bytes each, {needed / 1e9:.2f} GB"
        if self._setting == "cpu" or self._policy_device.type != "cuda":
            logging.info(f"Replay memories: at most {size}, in the host's memory (policy.memory_device={self._setting})")
            return host
        free, _ = torch.cuda.mem_get_info(self._policy_device)
        if self._setting == "cuda" and needed > free:
            raise ValueError(
                f"policy.memory_device='cuda': the replay memories are {size}, and {self._policy_device} has {free / 1e9:.1f} GB free. "
                "Set a smaller --policy.buffer_capacity, or --policy.memory_device=cpu."
            )
        fits = self._setting == "cuda" or needed <= LARGEST_SHARE * free
        place = f"on {self._policy_device}" if fits else "in the host's memory"
        logging.info(
            f"Replay memories: {size}, {place}, as {self._policy_device} has {free / 1e9:.1f} GB free "
            f"(policy.memory_device={self._setting}{'' if self._setting == 'cuda' else f', which takes up to {LARGEST_SHARE:.0%} of that'})"
        )
        return self._policy_device if fits else host
