"""At its beginning the policy is its base policy as its owner runs that: measured on the dataset, and an error where it is not."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from lerobot.datasets import LeRobotDataset
from torch import Tensor
from torch.utils.data import default_collate
from tqdm import tqdm

from ..base.history import History
from ..base.normalized_policy import NormalizedPolicy
from ..base.policy_config import name_of
from ..replay.opening import explained
from .owner import Owner

MOST_OBSERVATIONS = 200
# A full-size ACT with two cameras takes a second for an observation on one core: the last batch begins before this.
LONGEST_S = 10.0
_BATCH = 5


@contextmanager
def exactly() -> Iterator[None]:
    """Both sides compute the same sums while this is on: a GPU otherwise rounds products to ten bits, and times several ways to do them."""
    rounds = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = rounds


@dataclass(frozen=True, eq=False)
class StepZero:
    """What the base policy plans for observations of a dataset.

    Attributes:
        plan: ``(B, N, D)`` raw actions of ours.
        owners: the same of the owner's.
        first: some of the observations, raw, ``(B, ...)``.
    """

    plan: Tensor
    owners: Tensor
    first: Mapping[str, Tensor]

    def difference(self, executed: Tensor, span: Tensor) -> Tensor:
        """``(D,)`` the largest difference of ``executed`` (first observations, first steps) from the owner's plan, in shares of ``span``."""
        return ((executed - self.owners[: len(executed), : executed.shape[1]]).abs() / span).amax((0, 1))


def observe(act: NormalizedPolicy, owner: Owner, dataset: LeRobotDataset, steps: int) -> StepZero:
    """Show both some observations, drawn from all of the dataset.

    Args:
        act: ours, on the device of its owner's.
        steps: of each plan.
    """
    device = next(act.buffers()).device
    plans: list[Tensor] = []
    owners: list[Tensor] = []
    first: Mapping[str, Tensor] = {}
    started_s = time.monotonic()
    for batch in _batches(dataset, list(act.sources.values()), act.n_obs_steps):
        here = {key: value.to(device) for key, value in batch.items()}
        plans.append(act.plan(here, steps).actions.cpu())
        owners.append(owner.plan({key: here[source] for key, source in act.sources.items()}, steps))
        first = first or batch
        if time.monotonic() - started_s > LONGEST_S:
            break
    return StepZero(torch.cat(plans), torch.cat(owners), first)


def reason(act: NormalizedPolicy, owner: Owner, step_zero: StepZero) -> str:
    """Where ours and the owner's part, in words: the first input that is prepared otherwise, else the action, else the network."""
    device, name = next(act.buffers()).device, name_of(owner.policy.config)
    inputs = {key: step_zero.first[source].to(device) for key, source in act.sources.items()}
    prepared = owner.prepared(inputs)
    for key, value in inputs.items():
        if key not in prepared or _off(act.normalize(key, value), prepared[key]):
            return f"the pre-processor gives {name} another '{key}' than serl_sac does"
    normalised = owner.normalised_plan(inputs)
    if _off(act.unnormalize(normalised), owner.after(normalised).to(device)):
        return f"the post-processor makes other actions of {name}'s output than serl_sac does"
    return "the network's output differs"


def _off(ours: Tensor, theirs: Tensor) -> bool:
    return not torch.allclose(ours.float(), theirs.float(), rtol=1e-4, atol=1e-4 * max(float(theirs.abs().max()), 1e-12))


def _batches(dataset: LeRobotDataset, keys: Sequence[str], n_obs_steps: int) -> Iterator[dict[str, Tensor]]:
    """Raw observations, as LeRobot gives them, in an order that has no order: whatever is looked at is a sample of all."""
    indices = np.random.default_rng(0).permutation(len(dataset))[:MOST_OBSERVATIONS]
    with tqdm(total=len(indices), desc="Step 0: serl_sac beside its base policy", unit="observation", delay=3, leave=False) as bar:
        for start in range(0, len(indices), _BATCH):
            chosen = indices[start : start + _BATCH]
            with explained(dataset.root):
                frames = [_with_past(dataset, int(index), keys, n_obs_steps) for index in chosen]
            yield {key: default_collate([frame[key] for frame in frames]).float() for key in keys}
            bar.update(len(chosen))


def _with_past(dataset: LeRobotDataset, index: int, keys: Sequence[str], n_obs_steps: int) -> Mapping[str, Tensor]:
    """One frame with those before it in its episode."""
    newest, history = dataset[index], History(n_obs_steps, keys)
    past = [dataset[earlier] for earlier in range(max(0, index + 1 - n_obs_steps), index)]
    for frame in [*past, newest]:
        if frame["episode_index"] == newest["episode_index"]:
            history.add({key: frame[key].unsqueeze(0) for key in keys})
    return {key: value[0] for key, value in history.observation().items()}
