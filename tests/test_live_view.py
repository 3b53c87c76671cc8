"""The one line on a run in progress, from metric files written as the learner writes them."""

import logging
import math
from dataclasses import replace

import pytest
import torch
from conftest import make_recording, small_config

from lerobot_serl.online.journal import RunJournal
from lerobot_serl.online.progress import Phase, Progress
from lerobot_serl.policy.parts import OnlineConfig
from lerobot_serl.report.metrics_files import EPISODE_COLUMNS, CsvAppender, MetricsDirectory
from lerobot_serl.run.live_view import live_line


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
    journal = RunJournal(tmp_path, config, Progress(config), resumed=False)
    reported = {"clamps": "three", "own_ms": 2.5, "decided_by": 7, "actor": "left", "success": "yes", "unheard of": 1}
    alone = make_recording(12, intervention=torch.zeros(12, dtype=torch.bool))
    journal.episode(replace(alone, info=reported), Phase.COLLECT)
    episodes = MetricsDirectory(tmp_path).load().episodes
    assert (episodes["own_ms"], episodes["actor"], episodes["success"]) == ([2.5], ["left"], [1.0])
    assert math.isnan(episodes["clamps"][0])
    assert episodes["decided_by"] == [""]


def test_a_directory_that_takes_no_metrics_is_named_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=rf"^Metrics cannot be written in {tmp_path}/file: .*Set --policy.metrics_dir=DIR\.$"):
        RunJournal(tmp_path / "file", small_config(), Progress(small_config()), resumed=False)


@pytest.mark.parametrize(("by_hand", "shown"), [(False, 100), (True, 0)])
def test_files_of_the_learners_own_journal(tmp_path, by_hand, shown):
    """A success to which a person lent a hand is not the policy's."""
    config = small_config(online=OnlineConfig(repo_id="test/online"), metrics_period_s=1e-9)
    progress = Progress(config)
    journal = RunJournal(tmp_path, config, progress, resumed=False)
    progress.env_steps.fill_(12)
    progress.episodes.fill_(1)
    intervention = torch.zeros(12, dtype=torch.bool)
    intervention[3] = by_hand
    journal.episode(make_recording(12, intervention=intervention), Phase.COLLECT)
    progress.updates.fill_(3)
    journal.collect({"critic_loss": 0.5})
    journal.write_if_due({"buffer_steps": 12, "demo_steps": 4, "lead_steps": 0.0})
    line = live_line(tmp_path, 30)
    assert line.startswith(f"critics learn | 1 episodes, 12 steps | success of the last 1: {shown} % | 3 of 30 updates, ")
    assert line.endswith(" | buffer 12 steps")


def test_what_people_helped_with_before_learning_does_not_count_as_acts(tmp_path, caplog):
    journal = RunJournal(None, small_config(online=OnlineConfig(repo_id="test/online")), Progress(small_config()), resumed=False)
    helped, alone = torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)
    journal.episode(make_recording(4, intervention=helped), Phase.COLLECT)
    journal.report_act()
    assert "A person helped in every episode before learning" in caplog.text
    journal.episode(make_recording(4, intervention=alone), Phase.COLLECT)
    with caplog.at_level(logging.INFO):
        journal.report_act()
    assert "1 of 1 episodes succeeded" in caplog.text


def test_the_clock_of_a_resumed_run_goes_on(tmp_path):
    config = small_config(online=OnlineConfig(repo_id="test/online"))
    write_episodes(tmp_path, [0] * 900)  # one a second
    progress = Progress(config)
    progress.episodes.fill_(700)  # of the checkpoint; the rows after it will be written again
    RunJournal(tmp_path, config, progress, resumed=True).episode(make_recording(12), Phase.CRITIC)
    times = sorted(MetricsDirectory(tmp_path).load().episodes["wall_s"])
    assert len(times) == 701
    assert 700 < times[-1] < 800
    assert times[0] > 0
