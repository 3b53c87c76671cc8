"""Signals between updates, in a loop that decides like LeRobot's; the whole of `lerobot-train` is in test_learner.py."""

import json
import logging
import signal

import pytest
from lerobot.common.train_utils import should_save_checkpoint
from lerobot.configs.default import DatasetConfig
from lerobot.configs.train import TRAIN_CONFIG_NAME, TrainPipelineConfig

from lerobot_serl.online.stopping import Stopping
from lerobot_serl.online.train_loop import TrainLoop


class Run:
    """What a run of the loop did: the steps after which it saved."""

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
        self.stopping.end_if_saved()
        during(self.stopping)

    def train(self, during, step=0):
        """LeRobot's loop as the policy meets it; ``during`` maps a step to what happens in its update."""
        cfg = self.config
        for _ in range(step, cfg.steps):
            self.forward(during.get(step, lambda stopping: None))
            self.stopping.after_update()
            step += 1
            if cfg.save_checkpoint and should_save_checkpoint(step, cfg.save_freq, cfg.steps):
                directory = cfg.output_dir / "checkpoints" / f"{step:06d}"
                directory.mkdir(parents=True)
                cfg._save_pretrained(directory)
                self.saved.append((step, json.loads((directory / TRAIN_CONFIG_NAME).read_text())["save_freq"]))


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
    assert run.saved[-1] == (6, save_freq)
    assert len(run.saved) == (3 if save_freq == 1 else 1)
    written = tmp_path / "checkpoints" / "000006"
    command = f"lerobot-train --resume=true --config_path={written / 'pretrained_model' / TRAIN_CONFIG_NAME}"
    assert f"Checkpoint written to {written}; go on with: {command}" in caplog.text
    assert type(run.config.save_freq) is int


def test_a_signal_after_the_decision_to_save_waits_for_the_next_update(tmp_path, monkeypatch):
    """It ended without a checkpoint: the signal had come after LeRobot was told to save, or not to, and before that was noted."""
    run, signals = Run(tmp_path), [signal.SIGTERM]

    def steps_left(loop):
        if signals:
            signal.raise_signal(signals.pop())
        return 9

    monkeypatch.setattr(TrainLoop, "steps_left", property(steps_left))
    with pytest.raises(SystemExit):
        run.train({}, step=3)
    assert [step for step, _ in run.saved] == [5]


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
    assert [step for step, _ in run.saved] == [10]


def test_a_learner_that_can_not_go_on_saves_and_says_why(tmp_path, caplog):
    run = Run(tmp_path)
    with pytest.raises(SystemExit) as end:
        run.train({4: lambda stopping: stopping.ask("All is lost.")})
    assert end.value.code == 1
    assert [step for step, _ in run.saved] == [5]
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
