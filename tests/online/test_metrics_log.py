"""What a run writes and shows: metrics as an open set, tensors that are read once a row, LeRobot's log."""

import logging
import math
import os

import pytest
import torch
from lerobot.common.wandb_utils import WandBLogger
from lerobot.configs import WandBConfig
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TrainPipelineConfig
from lerobot.utils.logging_utils import AverageMeter, MetricsTracker
from pages import columns_in
from small_data import make_recording
from small_policy import small_config
from test_learner_steps import Episodes, learner_for, remember

from lerobot_serl.online.averages import Averages
from lerobot_serl.online.metrics_log import MetricsLog
from lerobot_serl.policy.parts import CorrectorConfig, OnlineConfig, StartupConfig
from lerobot_serl.policy.progress import Phase, Progress
from lerobot_serl.replay.episode import ACTED_AS
from lerobot_serl.report.metrics_files import EPISODE_COLUMNS, LEARNER_LEADING_COLUMNS, MetricsDirectory
from lerobot_serl.report.style import WINDOW
from lerobot_serl.report.success_curve import DEPLOYED_WINDOW

ALONE = {"intervention": torch.zeros(12, dtype=torch.bool)}
LEROBOTS_OWN = {"steps", "samples", "episodes", "epochs", "loss", "grad_norm", "lr", "update_s", "dataloading_s", "samples_per_s"}


def open_journal(directory=None, resumed=False, **counters):
    config = small_config(online=OnlineConfig(repo_id="test/online"), metrics_period_s=1e-9)
    progress = Progress(config)
    for name, value in counters.items():
        setattr(progress, name, value)
    return MetricsLog(directory, config, progress, resumed)


def add_episodes(journal, outcomes, phase=Phase.ACTOR, **info):
    for success in outcomes:
        journal.episode(make_recording(12, success=success == "1", info=info, **ALONE), phase)


class Tracker(MetricsTracker):
    """LeRobot's own, as its train() makes it."""

    def __init__(self):
        meters = {name: AverageMeter(name) for name in ("loss", "grad_norm", "lr", "update_s", "dataloading_s", "samples_per_s")}
        super().__init__(1, 100, 4, meters, initial_step=7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool])
def test_each_metric_is_averaged_over_the_updates_that_had_it(dtype):
    averages = Averages()
    for update in range(6):
        metrics = {"q": torch.tensor(update % 2, dtype=dtype), "loss": torch.tensor([0.5], requires_grad=True), "rate": 2.0 * update}
        if update % 3 == 0:
            metrics |= {"actor_loss": torch.tensor(float(update)), "rate": torch.tensor(2.0 * update)}
        averages.add(metrics)
    assert averages.read() == {"q": 0.5, "loss": 0.5, "rate": 5.0, "actor_loss": 1.5}
    assert averages.read() == {}


def test_sums_have_more_digits_than_half_precision():
    averages = Averages()
    for update in range(1000):
        averages.add({"loss": torch.tensor(3.0 if update % 2 else 1.0, dtype=torch.bfloat16)})
    assert averages.read() == {"loss": 2.0}


def test_nan_says_that_there_is_nothing_to_say():
    """Of the robot's half of a batch, as long as there is none; an update with an infinite loss is not made."""
    averages = Averages()
    for value in (math.nan, 2.0, 4.0):
        averages.add({"q_online": torch.tensor(value), "number": value, "never": torch.tensor(math.nan), "high": torch.tensor(math.inf)})
    assert averages.read() == {"q_online": 3.0, "number": 3.0}


def test_a_metric_is_what_it_was_when_it_came():
    """A captured graph writes the next update's numbers into the same tensors."""
    averages, loss = Averages(), torch.zeros(())
    for value in (1.0, 2.0, 6.0):
        averages.add({"loss": loss.fill_(value)})
    loss.fill_(1e9)
    assert averages.read() == {"loss": 3.0}


def test_nothing_is_read_back_between_rows_and_one_tensor_for_a_row():
    """Reading a tensor is waiting for the device: 25 metrics were 25 waits."""
    averages = Averages()
    for update in range(10):
        names = [f"metric_{index}" for index in range(25 if update % 2 else 20)]
        averages.add({name: torch.tensor(1.0, device="meta") for name in names})  # has no number that could be read
    averages = Averages()
    for count in (20, 25):
        averages.add({f"metric_{index}": torch.tensor(1.0) for index in range(count)})
    reads = []
    with pytest.MonkeyPatch.context() as patch:
        to_list = torch.Tensor.tolist
        patch.setattr(torch.Tensor, "tolist", lambda tensor: reads.append(tensor.shape) or to_list(tensor))
        assert len(averages.read()) == 25
    assert reads == [torch.Size([2, 45])]


def test_a_metric_that_nobody_declared_becomes_a_column(tmp_path):
    """It ended the run: a list of names had to be kept in step with the agent."""
    journal = open_journal(tmp_path, updates=1)
    journal.collect({"critic_loss": torch.tensor(0.5)})
    journal.write_if_due({"alarms": 0})
    journal.collect({"critic_loss": 1.5, "grip_loss": torch.tensor(0.25)})
    journal.write_if_due({"alarms": 1, "new_gauge": 3})
    journal.write_if_due({})  # and one that is missing ends nothing
    table = MetricsDirectory(tmp_path).load().learner
    assert tuple(table)[:4] == LEARNER_LEADING_COLUMNS
    assert [str(value) for value in table["critic_loss"]] == ["0.5", "1.5", "nan"]
    assert [str(value) for value in table["grip_loss"]] == ["nan", "0.25", "nan"]
    assert [str(value) for value in table["new_gauge"]] == ["nan", "3.0", "nan"]
    assert journal.shown()["grip_loss"] == 0.25
    go_on = open_journal(tmp_path, resumed=True, updates=1)
    go_on.collect({"newer": 1.0})
    go_on.write_if_due({})
    assert MetricsDirectory(tmp_path).load().learner["newer"][-1] == 1.0


def test_whatever_number_an_actor_reports_becomes_a_column_and_nothing_that_it_reports_ends_the_learner(tmp_path, caplog):
    journal = open_journal(tmp_path)
    huge = {"takeovers": 10**4000, "clamps": -math.inf, "own_ms": math.nan, "late_ticks": "none"}
    add_episodes(journal, "1", grip_force_n=2.5, words="not numbers", episode=99, **huge)
    add_episodes(journal, "0", grip_force_n=True, **{"\n": 1.0, "a\nb": 2.0}, **{f"name_{index}": index for index in range(2000)})
    add_episodes(journal, "0", takeovers=2)
    table = MetricsDirectory(tmp_path).load().episodes
    assert [str(value) for value in table["grip_force_n"]] == ["2.5", "1.0", "nan"]
    assert tuple(table)[: len(EPISODE_COLUMNS)] == EPISODE_COLUMNS
    assert "words" not in table
    assert table["episode"] == [0.0, 0.0, 0.0]
    assert math.isnan(table["clamps"][0])
    assert caplog.text.count("Left out from here on") == 1
    assert journal.shown()["takeovers"] == 2.0


def test_the_first_update_has_something_to_show_and_later_ones_wait_for_the_period():
    journal = open_journal()
    journal._config.metrics_period_s = 3600.0
    assert journal.due
    journal.collect({"critic_loss": torch.tensor(0.5)})
    journal.write_if_due({"alarms": torch.tensor(2)})
    assert journal.shown().items() >= {"critic_loss": 0.5, "alarms": 2.0}.items()
    journal.collect({"critic_loss": 7.0})
    assert not journal.due
    journal.write_if_due({})
    assert journal.shown()["critic_loss"] == 0.5
    journal.write_if_due({}, last=True)
    assert journal.shown()["critic_loss"] == 7.0


def test_what_is_shown_of_episodes():
    journal = open_journal(env_steps=40)
    assert journal.shown() == {"env_steps": 40.0, "phase": 1.0}
    add_episodes(journal, "1" * 5, Phase.COLLECT, **{ACTED_AS: "deployed"})
    assert "success_deployed" not in journal.shown()  # of what practice began with
    add_episodes(journal, "10" * (WINDOW // 2), takeovers=3)
    assert journal.shown().items() >= {"success": 0.5, "return": 0.5, "takeovers": 3.0}.items()
    add_episodes(journal, "0" * 5 + "1" * (DEPLOYED_WINDOW - 5) + "0" * 5, **{ACTED_AS: "deployed"})
    helped = make_recording(12, intervention=torch.ones(12, dtype=torch.bool), info={ACTED_AS: "deployed"})
    journal.episode(helped, Phase.ACTOR)
    shown = journal.shown()
    assert shown["success_deployed"] == (DEPLOYED_WINDOW - 5) / DEPLOYED_WINDOW
    kept = WINDOW - DEPLOYED_WINDOW - 5 - 1  # of the alternating ones
    assert shown["success"] == (kept // 2 + DEPLOYED_WINDOW - 5) / WINDOW
    assert shown["return"] == (kept // 2 + DEPLOYED_WINDOW - 5 + 1) / WINDOW
    assert shown["takeovers"] == 3.0  # of those that say it


@pytest.mark.parametrize(("counters", "number"), [({}, 0), ({"env_steps": 10**6}, 1), ({"env_steps": 10**6, "updates": 10**6}, 2)])
def test_the_phase_is_a_number(counters, number):
    journal = open_journal(**counters)
    journal._config.startup.collect_steps = 100
    assert journal.shown()["phase"] == number


def test_a_resumed_run_shows_the_episodes_before_it(tmp_path):
    before = open_journal(tmp_path)
    add_episodes(before, "1110", takeovers=1, **{ACTED_AS: "deployed"})
    add_episodes(before, "00", **{ACTED_AS: "ACT"})
    after = open_journal(tmp_path, resumed=True)
    assert after.shown() == before.shown()
    assert after.shown().items() >= {"success": 0.5, "takeovers": 1.0, "success_deployed": 0.75}.items()


def test_lerobots_log_has_it_all_and_its_own_numbers_too(caplog):
    """docs/metrics.md promised these in wandb, and the dictionary that forward() returned had none of them."""
    journal, tracker = open_journal(env_steps=40, updates=3), Tracker()
    add_episodes(journal, "1", takeovers=2, **{ACTED_AS: "deployed"})
    journal.collect({"critic_loss": torch.tensor(0.5), "unheard_of": 4})
    journal.write_if_due({"lead_steps": 1.5, "alarms": 1, "rollbacks": 1})
    own, expected = tracker.to_dict(), {"success": 1.0, "return": 1.0, "takeovers": 2.0, "lead_steps": 1.5, "alarms": 1.0, "rollbacks": 1.0}
    for _ in range(2):  # two windows of LeRobot's log
        for _ in range(3):
            tracker.update_metrics(journal.shown())
        logged = tracker.to_dict()
        assert logged.items() >= {**expected, "critic_loss": 0.5, "unheard_of": 4.0, "success_deployed": 1.0, "phase": 1.0}.items()
        assert {name: logged[name] for name in own} == own
        assert "success:1.000" in str(tracker)
        tracker.reset_averages()
    assert not LEROBOTS_OWN & set(journal.shown())
    assert all(type(value) is float for value in journal.shown().values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Read the `app_url`:DeprecationWarning")
def test_wandb_gets_it_through_lerobots_logger(tmp_path, caplog):
    wandb = pytest.importorskip("wandb")
    from wandb_offline import wandb_rows

    cfg = TrainPipelineConfig(dataset=DatasetConfig(repo_id="you/pick"), wandb=WandBConfig(enable=True, mode="offline"))
    cfg.policy, cfg.output_dir = small_config(), tmp_path
    logger, tracker, journal = WandBLogger(cfg), Tracker(), open_journal()
    add_episodes(journal, "10", takeovers=1)
    journal.write_if_due({"lead_steps": 0.0, "alarms": 2, "rollbacks": 1})
    tracker.update_metrics(journal.shown())
    with caplog.at_level(logging.WARNING):
        logger.log_dict(tracker.to_dict(), 5)
    wandb.finish()
    wandb.teardown()  # its service would take the runs of later tests' commands, and finish them when this process ends
    assert "WANDB_SERVICE" not in os.environ
    (row,) = wandb_rows(tmp_path)
    expected = {"success": 0.5, "return": 0.5, "takeovers": 1, "phase": 0, "lead_steps": 0, "alarms": 2, "rollbacks": 1}
    assert row.items() >= {"_step": 5, **{f"train/{name}": value for name, value in expected.items()}}.items()
    assert "was ignored" not in caplog.text


def test_every_column_that_a_run_writes_is_explained(demonstrations, tmp_path):
    """Of a run that goes through all phases, with takeovers."""
    source = Episodes(9)
    learner = learner_for(
        demonstrations, tmp_path, source, startup=StartupConfig(collect_steps=16, critic_updates=1), policy_delay=1,
        corrector=CorrectorConfig(least_takeovers=1), online=OnlineConfig(repo_id="local/here", root=str(tmp_path / "never")),
    )  # fmt: skip
    by_hand = torch.arange(8) > 4
    remember(learner, make_recording(8, intervention=by_hand))
    learner.config.metrics_period_s = 1e-9
    for _ in range(3):
        learner.step()
    explained = [name for name in columns_in("learner") if not name.startswith("grasp_")]  # those come with policy.gripper=discrete
    assert sorted(MetricsDirectory(tmp_path).load().learner) == explained
