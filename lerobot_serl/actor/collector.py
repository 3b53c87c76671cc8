"""The actor process's main loop: connect, act, send, until the learner has finished."""

import logging
import uuid as uuid_module
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import torch

from ..access_token import TOKEN_VARIABLE, read_token
from ..replay.episode import Episode
from ..replay.episode_message import encode_episode
from ..replay.part_message import image_shapes
from ..transport import POLICY, MessageError
from .attempts import Attempts, describe
from .client import LearnerClient
from .deferred_signals import INTERRUPTS, deferred_signals, is_interrupt
from .episode_size import EpisodeSize
from .film import Film
from .leaving import close_all
from .outbox import Outbox
from .policy_message import WeightsHeader
from .received_policy import ReceivedPolicy
from .robot_setup import PolicyNeeds
from .rpc_errors import LearnerUnreachable
from .sender import Sender
from .workplace import Workplace, WorkplaceSettings

# In the end, for episodes that can be sent: after Ctrl-C, and otherwise.
INTERRUPTED_PATIENCE_S, LAST_PATIENCE_S = 3.0, 60.0
# For episodes that could not be written to disk.
UNSAVED_PATIENCE_S = 600.0
THREAD_PATIENCE_S = 2.0


@dataclass(kw_only=True)
class CollectorSettings(WorkplaceSettings):
    """Settings of an actor process that collects; meanings as the flags of ``lerobot-serl-actor``."""

    learner: str
    n_episodes: int | None
    name: str
    patience_s: float
    spool_dir: Path
    spool_limit_bytes: int
    max_disconnected_s: float
    token_file: Path | None = None
    certificate: Path | None = None


def collect(settings: CollectorSettings) -> int:
    """Run episodes until the learner has finished, ``n_episodes`` are done, or Ctrl-C or q; returns their number.

    Raises:
        ConnectionError: no learner, for too long, or no robot.
        RuntimeError: the learner refused, the robot can not go on, or there may be no room for another episode.
        StillPowered: motors may still be under torque; what else went wrong is its context.
        OSError: an episode could not be written to the outbox; unless a last warning says otherwise it has been saved or sent meanwhile.
        ValueError: robot or environment do not fit the policy.
    """
    torch.set_num_threads(1)  # acting on one observation at a time gains nothing from more, and the learner needs the cores
    collector = _Collector(settings)
    patience_s = LAST_PATIENCE_S
    try:
        collector.prepare()
        collector.run()
    except INTERRUPTS as error:
        if not is_interrupt(error):
            raise
        logging.info("Interrupted; the unfinished episode is dropped.")
        patience_s = INTERRUPTED_PATIENCE_S
    finally:
        collector.close(patience_s)
    return collector.episodes


class _Collector:
    """Everything that has to be released in the end."""

    def __init__(self, settings: CollectorSettings) -> None:
        self._settings = settings
        self.episodes = 0
        self._place = Workplace(settings)
        token = read_token(settings.token_file, TOKEN_VARIABLE)
        self._client = LearnerClient(
            settings.learner, settings.patience_s, settings.name, token, settings.certificate, self._learner_lost, self._learner_back
        )
        self._stop_planning: Callable[[], None] = lambda: None
        self._outbox: Outbox | None = None
        self._sender: Sender | None = None
        self._film: Film | None = None

    def prepare(self) -> None:
        """Learner first, then devices, then checks: a wrong flag costs seconds, and nothing has moved."""
        settings = self._settings
        self._place.display.start()
        self._outbox = Outbox(settings.spool_dir, settings.spool_limit_bytes)
        header, tensors = self._client.connect()
        self._policy = policy = ReceivedPolicy(header, tensors, settings.robot.device, settings.seed)
        logging.info(f"Connected to the learner at {settings.learner}: {WeightsHeader.of(header)}, {policy.config.horizon} steps a chunk.")
        self._tell_what_waits()
        self._sender = Sender(self._outbox, self._client, self._is_simulated)
        self._sender.start()  # what an earlier process left goes first
        if settings.robot_config is not None and policy.demo_stats is None:
            raise ValueError(
                "The learner did not send what the demonstrations say about the robot; it has an older version of lerobot_serl."
            )
        world = self._place.prepare(PolicyNeeds(policy.inputs, policy.action_dim, policy.fps, policy.demo_stats))
        policy.plan_with(settings.planning, world.simulated)
        self._stop_planning = policy.practice.close
        size = EpisodeSize(image_shapes(policy.inputs), policy.fps, world.longest_steps, not world.simulated)
        size.check(policy.most_frames, self._outbox)

    def run(self) -> None:
        """Episode after episode."""
        settings, place, outbox = self._settings, self._place, self._outbox
        assert place.world is not None
        assert outbox is not None
        attempts, practice = Attempts(place, self._policy.fps), self._policy.practice

        def tick(steps: int, intervening: bool) -> None:
            if intervening:
                practice.moved()
            attempts.tick(steps, None if intervening else practice.acts_as)

        rollout = attempts.rollout(
            practice.act, begin_episode=self._begin_episode, tick=tick, film=self._new_film, see=practice.see, report=practice.report
        )
        while attempts.done != settings.n_episodes and attempts.goes_on and self._learner_wants_more():
            outbox.check_room()
            episode = attempts.run(rollout)
            if episode is None:
                continue
            self.episodes = attempts.done
            practice.finished(episode)
            self._keep(episode, place.world.simulated)
            logging.info(f"Episode {self.episodes}: {describe(episode)}; {attempts.share}; phase {self._policy.phase}, weights "
                         f"{self._policy.version}")  # fmt: skip

    def close(self, patience_s: float) -> None:
        """The arm first.

        Args:
            patience_s: for episodes that can be sent.
        """
        sending = partial(self._finish_sending, patience_s)
        close_all([*self._place.closers, self._stop_planning, self._drop_film, sending, self._client.close, self._leave_outbox])

    def _finish_sending(self, patience_s: float) -> None:
        if self._sender is None:
            return
        if (waiting := self._sender.waiting) and self._client.reachable:
            logging.info(f"Sending {waiting} episodes; Ctrl-C leaves them for the next start.")
        self._sender.finish(patience_s, UNSAVED_PATIENCE_S)

    def _leave_outbox(self) -> None:
        """Say what is left, when nothing is sent any more."""
        if self._outbox is None:
            return
        if self._sender is not None:
            self._sender.join(THREAD_PATIENCE_S)
            if lost := self._sender.unsaved:
                logging.error(f"{lost} finished episodes are lost: they could be neither written to {self._outbox.directory} nor sent.")
            if waiting := self._sender.waiting - lost:
                logging.warning(
                    f"{waiting} episodes wait in {self._outbox.directory}; the next start with --name={self._settings.name} sends them."
                )
        self._outbox.close()

    def _new_film(self) -> Film | None:
        """For the images of the next episode; those of one that was not kept go."""
        self._drop_film()
        if self._outbox is not None and (shapes := image_shapes(self._policy.inputs)):
            uuid, waits = str(uuid_module.uuid4()), self._place.world is not None and self._place.world.simulated
            self._film = Film(uuid, self._outbox.new_parts(self._policy.dataset, uuid), shapes, may_wait=waits)
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

    def _keep(self, episode: Episode, wait: bool) -> None:
        """On this machine's disk first. A simulation also waits until the learner has it, so as not to run ahead of the learner.

        Raises:
            UnsavedError: it could not be written.
            LearnerRefused, LearnerUnreachable: as :meth:`_learner_wants_more`, while waiting.
        """
        sender, dataset, film = self._sender, self._policy.dataset, self._film
        uuid, parts = (str(uuid_module.uuid4()), None) if film is None else (film.uuid, film.parts)
        assert sender is not None
        with deferred_signals():
            info = {**episode.info, "actor": self._settings.name, "policy_version": self._policy.version}
            self._film = None  # it belongs to the episode
            sender.keep(dataset, uuid, encode_episode(replace(episode, info=info), uuid), parts)
        if wait:
            sender.wait_for(uuid, lambda: self._learner_wants_more() and self._client.dataset == dataset)

    def _is_simulated(self) -> bool:
        """Whether the learner may hold this process back; until there is a world, what the flags say."""
        return self._settings.env is not None if self._place.world is None else self._place.world.simulated

    def _learner_lost(self, reason: str) -> None:
        if self._sender is not None:
            doing = "the simulation waits" if self._is_simulated() else f"collecting with weights {self._policy.version}"
            logging.warning(f"Learner away since {datetime.now():%H:%M:%S}, {doing}, {self._sender.waiting} episodes waiting ({reason}).")

    def _learner_back(self) -> None:
        if self._sender is not None:
            logging.info(f"Learner back; {self._sender.waiting} episodes waiting to be sent.")

    def _tell_what_waits(self) -> None:
        assert self._outbox is not None
        dataset = self._policy.dataset
        if waiting := len(self._outbox.pending(dataset)):
            logging.info(f"{waiting} episodes of an earlier start wait in {self._outbox.directory}; they are sent first.")
        for name, number in self._outbox.others(dataset).items():
            logging.warning(
                f"{number} episodes for another dataset, {name}, wait in {self._outbox.directory}; this learner collects for "
                f"{dataset.repo_id or 'a dataset without a name'} and does not get them."
            )
