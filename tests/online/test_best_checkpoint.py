"""``checkpoints/best``: written beside every checkpoint, whole, and never worse than ACT but by chance."""

import json
import logging
import math

import pytest
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.factory import make_pre_post_processors
from practice_run import SOURCE, Run, actions

from lerobot_serl.online.best_checkpoint import write_best
from lerobot_serl.online.evidence import BestPolicy, Tally
from lerobot_serl.online.learner import Learner
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.replay.episode import ActedAs

NOTHING = BestPolicy(None, Tally())


def load(best):
    policy = SerlSacPolicy.from_pretrained(best / "pretrained_model")
    make_pre_post_processors(policy.config, pretrained_path=str(best / "pretrained_model"))
    return policy


@pytest.fixture
def run(demonstrations, tmp_path):
    return Run(demonstrations, tmp_path)


def card(best):
    return (best / "pretrained_model" / "README.md").read_text()


@pytest.mark.parametrize("online", [True, False])
def test_before_any_episode_as_deployed_it_is_act_and_says_so(demonstrations, tmp_path, caplog, online):
    caplog.set_level(logging.INFO)
    run = Run(demonstrations, tmp_path, online)
    with torch.no_grad():
        run.policy.agent.actor.head.bias.fill_(2.0)
    best = run.save(20)
    assert best.is_symlink()
    policy = load(best)
    assert torch.equal(actions(policy), actions(run.policy, act_alone=True))
    run.policy.config.act_alone = False
    assert not torch.equal(actions(policy), actions(run.policy))
    said = "acts as ACT: nothing can be said about the edits yet"
    assert said in card(best)
    assert f"{best} {said}" in caplog.text
    assert "`--policy.act_alone=false` deploys it all the same" in card(best)
    assert json.loads((tmp_path / "metrics" / "best.json").read_text())["acts_as_act"] is True


def test_edits_that_are_better_than_act_are_handed_out_with_the_weights_of_the_evidence(run, tmp_path):
    run.practise("01" * 10, ActedAs.ACT, learning=False)
    run.practise("1" * 40, ActedAs.DEPLOYED)
    copy = run.learner.best_policy.candidate.kept
    run.practise("0" * 15, ActedAs.DEPLOYED)  # what was learnt later is worse
    policy = load(run.save(20))
    assert not policy.config.act_alone
    for name, value in copy.tensors.items():
        assert torch.equal(policy.agent.state_dict()[name], value), name
    assert not torch.equal(policy.agent.actor.head.bias, run.policy.agent.actor.head.bias)
    assert "edits ACT, as that is better" in card(run.checkpoints / "best")
    assert "--policy.act_alone" not in card(run.checkpoints / "best")
    last = SerlSacPolicy.from_pretrained(run.checkpoints / "000020" / "pretrained_model")
    assert torch.equal(last.agent.actor.head.bias, run.policy.agent.actor.head.bias)
    said = json.loads((tmp_path / "metrics" / "best.json").read_text())
    assert (said["acts_as_act"], said["act"], said["deployed"]) == (False, [10, 20], [40, 40])


def test_edits_no_better_than_act_are_kept_but_not_used(run):
    run.practise("1" * 20, ActedAs.ACT, learning=False)
    run.practise("1" * 40, ActedAs.DEPLOYED)
    policy = load(run.save(20))
    assert torch.equal(actions(policy), actions(run.policy, act_alone=True))
    assert "acts as ACT: the episodes do not say that the edits are better" in card(run.checkpoints / "best")
    assert torch.equal(policy.agent.actor.head.bias, run.learner.best_policy.candidate.kept.tensors["actor.head.bias"])


def test_training_goes_on_from_it_with_what_was_learnt(run, demonstrations, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    run.practise("1" * 40, ActedAs.DEPLOYED)
    model = run.save(20) / "pretrained_model"
    config = PreTrainedConfig.from_pretrained(model)
    assert config.act_alone
    assert not config.in_progress
    config.metrics_dir = str(tmp_path / "next")
    policy = SerlSacPolicy.from_pretrained(model, config=config, dataset_meta=demonstrations.meta)
    Learner(policy.agent, config, policy.progress, demonstrations.meta, type("Source", (), SOURCE)())
    assert not config.act_alone
    assert policy.agent.actor.has_learnt
    assert "acts as ACT alone (policy.act_alone=true); this run goes on from what it had learnt" in caplog.text


def test_resuming_from_it_is_refused_with_the_way_on(run):
    model = run.save(20) / "pretrained_model"
    config = PreTrainedConfig.from_pretrained(model)
    config.in_progress = True
    with pytest.raises(ValueError, match=r"cannot be resumed from .*best: it holds a policy to deploy, and no training_state"):
        SerlSacPolicy.from_pretrained(model, config=config)


def test_what_is_pushed_is_the_best_and_its_card_says_why(run, tmp_path, monkeypatch):
    run.practise("01" * 10, ActedAs.ACT, learning=False)
    run.practise("1" * 40 + "0" * 15, ActedAs.DEPLOYED)
    run.policy.save_pretrained(tmp_path / "you" / "policy")
    pushed = SerlSacPolicy.from_pretrained(tmp_path / "you" / "policy")
    best = run.learner.best_policy.candidate.kept.tensors["actor.head.bias"]
    assert torch.equal(pushed.agent.actor.head.bias, best)
    monkeypatch.setattr("huggingface_hub.ModelCard.validate", lambda self, **kwargs: None)  # asks the Hub
    text = run.policy.generate_model_card("local/demos", "serl_sac", None, None).content
    assert "## Evidence" in text
    assert "edits ACT, as that is better" in text


def test_the_link_moves_with_every_checkpoint_and_nothing_is_left_behind(run):
    link = run.save(20)
    first = link.resolve()
    assert run.save(40).resolve() != first
    again = run.save(40).resolve()
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["000020", "000040", "best", again.name]
    assert not link.readlink().is_absolute()
    assert load(link)


@pytest.mark.parametrize("when", ["while it is written", "before the link"])
def test_a_kill_leaves_the_one_before(tmp_path, when, monkeypatch):
    def save(directory):
        (directory / "model").write_text("new")
        if when == "while it is written":
            raise KeyboardInterrupt

    (tmp_path / "000020").mkdir()
    write_best(tmp_path / "000020", NOTHING, lambda directory: (directory / "model").write_text("old"))
    if when == "before the link":
        monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_best(tmp_path / "000040", NOTHING, save)
    assert (tmp_path / "best" / "pretrained_model" / "model").read_text() == "old"
    monkeypatch.undo()
    write_best(tmp_path / "000040", NOTHING, lambda directory: (directory / "model").write_text("newer"))
    assert (tmp_path / "best" / "pretrained_model" / "model").read_text() == "newer"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_directory_of_that_name_is_left_alone(tmp_path, caplog):
    (tmp_path / "best").mkdir()
    write_best(tmp_path / "000020", NOTHING, lambda directory: math.nan)
    assert not (tmp_path / "best").is_symlink()
    assert "best is no link" in caplog.text
