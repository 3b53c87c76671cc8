"""The one line on a run in progress, from metric files written as the learner writes them."""

import logging
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_data import make_recording
from small_policy import small_config

from lerobot_serl.online.metrics_log import MetricsLog
from lerobot_serl.policy.parts import OnlineConfig
from lerobot_serl.policy.progress import Phase, Progress
from lerobot_serl.replay.episode import ACTED_AS, ActedAs
from lerobot_serl.report.csv_appender import CsvAppender
from lerobot_serl.report.metrics_files import EPISODE_COLUMNS, MetricsDirectory
from lerobot_serl.run.live_view import live_line

OLDER_RUN = Path(__file__).parents[2] / "docs" / "results" / "quickstart" / "seed0" / "metrics"


def write_episodes(run, outcomes, phase="collect"):
    with CsvAppender(MetricsDirectory(run).episodes, EPISODE_COLUMNS) as table:
        for index, success in enumerate(outcomes, 1):
            table.append({"episode": index, "env_steps": 10 * index, "wall_s": index, "phase": phase, "success": success})


def write_learner(run, *rows):
    columns = ("step", "env_steps", "wall_s", "phase", "updates_per_s", "buffer_steps")
    with CsvAppender(MetricsDirectory(run).learner, columns) as table:
        for row in rows:
            table.append(dict(zip(columns, row, strict=True)))


def test_before_there_is_anything(tmp_path):
    expected = "starting: the learner reads the demonstrations"
    assert live_line(tmp_path / "nowhere", None) == expected
    (tmp_path / "metrics").mkdir()
    assert live_line(tmp_path, 100) == expected
    write_learner(tmp_path)  # a header alone
    assert live_line(tmp_path, 100) == expected


def test_while_act_collects(tmp_path):
    write_episodes(tmp_path, [1, 0, 1, 1])
    assert live_line(tmp_path, 100) == "ACT collects | 4 episodes, 40 steps | success of the last 4: 75 %"


def test_while_the_actor_learns(tmp_path):
    write_episodes(tmp_path, [0] * 60 + [1] * 40)
    write_learner(tmp_path, (10, 50, 1.0, "critic", 5.0, 40), (250, 1000, 2.0, "actor", 62.4, 981))
    expected = "actor learns | 100 episodes, 1000 steps | success of the last 50: 80 %"
    assert live_line(tmp_path, 12500) == f"{expected} | 250 of 12500 updates, 62/s | buffer 981 steps"
    assert live_line(tmp_path, None) == f"{expected} | 250 updates, 62/s | buffer 981 steps"


def test_episodes_as_deployed_are_told_apart(tmp_path):
    with CsvAppender(MetricsDirectory(tmp_path).episodes, EPISODE_COLUMNS) as table:
        for index in range(1, 101):
            kind, helped = ("exploring", "deployed", "ACT", "deployed")[index % 4], index in (97, 99)
            row = {"episode": index, "env_steps": 10 * index, "phase": "actor", "interventions": 3 * helped}
            table.append(row | {"success": int(kind == "deployed" and index < 96), "acted_as": kind})
    assert live_line(tmp_path, None) == "actor learns | 100 episodes, 1000 steps | success of the last 50: 46 %, as deployed: 20 of 20"


def test_the_learners_phase_wins_over_that_of_finished_episodes(tmp_path):
    write_episodes(tmp_path, [1], phase="collect")
    write_learner(tmp_path, (10, 50, 1.0, "critic", 5.0, 40))
    assert live_line(tmp_path, None).startswith("critics learn | ")


def test_offline(tmp_path):
    write_learner(tmp_path, (10, 0, 1.0, "offline", 5.0, 40))
    assert live_line(tmp_path, None) == "offline | 0 episodes, 0 steps | 10 updates, 5/s | buffer 40 steps"


def test_empty_cells_do_not_count(tmp_path):
    write_learner(tmp_path, (10, 0, 1.0, "critic", 5.0, 40), (11, 0, 2.0, "critic", None, None))
    assert live_line(tmp_path, None).endswith("11 updates, 5/s | buffer 40 steps")


def test_a_torn_last_row_is_left_out(tmp_path):
    write_learner(tmp_path, (10, 0, 1.0, "critic", 5.0, 40))
    with MetricsDirectory(tmp_path).learner.open("a") as table:
        table.write("11,0,2.0,acto")
    assert "critics learn" in live_line(tmp_path, None)


def test_unreadable_metrics_are_said_so_and_do_not_stop_the_run(tmp_path):
    write_learner(tmp_path, (10, 0, 1.0, "critic", 5.0, 40))
    path = MetricsDirectory(tmp_path).learner
    path.write_text(path.read_text().replace("10,", "ten,"))
    assert live_line(tmp_path, None).startswith("metrics unreadable: ")


def test_what_an_actor_reports_in_another_type_is_left_out(tmp_path):
    """It has been acknowledged by then: nothing that it says of itself may end the learner."""
    config = small_config(online=OnlineConfig(repo_id="test/online"))
    journal = MetricsLog(tmp_path, config, Progress(config), resumed=False)
    reported = {
        "clamps": "three",
        "own_ms": 2.5,
        "decided_by": 7,
        "actor": "left",
        "success": "yes",
        "unheard of": 1,
        "acted_as": "deployed\n",
    }
    alone = make_recording(12, intervention=torch.zeros(12, dtype=torch.bool))
    journal.episode(replace(alone, info=reported), Phase.COLLECT)
    episodes = MetricsDirectory(tmp_path).load().episodes
    assert (episodes["own_ms"], episodes["actor"], episodes["success"], episodes["acted_as"]) == ([2.5], ["left"], [1.0], ["exploring"])
    assert math.isnan(episodes["clamps"][0])
    assert episodes["decided_by"] == [""]


def test_a_directory_that_takes_no_metrics_is_named_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=rf"^Metrics cannot be written in {tmp_path}/file: .*Set --policy.metrics_dir=DIR\.$"):
        MetricsLog(tmp_path / "file", small_config(), Progress(small_config()), resumed=False)


@pytest.mark.parametrize(("by_hand", "shown"), [(False, 100), (True, 0)])
def test_files_of_the_learners_own_journal(tmp_path, by_hand, shown):
    """A success to which a person lent a hand is not the policy's."""
    config = small_config(online=OnlineConfig(repo_id="test/online"), metrics_period_s=1e-9)
    progress = Progress(config)
    journal = MetricsLog(tmp_path, config, progress, resumed=False)
    progress.env_steps = 12
    progress.episodes = 1
    intervention = torch.zeros(12, dtype=torch.bool)
    intervention[3] = by_hand
    journal.episode(make_recording(12, intervention=intervention), Phase.COLLECT)
    progress.updates = 3
    journal.collect({"critic_loss": 0.5})
    journal.write_if_due({"buffer_steps": 12, "demo_steps": 4, "lead_steps": 0.0})
    line = live_line(tmp_path, 30)
    assert line.startswith(f"critics learn | 1 episodes, 12 steps | success of the last 1: {shown} % | 3 of 30 updates, ")
    assert line.endswith(" | buffer 12 steps")


def test_what_people_helped_with_before_learning_does_not_count_as_acts(tmp_path, caplog):
    journal = MetricsLog(None, small_config(online=OnlineConfig(repo_id="test/online")), Progress(small_config()), resumed=False)
    helped, alone = torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)
    journal.episode(make_recording(4, intervention=helped), Phase.COLLECT)
    journal.report_act(begins_as_act=True)
    assert "A person helped in every episode before learning: how well ACT does is not known." in caplog.text
    journal.episode(make_recording(4, intervention=alone), Phase.COLLECT)
    with caplog.at_level(logging.INFO):
        journal.report_act(begins_as_act=True)
    assert "ACT with small edits, before learning: success in 1 of 1 (100 %, 95 % interval 21 to 100 %) episodes." in caplog.text


@pytest.mark.parametrize("begins_as_act", [True, False])
def test_how_act_does_and_what_practice_began_with_are_two_facts(caplog, begins_as_act):
    """With small edits it succeeded less often, and that was taken for ACT's own success."""
    journal = MetricsLog(None, small_config(online=OnlineConfig(repo_id="test/online")), Progress(small_config()), resumed=False)
    kinds = {ActedAs.ACT: "01010", ActedAs.EXPLORING: "0001", **({} if begins_as_act else {ActedAs.DEPLOYED: "111"})}
    for acted_as, outcomes in kinds.items():
        for success in outcomes:
            alone = {"intervention": torch.zeros(5, dtype=torch.bool), "info": {ACTED_AS: acted_as.value}}
            journal.episode(make_recording(success=success == "1", **alone), Phase.COLLECT)
            journal.episode(make_recording(success=False, **alone), Phase.CRITIC)
    with caplog.at_level(logging.INFO):
        journal.report_act(begins_as_act)
    assert "ACT alone, before learning: success in 2 of 5 (40 %, 95 % interval 12 to 77 %) episodes." in caplog.text
    explored = "1 of 4 (25 %, 95 % interval 5 to 70 %)"
    if begins_as_act:
        assert f"ACT with small edits, before learning: success in {explored} episodes." in caplog.text
        assert "practice began with" not in caplog.text
    else:
        assert "The policy that practice began with, before learning: success in 3 of 3 (100 %, " in caplog.text
        assert f"The same policy, exploring, before learning: success in {explored} episodes." in caplog.text
        assert "ACT with" not in caplog.text
    assert "No success at all" not in caplog.text


@pytest.mark.parametrize(("begins_as_act", "editing"), [(True, "editing ACT"), (False, "editing this policy")])
def test_no_success_at_all_is_warned_of(caplog, begins_as_act, editing):
    journal = MetricsLog(None, small_config(online=OnlineConfig(repo_id="test/online")), Progress(small_config()), resumed=False)
    for acted_as in ActedAs:
        alone = {"intervention": torch.zeros(5, dtype=torch.bool), "info": {ACTED_AS: acted_as.value}}
        journal.episode(make_recording(success=False, **alone), Phase.COLLECT)
    journal.report_act(begins_as_act)
    assert f"No success at all: {editing} is not expected to work from 0 %." in caplog.text
    caplog.clear()
    journal.episode(make_recording(intervention=torch.zeros(5, dtype=torch.bool)), Phase.COLLECT)
    journal.report_act(begins_as_act)
    assert "No success at all" not in caplog.text  # one kind of episodes succeeded


def test_a_run_of_an_older_release_is_resumed(tmp_path):
    """Its files lack columns: the appender refused them."""
    for path in OLDER_RUN.glob("*.csv"):
        (tmp_path / "metrics").mkdir(exist_ok=True)
        (tmp_path / "metrics" / path.name).write_bytes(path.read_bytes())
    before = MetricsDirectory(tmp_path).load()
    config = small_config(online=OnlineConfig(repo_id="test/online"), metrics_period_s=1e-9)
    progress = Progress(config)
    progress.episodes = 100
    progress.updates = 5000
    journal = MetricsLog(tmp_path, config, progress, resumed=True)
    progress.episodes = 101
    progress.env_steps = 1 << 20
    journal.episode(make_recording(12, info={ACTED_AS: "deployed"}), Phase.ACTOR)
    journal.collect({"critic_loss": 0.5, "corrector_loss": 0.25})
    journal.write_if_due({"alarms": 1})
    after = MetricsDirectory(tmp_path).load()
    assert "acted_as" not in before.episodes
    assert after.episodes["acted_as"] == [*[""] * 100, "deployed"]
    assert after.episodes["return"] == [*before.episodes["return"][:100], 1.0]
    kept = sum(step <= 5000 for step in before.learner["step"])
    assert after.learner["step"] == [*before.learner["step"][:kept], 5000.0]
    assert set(after.learner) == {*before.learner, "corrector_loss", "alarms", "intake_ms"}
    assert after.learner["corrector_loss"][-1] == 0.25


def test_the_clock_of_a_resumed_run_goes_on(tmp_path):
    config = small_config(online=OnlineConfig(repo_id="test/online"))
    write_episodes(tmp_path, [0] * 900)  # one a second
    progress = Progress(config)
    progress.episodes = 700  # of the checkpoint; the rows after it will be written again
    MetricsLog(tmp_path, config, progress, resumed=True).episode(make_recording(12), Phase.CRITIC)
    times = sorted(MetricsDirectory(tmp_path).load().episodes["wall_s"])
    assert len(times) == 701
    assert 700 < times[-1] < 800
    assert times[0] > 0
