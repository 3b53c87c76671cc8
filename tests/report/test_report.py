"""The report of a run: values on the curves, the page, the command line."""

from __future__ import annotations

import base64
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lerobot_serl.report import curves, style
from lerobot_serl.report.csv_appender import CsvAppender
from lerobot_serl.report.interval import RateCurve, wilson_interval
from lerobot_serl.report.metrics_files import (
    EPISODE_COLUMNS,
    EVALUATION_COLUMNS,
    LEARNER_LEADING_COLUMNS,
    MetricsDirectory,
    MissingMetricsError,
    RunMetrics,
)
from lerobot_serl.report.page import summarise, write_report
from lerobot_serl.report.seeds import figure_success_over_seeds, mean_over_runs, plot_runs
from lerobot_serl.report.style import phase_spans
from lerobot_serl.report.success_curve import DEPLOYED_WINDOW, draw_success, success_caption
from lerobot_serl.scripts.lerobot_serl_report import main

PNG_START = b"\x89PNG\r\n\x1a\n"
LEARNER_VALUES = ("critic_loss", "actor_loss", "q_data", "target_q", "edit_rms", "temperature", "updates_per_s", "odd")


def write_run(run_dir: Path, episodes: int = 400, seed: int = 0, evaluations: bool = True) -> Path:
    """A made-up run: 60 collect episodes at 45 % success, then 90 %; 12 000 updates in 240 log windows."""
    generator = np.random.default_rng(seed)
    directory = MetricsDirectory(run_dir)
    with CsvAppender(directory.episodes, EPISODE_COLUMNS) as appender:
        for number in range(episodes):
            collecting = number < 60
            success = generator.random() < (0.45 if collecting else 0.9)
            appender.append({
                "episode": number, "env_steps": 150 * (number + 1), "wall_s": 18 * (number + 1), "actor": "robot",
                "phase": "collect" if collecting else "actor", "success": success, "return": float(success),
                "length": 150, "interventions": number % 7 == 0, "policy_version": number, "share_base": 0.5,
                "share_mean": 0.2, "share_sample": 0.3, "edit_rms": 0.1,
            })  # fmt: skip
    with CsvAppender(directory.learner, (*LEARNER_LEADING_COLUMNS, *LEARNER_VALUES)) as appender:
        for number in range(240):
            phase = "critic" if number < 60 else "actor"
            row: dict[str, object] = dict.fromkeys(LEARNER_VALUES, float(generator.random()))
            if phase == "critic":
                row["actor_loss"] = row["edit_rms"] = row["temperature"] = None
            step = 50 * (number + 1)
            appender.append({"step": step, "env_steps": 9000 + 200 * number, "wall_s": number, "phase": phase, **row})
    if evaluations:
        with CsvAppender(directory.evaluations, EVALUATION_COLUMNS) as appender:
            appender.append({"env_steps": 0, "step": 0, "name": "act", "successes": 90, "trials": 200})
            appender.append({"env_steps": 30000, "step": 6000, "name": "fine_tuned", "successes": 30, "trials": 50})
            appender.append({"env_steps": 60000, "step": 12000, "name": "fine_tuned", "successes": 45, "trials": 50})
    notes = {"where": "https://example.org/lab", "tag": "<script>alert(1)</script>"}
    directory.write_run_info({"name": "push <T> & go", "started": "2025-01-01T00:00:00", "fps": 10, "notes": notes})
    return run_dir


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(style.STYLE, "savefig.dpi", 30)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def short_run(tmp_path: Path) -> Path:
    """Only one figure is drawn of it."""
    with CsvAppender(MetricsDirectory(tmp_path).learner, (*LEARNER_LEADING_COLUMNS, "critic_loss")) as appender:
        appender.append({"step": 50, "env_steps": 100, "wall_s": 3, "phase": "critic", "critic_loss": 0.5})
    return tmp_path


def drawn(metrics: RunMetrics) -> Axes:
    axes: Axes = Figure().subplots()
    draw_success(metrics, axes)
    return axes


def test_success_curve_shows_the_share_of_the_last_fifty_episodes(run_dir: Path) -> None:
    metrics = MetricsDirectory(run_dir).load()
    ax = drawn(metrics)
    rolling, act = ax.get_lines()[:2]
    outcomes = metrics.episodes["success"]
    x, y = rolling.get_xdata(), rolling.get_ydata()
    assert x[0] == 150 * 10
    assert y[0] == pytest.approx(10 * sum(outcomes[:10]))
    assert x[-1] == 150 * 400
    assert y[-1] == pytest.approx(2 * sum(outcomes[-50:]))
    assert list(act.get_ydata()) == pytest.approx([45.0, 45.0])
    (bars,) = ax.containers
    segments = bars.lines[2][0].get_segments()
    low, high = wilson_interval(45, 50)
    assert segments[1][:, 1] == pytest.approx([100 * low, 100 * high])
    assert {text.get_text() for text in ax.texts} == {"collect", "actor"}


def test_phase_spans_survive_interleaved_and_idle_phases() -> None:
    table = {
        "phase": ["collect", "collect", "critic", "collect", "actor", "actor"],
        "step": [0.0, 0.0, 10.0, 10.0, 20.0, 40.0],
        "env_steps": [5.0, 10.0, 15.0, 20.0, 25.0, 30.0],
    }
    assert phase_spans(table, "env_steps") == [("collect", 0, 10), ("critic", 10, 20), ("actor", 20, 30)]
    assert phase_spans(table, "step") == [("critic", 0, 10), ("actor", 10, 40)]
    assert phase_spans({}, "step") == []


def write_undeclared(run_dir: Path) -> RunMetrics:
    """A run with two columns more than there is room for, and one without a number, in each file."""
    directory = MetricsDirectory(write_run(run_dir, 30, evaluations=False))
    names = {f"<new {index}>": float(index) for index in range(curves.MAX_OTHERS + 1)} | {"void": None}
    with CsvAppender(directory.learner, LEARNER_LEADING_COLUMNS) as appender:
        appender.append({"step": 12050, "env_steps": 60000, "phase": "actor"} | names)
    with CsvAppender(directory.episodes, EPISODE_COLUMNS) as appender:
        appender.append({"episode": 30, "env_steps": 9000, "phase": "actor", "success": 1, "grip_force_n": 4.5} | names)
    return directory.load()


def test_what_nobody_declared_has_a_panel_or_is_named(tmp_path: Path) -> None:
    metrics = write_undeclared(tmp_path)
    plots = {plot.key: plot for plot in (*curves._plan_episode_plots(metrics), *curves._plan_learner_plots(metrics))}
    last = f"<new {curves.MAX_OTHERS}>"
    for key, first in (("other", "odd"), ("episodes_other", "grip force n")):
        assert plots[key].left_out == (f"<new {curves.MAX_OTHERS - 1}>", last, "void")
        assert len(plots[key].panels) == curves.MAX_OTHERS
        axes: Axes = Figure().subplots()
        plots[key].panels[0](axes)
        assert axes.get_ylabel() == f"{first}\n(as logged)"
    (x, y) = axes.collections[0].get_offsets()[-1]
    assert (x, y) == (9000, 4.5)


@pytest.mark.slow
def test_the_page_shows_or_names_what_nobody_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "MAX_OTHERS", 2)
    write_undeclared(tmp_path)
    html = write_report(tmp_path).page.read_text(encoding="utf-8")
    assert html.count("<li>void: it has no numbers, or 2 others are drawn</li>") == 2
    assert html.count("<li>&lt;new 2&gt;: it has no numbers, or 2 others are drawn</li>") == 2
    for title in ("Other values of episodes", "Other logged values"):
        assert f"{title}</h" in html


def test_update_ratio_is_updates_over_steps() -> None:
    table = {"step": [0.0, 100.0, 200.0, 300.0], "env_steps": [50.0, 50.0, 100.0, 150.0]}
    ratio = curves._with_update_ratio(table, rows=2)["updates_per_env_step"]
    assert np.isnan(ratio[:2]).all()
    assert ratio[2:] == [4.0, 2.0]


def test_page_holds_every_figure_and_needs_nothing_else(run_dir: Path) -> None:
    report = write_report(run_dir)
    folder = run_dir / "report"
    assert report.page == folder / "index.html"
    names = {path.stem for path in folder.glob("*.png")}
    assert names == {"success", "length", "returns", "interventions", "shares", "q_values", "losses", "edits",
                     "exploration", "pacing", "other", "overview"}  # fmt: skip
    html = report.page.read_text(encoding="utf-8")
    embedded = {base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', html)}
    assert embedded == {path.read_bytes() for path in folder.glob("*.png")}
    assert all(picture.startswith(PNG_START) for picture in embedded)
    assert not re.search(r"<(script|link|iframe|a)\b|@import|url\(", html)
    assert all(source.startswith("data:") for source in re.findall(r'(?:src|href)="([^"]*)"', html))
    assert "push &lt;T&gt; &amp; go" in html
    assert "&lt;script&gt;alert(1)" in html
    assert 'name="viewport"' in html
    assert "Not drawn" not in html
    assert sorted(path.suffix for path in folder.iterdir() if path.suffix != ".png") == [".html"]


def test_summary_compares_the_newest_evaluation_with_act(run_dir: Path) -> None:
    done, rates, verdict, practice = summarise(MetricsDirectory(run_dir).load())
    assert done == "push <T> & go: 400 episodes, 60,000 environment steps and 12,000 critic updates in 120 min."
    assert rates == (
        "Success fine-tuned: 90 % (95 % interval 79 to 96 %, n = 50), from the newest evaluation; "
        "ACT alone: 45 % (95 % interval 38 to 52 %, n = 200), from the evaluations."
    )
    assert verdict.startswith("The fine-tuned policy is better than ACT alone (+45 percentage points")
    assert re.fullmatch(
        r"Practice, not the policy as deployed: \d+ % \(.*, n = 50\), from the last 50 practice episodes with exploration without human "
        r"help \(\d with help left out\)\.",
        practice,
    )


def practice(*parts: tuple[str, str, str], helped: Sequence[int] = ()) -> RunMetrics:
    """Metrics of episodes in order: (phase, acted_as, a 1 for each success and a 0 for each failure); with help in some, by row."""
    rows = [(phase, kind, float(success)) for phase, kind, outcomes in parts for success in outcomes]
    names = ("phase", "acted_as", "success")
    columns = {name: [row[index] for row in rows] for index, name in enumerate(names)}
    steps = [10.0 * (row + 1) for row in range(len(rows))]
    return RunMetrics(episodes={**columns, "env_steps": steps, "interventions": [float(row in helped) for row in range(len(rows))]})


def test_the_headline_is_the_policy_as_deployed_and_practice_stands_apart() -> None:
    """Practice succeeded in 338 of 339 episodes while the policy that users got lost to ACT by 18 points."""
    metrics = practice(
        ("collect", "ACT", "10" * 5),
        ("collect", "exploring", "0" * 10),
        ("actor", "deployed", "0" * 7 + "1" * 30 + "0" * 20),
        ("actor", "exploring", "1" * 100),
        ("actor", "ACT", "01"),
        helped=[30, 31],
    )
    _, rates, verdict, practised = summarise(metrics)
    assert rates == (
        "Success fine-tuned: 56 % (95 % interval 42 to 69 %, n = 50), from the last 50 episodes carried out as deployed without human help "
        "(2 with help left out); ACT alone: 50 % (95 % interval 25 to 75 %, n = 12), from the ACT episodes."
    )
    assert verdict.startswith("The fine-tuned policy is not yet told apart from ACT alone (+6 percentage points")
    assert practised == (
        "Practice, not the policy as deployed: 100 % (95 % interval 93 to 100 %, n = 50), from the last 50 practice episodes with exploration."
    )


def test_few_episodes_as_deployed_are_called_few() -> None:
    few = ("actor", "deployed", "110"), ("actor", "exploring", "0" * 12)
    _, rates, verdict, practised = summarise(practice(("collect", "ACT", "10" * 5), *few))
    assert "n = 3), from the last 3 episodes carried out as deployed (only 3 so far: it is early to say); ACT" in rates
    assert "not yet told apart" in verdict
    assert "from the last 12 practice episodes with exploration." in practised
    assert "early" not in summarise(practice(("actor", "deployed", "1" * 10)))[1]


def test_before_any_episode_as_deployed_practice_is_the_headline_and_says_so() -> None:
    summary = summarise(
        practice(("collect", "deployed", "1"), ("collect", "exploring", "1" * 20), ("actor", "exploring", "10" * 6), ("actor", "ACT", "0"))
    )
    assert len(summary) == 3
    assert "n = 12), from the last 12 practice episodes with exploration; ACT alone: 0 %" in summary[1]
    began_trained = summarise(practice(("collect", "deployed", "1"), ("collect", "exploring", "1" * 20)))
    assert began_trained[1] == "Success fine-tuned: no episodes yet; ACT alone: not measured."


def test_what_is_best_is_the_last_line_of_summary_and_page(short_run: Path) -> None:
    MetricsDirectory(short_run).best.write_text('{"text": "checkpoints/best acts as <ACT>:\\n  nothing can be said yet.", "updates": 5}')
    report = write_report(short_run)
    assert report.summary[-1] == "checkpoints/best acts as <ACT>: nothing can be said yet."
    assert "<p>checkpoints/best acts as &lt;ACT&gt;: nothing can be said yet.</p></div>" in report.page.read_text(encoding="utf-8")


def test_the_curve_shows_episodes_as_deployed_beside_all_practice() -> None:
    kinds = ("deployed", "exploring", "ACT", "exploring", "exploring")
    outcomes = np.random.default_rng(0).random((60, 5)) < (0.9, 0.3, 0.5, 0.3, 0.3)
    metrics = practice(
        *(("actor", kind, str(int(success))) for row in outcomes for kind, success in zip(kinds, row, strict=True)), helped=[295]
    )
    axes = drawn(metrics)
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    assert list(lines) == ["as deployed, last 20 episodes", "all practice, last 50", "ACT alone (ACT episodes)"]
    deployed, every, act = lines.values()
    alone = outcomes[:59, 0]  # the last one was helped
    assert DEPLOYED_WINDOW == 20
    assert len(deployed.get_xdata()) == 59 - 9
    assert deployed.get_xdata()[-1] == 10 * 291
    assert deployed.get_ydata()[-1] == pytest.approx(5 * alone[-20:].sum())
    (band,) = [band for band in axes.collections if len(band.get_paths()[0].vertices) > 50]
    low, high = wilson_interval(int(alone[-20:].sum()), 20)
    at_end = [y for x, y in band.get_paths()[0].vertices if x == 10 * 291]
    assert (min(at_end), max(at_end)) == pytest.approx((100 * low, 100 * high))
    assert every.get_xdata()[-1] == 10 * 300
    assert every.get_ydata()[-1] == pytest.approx(2 * outcomes.ravel()[-50:].sum())
    assert every.get_linewidth() < deployed.get_linewidth()
    assert act.get_ydata()[0] == pytest.approx(100 * outcomes[:, 2].mean())
    caption = success_caption(metrics)
    assert "carried out as deployed, without human help, among the last 20 of them; thin: of practice" in caption
    older = practice(("actor", "", "1" * 30))
    assert "deployed" not in success_caption(older)
    assert [line.get_label() for line in drawn(older).get_lines()] == ["practice, last 50 episodes"]


def test_one_point_is_drawn_with_its_interval() -> None:
    axes = drawn(practice(("actor", "exploring", "0" * 30), ("actor", "deployed", "110")))
    point = axes.get_lines()[0]
    assert (point.get_marker(), list(point.get_xdata()), point.get_label()) == ("o", [330.0], "as deployed, last 3 episodes")
    (bar,) = [segment for bars in axes.collections if hasattr(bars, "get_segments") for segment in bars.get_segments()]
    assert bar[:, 1] == pytest.approx([100 * bound for bound in wilson_interval(2, 3)])


@pytest.mark.parametrize(("wins", "verdict"), [(6, "not yet told apart from"), (0, "worse than"), (10, "better than")])
def test_summary_without_evaluations_uses_training_episodes(wins: int, verdict: str) -> None:
    episodes = {
        "phase": ["collect"] * 20 + ["actor"] * 10,
        "success": [1.0, 0.0] * 10 + [1.0] * wins + [0.0] * (10 - wins),
        "env_steps": [float(number) for number in range(30)],
    }
    _, rates, comparison = summarise(RunMetrics(episodes=episodes))
    assert "last 10 practice episodes with exploration;" in rates
    assert "n = 20), from the collect phase" in rates
    assert f"is {verdict} ACT alone" in comparison
    only_act = {name: values[:20] for name, values in episodes.items()}
    assert summarise(RunMetrics(episodes=only_act))[2] == "Comparison with ACT alone: not possible yet."


def test_episodes_with_help_say_nothing_about_the_policy() -> None:
    """They count as 0 in the table: a policy that was helped often looked worse than ACT, and so did an ACT that was helped."""
    phases = ["collect"] * 30 + ["actor"] * 50
    helped = [0.0] * 20 + [5.0] * 10 + [3.0] * 40 + [0.0] * 10
    success = [1.0, 0.0] * 10 + [0.0] * 50 + [1.0] * 10
    episodes = {"phase": phases, "success": success, "env_steps": [float(n) for n in range(80)], "interventions": helped}
    _, rates, comparison = summarise(RunMetrics(episodes=episodes))
    assert "n = 10), from the last 10 practice episodes with exploration;" in rates
    assert "ACT alone: 50 %" in rates
    assert "n = 20), from the collect phase" in rates
    assert "is better than ACT alone" in comparison
    episodes["interventions"][-5] = 1.0
    few = "last 9 practice episodes with exploration without human help (1 with help left out) (only 9 so far: it is early to say)"
    assert few in summarise(RunMetrics(episodes=episodes))[1]


def test_figures_without_columns_are_skipped_and_named(short_run: Path, tmp_path: Path) -> None:
    report = write_report(short_run, tmp_path / "elsewhere")
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == {"losses.png", "overview.png", "index.html"}
    skipped = re.findall(r"<li>([^:]+): its columns are missing or empty", report.page.read_text(encoding="utf-8"))
    assert "Success" in skipped
    assert "Exploration" in skipped
    assert "Losses and gradients" not in skipped


@pytest.mark.parametrize("episodes", [1, *(pytest.param(episodes, marks=pytest.mark.slow) for episodes in (3, 61))])
def test_short_runs_are_drawn(tmp_path: Path, episodes: int) -> None:
    page = write_report(write_run(tmp_path, episodes, evaluations=False)).page
    rolling = drawn(MetricsDirectory(tmp_path).load()).get_lines()[0]
    assert len(rolling.get_xdata()) == max(1, episodes - 9)
    assert (page.parent / "success.png").read_bytes().startswith(PNG_START)


def test_a_run_with_nothing_to_draw_still_gets_a_page(tmp_path: Path) -> None:
    with CsvAppender(MetricsDirectory(tmp_path).learner, LEARNER_LEADING_COLUMNS) as appender:
        appender.append({"step": 1, "env_steps": 1, "wall_s": 1, "phase": "critic"})
    page = write_report(tmp_path).page
    assert "<img" not in page.read_text(encoding="utf-8")


def test_command_prints_the_page_and_the_summary(short_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(short_run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(short_run / "report" / "index.html")
    assert lines[1:] == list(summarise(MetricsDirectory(short_run).load()))


def test_command_explains_missing_and_broken_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert str(tmp_path / "metrics") in message
    assert "output directory of a training run" in message
    assert not (tmp_path / "report").exists()
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "episodes.csv").write_text("episode,env_steps\n1,2\n")
    assert main([str(tmp_path)]) == 1
    assert "episodes.csv: the header lacks the column(s) phase, success" in capsys.readouterr().err


def test_command_says_how_to_install_matplotlib(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([str(run_dir), "--output_dir", str(tmp_path / "out")]) == 1
    assert "pip install '.[report]', in lerobot_serl's directory" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_there_is_to_be_written_elsewhere(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *args: object, **kwargs: object) -> None:  # root may write everywhere
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert main([str(run_dir)]) == 1
    assert capsys.readouterr().err == f"lerobot-serl-report: {run_dir}/report: Permission denied. --output_dir=DIR writes elsewhere.\n"


def test_a_value_keeps_its_colour_whatever_else_was_logged(tmp_path: Path) -> None:
    def colours(**empty: list[float]) -> dict[str, object]:
        table = {"step": [1.0, 2.0], "phase": ["actor", "actor"], "first": [1.0, 2.0], "second": [3.0, 4.0], "third": [5.0, 6.0], **empty}
        axes = Figure().subplots()
        curves._draw_learner(table, ["first", "second", "third"], "values", axes)
        return {str(line.get_label()): line.get_color() for line in axes.get_lines() if not str(line.get_label()).startswith("_")}

    everything, less = colours(), colours(first=[math.nan, math.nan])
    assert len(set(everything.values())) == 3
    assert less == {name: colour for name, colour in everything.items() if name != "first"}


def test_mean_over_runs_holds_values_on_the_common_stretch() -> None:
    first = RateCurve([0.0, 10.0, 20.0], [0.0, 0.5, 1.0], [], [])
    second = RateCurve([5.0, 15.0, 40.0], [0.2, 0.49, 0.9], [], [])
    mean = mean_over_runs([first, second], points=4)
    assert mean.x == [5.0, 10.0, 15.0, 20.0]
    assert mean.rate == pytest.approx([0.1, 0.35, 0.495, 0.745])
    assert mean.low[0] == 0.0
    assert mean.high[2] == pytest.approx(0.495 + 12.706 * 0.005)
    with pytest.raises(ValueError, match="no environment steps in common"):
        mean_over_runs([first, RateCurve([30.0], [1.0], [], [])])
    with pytest.raises(ValueError, match="no run"):
        mean_over_runs([])


def test_seed_figure_is_written_and_checks_its_input(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"seed_{seed}", 80, seed, evaluations=False) for seed in range(3)]
    output = tmp_path / "docs" / "seeds.png"
    figure_success_over_seeds(runs, output, act_rate=0.45)
    assert output.read_bytes().startswith(PNG_START)
    plot_runs({"a": runs[:2], "b": runs[2:]}, tmp_path / "groups.png")
    assert (tmp_path / "groups.png").exists()
    with pytest.raises(ValueError, match="act_rate"):
        figure_success_over_seeds(runs, output, act_rate=45.0)
    with pytest.raises(ValueError, match="no run"):
        figure_success_over_seeds([], output)
    with pytest.raises(MissingMetricsError, match="fewer than 10"):
        figure_success_over_seeds([write_run(tmp_path / "short", 5)], output)
