"""Record demonstrations in a LeRobot environment as a LeRobotDataset."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lerobot.configs import FeatureType
from lerobot.datasets import LeRobotDataset
from lerobot.envs import EnvConfig
from lerobot.teleoperators import TeleoperatorConfig
from lerobot.utils.constants import ACTION, HF_LEROBOT_HOME
from tqdm import tqdm

from ..actor.attempts import Attempts, describe
from ..actor.chunk import Chunk
from ..actor.deferred_signals import INTERRUPTS, deferred_signals, is_interrupt
from ..actor.env_world import EnvWorld
from ..actor.leaving import close_all
from ..actor.robot_setup import PolicyNeeds, RobotSettings
from ..actor.rollout import Rollout
from ..actor.settings import RewardConfig
from ..actor.workplace import Workplace, WorkplaceSettings
from ..actor.world import Observation, WorldError
from ..replay.episode import Episode
from ..replay.frames import frames_of
from ..replay.labels import DONE, REWARD, SUCCESS, TERMINATED, TRUNCATED
from .expert import Expert, NewExpert

ATTEMPTS_PER_EPISODE = 10
# An expert that has solved nothing is not tried for longer, however many episodes are wanted.
ATTEMPTS_AT_FIRST = 30


@dataclass(kw_only=True)
class RecordSettings:
    """What to record; meanings as the flags of ``lerobot-serl-record``.

    Attributes:
        expert_name, new_expert: who moves the environment, in words, and as :class:`Expert` takes it; none with a teleoperator.
        remedy: for an expert that solves too little.
    """

    env: EnvConfig
    repo_id: str
    root: Path | None = None
    n_episodes: int = 20
    seed: int = 0
    use_videos: bool = True
    keep_failures: bool = False
    task: str = ""
    teleop: TeleoperatorConfig | None = None
    expert_name: str = "The expert"
    new_expert: NewExpert | None = None
    remedy: str = "give attempts more time, mend the expert, or look at what the environment calls a success (docs/workflow.md)"
    reward: RewardConfig = field(default_factory=RewardConfig)


@dataclass(frozen=True)
class RecordingSummary:
    """What a recording came to."""

    root: Path
    n_episodes: int
    n_frames: int
    n_attempts: int


def record(settings: RecordSettings) -> RecordingSummary:
    """Record ``n_episodes`` successful episodes; Ctrl-C keeps those that are complete.

    Raises:
        FileExistsError: the folder exists already.
        ValueError: n_episodes is below 1, the environment cannot be recorded, or the teleoperator does not fit it.
        RuntimeError: the expert fails, or succeeds in fewer than one of ``ATTEMPTS_PER_EPISODE`` attempts.
    """
    if settings.n_episodes < 1:
        raise ValueError(f"n_episodes is {settings.n_episodes}, expected at least 1")
    root = settings.root if settings.root is not None else HF_LEROBOT_HOME / settings.repo_id
    if root.exists():
        raise FileExistsError(f"{root} exists; choose another --root, or remove that folder to record it anew")
    place = Workplace(
        WorkplaceSettings(
            env=settings.env, robot_config=None, teleop_config=settings.teleop, seed=settings.seed,
            robot=RobotSettings(task=settings.task, reward=settings.reward),
        ),
        person_acts=settings.new_expert is None,
    )  # fmt: skip
    try:
        world = place.prepare(PolicyNeeds(None, None, settings.env.fps))
        assert isinstance(world, EnvWorld)
        dataset = LeRobotDataset.create(
            settings.repo_id, settings.env.fps, dataset_features(world, settings), root=root, robot_type=settings.env.type
        )
        recorder = _Recorder(settings, place, world, dataset)
        try:
            recorder.run()
        except INTERRUPTS as error:
            if not is_interrupt(error):
                raise
            logging.warning("interrupted: finishing with the complete episodes")
        finally:
            with deferred_signals():
                dataset.finalize()
                if dataset.num_episodes == 0:
                    shutil.rmtree(root)
                    logging.warning(f"no episode was completed; removed {root}")
    finally:
        close_all(place.closers)
    return RecordingSummary(root, dataset.num_episodes, dataset.num_frames, recorder.n_attempts)


def dataset_features(world: EnvWorld, settings: RecordSettings) -> dict[str, dict[str, Any]]:
    """Features of the LeRobotDataset: the environment's observations, its action, and labels; docs/data.md has the table.

    Raises:
        ValueError: the environment's configuration names another number of entries than there are.
    """
    names: Mapping[str, Any] = getattr(settings.env, "feature_names", {})
    features: dict[str, dict[str, Any]] = {}
    for key, feature in world.inputs.items():
        if feature.type is FeatureType.VISUAL:
            channels, height, width = feature.shape
            dtype = "video" if settings.use_videos else "image"
            features[key] = {"dtype": dtype, "shape": (height, width, channels), "names": ["height", "width", "channels"]}
        else:
            features[key] = _vector(key, feature.shape, names)
    features[ACTION] = _vector(ACTION, (world.action_dim,), names)
    features[REWARD] = {"dtype": "float32", "shape": (1,), "names": None}
    # Only failures end in other ways than by a success.
    for flag in (SUCCESS, DONE, *((TERMINATED, TRUNCATED) if settings.keep_failures else ())):
        features[flag] = {"dtype": "bool", "shape": (1,), "names": None}
    return features


def _vector(key: str, shape: tuple[int, ...], names: Mapping[str, Any]) -> dict[str, Any]:
    named = list(names[key]) if key in names else None
    if named is not None and (len(named),) != tuple(shape):
        raise ValueError(
            f"feature_names of the environment's configuration has {len(named)} names for '{key}', which has {shape[0]} entries"
        )
    return {"dtype": "float32", "shape": tuple(shape), "names": named}


class _Recorder:
    """Attempt after attempt, until enough of them are saved."""

    def __init__(self, settings: RecordSettings, place: Workplace, world: EnvWorld, dataset: LeRobotDataset) -> None:
        self._settings = settings
        self._dataset = dataset
        self._place = place
        self._attempts, self.n_attempts = Attempts(place, settings.env.fps), 0
        self._rollout = self._by_person() if settings.new_expert is None else self._scripted(settings.new_expert, world)

    def run(self) -> None:
        """Until there are enough, or the person wants to stop."""
        settings, dataset = self._settings, self._dataset
        with tqdm(total=settings.n_episodes, unit="episode", desc="Recording", disable=settings.new_expert is None) as progress:
            while dataset.num_episodes < settings.n_episodes and self._attempts.goes_on:
                self._give_up_in_time()
                self.n_attempts += 1
                episode = self._attempts.run(self._rollout)
                kept = episode is not None and (episode.success or settings.keep_failures)
                if kept:
                    assert episode is not None
                    with deferred_signals():
                        self._save(episode)
                    progress.update()
                if episode is not None and settings.new_expert is None:
                    word = f"{dataset.num_episodes} of {settings.n_episodes} kept" if kept else "not kept"
                    logging.info(f"Attempt {self.n_attempts}: {describe(episode)}; {word}")

    def _save(self, episode: Episode) -> None:
        for frame in frames_of(episode, self._dataset.features):
            self._dataset.add_frame(frame)
        self._dataset.save_episode()

    def _scripted(self, new_expert: NewExpert, world: EnvWorld) -> Rollout:
        expert = Expert(self._settings.expert_name, new_expert, world)
        return self._attempts.rollout(expert.act, begin_episode=expert.begin)

    def _by_person(self) -> Rollout:
        return self._attempts.rollout(_nobody, tick=lambda steps, intervening: self._attempts.tick(steps, None))

    def _give_up_in_time(self) -> None:
        """Raise if the expert is hopeless; a person may try as often as it takes."""
        settings, saved = self._settings, self._dataset.num_episodes
        patience = min(ATTEMPTS_PER_EPISODE * settings.n_episodes, ATTEMPTS_AT_FIRST + ATTEMPTS_PER_EPISODE * saved)
        if settings.new_expert is None or self.n_attempts < patience:
            return
        raise RuntimeError(f"the expert solved {saved} of {self.n_attempts} episodes; {settings.remedy}")


def _nobody(observation: Observation) -> Chunk:
    raise WorldError("The teleoperator gave no action. Check its cable and power.")
