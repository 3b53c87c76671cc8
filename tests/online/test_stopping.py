"""Signals between updates, in a loop that decides like LeRobot's; the whole of `lerobot-train` is in test_learner.py."""

import json
import logging
import signal
from types import SimpleNamespace

import pytest
import torch
from lerobot.common.train_utils import get_step_checkpoint_dir, save_checkpoint, should_save_checkpoint, update_last_checkpoint
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TRAIN_CONFIG_NAME, TrainPipelineConfig

from lerobot_serl.online.stopping import Stopping
from lerobot_serl.online.train_loop import TrainLoop


class Run:
    """What a run of the loop did: the steps of which there is a checkpoint, in order. It is the policy as well, which LeRobot asks to save."""

    def __init__(self, tmp_path, save_freq=100, steps=10, save_checkpoint=True):
        self.config = TrainPipelineConfig(
            dataset=DatasetConfig(repo_id="test/tiny"),
            output_dir=tmp_path,
            save_freq=save_freq,
            steps=steps,
            save_checkpoint=save_checkpoint,
        )
        self.saved = []
        self.stopping = None

    def forward(self, during):
        if self.stopping is None:
            self.stopping = Stopping(TrainLoop.find())
        self.stopping.end_if_asked()
        during(self.stopping)
        self.stopping.end_if_asked() if during is while_waiting else None
        self.stopping.after_update()

    def save_pretrained(self, directory, state_dict=None):
        directory.mkdir(parents=True)
        self.saved.append(int(directory.parent.name))
        self.stopping.saved()

    def train(self, during, step=0, between=None):
        """LeRobot's loop as the policy meets it; ``during`` maps a step to what happens in its update, ``between`` to what happens after it."""
        cfg, policy, accelerator = self.config, self, SimpleNamespace(unwrap_model=lambda policy: policy)
        optimizer, lr_scheduler, preprocessor, postprocessor = (
            torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=0.1),
            None,
            None,
            None,
        )
        for _ in range(step, cfg.steps):
            policy.forward(during.get(step, lambda stopping: None))
            step += 1
            (between or {}).get(step, lambda stopping: None)(self.stopping)
            if cfg.save_checkpoint and should_save_checkpoint(step, cfg.save_freq, cfg.steps):
                checkpoint_dir = get_step_checkpoint_dir(cfg.output_dir, cfg.steps, step)
                save_checkpoint(
                    checkpoint_dir, step, cfg, accelerator.unwrap_model(policy), optimizer,
                    lr_scheduler, preprocessor, postprocessor,
                )  # fmt: skip
                update_last_checkpoint(checkpoint_dir)


def while_waiting(stopping):
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def handlers():
    """Signals must be as they were when a learner has ended."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def send(number):
    return lambda stopping: signal.raise_signal(number)


@pytest.mark.parametrize("save_freq", [100, 0, -1, 1])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_loop_after_a_checkpoint_of_the_update_in_progress(tmp_path, caplog, save_freq, number, code):
    caplog.set_level(logging.INFO)
    run = Run(tmp_path, save_freq)
    with pytest.raises(SystemExit) as end:
        run.train({5: send(number)}, step=3)
    assert end.value.code == code
    assert run.stopping.is_for_a_restart == (number == signal.SIGTERM)
    assert run.saved[-1] == 6
    assert len(run.saved) == (3 if save_freq == 1 else 1)
    written = tmp_path / "checkpoints" / "000006"
    command = f"lerobot-train --resume=true --config_path={written / 'pretrained_model' / TRAIN_CONFIG_NAME}"
    assert f"Checkpoint written to {written}; go on with: {command}" in caplog.text
    assert json.loads((written / "pretrained_model" / TRAIN_CONFIG_NAME).read_text())["save_freq"] == save_freq
    assert json.loads((written / "training_state" / "training_step.json").read_text())["step"] == 6
    assert (tmp_path / "checkpoints" / "last").resolve() == written


def test_a_signal_between_two_updates_saves_the_one_before(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(SystemExit):
        run.train({}, step=3, between={5: send(signal.SIGTERM)})
    assert run.saved == [5]


def test_a_signal_while_the_learner_waits_for_the_robot_saves_the_last_update(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(SystemExit):
        run.train({4: while_waiting}, step=3)
    assert run.saved == [4]


def test_without_checkpoints_it_just_ends(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run = Run(tmp_path, save_checkpoint=False)
    with pytest.raises(SystemExit):
        run.train({2: send(signal.SIGTERM)})
    assert run.saved == []
    assert "Stopped without a checkpoint, as --save_checkpoint=false asks" in caplog.text


def test_a_second_signal_stops_at_once(tmp_path):
    def twice(stopping):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    run = Run(tmp_path)
    with pytest.raises(SystemExit) as end:
        run.train({1: twice})
    assert end.value.code == 143
    assert run.saved == []


def test_in_the_last_update_the_loop_ends_by_itself(tmp_path):
    run = Run(tmp_path)
    run.train({9: send(signal.SIGINT)})
    assert run.saved == [10]


def test_a_learner_that_can_not_go_on_saves_and_says_why(tmp_path, caplog):
    run = Run(tmp_path)
    with pytest.raises(SystemExit) as end:
        run.train({4: lambda stopping: stopping.ask("All is lost.")})
    assert end.value.code == 1
    assert run.saved == [5]
    assert "All is lost." in caplog.text


def test_before_the_first_update_there_is_nothing_to_save(tmp_path, caplog):
    caplog.set_level(logging.INFO)

    def while_decoding(stopping):
        signal.raise_signal(signal.SIGTERM)
        stopping.end_if_asked()

    run = Run(tmp_path)
    with pytest.raises(SystemExit):
        run.train({0: while_decoding})
    assert run.saved == []
    assert "nothing new to save" in caplog.text


def test_outside_lerobot_train_signals_are_left_alone():
    before = signal.getsignal(signal.SIGTERM)
    assert TrainLoop.find() is None
    Stopping(None)
    assert signal.getsignal(signal.SIGTERM) is before
