"""lerobot-serl-doctor: check a LeRobotDataset and, with --repair, put right what its files allow; or check a checkpoint."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from lerobot_serl.doctor.finding import CannotCheckError, Finding, has_problems

SOUND, PROBLEMS, CANNOT_CHECK = 0, 1, 2


def build_parser() -> argparse.ArgumentParser:
    """The command line of lerobot-serl-doctor."""
    parser = argparse.ArgumentParser(
        prog="lerobot-serl-doctor",
        description="Check a LeRobotDataset: files, numbers, videos, and the journal and versions of a learner beside it. "
        "Or a checkpoint of a policy or reward model, before it is used: what LeRobot would run of it, and whether it is whole.",
        epilog="Exit status: 0 it is sound, 1 problems were found (after --repair: are left), 2 it could not be checked.",
    )
    parser.add_argument(
        "path",
        type=Path,
        metavar="PATH_OR_HUB_ID",
        help="directory of the dataset (holds meta/ and data/), or of a checkpoint (config.json) or its run; or a checkpoint's Hub id, OWNER/NAME",
    )
    parser.add_argument("--revision", help="branch, tag or commit of the Hub id; empty: the default branch")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="write a repaired dataset and put it in the place of the broken one, which is kept beside it as NAME.broken-1",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print what was found and, if asked, what was repaired.

    Returns:
        0 if dataset or checkpoint is sound in the end, 1 if not, 2 if nothing can be said; the reason is then on stderr.
    """
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s: %(message)s")
    try:
        if is_checkpoint(arguments.path, arguments.revision):
            return run_checkpoint(arguments.path, arguments.revision, arguments.repair)
        return run(arguments.path, arguments.repair)
    except (CannotCheckError, OSError) as error:
        print(f"lerobot-serl-doctor: {error}", file=sys.stderr)
        return CANNOT_CHECK


def run(path: Path, wanted: bool) -> int:
    """Check, and repair if that is wanted.

    Raises:
        CannotCheckError: see there.
    """
    import datasets

    from lerobot_serl.doctor.dataset_check import examine
    from lerobot_serl.doctor.dataset_context import DatasetContext
    from lerobot_serl.doctor.finding import problem
    from lerobot_serl.doctor.repair import RepairError, check_path, holds_dataset, interrupted, repair

    datasets.disable_progress_bars()
    root = check_path(path)
    around = DatasetContext(root)
    if not around.exists and not interrupted(root):
        raise CannotCheckError(f"{path} does not exist, and no versions or journal of a dataset of that name.")
    with around.held():
        findings = around.findings()
        if interrupted(root):
            findings.append(problem(f"{root} is missing: its repair was interrupted", "finishes it"))
        found = examine(root) if holds_dataset(root) else None
        findings += found.findings if found is not None else []
        _print(findings)
        if not wanted or not has_problems(findings):
            return PROBLEMS if has_problems(findings) else SOUND
        try:
            for done in repair(around, found):
                print(f"done    {done}")
        except RepairError as error:
            print(f"left    {error}")
        findings = [*around.findings(), *(examine(root).findings if holds_dataset(root) else [])]
        print("\nNow:")
        _print(findings)
        return PROBLEMS if has_problems(findings) else SOUND


def is_checkpoint(path: Path, revision: str | None) -> bool:
    """Rather than a dataset, or what is left of one.

    Raises:
        CannotCheckError: the path is no dataset's, and no Hub id.
    """
    from lerobot_serl.checkpoint.place import directory_of, may_be_hub_id
    from lerobot_serl.doctor.dataset_context import DatasetContext
    from lerobot_serl.doctor.repair import check_path, interrupted

    if path.exists():
        if revision is not None:
            raise CannotCheckError(f"{path} is here: --revision is for Hub ids.")
        return not (path / "meta").is_dir() and directory_of(path) is not None
    if not may_be_hub_id(path):
        return False
    root = check_path(path)
    return revision is not None or not (DatasetContext(root).exists or interrupted(root))


def run_checkpoint(path: Path, revision: str | None, wanted: bool) -> int:
    """Check a checkpoint; nothing of it is run.

    Raises:
        CannotCheckError: see there.
    """
    from lerobot_serl.checkpoint.place import locate
    from lerobot_serl.doctor.checkpoint_check import examine_checkpoint, fetch
    from lerobot_serl.doctor.finding import note, problem

    if wanted:
        raise CannotCheckError("--repair is for datasets. A damaged checkpoint cannot be repaired: copy it again, or take an earlier one.")
    if path.exists():
        located = locate(path)
        assert located is not None
        directory, findings = located.directory, [note(located.words)] if located.words else []
    else:
        directory, findings = fetch(str(path), revision)
    kind, found = examine_checkpoint(directory)
    findings += found
    if not has_problems(findings) and (flaw := _flaw_in_use(directory, kind)):
        findings.append(problem(flaw))
    _print(findings)
    return PROBLEMS if has_problems(findings) else SOUND


def _flaw_in_use(directory: Path, kind: str | None) -> str | None:
    """Why lerobot_serl would refuse a checkpoint of a type that it uses, found by loading it; None: it would not."""
    from lerobot.configs import PreTrainedConfig

    from lerobot_serl.policy.act_checkpoint import load_act_checkpoint
    from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy

    try:
        if kind == "act":
            load_act_checkpoint(str(directory))
        elif kind == "serl_sac":
            with redirect_stdout(sys.stderr):
                config = PreTrainedConfig.from_pretrained(directory, cli_overrides=["--device=cpu"])
                SerlSacPolicy.from_pretrained(directory, config=config)
    except Exception as error:  # whatever it stumbles over
        return f"{type(error).__name__}: {error}"
    return None


def _print(findings: Iterable[Finding]) -> None:
    for finding in findings:
        print("\n".join(finding.lines()))


if __name__ == "__main__":
    sys.exit(main())
