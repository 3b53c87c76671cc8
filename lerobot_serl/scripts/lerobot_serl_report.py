"""lerobot-serl-report: turn the metric files of a run into curves and one HTML page, or compare two policies."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lerobot_serl.report.comparison import LAST, MIN_EPISODES, compare
from lerobot_serl.report.comparison_page import write_comparison
from lerobot_serl.report.evaluations import ComparisonError
from lerobot_serl.report.metrics_files import MetricsFormatError, MissingMetricsError
from lerobot_serl.report.page import write_report

LOOPBACK, PORT, EVERY_S = "127.0.0.1", 8088, 5.0
_INSTALL_HINT = "matplotlib is missing; install it with: pip install '.[report]', in lerobot_serl's directory"


def build_parser() -> argparse.ArgumentParser:
    """The command line of lerobot-serl-report."""
    parser = argparse.ArgumentParser(
        prog="lerobot-serl-report",
        description="Read the metric files of a run and write PNG curves and one self-contained HTML page. "
        "It may be called while the run is still going. With --compare, say which of two policies is better, and how sure that is.",
    )
    parser.add_argument("run_dir", type=Path, nargs="?", metavar="RUN_DIR", help="output directory of the run (holds metrics/)")
    parser.add_argument(
        "--compare",
        type=Path,
        nargs=2,
        metavar=("A", "B"),
        help="compare two policies instead: two output directories of lerobot-serl-actor --policy.path or lerobot-eval, or two runs",
    )
    parser.add_argument(
        "--same_starts",
        action="store_true",
        help="A and B are evaluations with the same --env.*, --seed and LeRobot; compare start by start",
    )
    parser.add_argument(
        "--last", type=int, metavar="N", help=f"practice episodes of each run that are compared, the newest (default: {LAST})"
    )
    parser.add_argument("--watch", action="store_true", help="serve the page of a run that goes on, until Ctrl-C; it need not have begun")
    parser.add_argument("--host", help=f"with --watch: address to listen at (default: {LOOPBACK}, this machine alone)")
    parser.add_argument("--port", type=int, help=f"with --watch: port to listen at (default: {PORT}; 0: any that is free)")
    parser.add_argument("--every_s", type=float, help=f"with --watch: seconds after which browsers look again (default: {EVERY_S:g})")
    parser.add_argument("--output_dir", type=Path, metavar="DIR", help="where to write (default: RUN_DIR/report, or B/compare_with_A)")
    return parser


def _check_usage(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with a usage error where options do not go together."""
    if (arguments.run_dir is None) == (arguments.compare is None):
        parser.error("give either RUN_DIR or --compare A B")
    if arguments.compare is None and (arguments.same_starts or arguments.last is not None):
        parser.error("--same_starts and --last go with --compare")
    if not arguments.watch and any(value is not None for value in (arguments.host, arguments.port, arguments.every_s)):
        parser.error("--host, --port and --every_s go with --watch")
    if arguments.watch and (arguments.compare or arguments.output_dir):
        parser.error("--watch takes RUN_DIR; neither --compare nor --output_dir goes with it")
    if arguments.every_s is not None and not 1 <= arguments.every_s <= 3600:
        parser.error(f"--every_s={arguments.every_s:g} must be between 1 and 3600 seconds")
    if arguments.port is not None and not 0 <= arguments.port < 65536:
        parser.error(f"--port={arguments.port} is no port number")
    if arguments.last is not None and arguments.last < MIN_EPISODES:
        parser.error(f"--last={arguments.last} must be at least {MIN_EPISODES}: fewer episodes say nothing")


def _report(arguments: argparse.Namespace) -> list[str]:
    report = write_report(arguments.run_dir, arguments.output_dir)
    return [str(report.page), *report.summary]


def _watch(arguments: argparse.Namespace) -> list[str]:
    from lerobot_serl.report import watch

    host = arguments.host or LOOPBACK
    port = PORT if arguments.port is None else arguments.port
    page = watch.Watch(arguments.run_dir, host, port, arguments.every_s or EVERY_S)
    if host not in watch.LOOPBACK:
        print(f"Everyone who reaches {host} can read the page; nobody can change anything with it.", file=sys.stderr)
    print(
        f"http://{f'[{host}]' if ':' in host else host}:{page.port}/ shows {arguments.run_dir} as it goes on. Ctrl-C ends this.", flush=True
    )
    with suppress(KeyboardInterrupt):
        page.serve()
    return []


def _compare(arguments: argparse.Namespace) -> list[str]:
    comparison = compare(arguments.compare[0], arguments.compare[1], same_starts=arguments.same_starts, last=arguments.last)
    page = write_comparison(comparison, arguments.output_dir)
    width = 2 + max(len(name) for name, _ in comparison.facts)
    wrap = textwrap.TextWrapper(width=120, subsequent_indent=" " * width, break_long_words=False, break_on_hyphens=False)
    return [str(page), *(wrap.fill(f"{name:<{width}}{text}") for name, text in comparison.facts), comparison.verdict]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report or the comparison, and print the page's path and what it says.

    Returns:
        0 on success; 1 with an explanation on stderr when it cannot be made.
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    _check_usage(parser, arguments)
    try:
        lines = (_compare if arguments.compare else _watch if arguments.watch else _report)(arguments)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "matplotlib":
            raise
        print(f"lerobot-serl-report: {_INSTALL_HINT}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"lerobot-serl-report: {error.filename}: {error.strerror}. --output_dir=DIR writes elsewhere.", file=sys.stderr)
        return 1
    except (ComparisonError, MissingMetricsError, MetricsFormatError, OSError) as error:
        print(f"lerobot-serl-report: {error}", file=sys.stderr)
        return 1
    if lines:
        print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
