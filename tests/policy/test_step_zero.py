"""At step 0 the policy is what the owner of ACT runs, whatever the saved processors say; or it is refused in a sentence."""

import json
import logging
import re
from functools import cache

import pytest
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
from odd_checkpoints import edit_config, rename_tensors, save_old_act
from owned_act import ACTION, REPO, STATE, adopted, own_act, own_dataset
from poisoned_checkpoints import edit_step
from safetensors.torch import load_file, save_file

from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy

PRE, POST = "policy_preprocessor.json", "policy_postprocessor.json"
FRONT = "observation.images.front"


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Datasets: plain, with a camera, of a fifth of the range, with columns that ACT does not use."""
    root = tmp_path_factory.mktemp("own")
    own_dataset(root / "plain")
    own_dataset(root / "camera", ("front",))
    own_dataset(root / "few", scale=0.2)
    own_dataset(root / "more", velocity=4, effort=4)
    return root


@cache
def some_frames(root):
    """Every seventh observation of a dataset, and the range of each action over all frames."""
    dataset = LeRobotDataset(REPO, root=root)
    frames = [dataset[i] for i in range(len(dataset))]
    actions = torch.stack([frame[ACTION] for frame in frames])
    observations = [{key: value for key, value in frame.items() if key.startswith("observation.")} for frame in frames[::7]]
    return observations, actions.amax(0) - actions.amin(0)


def largest_difference(policy, act, root):
    """Between the policy and the owner's ACT, each after a reset, over frames of the dataset, in shares of each action's range."""
    owner = ACTPolicy.from_pretrained(act).eval()
    before, after = make_pre_post_processors(owner.config, pretrained_path=str(act))
    observations, span = some_frames(root)
    off = 0.0
    for frame in observations:
        owner.reset()
        policy.reset()
        wanted = after(owner.select_action(before(dict(frame))))
        got = policy.select_action({key: value.unsqueeze(0) for key, value in frame.items()})
        off = max(off, float(((wanted - got).abs() / span).max()))
    return off


def statistics_of(act, file, change):
    path = next(act.glob(f"{file.removesuffix('.json')}_step_*.safetensors"))
    tensors = load_file(path)
    save_file({key: change(key, value) for key, value in tensors.items()}, path)


def to_radians(act):
    statistics_of(act, POST, lambda key, value: value * torch.pi / 180 if key.startswith("action.") else value)


def other_mapping(act):
    config = json.loads((act / "config.json").read_text())
    config["normalization_mapping"]["STATE"] = "MIN_MAX"
    (act / "config.json").write_text(json.dumps(config))


def normalizer(**changes):
    def edit(act):
        config = json.loads((act / PRE).read_text())["steps"][3]["config"]
        edit_step(act, 3, config={**config, **changes})

    return edit


def without_statistics(act):
    path = next(act.glob("policy_preprocessor_step_*.safetensors"))
    save_file({key: value for key, value in load_file(path).items() if not key.startswith(f"{STATE}.")}, path)


def no_features_after(act):
    config = json.loads((act / POST).read_text())["steps"][0]["config"]
    edit_step(act, 0, POST, config={**config, "features": {}})


PROCESSORS = {
    "the post-processor has statistics of its own": to_radians,
    "config.json says another mode": other_mapping,
    "the pre-processor leaves inputs alone": normalizer(normalize_observation_keys=["observation.environment_state"]),
    "modes of the pre-processor only": normalizer(norm_map={"STATE": "MIN_MAX", "ENV": "QUANTILES", "ACTION": "MEAN_STD"}),
    "a type without a mode": normalizer(norm_map={"STATE": "MEAN_STD"}),
    "a large eps": normalizer(eps=0.5),
    "an input without statistics": without_statistics,
    "the action is not among the features": no_features_after,
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory, roots):
    """ACT with the processors that LeRobot made for it."""
    own_act(act := tmp_path_factory.mktemp("act"), roots / "plain", gain=3.0)
    return adopted(act, roots / "plain")


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_saved_processors_decide(tmp_path, roots, plain, name, caplog):
    own_act(act := tmp_path / "act", root := roots / "plain", gain=3.0)
    PROCESSORS[name](act)
    with caplog.at_level(logging.INFO):
        policy = adopted(act, root)
    assert largest_difference(policy, act, root) < 1e-5
    assert re.search(r"Step 0 is ACT: on 60 observations of owner/pick .* by at most \d\.\de-\d\d of", caplog.text)
    if name not in ("the action is not among the features", "config.json says another mode"):  # LeRobot does not look at these
        assert largest_difference(plain, act, root) > 0.01
    policy.save_pretrained(tmp_path / "serl")
    assert largest_difference(SerlSacPolicy.from_pretrained(tmp_path / "serl"), act, root) < 1e-5


def test_a_plain_checkpoint_needs_no_modes_of_its_own(tmp_path, roots):
    own_act(tmp_path / "act", roots / "camera")
    policy = adopted(tmp_path / "act", roots / "camera")
    assert policy.config.act.feature_modes == {}
    assert policy.config.act_rename_map == {}
    assert largest_difference(policy, tmp_path / "act", roots / "camera") < 1e-5


@pytest.mark.parametrize("gain", [0.1, 20.0])
def test_the_box_contains_what_act_does(tmp_path, roots, gain):
    """What it was trained with, also where it plans little, and what it plans, also beyond that."""
    own_act(tmp_path / "act", roots / "plain", gain=gain)
    policy = adopted(tmp_path / "act", roots / "few")
    assert largest_difference(policy, tmp_path / "act", roots / "few") < 1e-4
    numbers = torch.stack([frame for frame in LeRobotDataset(REPO, root=roots / "plain").hf_dataset[ACTION]])
    low, high = policy.agent.box.unnormalize(torch.tensor(-1.0)), policy.agent.box.unnormalize(torch.tensor(1.0))
    assert (low < numbers.amin(0)).all(), "ACT's own demonstrations"
    assert (high > numbers.amax(0)).all()


def test_a_box_that_clips_act_is_refused(tmp_path, roots, monkeypatch):
    own_act(tmp_path / "act", roots / "plain", gain=20.0)
    monkeypatch.setattr("lerobot_serl.policy.adoption._range_of", lambda action: None)
    monkeypatch.setattr("lerobot_serl.networks.action_normalizer.ActionNormalizer.set_from_range", half_the_box)
    with pytest.raises(ValueError, match=r"differs from ACT as its owner runs it by [\d.]+ of the range of action entry \d \('\w+.pos'\)"):
        adopted(tmp_path / "act", roots / "plain")


def half_the_box(box, minimum, maximum, margin):
    box.middle.copy_((maximum + minimum) / 2)
    box.half_width.copy_((maximum - minimum) / 4)


def test_ranges_come_from_the_numbers_and_not_from_stats_json(tmp_path, roots, caplog):
    own_dataset(root := tmp_path / "stale")
    path = root / "meta" / "stats.json"
    statistics = json.loads(path.read_text())
    own_act(tmp_path / "act", root, gain=3.0)
    fresh = adopted(tmp_path / "act", root).agent
    for name in ("min", "max"):
        statistics[ACTION][name] = [0.3 * value for value in statistics[ACTION][name]]
    statistics[STATE]["mean"] = [value + 40 for value in statistics[STATE]["mean"]]
    path.write_text(json.dumps(statistics))
    with caplog.at_level(logging.WARNING):
        agent = adopted(tmp_path / "act", root).agent
    assert "meta/stats.json of owner/pick does not fit its 'action': its 'min' of entry 0 is" in caplog.text
    assert "does not fit its 'observation.state': its 'mean' of entry 0 is" in caplog.text
    torch.testing.assert_close(agent.box.half_width, fresh.box.half_width)
    torch.testing.assert_close(agent.features.mean, fresh.features.mean)


def test_a_glitch_of_the_recording_is_named_and_does_not_widen_the_box(tmp_path, roots, caplog):
    own_act(act := tmp_path / "act", roots / "plain")
    plain = adopted(act, roots / "plain").agent
    own_dataset(tmp_path / "data", edit=lambda frame, episode, t: frame[ACTION].put(2, 900.0) if (episode, t) == (1, 7) else None)
    with caplog.at_level(logging.WARNING):
        agent = adopted(act, tmp_path / "data").agent
    assert re.search(
        r"episode 1, frame 7, 'action'\[2\] is 900, one of 1 numbers far outside all others, which lie within -\d", caplog.text
    )
    torch.testing.assert_close(agent.box.half_width, plain.box.half_width, rtol=0.1, atol=0)


def test_columns_that_act_does_not_use_are_not_needed(tmp_path, roots):
    own_act(act := tmp_path / "act", roots / "more")
    policy = adopted(act, roots / "plain")
    assert list(policy.config.input_features) == [STATE, "observation.environment_state"]
    assert largest_difference(policy, act, roots / "plain") < 1e-5


@pytest.mark.parametrize("tolerance", [1e-4, 3.0])
def test_another_policy_than_the_owners_is_refused_unless_it_is_accepted(tmp_path, roots, monkeypatch, tolerance):
    own_act(act := tmp_path / "act", roots / "plain", gain=3.0)
    monkeypatch.setattr("lerobot_serl.base.act.ActBase._shift_of", lambda self, key: 1.0)
    if tolerance == 3.0:
        policy = adopted(act, roots / "plain", act_tolerance=tolerance)
        policy.save_pretrained(tmp_path / "serl")
        assert PreTrainedConfig.from_pretrained(tmp_path / "serl").act_tolerance == 3.0
    else:
        words = (
            r"by [\d.]+ of the range .*expected at most 0.0001: the pre-processor gives ACT another 'observation.state' .*act_tolerance=\d"
        )
        with pytest.raises(ValueError, match=words):
            adopted(act, roots / "plain")


@pytest.mark.parametrize(("key", "value"), [(STATE, float("nan")), (STATE, 1e30), (ACTION, float("inf"))])
def test_a_number_of_which_act_makes_nan_is_named_with_its_frame(tmp_path, roots, key, value):
    own_act(act := tmp_path / "act", roots / "plain")
    own_dataset(tmp_path / "data", edit=lambda frame, episode, t: frame[key].put(2, value) if (episode, t) == (1, 7) else None)
    words = rf"Dataset {REPO}: episode 1, frame 7, '{key}'\[2\] is .*lerobot-serl-doctor {tmp_path / 'data'} --repair"
    with pytest.raises(ValueError, match=words):
        adopted(act, tmp_path / "data")


def without_post_processor(act):
    (act / POST).unlink()


def compiled(act):
    rename_tensors(act, lambda name: name.replace("model.", "model._orig_mod.", 1))


def of_a_newer_lerobot(act):
    edit_config(act, lambda document: document.update(field_of_next_year=None))


UNLOADABLE = {
    "no post-processor": (without_post_processor, "Error"),
    "a compiled model's names": (compiled, "ValueError: it finds no tensors for"),
    "a field that is off": (of_a_newer_lerobot, "Error"),
}


@pytest.mark.parametrize("name", UNLOADABLE)
@pytest.mark.parametrize("fault", [False, True])
def test_what_lerobot_does_not_load_is_measured_beside_lerobots_act(tmp_path, roots, monkeypatch, caplog, name, fault):
    root = roots / ("camera" if name == "a compiled model's names" and not fault else "plain")
    own_act(act := tmp_path / "act", root, gain=3.0)
    spoil, said = UNLOADABLE[name]
    spoil(act)
    if fault:
        monkeypatch.setattr("lerobot_serl.base.act.ActBase._shift_of", lambda self, key: 1.0)
        with pytest.raises(ValueError, match="the pre-processor gives ACT another 'observation"):
            adopted(act, root)
        return
    with caplog.at_level(logging.INFO):
        adopted(act, root)
    assert re.search(rf"LeRobot itself does not run {act} \(.*{said}.*\); step 0 is measured beside LeRobot's ACT", caplog.text)
    assert float(re.search(r"Step 0 is ACT: .* by at most (\S+) of", caplog.text)[1]) < 1e-5


def test_an_act_without_a_state_is_measured(tmp_path, roots, caplog):
    """LeRobot's own network asks a state that it does not take for its device."""
    own_act(act := tmp_path / "stateless", roots / "camera", without=(STATE,))
    with caplog.at_level(logging.INFO):
        adopted(act, roots / "camera")
    assert float(re.search(r"Step 0 is ACT: .* by at most (\S+) of", caplog.text)[1]) < 1e-5
    assert "does not run" not in caplog.text


def test_a_network_that_does_not_run_is_refused_by_name(tmp_path, roots):
    own_act(act := tmp_path / "act", roots / "plain")
    edit_config(act, lambda document: document.update(feedforward_activation="glu"))
    with pytest.raises(
        ValueError, match=r"config.json: describes a network that does not run in LeRobot's ACT \(RuntimeError: .*Train ACT"
    ):
        adopted(act, roots / "plain")


def test_weights_under_names_that_lerobot_does_not_look_for_are_not_compared_with_random_ones(tmp_path, roots, plain, caplog):
    """LeRobot leaves random what it does not find; saved from a compiled model, all tensors have other names."""
    own_act(act := tmp_path / "act", roots / "plain", gain=3.0)
    path = act / "model.safetensors"
    save_file({name.replace("model.", "model._orig_mod.", 1): tensor for name, tensor in load_file(path).items()}, path)
    with caplog.at_level(logging.INFO):
        policy = adopted(act, roots / "plain")
    assert "(ValueError: it finds no tensors for" in caplog.text
    assert torch.equal(policy.agent.box.half_width, plain.agent.box.half_width)


@pytest.mark.parametrize("fault", [False, True])
def test_an_old_act_is_measured_and_no_migration_is_recommended(tmp_path, roots, monkeypatch, caplog, fault):
    config = own_act(tmp_path / "act", roots / "plain").config
    recorded = LeRobotDataset(REPO, root=roots / "plain").meta.stats
    stats = {key: {name: torch.as_tensor(value).float() for name, value in named.items()} for key, named in recorded.items()}
    save_old_act(tmp_path / "old", config, stats, stats, stats)
    if fault:
        monkeypatch.setattr("lerobot_serl.base.act.ActBase._shift_of", lambda self, key: 1.0)
        with pytest.raises(ValueError, match=r"the pre-processor gives ACT another .observation"):
            adopted(tmp_path / "old", roots / "plain")
        return
    with caplog.at_level(logging.INFO):
        adopted(tmp_path / "old", roots / "plain")
    assert f"LeRobot itself does not run {tmp_path / 'old'} (ValueError: it is of LeRobot before 0.4); step 0 is measured" in caplog.text
    assert float(re.search(r"Step 0 is ACT: .* by at most (\S+) of", caplog.text)[1]) < 1e-5
    assert "migrat" not in caplog.text
    assert "key(s)" not in caplog.text


def test_loading_the_owners_act_prints_nothing_that_is_not_so(tmp_path, roots, caplog):
    """Neither the device that ACT was trained on, nor all names of a compiled model, which are known."""
    own_act(act := tmp_path / "act", roots / "plain")
    edit_config(act, lambda document: document.update(device="xpu"))
    rename_tensors(act, lambda name: name.replace("model.", "model._orig_mod.", 1))
    with caplog.at_level(logging.INFO):
        adopted(act, roots / "plain")
    assert f"LeRobot itself does not run {act} (ValueError: it finds no tensors for" in caplog.text
    assert "key(s)" not in caplog.text
    assert "not available" not in caplog.text
