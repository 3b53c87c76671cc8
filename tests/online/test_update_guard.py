"""Losses and gradients that are not finite never reach weights or momentum; a run of them stops training."""

import math

import pytest
import torch
from small_data import make_recording
from small_policy import small_agent, small_config

from lerobot_serl.online import update_guard
from lerobot_serl.online.feature_cache import cache_features
from lerobot_serl.online.learner import Learner
from lerobot_serl.policy.parts import StartupConfig
from lerobot_serl.policy.progress import Progress

TARGET = "critic_target."


class SmallRun:
    """A real learner in this process, offline, whose guard looks after every update."""

    def __init__(self, demonstrations, tmp_path, **changes):
        startup = StartupConfig(critic_updates=0, ramp_updates=0, scale_fraction=1.0)
        self.config = small_config(
            startup=startup, batch_size=8, policy_delay=1, metrics_dir=str(tmp_path), metrics_period_s=1e-6, **changes
        )
        self.agent, self.progress = small_agent(self.config), Progress(self.config)
        self.learner = Learner(self.agent, self.config, self.progress, demonstrations.meta)

    def step(self, spoil_gradient=False):
        weight = self.agent.actor.head.weight
        hook = weight.register_hook(lambda gradient: gradient * math.inf) if spoil_gradient else None
        self.learner.step()
        if hook is not None:
            hook.remove()

    def state(self):
        """Everything that a loss moves, optimizers included."""
        tensors = {**self.agent.state_dict(), **self.learner.learning.optimizers.state_dict()}
        return {name: value.clone() for name, value in tensors.items() if not name.startswith(TARGET)}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())


@pytest.fixture
def run(demonstrations, tmp_path, monkeypatch):
    monkeypatch.setattr(update_guard, "MOST_BAD_UPDATES", 3)
    return SmallRun(demonstrations, tmp_path)


@pytest.mark.parametrize("term", ["critic_loss", "actor_loss", "temperature_loss"])
def test_a_loss_that_is_not_finite_changes_nothing_and_is_named(run, term, caplog, monkeypatch):
    run.step()
    before, drawn = run.state(), run.learner.learning.generator.get_state()
    with monkeypatch.context() as patch:
        function = getattr(__import__("lerobot_serl.sac", fromlist=["sac"]), term)
        patch.setattr(f"lerobot_serl.sac.{term}", lambda *args, **kwargs: function(*args, **kwargs) * math.nan)
        run.step()
    assert same(run.state(), before)
    (said,) = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
    assert said.startswith("An update was skipped, after 1: not finite: ")
    assert f"{term}. No weight was changed. The data in the memory are finite. Look at learner.csv" in said
    assert "gradient" not in said
    assert (run.progress.updates, run.progress.skipped_updates) == (1, 1)
    assert not torch.equal(run.learner.learning.generator.get_state(), drawn)  # the next update does not draw the bad batch again
    run.step()
    assert run.progress.updates == 2
    assert not same(run.state(), before)


def test_a_gradient_that_is_not_finite_changes_nothing(run, caplog):
    run.step()
    before = run.state()
    run.step(spoil_gradient=True)
    assert same(run.state(), before)
    assert "not finite: gradient of actor. No weight" in caplog.text
    assert run.progress.updates == 1


def test_bad_data_is_named_and_a_run_of_bad_updates_stops_training(run, caplog):
    run.step()
    before = run.state()
    observation = {key: torch.full_like(value, math.nan) for key, value in make_recording(30).observation.items()}
    recording = make_recording(30, observation=observation, intervention=torch.zeros(30, dtype=torch.bool))
    run.learner.online.add(cache_features(run.learner.agent, recording, 64))  # as if memory failed: the learner takes no such episode in
    for _ in range(3):
        run.step()
    assert same(run.state(), before)
    assert "The memory itself holds NaN or infinity in base of the robot's episodes, features of the robot's episodes." in caplog.text
    assert caplog.text.count("Look at learner.csv") == 1
    with pytest.raises(SystemExit) as end:
        run.learner.step()
    assert end.value.code == 1
    assert "Training stops: 3 updates in a row were not finite" in caplog.text


def test_a_good_update_in_between_starts_the_count_anew(run, tmp_path):
    for spoil in (True, True, False, True, True, False):
        run.step(spoil_gradient=spoil)
    assert (run.progress.updates, run.progress.skipped_updates) == (2, 4)
    header, *rows = [line.split(",") for line in (tmp_path / "metrics" / "learner.csv").read_text().splitlines()]
    assert rows[-1][header.index("skipped_updates")] == "4"
    assert [row[header.index("step")] for row in rows] == ["0", "0", "1", "1", "1", "2"]


def test_between_two_looks_nothing_is_read_and_nothing_is_lost(demonstrations, tmp_path, monkeypatch, caplog):
    """The updates are counted on the device, and corrected when the guard looks: after so many, with a row, or for a checkpoint."""
    monkeypatch.setattr(update_guard, "LOOK_EVERY", 5)
    run = SmallRun(demonstrations, tmp_path)
    run.config.metrics_period_s = 3600.0
    run.step()  # the first one has a row
    for spoil in (True, False, True):
        run.step(spoil_gradient=spoil)
    assert run.progress.skipped_updates == 0
    run.step()
    run.step()
    assert (run.progress.updates, run.progress.skipped_updates) == (4, 2)
    assert "2 updates were skipped, after 4: not finite: gradient of actor." in caplog.text
    run.step(spoil_gradient=True)
    run.learner.save(tmp_path / "checkpoint")
    assert (run.progress.updates, run.progress.skipped_updates) == (4, 3)
