"""``checkpoints/best``: the policy to deploy, a link as ``checkpoints/last`` is, to a directory in LeRobot's layout."""

import logging
import os
import shutil
from collections.abc import Callable
from itertools import chain, count
from pathlib import Path

from ..policy.checkpoint_files import BEST, MODEL
from .evidence import BestPolicy

LINK = "best"
_MAKING = ".best_making"
CARD = """---
library_name: lerobot
pipeline_tag: robotics
tags: [lerobot, robotics, serl_sac]
---

# serl_sac policy

{text}
"""


def evidence_text(best: BestPolicy) -> str:
    """What the card of a policy says of it, Markdown."""
    text = f"The policy {best}"
    if best.edits_are_better:
        return text
    return f"{text}\n\nWhat was learnt is in the weights: `--policy.act_alone=false` deploys it all the same, and training goes on from it."


def write_best(checkpoint: Path, best: BestPolicy, save: Callable[[Path], None]) -> None:
    """Write the best policy beside a numbered checkpoint, then let the link point to it; a kill in between leaves the link as it was.

    Args:
        checkpoint: the numbered directory that LeRobot is writing.
        best: which policy it is.
        save: writes a policy into a directory that exists.
    """
    checkpoints = checkpoint.parent
    link = checkpoints / LINK
    if link.exists() and not link.is_symlink():
        logging.warning(f"{link} is no link, so it is not this run's: it stays as it is, and the best policy is not written.")
        return
    making = checkpoints / _MAKING
    shutil.rmtree(making, ignore_errors=True)
    model = making / MODEL
    model.mkdir(parents=True)
    save(model)
    (model / "README.md").write_text(CARD.format(text=evidence_text(best)), encoding="utf-8")
    names = chain([checkpoint.name], (f"{checkpoint.name}_{number}" for number in count(2)))  # of a step that is written again
    target = next(path for name in names if not (path := checkpoints / f"{BEST}{name}").exists())
    making.rename(target)
    fresh_link = checkpoints / f"{_MAKING}_link"
    fresh_link.unlink(missing_ok=True)
    fresh_link.symlink_to(target.name)
    os.replace(fresh_link, link)
    for old in checkpoints.glob(f"{BEST}*"):
        if old != target:
            shutil.rmtree(old, ignore_errors=True)
    logging.info(f"{link} {best}")
