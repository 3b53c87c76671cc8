"""Learning benchmarks: run the plans, write tables, figures and a summary under docs/results, and the tables of docs/benchmarks.md.

    python examples/benchmark/learn.py examples/benchmark/plans/pick_cube_ee.yaml
    python examples/benchmark/learn.py examples/benchmark/plans/*.yaml --jobs=2
    python examples/benchmark/learn.py examples/benchmark/plans/pick_cube_ee.yaml --quick --results=outputs/quick

Runs that are finished are not repeated. Interrupted runs begin anew; a run takes minutes. docs/benchmarks.md says what all of it costs.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from study.collect import collect
from study.document import with_costs, with_results
from study.figures import draw_curves
from study.plan import WITHOUT_ACT, Plan, load_plan
from study.schedule import Schedule
from study.summary import table, variants_in

REPOSITORY = Path(__file__).parents[2]
RESULTS, DOCUMENT = REPOSITORY / "docs" / "results", REPOSITORY / "docs" / "benchmarks.md"


def publish(plan: Plan, root: Path, results: Path) -> None:
    """Tables, figure and summary of what is finished."""
    directory = results / plan.name
    collect(plan, root, results)
    variants = variants_in(directory) if directory.is_dir() else []
    act_from = next(
        (name for name, variant in plan.variants.items() if variant.method in ("serl_sac", "frozen_act") and name in variants), None
    )
    if act_from is None:
        return
    without_act = [name for name, variant in plan.variants.items() if variant.method in WITHOUT_ACT]
    (directory / "summary.md").write_text(table(directory, act_from, without_act) + "\n", encoding="utf-8")
    practised = [name for name in plan.variants if name in variants and plan.variants[name].method != "frozen_act"]
    if practised:
        draw_curves(directory, practised, directory / "success.png", plan.name.replace("_", " "), act_from)
    if results == RESULTS:
        text = with_results(DOCUMENT.read_text(encoding="utf-8"), plan, results)
        DOCUMENT.write_text(with_costs(text, results), encoding="utf-8")


def main() -> int:
    """Parse and run."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("plans", type=Path, nargs="+", help="YAML files")
    command.add_argument("--jobs", type=int, default=2, help="runs at a time, one core each")
    command.add_argument("--root", type=Path, default=REPOSITORY / "outputs" / "benchmark", help="for everything that runs leave")
    command.add_argument("--results", type=Path, default=RESULTS, help="for tables and figures")
    command.add_argument("--quick", action="store_true", help="one seed and a few hundred steps: does everything run?")
    command.add_argument("--collect_only", action="store_true", help="run nothing; write tables and figures of the runs that are finished")
    settings = command.parse_args()
    plans = {path.resolve(): load_plan(path, settings.quick) for path in settings.plans}
    if settings.quick and settings.results == RESULTS:
        command.error("--quick: these numbers mean nothing; name another directory with --results")
    root = settings.root.resolve()
    schedule = Schedule(plans, root, settings.jobs, settings.quick)
    if not settings.collect_only:
        schedule.run(lambda plan: publish(plan, root, settings.results))
    for plan in plans.values():
        publish(plan, root, settings.results)
        if (settings.results / plan.name / "summary.md").is_file():
            print(f"\n{plan.name}\n\n{(settings.results / plan.name / 'summary.md').read_text(encoding='utf-8')}")
    return 1 if schedule.failed else 0


if __name__ == "__main__":
    sys.exit(main())
