"""lerobot-serl-doctor: check a LeRobotDataset and, with --repair, put right what its files allow."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from lerobot_serl.doctor.finding import CannotCheckError, Finding, has_problems

SOUND, PROBLEMS, CANNOT_CHECK = 0, 1, 2


def build_parser() -> argparse.ArgumentParser:
    """The command line of lerobot-serl-doctor."""
    parser = argparse.ArgumentParser(
        prog="lerobot-serl-doctor",
        description="Check a LeRobotDataset: files, numbers, videos, and the journal and versions of a learner beside it.",
        epilog="Exit status: 0 it is sound, 1 problems were found (after --repair: are left), 2 it could not be checked.",
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="directory of the dataset (holds meta/ and data/)")
    parser.add_argument(
        "--repair",
        action="store_true",
        help="write a repaired dataset and put it in the place of the broken one, which is kept beside it as NAME.broken-1",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print what was found and, if asked, what was repaired.

    Returns:
        0 if the dataset is sound in the end, 1 if not, 2 if nothing can be said; the reason is then on stderr.
    """
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s: %(message)s")
    try:
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

    from lerobot_serl.doctor.examination import examine
    from lerobot_serl.doctor.finding import problem
    from lerobot_serl.doctor.repair import RepairError, check_path, holds_dataset, interrupted, repair
    from lerobot_serl.doctor.surroundings import Surroundings

    datasets.disable_progress_bars()
    root = check_path(path)
    around = Surroundings(root)
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


def _print(findings: Iterable[Finding]) -> None:
    for finding in findings:
        print("\n".join(finding.lines()))


if __name__ == "__main__":
    sys.exit(main())
