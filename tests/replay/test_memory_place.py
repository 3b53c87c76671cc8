"""Where the replay memories lie, what is said of it, and whether the host has the room."""

import logging
import os

import pytest
import torch

from lerobot_serl.replay.memory_place import memory_device

CUDA, HOST = torch.device("cuda", 0), torch.device("cpu")
GB = 10**9
# Of demonstrations and of each of the two memories: a million together.
FRAMES = {"demo_frames": 200_000, "buffer_capacity": 400_000, "fps": 10}


@pytest.fixture(autouse=True)
def machine(monkeypatch, caplog):
    """A device with 8 GB free, and a host with 64 GB in all."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8 * GB, 80 * GB))
    monkeypatch.setattr(os, "sysconf", lambda name: 64 * 10**6 if name == "SC_PHYS_PAGES" else 1000)


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
def test_the_place_is_said_with_the_size(setting, policy_device, frame_bytes, device, words, caplog):
    assert memory_device(setting, policy_device, frame_bytes, **FRAMES) == device
    assert words in caplog.text
    assert len(caplog.records) == 1


def test_a_device_that_is_too_small_is_named():
    with pytest.raises(
        ValueError,
        match=r"policy.memory_device='cuda': the replay memories are 1,000,000 frames with 9,000 bytes each, 9.00 GB, and cuda:0 has 8.0 GB free. "
        "Set a smaller --policy.buffer_capacity",
    ):
        memory_device("cuda", CUDA, 9000, **FRAMES)


def test_memories_do_not_lie_on_a_device_without_the_networks():
    with pytest.raises(
        ValueError, match=r"policy.memory_device='cuda': expected a policy on the same device, not on cpu. Set --policy.device"
    ):
        memory_device("cuda", HOST, 1, **FRAMES)


@pytest.mark.parametrize(("setting", "policy_device"), [("cpu", HOST), ("auto", CUDA)])
def test_robots_frames_that_may_not_fit_the_host_are_told(setting, policy_device, caplog):
    assert memory_device(setting, policy_device, 110_000, **FRAMES) == HOST
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning == (
        "The replay memory of the robot's episodes may grow to 44 GB, and this machine has 64 GB, which 381,818 frames beside the demonstrations "
        "fill (636 minutes). Set a smaller --policy.buffer_capacity, or with --policy.features=cnn a smaller --policy.image_size."
    )
    caplog.clear()
    assert memory_device("cpu", HOST, 106_000, **FRAMES) == HOST
    assert [record.levelno for record in caplog.records] == [logging.INFO]


def test_demonstrations_that_cannot_fit_the_host_are_refused():
    with pytest.raises(
        ValueError,
        match=r"The demonstrations' 200,000 frames take 64 GB in the replay memory \(320,000 bytes each\), and this machine has 64",
    ):
        memory_device("cpu", HOST, 320_000, **FRAMES)
