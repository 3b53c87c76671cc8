"""What the documents say of the ablations stands in the committed result files."""

from result_files import RESULTS, ROOT, rows_of
from study.summary import mean_difference, summarise, variants_in


def test_what_the_ablations_decide():
    directory = RESULTS / "ablations_pick_cube_ee"
    default = summarise(directory, "default")
    kinds: dict[str, list[tuple[float, str]]] = {"Worse than the default": [], "Better": [], "Not told apart": []}
    for summary in (summarise(directory, name) for name in variants_in(directory) if name != "default"):
        assert len(summary.seeds) >= 3
        mean, low, high = mean_difference(summary.by_seed(summary.throughout), default.by_seed(default.throughout))
        kind = "Worse than the default" if high < 0 else "Better" if low > 0 else "Not told apart"
        kinds[kind].append((mean, f"`{summary.variant}` {100 * mean:+.0f} ({100 * low:+.0f} to {100 * high:+.0f})"))
    text = " ".join((ROOT / "docs" / "algorithm.md").read_text().split())
    for kind, found in kinds.items():
        assert f"- {kind}: {', '.join(words for _, words in sorted(found))}." in text


def test_the_table_of_a_cameras_features_is_the_result_file():
    text = " ".join((ROOT / "docs" / "algorithm.md").read_text().split())
    for row in rows_of("camera_features/cube_error.csv"):
        assert f"| {row['features']} | {row['size']} | {row['places']} | {row['error_mm']} |" in text
