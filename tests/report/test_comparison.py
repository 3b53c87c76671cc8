"""Two policies compared: what is said, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from evaluation_files import write_evaluation, write_seeded
from test_evaluations import write_practice

from lerobot_serl.report.comparison import compare
from lerobot_serl.report.evaluations import ComparisonError
from lerobot_serl.report.interval import SuccessCount, difference_interval
from lerobot_serl.report.paired import PairedCounts


def outcomes(both: int, only_a: int, only_b: int, neither: int) -> tuple[list[bool], list[bool]]:
    a = [True] * (both + only_a) + [False] * (only_b + neither)
    b = [True] * both + [False] * only_a + [True] * only_b + [False] * neither
    return a, b


def write_pair(root: Path, both: int, only_a: int, only_b: int, neither: int) -> tuple[Path, Path]:
    a, b = outcomes(both, only_a, only_b, neither)
    return write_evaluation(root / "act", a), write_evaluation(root / "tuned", b)


def test_the_same_starts_are_compared_pair_by_pair(tmp_path: Path) -> None:
    comparison = compare(*write_pair(tmp_path, 28, 3, 18, 1), same_starts=True)
    counts = PairedCounts(28, 3, 18, 1)
    assert comparison.pairs == counts
    assert comparison.interval == counts.interval()
    assert comparison.verdict == "B is better than A by 30 points (95 % interval +13 to +45)."
    facts = dict(comparison.facts)
    assert facts["A"] == f"31 of 50, 62 % (95 % interval 48 to 74 %): {tmp_path / 'act'}"
    assert facts["B"].startswith("46 of 50, 92 % (95 % interval 81 to 97 %)")
    assert [facts[name] for name in ("Both succeed", "Only A succeeds", "Only B succeeds", "Neither succeeds")] == ["28", "3", "18", "1"]
    assert facts["B minus A"] == "+30 points (95 % interval +13 to +45; Newcombe 1998, paired)"
    assert facts["Exact McNemar test"] == "p = 0.0015"
    assert facts["Episodes needed"].startswith("about 35 (80 % power")
    assert facts["Starts"].startswith("the same, as --same_starts states")


def test_the_order_turns_the_verdict(tmp_path: Path) -> None:
    a, b = write_pair(tmp_path, 28, 3, 18, 1)
    assert compare(b, a, same_starts=True).verdict == "B is worse than A by 30 points (95 % interval -45 to -13)."


def test_starts_that_are_not_known_to_be_the_same_are_never_paired(tmp_path: Path) -> None:
    comparison = compare(*write_pair(tmp_path, 28, 3, 18, 1))
    assert comparison.pairs is None
    assert comparison.interval == difference_interval(SuccessCount(46, 50, "b"), SuccessCount(31, 50, "a"))
    facts = dict(comparison.facts)
    assert "add --same_starts" in facts["Starts"]
    assert not {"Both succeed", "Exact McNemar test"} & facts.keys()
    assert "about 30 of each" in facts["Episodes needed"]


def test_seeds_in_both_files_show_the_starts_to_be_the_same(tmp_path: Path) -> None:
    a, b = outcomes(28, 3, 18, 1)
    first, second = write_seeded(tmp_path / "a", a, 1000), write_seeded(tmp_path / "b", b, 1000)
    comparison = compare(first, second)
    assert comparison.pairs == PairedCounts(28, 3, 18, 1)
    assert dict(comparison.facts)["Starts"].startswith("the same seeds")
    write_seeded(second, b, 2000)
    for same_starts in (False, True):
        with pytest.raises(
            ComparisonError, match=r"a and .*b have other starts: episode 0 has seed 1000 in the first and 2000 in the second"
        ):
            compare(first, second, same_starts)


def test_too_few_to_tell_them_apart(tmp_path: Path) -> None:
    pair = write_pair(tmp_path, 30, 6, 10, 4)
    needed = PairedCounts(30, 6, 10, 4).starts_needed()
    assert compare(*pair, same_starts=True).verdict == f"50 episodes cannot tell them apart; about {needed} would be needed."
    assert re.fullmatch(r"50 episodes of each cannot tell them apart; about \d+ of each would be needed\.", compare(*pair).verdict)


def test_equal_policies_cannot_be_told_apart_by_any_number(tmp_path: Path) -> None:
    comparison = compare(*write_pair(tmp_path, 30, 8, 8, 4), same_starts=True)
    assert comparison.verdict.startswith("50 episodes cannot tell them apart: they succeeded equally often")
    assert dict(comparison.facts)["Episodes needed"].startswith("cannot be told: they are equal")


def test_a_test_that_is_less_sure_is_named_in_the_verdict(tmp_path: Path) -> None:
    verdict = compare(*write_pair(tmp_path, 1, 1, 7, 12), same_starts=True).verdict
    assert verdict == "B is better than A by 29 points (95 % interval +3 to +51), though the exact McNemar test is less sure (p = 0.07)."


def test_a_bound_near_nothing_does_not_look_like_nothing(tmp_path: Path) -> None:
    assert "interval +0.5 to +12" in compare(*write_pair(tmp_path, 59, 6, 16, 80), same_starts=True).verdict


def test_several_tasks_are_counted_together(tmp_path: Path) -> None:
    a = write_evaluation(tmp_path / "a", [True] * 10, "push", reach=[False] * 10)
    b = write_evaluation(tmp_path / "b", [True] * 10, "reach", push=[True] * 10)
    comparison = compare(a, b, same_starts=True)
    assert comparison.pairs == PairedCounts(10, 0, 10, 0)
    assert dict(comparison.facts)["Tasks"] == "2, counted together"


def test_practice_is_compared_as_independent_samples(tmp_path: Path) -> None:
    a, b = write_practice(tmp_path / "a", "10" * 40), write_practice(tmp_path / "b", "1" * 30)
    comparison = compare(a, b)
    assert [(count.successes, count.trials) for count in comparison.counts] == [(25, 50), (30, 30)]
    assert "of practice, never the same" in dict(comparison.facts)["Starts"]
    assert [count.trials for count in compare(a, b, last=10).counts] == [10, 10]
    c = write_practice(tmp_path / "c", "10" * 15 + "1")
    assert compare(a, c).verdict.startswith("31 and 50 episodes cannot tell them apart; about ")
    with pytest.raises(ComparisonError, match=r"a and .*b are runs; practice never has the same starts"):
        compare(a, b, same_starts=True)


def test_runs_are_compared_as_deployed_if_they_have_such_episodes(tmp_path: Path) -> None:
    """A run whose practice explores often looked worse than what it deploys."""
    a = write_practice(tmp_path / "a", "01" * 30, kinds="ed" * 30)
    b = write_practice(tmp_path / "b", "0011" * 10, kinds="eddd" * 10)
    c = write_practice(tmp_path / "c", "10" * 20)
    comparison = compare(a, b)
    assert [(count.successes, count.trials) for count in comparison.counts] == [(30, 30), (20, 30)]
    assert "independent samples, the episodes carried out as the policies would be deployed. " in dict(comparison.facts)["Starts"]
    assert "independent samples, exploration included. " in dict(compare(c, write_practice(tmp_path / "d", "1" * 9)).facts)["Starts"]
    for pair, one, other in (((a, c), "A", "B"), ((c, a), "B", "A")):
        said = dict(compare(*pair).facts)["Starts"]
        assert f"of {one} the episodes carried out as deployed; of {other}, which has none, those that explored" in said
    few = write_practice(tmp_path / "few", "1" * 30, kinds="e" * 26 + "dddd")
    with pytest.raises(ComparisonError, match=r"few has 4 .*start-up \(carried out as deployed, where a run has such\); fewer than 5"):
        compare(a, few)


def test_an_evaluation_that_ended_early_is_compared_too(tmp_path: Path) -> None:
    """On a robot both are independent samples, of which Ctrl-C may have ended one."""
    a, b = write_evaluation(tmp_path / "a", [True, False] * 3), write_evaluation(tmp_path / "b", [True] * 5)
    comparison = compare(a, b)
    assert [(count.successes, count.trials) for count in comparison.counts] == [(3, 6), (5, 5)]
    assert comparison.pairs is None


REFUSED = [
    ("the same", r"act and .*act/eval_info.json are the same"),
    ("run and evaluation", r"run is a run and .*act is an evaluation: practice has starts of its own, and explores"),
    ("evaluation and run", r"run is a run and .*act is an evaluation: practice has starts of its own, and explores"),
    ("other tasks", r"act and .*push are evaluations of other tasks: franka_sim 0, and push 0"),
    ("other numbers", r"act has 8 episodes of franka_sim 0, .*more has 9; evaluate both with the same --eval.n_episodes"),
    ("few", r"few has 4 and .*few2 has 4 episodes; fewer than 5 say nothing: raise --eval.n_episodes"),
    ("short runs", r"run has 12 and .*short has 4 practice episodes without help after the start-up; fewer than 5"),
    ("missing", r"nowhere does not exist"),
    ("last", r"act and .*act2 are evaluations and compared whole: leave --last out"),
]


@pytest.mark.parametrize(("case", "message"), REFUSED, ids=[case for case, _ in REFUSED])
def test_what_cannot_be_compared_is_named_on_both_sides(tmp_path: Path, case: str, message: str) -> None:
    eight = [True] * 4 + [False] * 4
    act, act2 = write_evaluation(tmp_path / "act", eight), write_evaluation(tmp_path / "act2", eight)
    run = write_practice(tmp_path / "run", "1" * 12)
    pairs = {
        "the same": lambda: (act, act / "eval_info.json"),
        "run and evaluation": lambda: (run, act),
        "evaluation and run": lambda: (act, run),
        "other tasks": lambda: (act, write_evaluation(tmp_path / "push", eight, "push")),
        "other numbers": lambda: (act, write_evaluation(tmp_path / "more", [*eight, True])),
        "few": lambda: (write_evaluation(tmp_path / "few", eight[2:6]), write_evaluation(tmp_path / "few2", eight[2:6])),
        "short runs": lambda: (run, write_practice(tmp_path / "short", "1" * 10, collect=6)),
        "missing": lambda: (act, tmp_path / "nowhere"),
        "last": lambda: (act, act2),
    }
    with pytest.raises(ComparisonError, match=message):
        compare(*pairs[case](), last=10 if case == "last" else None, same_starts=case == "other numbers")
