"""lerobot-serl-report: turn the metric files of a run into curves and one HTML page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lerobot_serl.report.metrics_files import MetricsFormatError, MissingMetricsError
from lerobot_serl.report.page import write_report

_INSTALL_HINT = "matplotlib is missing; install it with: pip install 'lerobot_policy_serl_sac[report]'"


def build_parser() -> argparse.ArgumentParser:
    """The command line of lerobot-serl-report."""
    parser = argparse.ArgumentParser(
        prog="lerobot-serl-report",
        description="Read the metric files of a run and write PNG curves and one self-contained HTML page. "
        "It may be called while the run is still going.",
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="output directory of the run (holds metrics/)")
    parser.add_argument("--output_dir", type=Path, metavar="DIR", help="folder of the report (default: RUN_DIR/report)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report and print the page's path and a summary.

    Returns:
        0 on success; 1 with an explanation on stderr when the report cannot be made.
    """
    arguments = build_parser().parse_args(argv)
    try:
        report = write_report(arguments.run_dir, arguments.output_dir)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "matplotlib":
            raise
        print(f"lerobot-serl-report: {_INSTALL_HINT}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"lerobot-serl-report: {error.filename}: {error.strerror}. --output_dir=DIR writes elsewhere.", file=sys.stderr)
        return 1
    except (MissingMetricsError, MetricsFormatError, OSError) as error:
        print(f"lerobot-serl-report: {error}", file=sys.stderr)
        return 1
    print(report.page)
    print("\n".join(report.summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
