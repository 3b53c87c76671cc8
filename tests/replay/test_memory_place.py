"""Where the replay memories lie, and what is said of it."""

import logging

import pytest
import torch

from lerobot_serl.replay.memory_place import MemoryPlace

CUDA, HOST = torch.device("cuda", 0), torch.device("cpu")
GB = 10**9


@pytest.fixture(autouse=True)
def free(monkeypatch, caplog):
    """A device with 8 GB free."""
    caplog.set_level(logging.INFO)
    asked = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: asked.append(device) or (8 * GB, 80 * GB))
    return asked


@pytest.mark.parametrize(
    ("setting", "policy_device", "frame_bytes", "device", "words"),
    [
        ("cpu", CUDA, 4000, HOST, "1,000,000 frames with 4,000 bytes each, 4.00 GB, in the host's memory (policy.memory_device=cpu)"),
        ("auto", HOST, 4000, HOST, "4.00 GB, in the host's memory (policy.memory_device=auto)"),
        (
            "auto",
            CUDA,
            4000,
            CUDA,
            "4.00 GB, on cuda:0, as cuda:0 has 8.0 GB free (policy.memory_device=auto, which takes up to 50% of that)",
        ),
        ("auto", CUDA, 4001, HOST, "in the host's memory, as cuda:0 has 8.0 GB free (policy.memory_device=auto"),
        ("cuda", CUDA, 7999, CUDA, "8.00 GB, on cuda:0, as cuda:0 has 8.0 GB free (policy.memory_device=cuda)"),
    ],
)
def test_the_place_is_chosen_once_and_said_with_the_size(setting, policy_device, frame_bytes, device, words, caplog):
    place = MemoryPlace(setting, policy_device, 10**6)
    assert place(frame_bytes) == place(10**12) == device
    assert words in caplog.text
    assert len(caplog.records) == 1


def test_a_device_that_is_too_small_is_named():
    with pytest.raises(
        ValueError,
        match=r"policy.memory_device='cuda': the replay memories are 1,000,000 frames with 9,000 bytes each, 9.00 GB, and cuda:0 has 8.0 GB free. "
        "Set a smaller --policy.buffer_capacity",
    ):
        MemoryPlace("cuda", CUDA, 10**6)(9000)


def test_memories_do_not_lie_on_a_device_without_the_networks():
    with pytest.raises(
        ValueError, match=r"policy.memory_device='cuda': expected a policy on the same device, not on cpu. Set --policy.device"
    ):
        MemoryPlace("cuda", HOST, 10**6)
