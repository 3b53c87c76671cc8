"""The robot builds the base policy from the learner's message: the same plans, and nothing that a false learner says of it is believed."""

import copy

import pytest
import torch
from act_checkpoints import random_observations
from diffusion_checkpoints import save_diffusion, small_diffusion_config
from small_data import FPS
from small_policy import fresh_chunk

from lerobot_serl.actor.received_policy import ReceivedPolicy
from lerobot_serl.online.weights import WeightPublisher
from lerobot_serl.policy.configuration_serl_sac import SerlSacConfig
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy
from lerobot_serl.transport import MessageError, decode

pytest.importorskip("diffusers", reason="lerobot[diffusion] is not installed")
CONFIG = small_diffusion_config(noise_scheduler_type="DDIM", num_inference_steps=2)


@pytest.fixture(scope="module")
def learner(tmp_path_factory):
    """The learner's policy, and the message that it sends."""
    directory = tmp_path_factory.mktemp("dp")
    save_diffusion(directory, CONFIG)
    policy = SerlSacPolicy(SerlSacConfig(base_path=str(directory), device="cpu", push_to_hub=False, horizon=8)).eval()
    publisher = WeightPublisher(policy.agent, policy.config, fps=FPS, dataset=("test/one", "1" * 32))
    publisher.publish("actor", 0, 0)
    return policy, decode(publisher.message(publisher.wait_for_newer(0, 5), whole_policy=True))


def test_the_robot_plans_what_the_learner_plans(learner):
    policy, message = learner
    received = ReceivedPolicy(*message, "cpu", seed=0)
    received.begin_episode()
    observations = random_observations(CONFIG, 20)
    policy.reset()
    for t in range(20):
        frame = {key: value[t] for key, value in observations.items()}
        policy._history.add({key: value.unsqueeze(0) for key, value in frame.items()})
        if t in (0, 3, 8, 19):  # a chunk may begin at any frame, also after a person has moved the robot
            expected = policy.chunks(policy._history.observation())[0]
            received.practice.acts_as = type(received.practice.acts_as).ACT
            assert torch.allclose(torch.from_numpy(fresh_chunk(received.practice, frame).actions), expected, atol=1e-5)
        else:
            received.practice.see(frame)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("type",), "pi0", "acts on a sentence"),
        (("type",), "nothing", "neither LeRobot nor an installed plugin registers"),
        (("vision_backbone",), "/etc/resnet18", "names a place to load from"),
        (("down_dims",), [10_001, 32], "has down_dims=10001, expected at most 10000"),
        (("down_dims",), [8192, 8192], "MB, of which it sent"),
        (("down_dims",), [32, 32], "the learner sent unknown weights"),
        (("horizon",), 1 << 40, "has horizon=1099511627776"),
        (("noise_scheduler_type",), "DDIN", "no configuration of LeRobot's diffusion"),
        (("num_inference_steps",), 0, "the learner's base policy .* does not plan for observations"),
        (("unknown",), {"deep": [[[[[[[1]]]]]]]}, "nested deeper"),
        (("input_features",), {}, "at least one image or the environment state"),
    ],
)
def test_what_a_false_learner_says_of_its_base_policy_is_refused_in_a_line(learner, path, value, words):
    header, tensors = learner[1]
    lie = copy.deepcopy(dict(header))
    entry = lie["config"]["lerobot"]["document"]
    for name in path[:-1]:
        entry = entry[name]
    entry[path[-1]] = value
    with pytest.raises(MessageError, match=words) as refused:
        ReceivedPolicy(lie, tensors, "cpu", seed=0)
    assert "\n" not in str(refused.value)


def test_a_robot_that_is_set_up_takes_no_other_base_policy(learner):
    header, tensors = learner[1]
    received = ReceivedPolicy(header, tensors, "cpu", seed=0)
    other = copy.deepcopy(dict(header))
    other["config"]["lerobot"]["document"]["num_inference_steps"] = 3
    with pytest.raises(MessageError, match="the base policy was"):
        received.replace(other, tensors)
