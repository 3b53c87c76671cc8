"""The learner inside ``lerobot-train``: where batches come from, which losses a step takes, what is counted and written."""

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from lerobot.datasets import LeRobotDatasetMetadata
from torch import Tensor
from tqdm import tqdm

from ..label_settings import AS_RECORDED
from ..policy.agent import Agent
from ..policy.checkpoint_files import MODEL
from ..policy.configuration_serl_sac import FRESH_ACT, SerlSacConfig
from ..policy.look_time import say_look
from ..policy.progress import Phase, Progress
from ..policy.update_metrics import MEASURE_EVERY
from ..replay.batch import Batch
from ..replay.demonstration_stats_file import RatedStats
from ..replay.demonstrations import EpisodeReader
from ..replay.episode import Episode
from ..replay.journal import DamagedFileError
from ..replay.memory import BASE, ReplayMemory
from ..replay.memory_place import memory_device
from ..replay.opening import open_dataset
from ..replay.sampler import Sampler, UniformSampler
from ..replay.segments import intervened_segments, policy_segments
from .auto_settings import decide_from_data, settle_run
from .clipping import Clipping
from .collection import Collection
from .episode_source import EpisodeSource
from .evidence import BestPolicy, Tally
from .feature_cache import SLICE_S, FeatureCacheWorker, cache_features, frame_bytes
from .frame_time import FrameTime
from .intervention_report import InterventionReport
from .metrics_log import MetricsLog
from .stopping import Stopping
from .success_watch import SuccessWatch
from .train_loop import TrainLoop
from .update_guard import UpdateGuard


class Learner:
    """Turns LeRobot's training steps into critic and actor updates.

    Args:
        agent: networks and losses.
        config: the policy's configuration; ``discount`` and ``value_range`` are filled in when the data decide them.
        progress: counters.
        dataset_meta: of the demonstrations.
        source: where episodes come from; None: from actor processes, if the configuration names an online dataset.

    Raises:
        ValueError, OSError: before anything long starts: a port in use, an online dataset that does not fit, bad demonstrations.
        SystemExit: a signal came before the learner was ready.
    """

    def __init__(
        self,
        agent: Agent,
        config: SerlSacConfig,
        progress: Progress,
        dataset_meta: LeRobotDatasetMetadata,
        source: EpisodeSource | None = None,
    ) -> None:
        self.agent = agent
        self.config = config
        self.progress = progress
        self._resumed = config.in_progress
        loop = TrainLoop.find()
        self.stopping = Stopping(loop)
        progress.restart()
        self.learning = agent.begin_learning(progress, seed=torch.initial_seed())
        if self._resumed and config.pretrained_path is not None:
            self.learning.load(Path(config.pretrained_path).parent)
        settle_run(config, None if loop is None else loop.steps)  # before actor processes get the configuration
        # What can fail quickly comes first: the demonstrations' numbers, the online dataset and the port, then pictures and ACT.
        keys = list(config.input_features or {})
        reader = EpisodeReader(open_dataset(dataset_meta.repo_id, dataset_meta.root), keys, settings=config.labels)
        self.demo_stats = RatedStats(dataset_meta.fps, reader.demo_stats)
        self._plausible = reader.plausible(config.online.reach, pays_once=decide_from_data(config, reader, agent))
        self.collection = source
        if config.online.enabled and source is None:
            self.collection = Collection(
                agent, config, progress, dataset_meta, self._plausible, self.demo_stats.stats, lambda: self.stopping.is_for_a_restart
            )
        agent.grow_edits(0.0)  # a checkpoint's edits may reach farther than this run allows
        assert config.discount is not None
        capacity = max(sum(reader.lengths), 1) + config.buffer_capacity
        device = memory_device(
            config.memory_device,
            self.learning.generator.device,
            frame_bytes(agent),
            sum(reader.lengths),
            config.buffer_capacity,
            dataset_meta.fps,
        )
        self.demonstrations = ReplayMemory(capacity, config.horizon, config.discount, config.n_step, device)
        self.online = ReplayMemory(config.buffer_capacity, config.horizon, config.discount, config.n_step, device)
        self.sampler: Sampler = UniformSampler(self.online, self.demonstrations, config.batch_size, config.demo_fraction)
        self._read_demonstrations(reader, dataset_meta)
        memories = {"the demonstrations": self.demonstrations, "the robot's episodes": self.online}
        self.guard = UpdateGuard(self.learning, memories, self.stopping.ask)
        # Nobody waits for a source in this process.
        self.feature_cache = FeatureCacheWorker(agent, slice_s=SLICE_S if source is None else math.inf)
        self.watch = SuccessWatch(config.guard, agent, progress) if config.online.enabled else None
        if self.watch is not None and self._resumed and config.pretrained_path is not None:
            self.watch.load(Path(config.pretrained_path))
        reach = agent.edit_reach.masked_fill(~agent.actor.edits, math.inf)
        self.interventions = InterventionReport(reach, self.demo_stats.stats.action_names)
        if self.collection is not None:
            self._start_collection(self.collection, keys)
        self.metrics_log = MetricsLog(_metrics_dir(config, loop), config, progress, resumed=self._resumed, fps=dataset_meta.fps)
        config.in_progress = True

    def step(self) -> tuple[Tensor, dict[str, float]]:
        """One update; waits for the robot when it would run ahead of the data.

        Returns:
            the critics' loss, on the CPU, and what LeRobot's log shows.

        Raises:
            SystemExit: the learner was asked to stop; what was learnt is on the disk.
        """
        self.stopping.end_if_asked()
        if self.collection is not None:
            self._wait_for_data(self.collection)
        if self.watch is not None:
            self.watch.before_update()
        batch = self._sample().to(self.learning.generator.device)
        is_due = self.metrics_log.due
        metrics = self.agent.advantage_metrics(batch) if is_due else {}
        self.learning.measures = is_due or self.progress.updates // self.config.policy_delay % MEASURE_EVERY == 0
        self.learning.known_steps = len(self.online) or len(self.demonstrations)
        metrics |= self.agent.update(batch)
        self.metrics_log.collect(metrics)
        self._after_update()
        shown = self.metrics_log.shown()
        # A loss on another device is the newest row's: to read this one would make every update wait.
        loss = metrics["critic_loss"] if batch.reward.is_cpu else torch.tensor(shown.get("critic_loss", 0.0))
        return loss, shown

    def _after_update(self) -> None:
        """Look whether learning goes well, write metrics, send the robot new weights."""
        self.guard.after_update()
        self._write_metrics()
        if self.collection is not None:
            self.collection.after_update()
        self.stopping.after_update()

    @property
    def best_policy(self) -> BestPolicy:
        """Which weights the episodes as deployed favour; a learner without a robot has none."""
        return BestPolicy(None, Tally(), has_base=self.agent.act.proposes) if self.watch is None else self.watch.best_policy

    def save(self, checkpoint: Path) -> None:
        """Write what a resumed run needs beside the policy's weights into a checkpoint."""
        self.guard.look()
        self.learning.save(checkpoint)
        if self.watch is not None:
            self.watch.save(checkpoint / MODEL)
        self.metrics_log.write_best(self.best_policy)
        self.stopping.saved()

    def _write_metrics(self) -> None:
        last = self.stopping.last_step
        if not (self.metrics_log.due or last):
            return
        self.guard.look()
        progress = self.progress
        gauges = {
            "buffer_steps": len(self.online), "demo_steps": len(self.demonstrations), "lead_steps": progress.lead_steps,
            "skipped_updates": progress.skipped_updates, "alarms": progress.alarms, "rollbacks": progress.rollbacks,
        }  # fmt: skip
        self.metrics_log.write_if_due(gauges, last=last)

    def _sample(self) -> Batch:
        """The next batch. Memories on another device than the networks draw there, so that nobody waits for the networks' device."""
        generator, device = self.learning.generator, self.demonstrations.device
        if generator.device.type != device.type:
            generator = torch.Generator(device).manual_seed(generator.initial_seed() + self.progress.updates)
        return self.sampler.sample(generator)

    def _wait_for_data(self, collection: EpisodeSource) -> None:
        """Until the data pay for an update.

        Raises:
            SystemExit: the learner was asked to stop.
        """
        started = time.perf_counter()
        self._take(collection, wait_s=0.0)
        took_s = time.perf_counter() - started
        if self.progress.may_update:
            self.metrics_log.took_in(took_s)
        while not self.progress.may_update and not self.stopping.asked:
            self._take(collection, wait_s=0.2)
            collection.remind()
        self.metrics_log.waited(time.perf_counter() - started)
        self.stopping.end_if_asked()

    def _take(self, collection: EpisodeSource, wait_s: float) -> None:
        """Do one slice of the work on an episode that came in; waits up to ``wait_s`` for one."""
        if self.feature_cache.is_idle:
            arrived = collection.arrived(wait_s)
            if arrived is None:
                return
            if (flaw := self._plausible.flaw_of(arrived)) is not None:  # from a source in this process; the server has refused such
                self.stopping.ask(f"An episode makes no sense: {flaw}.")
                return
            self.feature_cache.begin(arrived)
        try:
            episode = self.feature_cache.advance()
        except DamagedFileError as error:  # of its images; the process that completes the dataset finds it, too, and sets it aside
            logging.warning(f"An episode is left out of learning: {error}.")
            self.feature_cache.forget()
            return
        if episode is None:
            return
        phase = self.progress.phase
        self.remember(episode)
        self.progress.env_steps += len(episode)
        self.progress.episodes += 1
        self.metrics_log.episode(episode, phase)
        if phase is Phase.COLLECT and self.progress.phase is not Phase.COLLECT:
            self.metrics_log.report_act(begins_as_act=self.agent.is_act)
        if self.watch is not None and self.watch.episode(episode, phase):
            self.learning.optimizers.forget()
            collection.publish()
        collection.ingested()

    def remember(self, episode: Episode) -> None:
        """Put an episode into the memories: all of it into the robot's, what a person did also into the demonstrations'."""
        if not episode.is_finite:
            logging.warning(
                "An episode is left out of learning: its numbers make sense by themselves, but of them ACT makes NaN or infinite ones. "
                "Lower --policy.online.reach to refuse the like of it."
            )
            return
        kept = episode.kept
        self.interventions.add(kept["action"][:], kept[BASE][:], episode.intervention)
        interventions = intervened_segments(episode)
        pieces = [*policy_segments(episode), *interventions] if self.config.online.takeover_is_failure else [episode]
        for piece in pieces:
            self.online.add(piece)
        self.learning.takeovers += len(interventions)
        for piece in interventions:
            self.demonstrations.add(piece)

    def _read_demonstrations(self, reader: EpisodeReader, dataset_meta: LeRobotDatasetMetadata) -> None:
        """Put the demonstrations into their memory, and say what this shows of the machine and of the action box."""
        agent, config = self.agent, self.config
        say_look(agent, dataset_meta.fps)
        clipping, frame_time = Clipping(config.clipped_share), FrameTime()
        for number, recorded in enumerate(self._read_all(reader, "Demonstrations")):
            with frame_time.of(len(recorded)):
                episode = cache_features(agent, recorded, number=number)
            self.demonstrations.add(episode)
            clipping.add(episode)
        if config.online.enabled:
            sees_apart = agent.execution.is_open and bool(agent.features.pooled_sizes)
            frame_time.report(dataset_meta.fps, str(config.device), bool(config.image_features), sees_apart)
        # Without a margin the demonstrations' own extremes lie on the border; and what a random ACT plans is nobody's loss.
        if config.action_margin > 0 and config.act_source != FRESH_ACT:
            clipping.report(dataset_meta.repo_id)

    def _start_collection(self, collection: EpisodeSource, keys: list[str]) -> None:
        dataset = collection.existing()
        if dataset is not None:
            for recorded in self._read_all(EpisodeReader(dataset, keys, self._plausible, AS_RECORDED), "Online episodes"):
                self.remember(cache_features(self.agent, recorded, number=self.feature_cache.number))
                self.feature_cache.number += 1
        frames, episodes = (0, 0) if dataset is None else (dataset.num_frames, dataset.num_episodes)
        collection.start(frames, episodes, resumed=self._resumed)

    def _read_all(self, reader: EpisodeReader, what: str) -> Iterator[Episode]:
        for index in tqdm(range(len(reader)), desc=f"{what}: decoding, running ACT", unit="episode", leave=False):
            self.stopping.end_if_asked()
            yield reader.open(index)


def _metrics_dir(config: SerlSacConfig, loop: TrainLoop | None) -> Path | None:
    """``policy.metrics_dir``, or LeRobot's output directory. Not remembered: a run that is resumed elsewhere writes elsewhere."""
    if config.metrics_dir is not None:
        return Path(config.metrics_dir)
    if loop is None:
        logging.warning("Curves are not written: set --policy.metrics_dir=DIR, so that lerobot-serl-report finds them.")
        return None
    return loop.output_dir
