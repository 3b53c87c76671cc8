"""How long it takes to look at one frame, which is done in the control loop at every decision."""

import logging
import time
from collections.abc import Callable, Mapping

import torch
from lerobot.configs import FeatureType, PolicyFeature
from torch import Tensor

from ..replay.episode import policy_input
from .agent import Agent
from .construction import uses_base_features, uses_encoder

# Share of a control step that what is computed in the control loop may take.
QUICK_SHARE = 0.3
MEASURED_TIMES = 5


def blank_frame(inputs: Mapping[str, PolicyFeature], n_obs_steps: int) -> dict[str, Tensor]:
    """An observation of zeros, as a robot gives it: images uint8, no batch dimension."""
    frames = () if n_obs_steps == 1 else (n_obs_steps,)
    kinds = {key: torch.uint8 if feature.type is FeatureType.VISUAL else torch.float32 for key, feature in inputs.items()}
    return {key: torch.zeros((*frames, *feature.shape), dtype=kinds[key]) for key, feature in inputs.items()}


def slowest_s(compute: Callable[[], object]) -> float:
    """Seconds of a computation that ends with numbers on the CPU (a GPU has only then done it): the slowest of some, without the first."""
    times = []
    for _ in range(1 + MEASURED_TIMES):
        started_s = time.perf_counter()
        compute()
        times.append(time.perf_counter() - started_s)
    return max(times[1:])


@torch.no_grad()
def look_s(agent: Agent) -> float:
    """Seconds for what actor and critics see of one frame while a plan is carried out."""
    device = agent.box.middle.device
    frame = blank_frame(agent.config.input_features or {}, agent.act.n_obs_steps)
    of_plan = torch.zeros(1, 0, device=device)
    return slowest_s(lambda: agent.look(policy_input({key: value.unsqueeze(0).to(device) for key, value in frame.items()}), of_plan).cpu())


def say_look(agent: Agent, fps: int) -> None:
    """Measure it where training starts, and say what follows: nobody knows yet what computes it on the robot side.

    Nothing is said without cameras, or where every decision has a plan of its own, which takes longer.

    Args:
        fps: of the demonstrations.
    """
    config = agent.config
    sees_through = "ACT's backbone" if uses_base_features(config) else "an encoder of its own" if uses_encoder(config) else ""
    if not agent.execution.is_open or not config.image_features or not sees_through:
        return
    took_s = look_s(agent)
    steps = took_s * fps
    words = f"policy.features={config.features} sees cameras through {sees_through}: {1000 * took_s:.0f} ms = {steps:.1f} control steps a frame on "
    words += f"this machine's {agent.box.middle.device.type}"
    if steps <= QUICK_SHARE:
        logging.info(f"{words}.")
        return
    logging.warning(f"{words}. A robot side that is no faster lets the arm wait for it at every decision. {remedies(config.features)}")


def remedies(features: str) -> str:
    """What makes looking at a frame quicker, in sentences.

    Args:
        features: `--policy.features`.
    """
    smaller = "a smaller --policy.image_size" if features == "cnn" else "smaller images, --policy.features=cnn, which reduces them"
    return f"Use a GPU on both sides, {smaller}, or --policy.features=state, which sees no cameras."
