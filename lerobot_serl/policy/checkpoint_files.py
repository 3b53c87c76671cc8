"""Whether a LeRobot training checkpoint is whole. LeRobot writes it in place: a kill in between leaves a part of it."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

MODEL, STATE = "pretrained_model", "training_state"
# Of the agent's optimizers, counters and generator.
LEARNER_STATE = "learner_state.safetensors"
# The directory that the link checkpoints/best points to is called so, with a step behind it.
BEST = "best_"
# In the order in which LeRobot writes them.
FILES = (
    f"{MODEL}/config.json", f"{MODEL}/model.safetensors", f"{MODEL}/train_config.json", f"{STATE}/training_step.json",
    f"{STATE}/rng_state.safetensors", f"{STATE}/optimizer_state.safetensors", f"{STATE}/optimizer_param_groups.json",
)  # fmt: skip


def first_flaw(checkpoint: Path) -> str | None:
    """What is missing or cut off in a checkpoint directory, in words; None if it is whole."""
    for name in FILES:
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        try:
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            else:
                with safe_open(path, framework="pt"):
                    pass
        except (OSError, ValueError, SafetensorError) as error:
            return f"{name} is cut off ({error})"
    return None


def newest_whole(checkpoints: Path) -> Path | None:
    """The whole checkpoint with the highest step in a run's ``checkpoints`` directory."""
    numbered = sorted((path for path in checkpoints.iterdir() if path.name.isdigit()), key=lambda path: int(path.name), reverse=True)
    return next((path for path in numbered if first_flaw(path) is None), None)


def require_whole(checkpoint: Path) -> None:
    """Raise unless training can be resumed from the checkpoint directory.

    Raises:
        ValueError: with what is missing, and the newest whole checkpoint of the same run; or the checkpoint is of an earlier version.
    """
    flaw = first_flaw(checkpoint)
    if flaw is None and (checkpoint / STATE / LEARNER_STATE).is_file():
        return
    if flaw is None:
        raise ValueError(
            f"Training cannot be resumed from {checkpoint}: {STATE}/{LEARNER_STATE} is missing, as in checkpoints of version 0.1. Its weights "
            f"go on in a new run, without --resume=true: --policy.path={checkpoint / MODEL}"
        )
    whole = newest_whole(checkpoint.resolve().parent)
    remedy = (
        f"The newest whole one is {whole.name}: --config_path={whole / MODEL / 'train_config.json'}"
        if whole is not None
        else "The run has no whole checkpoint: start it anew."
    )
    if not (checkpoint / STATE).exists() and checkpoint.resolve().name.startswith(BEST):
        raise ValueError(f"Training cannot be resumed from {checkpoint}: it holds a policy to deploy, and no {STATE}. {remedy}")
    raise ValueError(f"The checkpoint {checkpoint} is not whole: {flaw}. Was lerobot-train killed while it wrote it? {remedy}")


def mark_unfinished(checkpoint: Path) -> None:
    """Before a checkpoint is written over an older one of the same step: take away what is written last, so that a mixture shows."""
    (checkpoint / FILES[-1]).unlink(missing_ok=True)
