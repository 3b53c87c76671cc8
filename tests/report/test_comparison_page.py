"""The page of a comparison, the command, and the comparison in a run's report."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from act_checkpoints import save_act, small_act_config
from evaluation_files import write_evaluation
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from test_comparison import write_pair
from test_report import PNG_START, write_run

from lerobot_serl.report import comparison_page
from lerobot_serl.report.comparison import compare
from lerobot_serl.report.comparison_page import write_comparison
from lerobot_serl.report.evaluations import ComparisonError
from lerobot_serl.report.metrics_files import MetricsFormatError
from lerobot_serl.report.page import write_report
from lerobot_serl.scripts.lerobot_serl_report import main

BIN = Path(sys.executable).parent


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    a, b = write_pair(tmp_path / "<b>", 28, 3, 18, 1)
    page = write_comparison(compare(a, b, same_starts=True))
    folder = b / "compare_with_act"
    assert page == folder / "index.html"
    assert sorted(path.name for path in folder.iterdir()) == ["comparison.json", "comparison.png", "index.html"]
    html = page.read_text(encoding="utf-8")
    (picture,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    assert base64.b64decode(picture) == (folder / "comparison.png").read_bytes()
    assert not re.search(r"<(script|link|iframe|a|b)\b|@import|url\(", html)
    assert "&lt;b&gt;" in html
    assert "B is better than A by 30 points" in html
    assert "<th>Only B succeeds</th><td>18</td>" in html
    data = json.loads((folder / "comparison.json").read_text())
    assert (data["successes"], data["trials"], data["paired"]) == ([31, 46], [50, 50], True)
    assert (data["difference"], data["needed"]) == (pytest.approx(0.3), 35)


def test_the_picture_shows_rates_and_difference_with_their_intervals(tmp_path: Path) -> None:
    comparison = compare(*write_pair(tmp_path, 28, 3, 18, 1), same_starts=True)
    rates, difference = Figure().subplots(1, 2)
    comparison_page._draw_rates(comparison, rates)
    comparison_page._draw_difference(comparison, difference)
    assert [bar.get_height() for bar in rates.patches] == pytest.approx([62, 92])
    bounds = [bars.lines[2][0].get_segments()[0][:, 1] for bars in rates.containers if isinstance(bars, ErrorbarContainer)]
    wilson = [[100 * bound for bound in count.interval] for count in comparison.counts]
    assert [list(bound) for bound in bounds] == [pytest.approx(expected) for expected in wilson]
    (interval,) = difference.containers
    assert interval.lines[2][0].get_segments()[0][:, 1] == pytest.approx([100 * bound for bound in comparison.interval])


def test_it_is_made_again_but_nothing_else_is_overwritten(tmp_path: Path) -> None:
    a, b = write_pair(tmp_path, 28, 3, 18, 1)
    write_comparison(compare(a, b))
    page = write_comparison(compare(a, b, same_starts=True))
    assert "Only B succeeds" in page.read_text(encoding="utf-8")
    other = compare(write_evaluation(tmp_path / "elsewhere" / "act", [True] * 50), b)
    with pytest.raises(ComparisonError, match=r"compare_with_act compares .*act/eval_info.json and .*; --output_dir=DIR writes elsewhere"):
        write_comparison(other)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert write_comparison(compare(a, b), empty).is_file()
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "index.html").write_text("mine")
    for target in (photos, photos / "index.html"):
        with pytest.raises(ComparisonError, match=r"holds no comparison\.json: it is not overwritten"):
            write_comparison(compare(a, b), target)
    assert (photos / "index.html").read_text() == "mine"


@pytest.mark.slow
def test_the_report_of_a_run_shows_its_comparisons(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 20, evaluations=False)
    assert "Comparison:" not in write_report(run).page.read_text(encoding="utf-8")
    a, b = write_pair(run / "<i>", 28, 3, 18, 1)
    comparison = compare(a, b, same_starts=True)
    write_comparison(comparison, run / "compare_with_act")
    html = write_report(run).page.read_text(encoding="utf-8")
    assert "<h2>Comparison: compare_with_act</h2>" in html
    assert comparison.verdict.replace(" %", "&nbsp;%") in html
    picture = (run / "compare_with_act" / "comparison.png").read_bytes()
    assert picture.startswith(PNG_START)
    assert base64.b64encode(picture).decode() in html
    assert "<i>" not in html
    write_comparison(compare(b, a), run / "evaluation" / "compare_with_tuned")
    assert "<h2>Comparison: evaluation/compare_with_tuned</h2>" in write_report(run).page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "is no comparison of this version"),
        ('{"format": "lerobot_serl comparison 9", "facts": []}', "is no comparison of this version"),
        ('{"format": "lerobot_serl comparison 1", "facts": [["A", 3]]}', "is no comparison of this version"),
        (" " * (1 << 21), "has more than 1048576 bytes"),
    ],
)
def test_a_damaged_comparison_is_named_with_the_remedy(tmp_path: Path, text: str, message: str) -> None:
    run = write_run(tmp_path, 12, evaluations=False)
    path = run / "compare_with_act" / "comparison.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(MetricsFormatError) as error:
        write_report(run)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "--compare, or take it away" in str(error.value)


def test_the_command_prints_page_table_and_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write_pair(tmp_path, 28, 3, 18, 1)
    assert main(["--compare", str(a), str(b), "--same_starts", "--output_dir", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(tmp_path / "out" / "index.html")
    assert "Only B succeeds     18" in lines
    assert lines[-1] == "B is better than A by 30 points (95 % interval +13 to +45)."
    assert main(["--compare", str(a), str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.startswith(f"lerobot-serl-report: {tmp_path / 'nowhere'} does not exist")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give either RUN_DIR or --compare A B"),
        (["run", "--compare", "a", "b"], "give either RUN_DIR or --compare A B"),
        (["run", "--same_starts"], "--same_starts and --last go with --compare"),
        (["run", "--last=50"], "--same_starts and --last go with --compare"),
        (["--compare", "a", "b", "--last=4"], "--last=4 must be at least 5"),
    ],
)
def test_options_that_do_not_go_together_are_refused(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(flags)
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_two_real_evaluations_are_compared_as_in_the_readme(tmp_path: Path) -> None:
    """LeRobot's own files, and its word on the starts: it writes no seeds, so --same_starts is needed for pairs."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def command(name: str, *flags: str) -> str:
        done = subprocess.run([str(BIN / name), *flags], capture_output=True, text=True, env=environment, timeout=900)
        assert done.returncode == 0, done.stderr
        return done.stdout

    for name, width in (("act", 32), ("tuned", 16)):
        save_act(tmp_path / name, small_act_config(0, dim_model=width))
        command(
            "lerobot-eval", f"--policy.path={tmp_path / name}", "--policy.device=cpu", "--env.type=franka_sim", "--env.task=pick_cube",
            "--env.episode_length=10", "--eval.n_episodes=6", "--eval.batch_size=3", "--eval.use_async_envs=false",
            f"--output_dir={tmp_path / f'evaluation_{name}'}",
        )  # fmt: skip
    flags = ["--compare", str(tmp_path / "evaluation_act"), str(tmp_path / "evaluation_tuned")]
    assert "add --same_starts" in " ".join(command("lerobot-serl-report", *flags).split())
    lines = command("lerobot-serl-report", *flags, "--same_starts").splitlines()
    assert lines[0] == str(tmp_path / "evaluation_tuned" / "compare_with_evaluation_act" / "index.html")
    assert "Neither succeeds    6" in lines
    assert lines[-1].startswith("6 episodes cannot tell them apart: they succeeded equally often")
