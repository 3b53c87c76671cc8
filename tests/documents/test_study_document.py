"""Results in docs/benchmarks.md."""

import json

import pytest
from study.collect import evaluations_of
from study.document import with_costs, with_results
from study.plan import Plan, Variant
from study.results import Row, write_rows

TEXT = """# Benchmarks

### Another (`other`)

| variant | seeds | of another |

### A task (`study`)

A sentence.
{before}
| variant | seeds | old |
|---|---|---|

![figure](figure.png)
"""


def make_plan(tmp_path, seeds_of):
    variants = {name: Variant(name, "serl_sac") for name in ("one", "two")}
    for name, seeds in seeds_of.items():
        rows = [Row(step=0, episode=0, success=1, ret=1.0, length=1, seed=seed, wall_s=0.0) for seed in seeds]
        write_rows(evaluations_of(tmp_path / "study", name), rows)
    (tmp_path / "study" / "summary.md").write_text("| variant | seeds | new |\n|---|---|---|\n| one | 2 | 50 |\n")
    return Plan(name="study", task="pick_cube_ee", seeds=(0, 1), env_steps=1, evaluate_every=1, episodes=1, variants=variants)


@pytest.mark.parametrize("before", ["", "\nSeeds that have run so far: `one` 0 of 2, `two` 0 of\n2.\n"])
@pytest.mark.parametrize(
    ("seeds_of", "said"),
    [
        ({"one": (0, 1)}, "\nSeeds that have run so far: `two` 0 of 2.\n"),
        ({"one": (0,), "two": (0, 1)}, "\nSeeds that have run so far: `one` 1 of 2.\n"),
        ({"one": (0, 1), "two": (0, 1)}, ""),
    ],
)
def test_the_table_and_what_is_missing_replace_the_old_ones(tmp_path, before, seeds_of, said):
    text = with_results(TEXT.format(before=before), make_plan(tmp_path, seeds_of), tmp_path)
    old, new = "| variant | seeds | old |\n|---|---|---|", "| variant | seeds | new |\n|---|---|---|\n| one | 2 | 50 |"
    assert text == TEXT.format(before=said).replace(old, new)
    assert with_results(text, make_plan(tmp_path, seeds_of), tmp_path) == text


def test_a_document_without_the_section_stays(tmp_path):
    text = TEXT.format(before="").replace("`study`", "`studies`")
    assert with_results(text, make_plan(tmp_path, {"one": (0, 1)}), tmp_path) == text


def test_a_section_without_a_table_does_not_take_the_next_ones(tmp_path):
    text = "### A task (`study`)\n\nNot measured yet.\n\n### Another (`other`)\n\n| variant | seeds | of another |\n|---|---|---|\n\n"
    assert with_results(text, make_plan(tmp_path, {"one": (0,)}), tmp_path) == text


def test_costs_of_all_studies_and_their_sums_replace_the_old_ones(tmp_path):
    for name, seconds in {"b_study": [3600, 7200], "a_study": [1800], "deployed": []}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "meta.json").write_text(json.dumps({"runs": [{"seconds": took} for took in seconds]}))
    head = "| study | runs | core hours | longest run, minutes |\n|---|---|---|---|\n"
    aim = "| all runs of the studies in 15 hours on two cores | {} |\n"
    text = f"{aim.format('no, 9, later')}\n{head}{{}}\nTogether {{}} in between.\n"
    old = text.format("| `gone` | 5 | 0.9 | 20 |\n", "63 core hours: 32 hours on two cores")
    new = text.format("| `a_study` | 1 | 0.5 | 30 |\n| `b_study` | 2 | 3.0 | 120 |\n", "4 core hours: 2 hours on two cores")
    assert with_costs(old, tmp_path) == new.replace("no, 9", "no, 2")
    assert with_costs("# Nothing of it\n", tmp_path) == "# Nothing of it\n"
