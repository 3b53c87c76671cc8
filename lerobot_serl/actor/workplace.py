"""A robot or an environment, with the person's devices and keys: what whoever acts works with, practice, evaluation and recording alike."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from lerobot.envs import EnvConfig
from lerobot.robots import Robot, RobotConfig
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig

from .controls import Controls, require_keys
from .devices import check_reading, connect, is_scripted, make_robot, make_teleop, type_flag
from .display import Display, DisplaySettings
from .env_setup import environment_reward, expect_teleop, make_env_world
from .leaving import has_motors, leave, torque_at_the_end
from .planning import Planning
from .robot_setup import PolicyNeeds, RobotSettings, check_fps, check_teleop, is_in_lockstep, make_robot_world, reward_source
from .settings import TakeoverConfig
from .takeover import Takeover
from .world import Observer, World


@dataclass(kw_only=True)
class WorkplaceSettings:
    """Where to act, and with what devices; meanings as the flags of ``lerobot-serl-actor``."""

    env: EnvConfig | None
    robot_config: RobotConfig | None
    teleop_config: TeleoperatorConfig | None
    seed: int
    robot: RobotSettings = field(default_factory=RobotSettings)
    takeover: TakeoverConfig = field(default_factory=TakeoverConfig)
    display: DisplaySettings = field(default_factory=DisplaySettings)
    play_sounds: bool = False
    planning: Planning = field(default_factory=Planning)


class Workplace:
    """Connected by :meth:`prepare`, released by :attr:`closers`, whatever has failed in between.

    Args:
        settings: of robot or environment, devices and keys.
        person_acts: the person with the teleoperator moves the robot from beginning to end.

    Attributes:
        controls: keys and buttons.
        display: LeRobot's viewer.
        world: after :meth:`prepare`.
        takeover: of the person with the teleoperator, after :meth:`prepare`; None without one.
    """

    def __init__(self, settings: WorkplaceSettings, person_acts: bool = False) -> None:
        self.settings = settings
        self._person_acts = person_acts
        self.controls = Controls(settings.takeover.key)
        self.display = Display(settings.display)
        self.world: World | None = None
        self.takeover: Takeover | None = None
        self._robot: Robot | None = None
        self._teleop: Teleoperator | None = None
        self._connected: list[Robot | Teleoperator] = []

    def prepare(self, needs: PolicyNeeds) -> World:
        """Connect the devices, then check that they, the flags and the policy fit; nothing has moved.

        Raises:
            DeviceError: a device cannot be made, connected or read.
            ValueError: robot or environment do not fit the policy.
        """
        settings = self.settings
        if settings.teleop_config is not None:
            self._teleop = make_teleop(settings.teleop_config)
        if settings.robot_config is not None:
            self.world = self._prepare_robot(settings.robot_config, needs)
        elif settings.env is not None:
            self.world = self._prepare_environment(settings.env, needs)
        assert self.world is not None
        if settings.robot_config is not None or self._has_person:
            self.controls.listen(self._teleop is not None)
        return self.world

    @property
    def closers(self) -> Sequence[Callable[[], object]]:
        """What releases everything, in the order in which it has to be called: the arm first."""
        closers: list[Callable[[], object]] = [] if self.world is None else [self.world.close]
        for device in (self._robot if self.world is None else None, self._teleop):
            if device is not None:
                closers.append(lambda device=device: leave(device, device in self._connected))  # type: ignore[misc]
        return [*closers, self.controls.close, self.display.close]

    def _prepare_robot(self, config: RobotConfig, needs: PolicyNeeds) -> World:
        settings = self.settings.robot
        check_fps(settings.fps, needs.fps)
        self._robot, robot_flag = make_robot(config), type_flag(config)
        require_keys(reward_source(self._robot, settings.reward), self._teleop)
        connect(self._robot, robot_flag)
        self._connected.append(self._robot)
        new_takeover = None
        if self._teleop is not None:
            flag = self._connect_teleop(self._teleop)
            new_takeover = self._new_takeover(self._teleop, needs.fps)
            check_teleop(self._teleop, self._robot, flag, robot_flag)
            check_reading(self._teleop, flag)
        if not is_in_lockstep(self._robot):
            logging.info(torque_at_the_end(self._robot, "robot"))
        world, self.takeover = make_robot_world(self._robot, settings, needs, self.controls, new_takeover, self._observer)
        return world

    def _prepare_environment(self, config: EnvConfig, needs: PolicyNeeds) -> World:
        settings = self.settings
        require_keys(environment_reward(settings.robot.reward.source), self._teleop)
        world = make_env_world(config, settings.robot, needs, settings.seed, self._has_person, self._observer)
        self.world = world  # to be closed, whatever comes now
        if delay_s := settings.planning.delay_s:
            world.keys.require_clear(f"--plan_delay_s={delay_s:g}")
            logging.info(world.keys)
        if self._teleop is not None:
            flag = self._connect_teleop(self._teleop)
            self.takeover = self._new_takeover(self._teleop, needs.fps)()
            expect_teleop(world, self._teleop, flag, settings.takeover)
            check_reading(self._teleop, flag)
        return world

    @property
    def _observer(self) -> Observer | None:
        return self.display.show if self.display.on else None

    @property
    def _has_person(self) -> bool:
        """Whether somebody looks at an environment, who needs real time."""
        return self.settings.robot.reward.source == "keys" or (self._teleop is not None and not is_scripted(self._teleop))

    def _new_takeover(self, teleop: Teleoperator, fps: int) -> Callable[..., Takeover]:
        return partial(Takeover, teleop, self.controls, self.settings.takeover, 1.0 / fps, always=self._person_acts)

    def _connect_teleop(self, teleop: Teleoperator) -> str:
        """Returns its flag, for messages."""
        assert self.settings.teleop_config is not None
        flag = type_flag(self.settings.teleop_config)
        connect(teleop, flag)
        self._connected.append(teleop)
        if has_motors(teleop):
            logging.info(torque_at_the_end(teleop, "teleop"))
        return flag
