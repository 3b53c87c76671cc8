"""What it takes to look at a frame is measured where training starts, as it is computed at every decision, and said with the remedies."""

import logging
import time

import numpy as np
import pytest
import torch
from lerobot.configs import FeatureType, PolicyFeature
from small_data import INPUTS, labelled_episodes
from small_policy import small_agent, small_config

from lerobot_serl.actor.planned_policy import planned
from lerobot_serl.actor.planning import Planning
from lerobot_serl.base.act import ActBase
from lerobot_serl.online.learner import Learner
from lerobot_serl.policy.look_time import MEASURED_TIMES, look_s, say_look, slowest_s
from lerobot_serl.policy.progress import Progress

STATE, CAMERA = PolicyFeature(FeatureType.STATE, (2,)), PolicyFeature(FeatureType.VISUAL, (3, 32, 32))
WITH_CAMERA = {"observation.state": STATE, "observation.images.front": CAMERA}


def seeing(features="auto", n_action_steps=4, **changes):
    return small_agent(small_config(input_features=WITH_CAMERA, features=features, horizon=2, n_action_steps=n_action_steps, **changes))


class Backbone:
    """ACT's, which may take its time; and how often it was asked."""

    def __init__(self, monkeypatch):
        self.delay_s, self.asked, pooled = 0.0, 0, ActBase.pooled

        def slow(base, observation):
            self.asked += 1
            time.sleep(self.delay_s)
            return pooled(base, observation)

        monkeypatch.setattr(ActBase, "pooled", slow)


@pytest.fixture
def backbone(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    return Backbone(monkeypatch)


@pytest.mark.parametrize(("features", "asked"), [("auto", 1), ("both", 1), ("act", 1), ("state", 0), ("cnn", 0)])
def test_what_is_measured_is_what_a_decision_computes(backbone, features, asked):
    look_s(seeing(features))
    assert backbone.asked == asked * (1 + MEASURED_TIMES)


def test_the_slowest_counts_but_not_the_first():
    delays = iter([0.2, 0.0, 0.0, 0.05, 0.0, 0.0])
    assert 0.05 <= slowest_s(lambda: time.sleep(next(delays))) < 0.2
    assert next(delays, None) is None


def test_a_quick_backbone_is_one_line(backbone, caplog):
    say_look(seeing(), fps=1)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith("policy.features=auto sees cameras through ACT's backbone: ")
    assert record.getMessage().endswith(" control steps a frame on this machine's cpu.")


def test_a_slow_one_is_a_warning_with_the_remedies(backbone, caplog):
    backbone.delay_s = 0.05
    say_look(seeing(), fps=10)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "A robot side that is no faster lets the arm wait for it at every decision" in record.getMessage()
    assert "--policy.features=state" in record.getMessage()
    assert "--policy.features=cnn" in record.getMessage()


def test_an_encoder_of_its_own_is_measured_as_such(backbone, caplog):
    backbone.delay_s = 0.05
    say_look(seeing("cnn"), fps=1)
    assert "policy.features=cnn sees cameras through an encoder of its own: " in caplog.text
    assert "waits" not in caplog.text


@pytest.mark.parametrize("agent", [lambda: small_agent(small_config()), lambda: seeing("state"), lambda: seeing(n_action_steps=2)])
def test_without_cameras_or_open_plans_nothing_is_said(backbone, caplog, agent):
    backbone.delay_s = 0.05
    say_look(agent(), fps=100)
    assert caplog.records == []


def test_training_says_it_once_at_its_start(backbone, caplog, make_dataset, tmp_path):
    camera, image = "observation.images.front", {"dtype": "image", "shape": (32, 32, 3), "names": ["height", "width", "channels"]}
    episodes = [[{**frame, camera: np.zeros((32, 32, 3), np.uint8)} for frame in episode] for episode in labelled_episodes()]
    config = small_config(input_features={**INPUTS, camera: CAMERA}, horizon=2, n_action_steps=4, metrics_dir=str(tmp_path))
    Learner(small_agent(config), config, Progress(config), make_dataset(episodes, {camera: image}).meta)
    assert sum(record.getMessage().startswith("policy.features=auto sees cameras") for record in caplog.records) == 1


@pytest.mark.parametrize(("features", "waits"), [("auto", True), ("state", False), ("cnn", False)])
def test_the_robot_side_measures_it_too(backbone, caplog, features, waits):
    agent = seeing(features)
    backbone.delay_s = 0.05
    planned(agent, Planning("in_loop"), fps=10, simulated=False).close()
    (said,) = [record for record in caplog.records if record.getMessage().startswith("What actor and critics see of a frame takes")]
    assert (said.levelno == logging.WARNING) is waits
    assert ("the arm waits for it. Use a faster device (--device), or train anew." in said.getMessage()) is waits
    assert ("--policy.features=cnn, which reduces them" in said.getMessage()) is waits


def test_looking_does_not_move_the_random_numbers_of_training(backbone):
    agent, before = seeing("cnn"), torch.get_rng_state()
    say_look(agent, fps=10)
    assert torch.equal(torch.get_rng_state(), before)
