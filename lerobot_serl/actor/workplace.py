"""A robot or an environment, with the person's devices and keys: what whoever acts works with, practice, evaluation and recording alike."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lerobot.envs import EnvConfig
from lerobot.robots import Robot, RobotConfig, make_robot_from_config
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig, make_teleoperator_from_config

from .controls import Controls
from .display import Display, DisplaySettings
from .env_world import EnvWorld
from .robot_setup import PolicyNeeds, RobotSettings, check_fps, check_teleop, make_robot_world
from .settings import ENVIRONMENT_REWARDS, TakeoverConfig
from .takeover import Takeover
from .world import World


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


class Workplace:
    """Connected by :meth:`prepare`, released by :attr:`closers`, whatever has failed in between.

    Attributes:
        controls: keys and buttons.
        display: LeRobot's viewer.
        world: after :meth:`prepare`.
        hand: the person's teleoperator, after :meth:`prepare`; None without one.
    """

    def __init__(self, settings: WorkplaceSettings) -> None:
        self.settings = settings
        self.controls, self.display = Controls(settings.takeover.key), Display(settings.display)
        self.world: World | None = None
        self.hand: Takeover | None = None
        self._robot: Robot | None = None
        self._teleop: Teleoperator | None = None

    def prepare(self, needs: PolicyNeeds) -> World:
        """Connect the devices, then check that they, the flags and the policy fit; nothing has moved.

        Raises:
            ConnectionError: no robot.
            ValueError: robot or environment do not fit the policy.
        """
        settings = self.settings
        if settings.robot_config is not None:
            self.world = self._prepare_robot(settings.robot_config, needs)
        elif settings.env is not None:
            self.world = self._prepare_env(settings.env, needs)
        assert self.world is not None
        if settings.robot_config is not None or self._teleop is not None:
            self.controls.listen()
        return self.world

    @property
    def closers(self) -> Sequence[Callable[[], object]]:
        """What releases everything, in the order in which it has to be called: the arm first."""
        closers: list[Callable[[], object]] = [] if self.world is None else [self.world.close]
        for device in (self._robot, self._teleop):
            if device is not None:
                closers.append(lambda device=device: device.disconnect() if device.is_connected else None)  # type: ignore[misc]
        return [*closers, self.controls.close, self.display.close]

    def _prepare_robot(self, config: RobotConfig, needs: PolicyNeeds) -> World:
        check_fps(self.settings.robot.fps, needs.fps)
        self._robot = make_robot_from_config(config)
        self._robot.connect()
        hand = self._connect_teleop(needs.fps)
        show = self.display.show if self.display.on else None
        return make_robot_world(self._robot, self.settings.robot, needs, self.controls, hand, show)

    def _prepare_env(self, config: EnvConfig, needs: PolicyNeeds) -> World:
        source = self.settings.robot.reward.source
        if source not in ENVIRONMENT_REWARDS:
            raise ValueError(f"--reward.source={source} is for robots. With --env.type: {' or '.join(ENVIRONMENT_REWARDS[1:])}.")
        reward = "success" if source == "auto" else source
        world = EnvWorld(config, needs.inputs, needs.action_dim, self.settings.seed, reward)
        self._connect_teleop(needs.fps)
        return world

    def _connect_teleop(self, fps: int) -> Takeover | None:
        config = self.settings.teleop_config
        if config is None:
            return None
        self._teleop = make_teleoperator_from_config(config)
        try:
            self._teleop.connect()
        except LookupError as error:  # a scripted expert without its simulated arm
            raise ValueError(f"--teleop.type={config.type}: {error}") from error
        if self._robot is not None:
            check_teleop(self._teleop, self._robot)
        self.hand = Takeover(self._teleop, self.controls, self.settings.takeover, 1.0 / fps)
        return self.hand


def close_all(closers: Sequence[Callable[[], object]]) -> None:
    """Call each, whatever the others raise."""
    for close in closers:
        try:
            close()
        except (Exception, KeyboardInterrupt) as error:
            logging.warning(f"While stopping: {error or type(error).__name__}")
