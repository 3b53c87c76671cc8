"""Robot side and learner as commands of the tests: ``actor FLAGS``, ``witnessed ...`` (witnessed_actor.py), ``train FLAGS`` (`lerobot-train`)
and ``learner DIRECTORY PORT DATASET HORIZON [ARM]``.

Actor processes may have the robots of small_robots.py as ``--robot.type=two_arms``, which knows success itself, and ``two_arms_judged``, whose
success a person decides, its hand, ``--teleop.type=small_hand``, LeRobot's SO-101 on the bus of so101_bus.py, and the environments of
small_envs.py.
"""

import sys

import restartable_learner
import small_envs  # noqa: F401
import small_robots
import so101_bus
import witnessed_actor
from lerobot.robots import RobotConfig
from lerobot.scripts import lerobot_train
from lerobot.teleoperators import TeleoperatorConfig

import lerobot_serl.scripts.lerobot_serl_actor as actor

RobotConfig.register_subclass("two_arms")(small_robots.TwoArmsThatKnowConfig)
RobotConfig.register_subclass("two_arms_judged")(small_robots.TwoArmsConfig)
TeleoperatorConfig.register_subclass("small_hand")(small_robots.SmallHandConfig)
so101_bus.install()


def main() -> None:
    kind, *arguments = sys.argv[1:]
    if kind == "actor":
        sys.argv = ["lerobot-serl-actor", *arguments]
        actor.main()
    elif kind == "witnessed":
        witnessed_actor.main(*arguments)
    elif kind == "train":
        sys.argv = ["lerobot-train", *arguments]
        lerobot_train.main()
    else:
        directory, port, dataset, horizon, *arm = arguments
        restartable_learner.serve(directory, int(port), dataset, int(horizon), *arm)
