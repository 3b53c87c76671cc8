"""ACT under the robot's names for its inputs."""

import json
import re

import pytest
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from owned_act import REPO, STATE, adopted, own_act, own_dataset
from poisoned_checkpoints import edit_step
from test_step_zero import largest_difference

from lerobot_serl.policy.adoption import set_box
from lerobot_serl.policy.configuration_serl_sac import SerlSacConfig
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.setting_error import SettingError

FRONT, WRIST, TOP, SIDE = (f"observation.images.{name}" for name in ("front", "wrist", "top", "side"))


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """The same episodes twice, with other names of the cameras; and ACT of the first."""
    root = tmp_path_factory.mktemp("cameras")
    own_dataset(root / "owners", ("front", "wrist"))
    own_dataset(root / "robots", ("top", "side"))
    own_act(root / "act", root / "owners", gain=3.0)
    return root


def plans(policy, root):
    """Of the first frames of a dataset."""
    dataset = LeRobotDataset(REPO, root=root)
    frames = [dataset[i] for i in range(0, 40, 8)]
    batch = {key: torch.stack([frame[key] for frame in frames]) for key in frames[0] if key.startswith("observation.")}
    return policy.predict_action_chunk(batch)


@pytest.mark.slow
def test_cameras_of_other_names_are_mapped_and_the_checkpoint_keeps_it(tmp_path, roots):
    wanted = plans(adopted(roots / "act", roots / "owners"), roots / "owners")
    policy = adopted(roots / "act", roots / "robots", act_rename_map={TOP: FRONT, SIDE: WRIST})
    assert list(policy.config.input_features) == [STATE, TOP, SIDE]
    torch.testing.assert_close(plans(policy, roots / "robots"), wanted, atol=1e-5, rtol=1e-5)
    swapped = adopted(roots / "act", roots / "robots", act_rename_map={TOP: WRIST, SIDE: FRONT})
    assert not torch.allclose(plans(swapped, roots / "robots"), wanted, atol=1e-2)
    policy.save_pretrained(tmp_path / "serl")
    loaded = SerlSacPolicy.from_pretrained(tmp_path / "serl")
    assert loaded.config.act_rename_map == {TOP: FRONT, SIDE: WRIST}
    assert torch.equal(plans(loaded, roots / "robots"), plans(policy, roots / "robots"))


@pytest.mark.slow
def test_what_acts_own_processors_rename_needs_no_flag(tmp_path, roots):
    own_act(act := tmp_path / "act", roots / "owners", gain=3.0)
    edit_step(act, 0, config={"rename_map": {TOP: FRONT, SIDE: WRIST}})
    policy = adopted(act, roots / "robots")
    assert policy.config.act_rename_map == {TOP: FRONT, SIDE: WRIST}
    assert largest_difference(policy, act, roots / "robots") < 1e-5
    assert adopted(act, roots / "owners").config.act_rename_map == {}, "a dataset that has ACT's names already"
    asked = adopted(act, roots / "robots", act_rename_map={SIDE: FRONT, TOP: WRIST})
    assert asked.config.act_rename_map == {SIDE: FRONT, TOP: WRIST}, "what is asked for wins"


@pytest.mark.slow
def test_swapped_names_in_acts_processors_are_followed(tmp_path, roots):
    own_act(act := tmp_path / "act", roots / "owners", gain=3.0)
    edit_step(act, 0, config={"rename_map": {FRONT: WRIST, WRIST: FRONT}})
    policy = adopted(act, roots / "owners")
    assert policy.config.act_rename_map == {FRONT: WRIST, WRIST: FRONT}
    assert largest_difference(policy, act, roots / "owners") < 1e-5


def test_other_names_are_refused_with_the_flag_that_maps_them(roots):
    with pytest.raises(ValueError, match=r"'observation.images.front': ACT has VISUAL\(3, 32, 32\), the dataset lacks it") as caught:
        adopted(roots / "act", roots / "robots")
    flag = re.search(r"--policy.act_rename_map='(.*)'$", str(caught.value))
    assert flag is not None
    assert flag[1] in (f'{{"{TOP}": "{FRONT}", "{SIDE}": "{WRIST}"}}', f'{{"{SIDE}": "{FRONT}", "{TOP}": "{WRIST}"}}')


@pytest.mark.parametrize("asked", [{SIDE: WRIST}, {"observation.images.none": FRONT, SIDE: WRIST}])
def test_the_flag_in_the_message_keeps_what_was_asked_for_and_works(roots, asked):
    with pytest.raises(ValueError, match="does not fit") as caught:
        adopted(roots / "act", roots / "robots", act_rename_map=asked)
    flag = re.search(r"--policy.act_rename_map='(.*)'$", str(caught.value))
    assert flag is not None
    names = json.loads(flag[1])
    assert names == {TOP: FRONT, SIDE: WRIST}
    assert adopted(roots / "act", roots / "robots", act_rename_map=names).config.act_rename_map == names


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({TOP: "observation.images.belly"}, r"\['observation.images.belly'\]: expected ACT's names, which are"),
        ({TOP: FRONT, SIDE: FRONT}, r"\['observation.images.front'\]: expected each of ACT's names once"),
        ({"observation.images.none": FRONT, SIDE: WRIST}, r"'observation.images.none': ACT has VISUAL.*the dataset lacks it"),
        ({"observation.images.a\nb": FRONT}, "two names of printable letters"),
    ],
)
def test_a_map_that_cannot_be_is_refused(roots, names, words):
    with pytest.raises((ValueError, SettingError), match=words):
        adopted(roots / "act", roots / "robots", act_rename_map=names)


def test_a_map_without_act_or_of_a_checkpoint_is_refused(tmp_path, roots):
    policy = adopted(roots / "act", roots / "owners")
    config = SerlSacConfig(device="cpu", push_to_hub=False, act_rename_map={TOP: FRONT})
    config.input_features, config.output_features = policy.config.input_features, policy.config.output_features
    with pytest.raises(ValueError, match=r"policy.act_rename_map=\['observation.images.top'\]: expected names of .*LeRobot's --rename_map"):
        SerlSacPolicy(config)


def test_absurd_extremes_of_acts_statistics_do_not_widen_the_box(roots):
    agent = adopted(roots / "act", roots / "owners").agent
    statistics = {name: torch.full((4,), value) for name, value in {"min": -1.0, "max": 1.0, "mean": 0.0, "std": 0.5}.items()}
    state = {"mean": torch.zeros(4), "std": torch.ones(4)}
    set_box(agent, {"action": statistics, STATE: state}, (torch.full((4,), -2.0), torch.full((4,), 3.0)))
    torch.testing.assert_close(agent.box.middle, torch.full((4,), 0.5))
    torch.testing.assert_close(agent.box.half_width, torch.full((4,), 1.2 * 2.5))
