"""The learner's online half: episodes come in, are made durable, and wait for the training thread; weights go out."""

import logging
import queue
import threading
import time
from collections.abc import Callable

from lerobot.datasets import LeRobotDataset, LeRobotDatasetMetadata
from lerobot.utils.constants import ACTION

from ..policy.agent import Agent
from ..policy.configuration_serl_sac import SerlSacConfig
from ..policy.progress import Phase, Progress
from ..replay.dataset_writer import DatasetWriter, StoreSettings, write_pending
from ..replay.demonstration_stats import DemonstrationStats
from ..replay.episode import Episode
from ..replay.episode_message import decode_episode, largest_message_bytes
from ..replay.journal import journal_of
from ..replay.part_message import MAX_FRAMES
from ..replay.plausible import Plausible
from ..replay.store import EpisodeStore, dataset_root, decide_videos, most_frames, online_features
from ..transport import WAITS_FOR_THE_ROBOT, MessageError, read_header
from .access import Access
from .arriving_parts import ArrivingParts, check_length
from .server import Busy, EpisodeReceipt, LearnerServer
from .weights import WeightPublisher

REMINDER_PERIOD_S = 30.0
COMPLETE_EVERY_EPISODES = 50
# Received and durable, but not yet in the replay memory: bounds the learner's memory while it writes a checkpoint.
MAX_WAITING_EPISODES = 16


class Collection:
    """Server, online dataset, and the queue between the server's threads and the training thread.

    Args:
        agent: whose weights are published.
        config: the policy's configuration.
        progress: counters; written by the training thread only.
        dataset_meta: of the demonstrations; the online dataset gets the same observations, actions and rate.
        plausible: which numbers an episode may hold.
        demo_stats: of the demonstrations, for the actor processes; environments need none.
        comes_back: see :class:`LearnerServer`.

    Raises:
        ValueError: an existing online dataset has other features, is damaged, or is the demonstrations' own, or a resumed run does not find
            the episodes there that it had; token or certificate are no good.
        LockedError: another learner uses the online dataset.
        OSError: the port is in use.
    """

    def __init__(
        self,
        agent: Agent,
        config: SerlSacConfig,
        progress: Progress,
        dataset_meta: LeRobotDatasetMetadata,
        plausible: Plausible,
        demo_stats: DemonstrationStats | None = None,
        comes_back: Callable[[], bool] = lambda: False,
    ) -> None:
        online = config.online
        assert online.repo_id is not None
        access = Access.of(online)
        # The robot side sends what the policy needs, which may be less than what the demonstrations have.
        wanted = {*(config.input_features or {}), ACTION}
        sent = {key: ft for key, ft in dataset_meta.features.items() if key in wanted}
        use_videos = online.use_videos
        if use_videos is None:
            use_videos = decide_videos(sent, dataset_meta.fps, dataset_root(online.repo_id, online.root))
        features = online_features(sent, use_videos)
        self.store = EpisodeStore(online.repo_id, online.root, dataset_meta.fps, features, use_videos)
        if (late := sorted(features.keys() - self.store.features.keys())) and config.execution.is_apart:
            logging.warning(
                f"Online dataset {online.repo_id} is of an earlier release and goes on without {', '.join(late)}: after a restart its plans are "
                "taken to be what the base policy would plan. Name a new dataset to keep them."
            )
        settings = StoreSettings(online.repo_id, str(self.store.root), dataset_meta.fps, features, use_videos)
        if self.store.root.resolve() == dataset_meta.root.resolve():
            raise ValueError(
                f"policy.online.repo_id={online.repo_id!r}: the online episodes need a dataset of their own, not that of the demonstrations."
            )
        self._agent = agent
        self._config = config
        self._progress = progress
        self._plausible = plausible
        self._lock = self.store.versions.lock(
            "learner.lock", f"policy.online.repo_id={online.repo_id!r}: the dataset in {self.store.root}",
            "Stop that learner, or name another dataset for the online episodes.",
        )  # fmt: skip
        self._lock.acquire()
        self._arrived: queue.Queue[Episode] = queue.Queue()
        self._journal = journal_of(self.store.root)
        self._writer = DatasetWriter(settings)
        if left := write_pending(settings, shows_progress=True, plausible=plausible):
            logging.info(f"Online dataset {online.repo_id}: added {left} episodes that an earlier run had received.")
        if config.in_progress:
            self._check_episodes()
        # An actor process sends an episode again if the acknowledgement did not get through, even days later.
        self._seen = self.store.uuids() | self._journal.uuids()
        self._receiving = threading.Lock()
        stored = most_frames(features)
        if online.use_videos is None and config.image_features:
            logging.info(f"policy.online.use_videos=auto: cameras are stored as {'videos' if use_videos else 'pictures'}.")
        self._most_frames = min(config.buffer_capacity, MAX_FRAMES if stored is None else stored)
        self._parts = ArrivingParts(self._journal, self._most_frames)
        self._publisher = WeightPublisher(
            agent, config, dataset_meta.fps, (online.repo_id, self.store.versions.identity()), self._most_frames, demo_stats
        )
        self._server = LearnerServer(
            online.host, online.port, self._publisher, self._receive, self._finish,
            access=access, largest_message_bytes=largest_message_bytes(config.input_features or {}, agent.action_dim),
            comes_back=comes_back,
        )  # fmt: skip
        self._reminded = time.perf_counter()

    @property
    def address(self) -> str:
        """``host:port`` that actor processes connect to."""
        return self._server.address

    def existing(self) -> LeRobotDataset | None:
        """Episodes of earlier runs."""
        return self.store.open() if self.store.exists else None

    def start(self, frames: int, episodes: int, resumed: bool) -> None:
        """Publish the first weights and accept episodes.

        Args:
            frames, episodes: in the online dataset now.
            resumed: what the dataset gained since the run began counts as this run's, also what came after the checkpoint; otherwise
                counting starts here. Where episodes were lost, and that was accepted, the counters stay those of the checkpoint.
        """
        progress = self._progress
        if resumed and episodes < self._expected_episodes:
            progress.first_online_frame = frames - progress.env_steps
            progress.first_online_episode = episodes - progress.episodes
        elif resumed:
            progress.env_steps = frames - progress.first_online_frame
            progress.episodes = episodes - progress.first_online_episode
        else:
            progress.first_online_frame = frames
            progress.first_online_episode = episodes
        self._config.online.accept_lost_episodes = False  # the next loss is to be told again
        self.publish()
        self._server.start()
        logging.info(
            f"Learner listens at {self.address}; start the robot side with: lerobot-serl-actor --learner={self.address} --robot.type=... "
            "(or --env.type=...)"
        )

    def arrived(self, wait_s: float) -> Episode | None:
        """The next episode that came in, if there is one; waits up to ``wait_s`` for it."""
        try:
            return self._arrived.get(timeout=wait_s) if wait_s else self._arrived.get_nowait()
        except queue.Empty:
            return None

    def ingested(self) -> None:
        """An episode entered the replay memory: the phase may have changed, an actor may go on."""
        if self._progress.episodes % COMPLETE_EVERY_EPISODES == 0:
            self._writer.request()
        if self._progress.phase.value != self._publisher.phase:
            self.publish()
        self._server.progressed(self._must_wait())

    def after_update(self) -> None:
        """Publish new weights every ``online.publish_every`` updates and when the phase changes."""
        due = self._progress.updates % self._config.online.publish_every == 0
        if due or self._progress.phase.value != self._publisher.phase:
            self.publish()
        self._server.progressed(self._must_wait())

    def publish(self) -> None:
        """Give the weights as they are now to the actor processes."""
        progress = self._progress
        self._publisher.publish(progress.phase.value, progress.updates, progress.env_steps)

    def remind(self) -> None:
        """Say now and then that the learner waits for the robot."""
        if time.perf_counter() - self._reminded > REMINDER_PERIOD_S:
            self._reminded = time.perf_counter()
            steps, wanted = self._progress.env_steps, self._config.startup.collect_steps
            goal = f"{steps} of {wanted} start-up steps" if self._progress.phase is Phase.COLLECT else f"{steps} steps so far"
            logging.info(f"{WAITS_FOR_THE_ROBOT} ({goal}). Is lerobot-serl-actor --learner={self.address} running?")

    @property
    def _expected_episodes(self) -> int:
        """What the online dataset held when the checkpoint was written."""
        return self._progress.first_online_episode + self._progress.episodes

    def _check_episodes(self) -> None:
        """A resumed run must find the episodes that it had."""
        found = self.store.n_episodes
        if found >= self._expected_episodes:
            return
        text = f"The online dataset {self.store.root} holds {found} episodes, and held {self._expected_episodes} when the checkpoint was written."
        if not self._config.online.accept_lost_episodes:
            self._lock.release()
            raise ValueError(
                f"{text} Nothing was started; {len(self._journal.pending())} acknowledged episodes wait in {self._journal.directory}. Restore the "
                f"dataset from a copy (lerobot-serl-doctor {self.store.root} tells what is there), or go on without them: "
                "--policy.online.accept_lost_episodes=true"
            )
        logging.warning(f"{text} The run goes on without them (policy.online.accept_lost_episodes=true).")

    def _finish(self) -> None:
        """When the server has stopped."""
        self._writer.finish()
        self._lock.release()

    def _must_wait(self) -> bool:
        return self._progress.lead_steps > self._config.online.max_lead_steps

    def _receive(self, data: bytes) -> EpisodeReceipt:
        """In a server thread: check, make durable, queue. An episode that came before is acknowledged again and dropped.

        Raises:
            MessageError: the episode, or part of one, is no good.
            Busy: too many wait, or parts of it are not here; the actor process keeps it and tries again.
            OSError: it could not be written; likewise.
        """
        header, claims = read_header(data)
        uuid = str(header.get("uuid"))
        if uuid in self._seen:  # also of a part: all are here
            frames = claims[ACTION].shape[0] if ACTION in claims and claims[ACTION].shape else 0
            return EpisodeReceipt(uuid, frames, is_new=False, parts=MAX_FRAMES)
        if (receipt := self._parts.take(data, self._config.input_features or {})) is not None:
            return receipt
        try:
            return self._receive_whole(data)
        except MessageError:
            self._parts.refused(uuid)
            raise

    def _receive_whole(self, data: bytes) -> EpisodeReceipt:
        uuid, episode = decode_episode(data, self._config.input_features or {}, self._agent.action_dim, self._parts.find)
        check_length(len(episode), self._most_frames)
        if (flaw := self._plausible.flaw_of(episode)) is not None:
            raise MessageError(f"an episode makes no sense: {flaw} (--policy.online.reach={self._config.online.reach:g})")
        with self._receiving:
            is_new = uuid not in self._seen
            if is_new:
                if self._arrived.qsize() >= MAX_WAITING_EPISODES:
                    raise Busy(f"{MAX_WAITING_EPISODES} episodes wait for the learner")
                self._journal.write(uuid, data)
                self._seen.add(uuid)
                self._arrived.put(episode)
                self._parts.finished(uuid)
        return EpisodeReceipt(uuid=uuid, frames=len(episode), is_new=is_new)
