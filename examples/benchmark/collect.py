"""Copy the metric files of finished quickstart runs into docs/results, and draw the figure from the copies.

python examples/benchmark/collect.py outputs/seed0/serl_sac outputs/seed1/serl_sac outputs/seed2/serl_sac
"""

import argparse
import json
import shutil
from pathlib import Path

from lerobot_serl.report.metrics_files import MetricsDirectory
from lerobot_serl.report.seeds import figure_success_over_seeds

WINDOW = 50


def worst_window(successes: list[float], window: int = WINDOW) -> float:
    """Lowest success over ``window`` consecutive training episodes, exploration included."""
    return min(sum(successes[i : i + window]) / window for i in range(len(successes) - window + 1))


def summary_of(run: Path) -> dict[str, float]:
    """What the documentation quotes of one run."""
    metrics = MetricsDirectory(run).load()
    evaluated = {name: metrics.evaluation_counts(name)[-1][1] for name in ("act", "fine_tuned")}
    collected = [s for s, phase in zip(metrics.episodes["success"], metrics.episodes["phase"], strict=True) if phase == "collect"]
    return {
        "act": evaluated["act"].rate,
        "fine_tuned": evaluated["fine_tuned"].rate,
        "act_upper": evaluated["act"].interval[1],
        "fine_tuned_lower": evaluated["fine_tuned"].interval[0],
        "env_steps": metrics.episodes["env_steps"][-1],
        "collect_phase_success": sum(collected) / len(collected),
        "worst_50_training_episodes": worst_window(metrics.episodes["success"]),
    }


def main() -> None:
    """Copy, draw, summarise."""
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("runs", type=Path, nargs="+")
    command.add_argument("--output", type=Path, default=Path("docs/results/quickstart"))
    settings = command.parse_args()
    copies = []
    for seed, run in enumerate(settings.runs):
        target = settings.output / f"seed{seed}" / "metrics"
        target.mkdir(parents=True, exist_ok=True)
        for source in (run / "metrics").iterdir():
            shutil.copy(source, target / source.name)
        information = json.loads((target / "run.json").read_text())
        (target / "run.json").write_text(json.dumps({**information, "act": "a small ACT trained by the quickstart"}, indent=2) + "\n")
        copies.append(target.parent)
    summaries = {copy.name: summary_of(copy) for copy in copies}
    (settings.output / "summary.json").write_text(json.dumps(summaries, indent=2) + "\n")
    mean_act = sum(item["act"] for item in summaries.values()) / len(summaries)
    figure_success_over_seeds(copies, settings.output / "success.png", mean_act)
    print(json.dumps(summaries, indent=2))


if __name__ == "__main__":
    main()
