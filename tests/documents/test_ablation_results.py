"""What the documents say of the ablations stands in the committed result files."""

import json

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


def test_what_cameras_features_are_worth_is_in_the_result_files():
    text = " ".join((ROOT / "docs" / "algorithm.md").read_text().split())
    for row in rows_of("camera_features/cube_error.csv"):
        assert f"| {row['features']} | {row['size']} | {row['places']} | {row['error_mm']} |" in text
    shares: dict[str, list[str]] = {}
    for row in rows_of("camera_features/evaluations.csv"):
        shares.setdefault(row["features"], []).append(f"{100 * int(row['successes']) / int(row['episodes']):.0f}")
    tokens, backbone, where = (", ".join(values) for values in shares.values())
    assert f"with the encoder's tokens, which were the features before, {tokens} %; with the backbone's map {backbone} %;" in text
    assert f"stopped after 6,000 steps, {where} %." in text


def test_what_an_own_network_for_the_camera_brings_is_in_the_result_files():
    directory = RESULTS / "pick_cube_camera"
    runs = json.loads((directory / "meta.json").read_text())["runs"]
    minutes = {(run["variant"], str(run["seed"])): f"{run['seconds'] / 60:.0f}" for run in runs}

    def of(variant, seed):
        result = summarise(directory, variant)
        final, throughout, act = (100 * result.by_seed(values)[seed] for values in (result.final, result.throughout, result.act))
        return f"{final:.0f}", f"{throughout:.0f}", minutes[variant, str(seed)], f"{act:.0f}"

    own, default = zip(of("own_cnn", 0), of("own_cnn", 3), strict=True), zip(of("serl_sac", 0), of("default_again", 3), strict=True)
    (end, both, time, act), (end_d, both_d, time_d, act_d) = ([" and ".join(pair) for pair in pairs] for pairs in (own, default))
    assert act == act_d == "44 and 64"
    text = " ".join((ROOT / "docs" / "benchmarks.md").read_text().split())
    assert (
        f"it ended at {end} % (ACT's features {end_d} %), with {both} % over all evaluations ({both_d} %), in {time} minutes ({time_d}):"
        in text
    )
