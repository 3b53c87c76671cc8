"""Which device the replay memories lie on, and whether it has the room: decided before anything is decoded."""

import logging
import os

import torch

# Of a device's free memory; the rest is for ACT's batches, gradients and captured graphs.
LARGEST_SHARE = 0.5
SMALLER = "Set a smaller --policy.buffer_capacity, or with --policy.features=cnn a smaller --policy.image_size."


def memory_device(
    setting: str, policy_device: torch.device, frame_bytes: int, demo_frames: int, buffer_capacity: int, fps: int
) -> torch.device:
    """The device of all replay memories; what was chosen is said.

    Args:
        setting: ``policy.memory_device``: ``cpu``, ``cuda``, or ``auto``: the policy's device if it has the room, else the host.
        policy_device: where the networks are.
        frame_bytes: of one frame in a memory.
        demo_frames: of the demonstrations.
        buffer_capacity: frames of the robot that each of the two memories may hold, all of them and those that people drove.
        fps: of the robot.

    Raises:
        ValueError: ``cuda``, and the networks are elsewhere, or the memories do not fit there; or the host does not even hold the demonstrations.
    """
    frames, on_cuda = demo_frames + 2 * buffer_capacity, policy_device.type == "cuda"
    needed_bytes = frames * frame_bytes
    size = f"{frames:,} frames with {frame_bytes:,} bytes each, {needed_bytes / 1e9:.2f} GB"
    if setting == "cuda" and not on_cuda:
        raise ValueError(
            f"policy.memory_device='cuda': expected a policy on the same device, not on {policy_device}. "
            "Set --policy.device=cuda, or --policy.memory_device=cpu."
        )
    if setting == "cpu" or not on_cuda:
        logging.info(f"Replay memories: at most {size}, in the host's memory (policy.memory_device={setting})")
        _check_host(frame_bytes, demo_frames, buffer_capacity, fps)
        return torch.device("cpu")
    free_bytes, _ = torch.cuda.mem_get_info(policy_device)
    has = f"{policy_device} has {free_bytes / 1e9:.1f} GB free"
    if setting == "cuda" and needed_bytes > free_bytes:
        raise ValueError(
            f"policy.memory_device='cuda': the replay memories are {size}, and {has}. {SMALLER} Or --policy.memory_device=cpu."
        )
    fits = setting == "cuda" or needed_bytes <= LARGEST_SHARE * free_bytes
    bound = "" if setting == "cuda" else f", which takes up to {LARGEST_SHARE:.0%} of that"
    where = f"on {policy_device}" if fits else "in the host's memory"
    logging.info(f"Replay memories: {size}, {where}, as {has} (policy.memory_device={setting}{bound})")
    if not fits:
        _check_host(frame_bytes, demo_frames, buffer_capacity, fps)
    return policy_device if fits else torch.device("cpu")


def _check_host(frame_bytes: int, demo_frames: int, buffer_capacity: int, fps: int) -> None:
    """The host gives memory as frames arrive: what may not fit later is a warning, what cannot fit now an error."""
    has_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    fitting = has_bytes // frame_bytes - demo_frames
    has = f"this machine has {has_bytes / 1e9:.0f} GB"
    if fitting <= 0:
        raise ValueError(
            f"The demonstrations' {demo_frames:,} frames take {demo_frames * frame_bytes / 1e9:.0f} GB in the replay memory ({frame_bytes:,} bytes "
            f"each), and {has}. Use fewer demonstrations, smaller images, or --policy.features=auto, which keeps no images."
        )
    if fitting < buffer_capacity:
        logging.warning(
            f"The replay memory of the robot's episodes may grow to {buffer_capacity * frame_bytes / 1e9:.0f} GB, and {has}, which "
            f"{fitting:,} frames beside the demonstrations fill ({fitting / fps / 60:.0f} minutes). {SMALLER}"
        )
