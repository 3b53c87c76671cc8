"""Ways to deploy the same weights, side by side: ``python examples/benchmark/deployed.py`` writes ``docs/results/deployed/table.md``.

The runs are those of ``learn.py examples/benchmark/plans/deployed/*.yaml``. ``best`` is what `checkpoints/best` would have held at that moment.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "deployed"
COLUMNS = ("ACT", "deployed: the mean edit", "fresh noise", "fixed noise", "the mean edit, unasked", "best")
ALLOWED_POINTS, HIGH = 3.0, 0.9


def measurements(results: Path) -> Iterator[tuple[str, str, str, dict[str, int], int]]:
    """Task, seed, step, successes by policy, and episodes; ACT, which does not change, and what acts as ACT, in every row."""
    for path in sorted(results.glob("*/serl_sac.control.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        act = {row["seed"]: int(row["successes"]) for row in rows if row["policy"] == "ACT"}
        for seed, step in sorted({(row["seed"], row["step"]) for row in rows if row["step"] != "0"}, key=lambda key: tuple(map(int, key))):
            here = {row["policy"]: int(row["successes"]) for row in rows if (row["seed"], row["step"]) == (seed, step)}
            episodes = {int(row["episodes"]) for row in rows if row["seed"] == seed}
            yield path.parent.name, seed, step, {"ACT": act[seed], "best": act[seed]} | here, *episodes


def table(results: Path) -> str:
    """All of them, Markdown."""
    lines = [f"| task | seed | step | {' | '.join(COLUMNS)} |", "|" + "---|" * (3 + len(COLUMNS))]
    for task, seed, step, successes, _ in measurements(results):
        lines.append(f"| {task} | {seed} | {int(step):,} | {' | '.join(str(successes[name]) for name in COLUMNS)} |")
    return "\n".join(lines)


def shortfalls(results: Path) -> list[str]:
    """Where the deployed policy is more than 3 points below practice without exploration, or below an ACT of 90 % or more; in words."""
    found = []
    for task, seed, step, successes, episodes in measurements(results):
        deployed = successes["deployed: the mean edit"]
        for other in ("fresh noise", *(["ACT"] if successes["ACT"] >= HIGH * episodes else [])):
            points = 100 * (successes[other] - deployed) / episodes
            if points > ALLOWED_POINTS:
                found.append(f"{task} seed {seed}, {int(step):,} steps: {points:.1f} points below {other}")
    return found


def main() -> None:
    """Write the table and print it."""
    text = table(RESULTS)
    (RESULTS / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text, "", *(shortfalls(RESULTS) or ["The deployed policy falls nowhere more than 3 points short."]), sep="\n")


if __name__ == "__main__":
    main()
