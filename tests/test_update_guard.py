"""Losses and gradients that are not finite never reach weights, momentum or targets; a run of them stops training."""

import copy
import math

import pytest
import torch
from conftest import make_recording, small_agent, small_config

from lerobot_serl.online.intake import annotate
from lerobot_serl.online.learner import Learner
from lerobot_serl.online.progress import Progress
from lerobot_serl.policy.optimizer import GroupControl, PerNetworkAdamConfig
from lerobot_serl.policy.parts import GuardConfig, StartupConfig


class SmallRun:
    """A real learner, optimizer and loop, as LeRobot runs them, in this process and offline."""

    def __init__(self, demonstrations, tmp_path, **changes):
        startup = StartupConfig(critic_updates=0, ramp_updates=0, scale_fraction=1.0)
        self.config = small_config(
            startup=startup, batch_size=8, policy_delay=1, metrics_dir=str(tmp_path), metrics_period_s=1e-6, **changes
        )
        self.agent, self.progress = small_agent(self.config), Progress(self.config)
        controls = {name: GroupControl() for name in ("critic", "actor", "temperature", "corrector")}
        networks = {
            "critic": list(self.agent.critic.parameters()),
            "actor": list(self.agent.actor.parameters()),
            "temperature": [self.agent.raw_temperature],
            "corrector": list(self.agent.corrector.parameters()),
        }
        groups = [
            {"params": networks[name], "lr": 1e-3, "name": name, "max_grad_norm": 10.0, "control": control}
            for name, control in controls.items()
        ]
        self.optimizer = PerNetworkAdamConfig().build(groups)
        self.learner = Learner(self.agent, self.config, self.progress, demonstrations.meta, controls)

    def step(self, spoil_gradient=False):
        loss, _ = self.learner.loss()
        loss.backward()
        if spoil_gradient:
            self.agent.actor.head.weight.grad[0, 0] = math.inf
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.learner.after_update()
        return loss.item()

    def state(self):
        """Everything that learning moves, optimizer included."""
        momentum = [value.clone() for state in self.optimizer.state.values() for value in state.values()]
        return copy.deepcopy(list(self.agent.state_dict().values())) + momentum


def same(one, two):
    return len(one) == len(two) and all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.fixture
def run(demonstrations, tmp_path):
    return SmallRun(demonstrations, tmp_path, guard=GuardConfig(max_bad_updates=3))


@pytest.mark.parametrize("term", ["critic", "actor", "temperature"])
def test_a_loss_that_is_not_finite_changes_nothing_and_is_named(run, term, caplog, monkeypatch):
    run.step()
    before, drawn = run.state(), run.learner.generator.get_state()
    with monkeypatch.context() as patch:
        name = {"critic": "critic_loss", "actor": "actor_loss", "temperature": "temperature_loss"}[term]
        function = getattr(__import__("lerobot_serl.sac", fromlist=["sac"]), name)
        patch.setattr(f"lerobot_serl.sac.{name}", lambda *args, **kwargs: function(*args, **kwargs) * math.nan)
        assert run.step() == 0.0
    assert same(run.state(), before)
    assert f"not finite: {name}. No weight was changed. The batch itself is finite. Look at learner.csv" in caplog.text
    assert (run.progress.updates.item(), run.progress.actor_updates.item(), run.progress.skipped_updates.item()) == (1, 1, 1)
    assert not torch.equal(run.learner.generator.get_state(), drawn)
    assert torch.equal(run.progress.generator_state, run.learner.generator.get_state())  # a resumed run does not draw the bad batch again
    run.step()
    assert run.progress.updates.item() == 2
    assert not same(run.state(), before)


def test_a_gradient_that_is_not_finite_changes_nothing(run, caplog):
    run.step()
    before, norm = run.state(), run.learner.controls["actor"].grad_norm
    run.step(spoil_gradient=True)
    assert same(run.state(), before)
    assert "not finite: gradient of actor. No weight" in caplog.text
    assert run.learner.controls["actor"].grad_norm == norm
    assert run.progress.updates.item() == 1


def test_bad_data_is_named_and_a_run_of_bad_updates_stops_training(run, caplog):
    run.step()
    before = run.state()
    observation = {key: torch.full_like(value, math.nan) for key, value in make_recording(30).observation.items()}
    recording = make_recording(30, observation=observation, intervention=torch.zeros(30, dtype=torch.bool))
    run.learner.online.add(annotate(run.learner.agent, recording, 64))  # as if memory failed: the learner takes no such episode in
    for _ in range(3):
        run.step()
    assert same(run.state(), before)
    assert "The batch itself holds NaN or infinity in features, " in caplog.text
    assert caplog.text.count("Update skipped") == 1
    with pytest.raises(SystemExit) as end:
        run.learner.loss()
    assert end.value.code == 1
    assert "Training stops: 3 updates in a row were not finite (policy.guard.max_bad_updates=3)" in caplog.text


def test_a_good_update_in_between_starts_the_count_anew(run, tmp_path):
    for spoil in (True, True, False, True, True, False):
        run.step(spoil_gradient=spoil)
    assert (run.progress.updates.item(), run.progress.skipped_updates.item()) == (2, 4)
    header, *rows = [line.split(",") for line in (tmp_path / "metrics" / "learner.csv").read_text().splitlines()]
    assert rows[-1][header.index("skipped_updates")] == "4"
    assert [row[header.index("step")] for row in rows] == ["0", "0", "1", "1", "1", "2"]
    assert all(row[header.index("actor_grad_norm")] for row in rows if row[header.index("actor_loss")])
