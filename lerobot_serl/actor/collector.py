"""The actor process's main loop: connect, act, send, until the learner has finished."""

import logging
import uuid as uuid_module
from collections import deque
from collections.abc import Callable, Mapping
from ctypes import ArgumentError
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from lerobot.envs import EnvConfig
from lerobot.robots import Robot, RobotConfig, make_robot_from_config
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig, make_teleoperator_from_config
from lerobot.utils.utils import log_say

from ..access_token import TOKEN_VARIABLE, read_token
from ..replay.part_message import image_shapes
from ..replay.recording import ActedAs, Decider, Recording
from ..replay.recording_message import encode_recording
from ..transport import POLICY, MessageError
from .answers import LearnerUnreachable
from .client import LearnerClient
from .controls import QUIT, Controls
from .display import Display, DisplaySettings
from .env_world import EnvWorld
from .episode_size import EpisodeSize
from .film import Film
from .live_line import LiveLine
from .policy_message import WeightsHeader
from .received_policy import ReceivedPolicy
from .robot_setup import PolicyNeeds, RobotSettings, check_fps, check_teleop, make_robot_world
from .sender import Sender
from .session import Session
from .settings import ENVIRONMENT_REWARDS, TakeoverConfig
from .spool import Spool
from .takeover import Takeover
from .uninterrupted import uninterrupted
from .world import EpisodeSpoilt, World

RECENT_EPISODES = 50
SPOILT_IN_A_ROW = 3
# In the end, for episodes that can be sent: after Ctrl-C, and otherwise.
INTERRUPTED_PATIENCE_S, LAST_PATIENCE_S = 3.0, 60.0
# For episodes that could not be written to disk.
UNSAVED_PATIENCE_S = 600.0
THREAD_PATIENCE_S = 2.0


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
    spool_dir: Path
    spool_limit_bytes: int
    max_disconnected_s: float
    token_file: Path | None = None
    certificate: Path | None = None
    robot: RobotSettings = field(default_factory=RobotSettings)
    takeover: TakeoverConfig = field(default_factory=TakeoverConfig)
    display: DisplaySettings = field(default_factory=DisplaySettings)
    play_sounds: bool = False


def collect(settings: CollectorSettings) -> int:
    """Run episodes until the learner has finished, ``n_episodes`` are done, or Ctrl-C or q; returns their number.

    Raises:
        ConnectionError: no learner, for too long, or no robot.
        RuntimeError: the learner refused, the robot can not go on, or there may be no room for another episode.
        OSError: an episode could not be written to the spool; unless a last warning says otherwise it has been saved or sent meanwhile.
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
        collector.patience_s = INTERRUPTED_PATIENCE_S
    finally:
        collector.close()
    return collector.episodes


class _Collector:
    """Everything that has to be released in the end."""

    def __init__(self, settings: CollectorSettings) -> None:
        self._settings, self.episodes, self.patience_s = settings, 0, LAST_PATIENCE_S
        self._controls = Controls(settings.takeover.key)
        token = read_token(settings.token_file, TOKEN_VARIABLE)
        self._client = LearnerClient(settings.learner, settings.patience_s, settings.name, token, settings.certificate)
        self._spool: Spool | None = None
        self._sender: Sender | None = None
        self._world: World | None = None
        self._robot: Robot | None = None
        self._teleop: Teleoperator | None = None
        self._hand: Takeover | None = None
        self._film: Film | None = None
        self._display = Display(settings.display)

    def prepare(self) -> None:
        """Learner first, then devices, then checks: a wrong flag costs seconds, and nothing has moved."""
        settings = self._settings
        self._display.start()
        self._spool = Spool(settings.spool_dir, settings.spool_limit_bytes)
        header, tensors = self._client.connect()
        self._policy = policy = ReceivedPolicy(header, tensors, settings.robot.device, settings.seed)
        logging.info(f"Connected to the learner at {settings.learner}: {WeightsHeader.of(header)}, {policy.config.horizon} steps a chunk.")
        self._tell_what_waits()
        self._follow_learner(Sender(self._spool, self._client, throttled=settings.env is not None))
        if settings.robot_config is not None:
            self._world = self._prepare_robot(settings.robot_config)
        elif settings.env is not None:
            source = settings.robot.reward.source
            if source not in ENVIRONMENT_REWARDS:
                raise ValueError(f"--reward.source={source} is for robots. With --env.type: {' or '.join(ENVIRONMENT_REWARDS[1:])}.")
            reward = "success" if source == "auto" else source
            self._world = EnvWorld(settings.env, policy.inputs, policy.action_dim, settings.seed, reward)
            self._connect_teleop(policy.fps)
        if self._world is not None and self._sender is not None:
            self._sender.throttled = self._world.simulated
            size = EpisodeSize(image_shapes(policy.inputs), policy.fps, self._world.longest_steps, not self._world.simulated)
            size.check(policy.most_frames, self._spool)
        if settings.robot_config is not None or self._teleop is not None:
            self._controls.listen()

    def run(self) -> None:
        """Episode after episode."""
        settings, world, spool = self._settings, self._world, self._spool
        assert world is not None
        assert spool is not None
        recent: deque[bool] = deque(maxlen=RECENT_EPISODES)
        live, practice = LiveLine(1.0 / self._policy.fps), self._policy.practice

        def tick(steps: int, by_hand: bool) -> None:
            live.tick(self.episodes + 1, steps, None if by_hand else practice.acts_as, _share(recent))

        session = Session(
            world, practice.act, self._begin_episode, self._controls, self._hand, settings.robot.reward.veto_s, tick, self._new_film
        )
        spoilt = 0
        while self.episodes != settings.n_episodes and not self._controls.asked(QUIT) and self._learner_wants_more():
            spool.check_room()
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
            self.episodes += 1
            recent.append(recording.success_alone)
            practice.finished(recording)
            self._keep(recording, world.simulated)
            logging.info(f"Episode {self.episodes}: {_describe(recording)}; {_share(recent)}; phase {self._policy.phase}, weights "
                         f"{self._policy.version}")  # fmt: skip

    def close(self) -> None:
        """The arm first."""
        closers: list[Callable[[], object]] = [] if self._world is None else [self._world.close]
        for device in (self._robot, self._teleop):
            if device is not None:
                closers.append(lambda device=device: device.disconnect() if device.is_connected else None)  # type: ignore[misc]
        closers += [self._drop_film, self._controls.close, self._display.close, self._finish_sending, self._client.close, self._leave_spool]
        for close in closers:
            try:
                close()
            except (Exception, KeyboardInterrupt) as error:
                logging.warning(f"While stopping: {error or type(error).__name__}")

    def _finish_sending(self) -> None:
        if self._sender is None:
            return
        if (waiting := self._sender.waiting) and self._client.reachable:
            logging.info(f"Sending {waiting} episodes; Ctrl-C leaves them for the next start.")
        self._sender.finish(self.patience_s, UNSAVED_PATIENCE_S)

    def _leave_spool(self) -> None:
        """Say what is left, when nothing is sent any more."""
        if self._spool is None:
            return
        if self._sender is not None:
            self._sender.join(THREAD_PATIENCE_S)
            if lost := self._sender.unsaved:
                logging.error(f"{lost} finished episodes are lost: they could be neither written to {self._spool.directory} nor sent.")
            if waiting := self._sender.waiting - lost:
                logging.warning(
                    f"{waiting} episodes wait in {self._spool.directory}; the next start with --name={self._settings.name} sends them."
                )
        self._spool.close()

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

    def _new_film(self) -> Film | None:
        """For the images of the next episode; those of one that was not kept go."""
        self._drop_film()
        if self._spool is not None and (shapes := image_shapes(self._policy.inputs)):
            uuid, waits = str(uuid_module.uuid4()), self._world is not None and self._world.simulated
            self._film = Film(uuid, self._spool.new_parts(self._policy.dataset, uuid), shapes, may_wait=waits)
        return self._film

    def _drop_film(self) -> None:
        if self._film is not None:
            self._film.drop()
            self._film = None

    def _begin_episode(self) -> None:
        self._refresh()
        self._policy.begin_episode()

    def _refresh(self) -> None:
        newer = self._client.newer_weights()
        if newer is None:
            return
        if newer[0]["kind"] != POLICY:
            try:
                self._policy.load(*newer)
            except MessageError as error:
                self._client.ask_again(self._policy.version, error)
            return
        before = self._policy.dataset
        self._policy.replace(*newer)
        logging.info(f"The learner was started anew: {WeightsHeader.of(newer[0])}.")
        if self._policy.dataset != before:
            self._tell_what_waits()

    def _learner_wants_more(self) -> bool:
        """Whether to run another episode.

        Raises:
            LearnerRefused: the learner lets this process in no more.
            LearnerUnreachable: it has been away for too long.
        """
        client, limit_s = self._client, self._settings.max_disconnected_s
        client.check()
        if self._sender is not None and self._sender.problem is not None:
            raise self._sender.problem
        if client.away_s > limit_s:
            raise LearnerUnreachable(
                f"The learner at {client.address} has been away for {client.away_s:.0f} s; --max_disconnected_s={limit_s:g} allows no more. "
                "Collection stops; start the learner, then this actor process again."
            )
        return not client.finished.is_set()

    def _keep(self, recording: Recording, wait: bool) -> None:
        """On this machine's disk first. A simulation also waits until the learner has it, so as not to run ahead of the learner.

        Raises:
            UnsavedError: it could not be written.
            LearnerRefused, LearnerUnreachable: as :meth:`_learner_wants_more`, while waiting.
        """
        sender, dataset, film = self._sender, self._policy.dataset, self._film
        uuid, parts = (str(uuid_module.uuid4()), None) if film is None else (film.uuid, film.parts)
        assert sender is not None
        with uninterrupted():
            info = {**recording.info, "actor": self._settings.name, "policy_version": self._policy.version}
            self._film = None  # it belongs to the episode
            sender.keep(dataset, uuid, encode_recording(replace(recording, info=info), uuid), parts)
        if wait:
            sender.wait_for(uuid, lambda: self._learner_wants_more() and self._client.dataset == dataset)

    def _follow_learner(self, sender: Sender) -> None:
        """Send what an earlier process left, and say when the learner goes and comes."""
        self._sender = sender

        def lost(reason: str) -> None:
            doing = "the simulation waits" if sender.throttled else f"collecting with weights {self._policy.version}"
            logging.warning(f"Learner away since {datetime.now():%H:%M:%S}, {doing}, {sender.waiting} episodes waiting ({reason}).")

        self._client.on_lost = lost
        self._client.on_back = lambda: logging.info(f"Learner back; {sender.waiting} episodes waiting to be sent.")
        sender.start()

    def _tell_what_waits(self) -> None:
        assert self._spool is not None
        dataset = self._policy.dataset
        if waiting := len(self._spool.pending(dataset)):
            logging.info(f"{waiting} episodes of an earlier start wait in {self._spool.directory}; they are sent first.")
        for name, number in self._spool.others(dataset).items():
            logging.warning(
                f"{number} episodes for another dataset, {name}, wait in {self._spool.directory}; this learner collects for "
                f"{dataset.repo_id or 'a dataset without a name'} and does not get them."
            )


def _describe(recording: Recording) -> str:
    outcome = "success" if recording.success else "time limit" if recording.truncated else "failure"
    said: Mapping[str, Any] = recording.info
    judge = "" if recording.decided_by in (Decider.TIME_LIMIT, Decider.NOBODY) else f" ({recording.decided_by.value})"
    parts = [f"{outcome}{judge} after {len(recording)} steps"]
    if recording.acted_as is not ActedAs.EXPLORING:
        parts.append("ACT alone" if recording.acted_as is ActedAs.ACT else "as deployed")
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
