"""The actor process's main loop: connect, act, send, until the learner has finished."""

import logging
from collections import deque
from collections.abc import Mapping
from ctypes import ArgumentError
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from lerobot.envs import EnvConfig
from lerobot.robots import Robot, RobotConfig, make_robot_from_config
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig, make_teleoperator_from_config
from lerobot.utils.utils import log_say

from ..replay.recording import Decider, Recording
from .client import LearnerClient, LearnerRefused, describe
from .controls import QUIT, Controls
from .display import Display, DisplaySettings
from .env_world import EnvWorld
from .live_line import LiveLine
from .received_policy import ReceivedPolicy
from .robot_setup import PolicyNeeds, RobotSettings, check_fps, check_teleop, make_robot_world
from .session import Session
from .settings import ENVIRONMENT_REWARDS, TakeoverConfig
from .takeover import Takeover
from .world import EpisodeSpoilt, World

RECENT_EPISODES = 50
SPOILT_IN_A_ROW = 3


@dataclass
class CollectorSettings:
    """Settings of an actor process; meanings as the flags of ``lerobot-serl-actor``."""

    learner: str
    env: EnvConfig | None
    robot_config: RobotConfig | None
    teleop_config: TeleoperatorConfig | None
    n_episodes: int | None
    seed: int
    name: str
    patience_s: float
    robot: RobotSettings = field(default_factory=RobotSettings)
    takeover: TakeoverConfig = field(default_factory=TakeoverConfig)
    display: DisplaySettings = field(default_factory=DisplaySettings)
    play_sounds: bool = False


def collect(settings: CollectorSettings) -> int:
    """Run episodes until the learner has finished, ``n_episodes`` are done, or Ctrl-C or q; returns their number.

    Raises:
        ConnectionError: no learner, or no robot.
        RuntimeError: the learner refused, or the robot can not go on.
        ValueError: robot or environment do not fit the policy.
    """
    torch.set_num_threads(1)  # acting on one observation at a time gains nothing from more, and the learner needs the cores
    collector = _Collector(settings)
    try:
        collector.prepare()
        collector.run()
    except (KeyboardInterrupt, ArgumentError) as error:
        # ctypes, and with it OpenGL, turns an interrupt that comes while it converts an argument into an error of its own.
        if isinstance(error, ArgumentError) and "KeyboardInterrupt" not in str(error):
            raise
        logging.info("Interrupted; the unfinished episode is dropped.")
    finally:
        collector.close()
    return collector.episodes


class _Collector:
    """Everything that has to be released in the end."""

    def __init__(self, settings: CollectorSettings) -> None:
        self._settings, self.episodes = settings, 0
        self._controls = Controls(settings.takeover.key)
        self._client = LearnerClient(settings.learner, settings.patience_s)
        self._world: World | None = None
        self._robot: Robot | None = None
        self._teleop: Teleoperator | None = None
        self._hand: Takeover | None = None
        self._display = Display(settings.display)

    def prepare(self) -> None:
        """Learner first, then devices, then checks: a wrong flag costs seconds, and nothing has moved."""
        settings = self._settings
        self._display.start()
        header, tensors = self._client.connect()
        self._policy = policy = ReceivedPolicy(header, tensors, settings.robot.device, settings.seed)
        logging.info(f"Connected to the learner at {settings.learner}: {describe(header)}, {policy.config.horizon} steps a chunk.")
        if settings.robot_config is not None:
            self._world = self._prepare_robot(settings.robot_config)
        elif settings.env is not None:
            source = settings.robot.reward.source
            if source not in ENVIRONMENT_REWARDS:
                raise ValueError(f"--reward.source={source} is for robots. With --env.type: {' or '.join(ENVIRONMENT_REWARDS[1:])}.")
            reward = "success" if source == "auto" else source
            self._world = EnvWorld(settings.env, policy.inputs, policy.action_dim, settings.seed, reward)
            self._connect_teleop(policy.fps)
        if settings.robot_config is not None or self._teleop is not None:
            self._controls.listen()

    def run(self) -> None:
        """Episode after episode."""
        settings, world = self._settings, self._world
        assert world is not None
        recent: deque[bool] = deque(maxlen=RECENT_EPISODES)
        live = LiveLine(1.0 / self._policy.fps)

        def tick(steps: int, by_hand: bool) -> None:
            live.tick(self.episodes + 1, steps, by_hand, _share(recent))

        session = Session(world, self._policy.act, self._refresh, self._controls, self._hand, settings.robot.reward.veto_s, tick)
        spoilt = 0
        while not self._client.finished.is_set() and self.episodes != settings.n_episodes and not self._controls.asked(QUIT):
            if settings.play_sounds:
                log_say(f"Episode {self.episodes + 1}", play_sounds=True)
            try:
                recording = session.run_episode()
            except EpisodeSpoilt as error:
                live.clear()
                spoilt += 1
                if spoilt >= SPOILT_IN_A_ROW:
                    raise
                logging.warning(f"Episode dropped: {error}")
                continue
            live.clear()
            spoilt = 0
            if recording is None or (len(recording) == 1 and not recording.terminated):
                continue  # discarded, or holds no transition
            if not self._send(recording, world.simulated):
                break
            self.episodes += 1
            recent.append(recording.success_alone)
            logging.info(f"Episode {self.episodes}: {_describe(recording)}; {_share(recent)}; phase {self._policy.phase}, weights "
                         f"{self._policy.version}")  # fmt: skip

    def close(self) -> None:
        """The arm first."""
        closers = [self._world.close if self._world is not None else None, self._controls.close, self._client.close, self._display.close]
        for device in (self._robot, self._teleop):
            if device is not None:
                closers.append(lambda device=device: device.disconnect() if device.is_connected else None)  # type: ignore[misc]
        for close in closers:
            try:
                if close is not None:
                    close()
            except Exception as error:
                logging.warning(f"While stopping: {error}")

    def _prepare_robot(self, config: RobotConfig) -> World:
        settings, policy = self._settings, self._policy
        check_fps(settings.robot.fps, policy.fps)
        if policy.facts is None:
            raise ValueError(
                "The learner did not send what the demonstrations say about the robot; it has an older version of lerobot_serl."
            )
        self._robot = make_robot_from_config(config)
        self._robot.connect()
        hand = self._connect_teleop(policy.fps)
        needs = PolicyNeeds(policy.inputs, policy.action_dim, policy.fps, policy.facts)
        return make_robot_world(self._robot, settings.robot, needs, self._controls, hand, self._display.show if self._display.on else None)

    def _connect_teleop(self, fps: int) -> Takeover | None:
        config = self._settings.teleop_config
        if config is None:
            return None
        self._teleop = make_teleoperator_from_config(config)
        try:
            self._teleop.connect()
        except LookupError as error:  # a scripted expert without its simulated arm
            raise ValueError(f"--teleop.type={config.type}: {error}") from error
        if self._robot is not None:
            check_teleop(self._teleop, self._robot)
        self._hand = Takeover(self._teleop, self._controls, self._settings.takeover, 1.0 / fps)
        return self._hand

    def _refresh(self) -> None:
        newer = self._client.newer_weights()
        if newer is not None:
            self._policy.load(*newer)

    def _send(self, recording: Recording, wait: bool) -> bool:
        """Whether to go on."""
        info = {**recording.info, "actor": self._settings.name, "policy_version": self._policy.version}
        try:
            self._client.send(replace(recording, info=info), wait_for_learner=wait)
        except (LearnerRefused, ConnectionError):
            if self._client.finished.wait(2.0):
                return False
            raise
        return True


def _describe(recording: Recording) -> str:
    outcome = "success" if recording.success else "time limit" if recording.truncated else "failure"
    said: Mapping[str, Any] = recording.info
    judge = "" if recording.decided_by in (Decider.TIME_LIMIT, Decider.NOBODY) else f" ({recording.decided_by.value})"
    parts = [f"{outcome}{judge} after {len(recording)} steps"]
    if by_hand := int(recording.intervention.sum()):
        parts.append(f"{by_hand} steps by hand")
    if late := said.get("late_ticks"):
        parts.append(f"{late} late ticks, worst {1000 * float(said['worst_lateness_s']):.0f} ms")
    if clamps := said.get("clamps"):
        parts.append(f"{clamps} targets at a limit")
    return ", ".join(parts)


def _share(recent: deque[bool]) -> str:
    if not recent:
        return ""
    return f"last {len(recent)}: {100 * sum(recent) / len(recent):.0f} % success without help"
