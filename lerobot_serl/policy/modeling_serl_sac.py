"""The LeRobot policy ``serl_sac``: ACT edited by a small reinforcement-learning actor. Delegates; contains no mathematics."""

import copy
import logging
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from huggingface_hub import ModelCard
from lerobot.configs import FeatureType
from lerobot.policies import PreTrainedPolicy
from lerobot.utils.constants import ACTION
from safetensors.torch import load_file
from torch import Tensor, nn

from ..base.history import History
from ..base.plan_maker import PlayedDelay
from ..base.planner import Planner
from ..lerobot_names import resolve_safetensors_device
from ..networks.features import Statistics
from ..online.best_checkpoint import evidence_text, write_best
from ..online.disk import checkpoint_bytes, require_room
from ..online.train_loop import TrainLoop
from ..replay.opening import open_dataset
from ..replay.vectors import checked_statistics
from .adoption import adopt_base, begin_as_base, proposer, set_box
from .agent import Agent
from .base_settings import NONE
from .checkpoint_files import MODEL, mark_unfinished, require_whole
from .configuration_serl_sac import FRESH_ACT, SerlSacConfig
from .construction import settle_image_size
from .grippers import name_grippers, set_positions
from .own_checkpoint import COUNTERS_OF_0_1, require_harmless_files, require_sound_weights
from .policy_checkpoint import PolicyCheckpoint
from .processor_serl_sac import make_serl_sac_pre_post_processors
from .progress import Progress
from .train_command import check_train_command
from .validation import require

if TYPE_CHECKING:
    from lerobot.datasets import LeRobotDatasetMetadata

    from ..online.evidence import BestPolicy
    from ..online.learner import Learner


class SerlSacPolicy(PreTrainedPolicy):
    """ACT proposes a chunk, a small actor edits it, the critics choose between the two.

    Creating the policy reads ``config.act_path`` once; loading a checkpoint never does. Nothing starts (no thread, server or dataset) until
    :meth:`forward` runs in training.

    Args:
        config: features may be empty; they are then taken from ACT.
        dataset_stats: LeRobot's statistics of the dataset, key -> statistic -> array.
        dataset_meta: of the dataset that ``lerobot-train`` opened.

    Raises:
        FileNotFoundError, ValueError: ``act_path`` is no ACT checkpoint, or does not fit the dataset.
    """

    config_class = SerlSacConfig
    name = "serl_sac"

    def __init__(
        self,
        config: SerlSacConfig,
        dataset_stats: Statistics | None = None,
        dataset_meta: "LeRobotDatasetMetadata | None" = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(config)
        self.config: SerlSacConfig = config
        self._dataset_meta = dataset_meta
        if dataset_meta is not None and (command := TrainLoop.command()) is not None:
            check_train_command(command, bool(config.image_features), config.batch_size)
        source = dataset_meta.repo_id if dataset_meta else "the environment"
        checkpoint = adopt_base(config, source) if config.act_path or config.base_path else None
        is_new = checkpoint is not None or config.act_source is None
        if dataset_meta is not None:
            name_grippers(config, dataset_meta.features)
        config.validate_features()
        if is_new:
            settle_image_size(config)
        self.agent = Agent(config)
        longest, steps = self.agent.act.longest_plan, config.execution.n_action_steps
        setting = "policy.horizon" if config.n_action_steps is None else "policy.n_action_steps"
        require(
            longest is None or steps <= longest,
            setting, steps, f"at most {longest}, the steps that the base policy plans", f"Lower --{setting}.",
        )  # fmt: skip
        self.progress = Progress(config)
        # In a tuple, so that it is no part of the policy.
        self._clock = (nn.Parameter(torch.zeros(())),)
        self._learner: Learner | None = None
        if is_new:
            self._initialise(checkpoint, dataset_stats)
        self.reset()

    @classmethod
    def from_pretrained(cls, pretrained_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load a checkpoint, from a directory or the Hub.

        LeRobot's commands load the processors after the policy, with a loader that imports and calls what their files name. So these files
        are looked at here.

        Raises:
            ValueError: training is to be resumed from a checkpoint that was cut off while it was written; or a file is damaged, or would
                run code.
            FileNotFoundError: no such checkpoint, or a part of it is missing.
        """
        config, place = kwargs.get("config"), Path(pretrained_name_or_path)
        if config is not None and config.in_progress and place.name == MODEL:
            require_whole(place.parent)
        require_harmless_files(pretrained_name_or_path, kwargs)
        return super().from_pretrained(pretrained_name_or_path, **kwargs)

    @classmethod
    def _load_as_safetensor(cls, model: Self, model_file: str, map_location: str, strict: bool) -> Self:
        """Where LeRobot loads the weights. It would take any numbers, and leave random what is missing."""
        require_sound_weights(model_file, model.state_dict())
        state = load_file(model_file, device=str(resolve_safetensors_device(map_location)))
        model.load_state_dict({name: value for name, value in state.items() if not name.startswith(COUNTERS_OF_0_1)})
        return model

    def get_optim_params(self) -> list[nn.Parameter]:
        """One number for LeRobot's optimizer, which no loss moves: the agent steps its networks itself."""
        return [self._clock[0]]

    def reset(self) -> None:
        """Forget the rest of the current chunk and what was seen before. To be called when an episode starts."""
        self._history = History(self.agent.act.n_obs_steps, self.config.input_features or {})
        self._planner = Planner(PlayedDelay(self.agent.plan), self.config.execution)
        self._queue: deque[Tensor] = deque(maxlen=self.config.horizon)

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Tensor], **kwargs: Any) -> Tensor:
        """The deterministic policy, from a plan that is made for this observation.

        Args:
            batch: raw observations ``(B, ...)``, images float in [0, 1].

        Returns:
            ``(B, h, D)`` raw actions, the steps to execute before looking again.
        """
        self._history.add(batch)
        return self.chunks(self._history.observation())

    @torch.no_grad()
    def chunks(self, observation: Mapping[str, Tensor]) -> Tensor:
        """As :meth:`predict_action_chunk`, for observations with all frames that the base policy looks at."""
        features, base = self.agent.encode(observation)
        return self.agent.box.unnormalize(self.agent.propose(features, base).chunk)

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], **kwargs: Any) -> Tensor:
        """The next action ``(B, D)``, raw: every ``horizon`` calls the policy decides about the next steps of the base policy's plan.

        Raises:
            ValueError: the plan is not finite.
        """
        self._history.add(batch)
        self._planner.see(self._history.observation())
        if not self._queue:
            piece = self._planner.next()
            if piece is None:
                raise ValueError("The base policy's plan has numbers that are not finite. Check the observations, and the checkpoint.")
            features = self.agent.look(self._history.observation(), piece.features, piece.age)
            chunk = self.agent.box.unnormalize(self.agent.propose(features, piece.base).chunk)
            self._queue.extend(chunk[:, : piece.span].transpose(0, 1))
        return self._queue.popleft()

    def forward(self, batch: dict[str, Tensor], **kwargs: Any) -> tuple[Tensor, dict[str, float]]:
        """One update, on a batch of the replay memory. LeRobot's ``batch`` is only the step clock.

        The first call in training builds the replay memory and, online, starts the server.

        Returns:
            the critics' loss, for LeRobot's log and without a gradient to any network, and what else the log shows.
        """
        if self._learner is None:
            self._learner = self._make_learner()
        loss, shown = self._learner.step()
        return loss + 0.0 * self._clock[0], shown

    def _save_pretrained(self, save_directory: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        """In training, a checkpoint to go on from, and ``checkpoints/best`` beside it; what goes elsewhere, to the Hub, is the best."""
        learner = self._learner
        if learner is None or (save_directory.name != MODEL and learner.watch is None):
            self._write(save_directory, state_dict)
        elif save_directory.name != MODEL:
            self._save_best(save_directory, learner.best_policy)
        else:
            require_room(save_directory, self._checkpoint_bytes)
            mark_unfinished(save_directory.parent)
            self._write(save_directory, state_dict)
            learner.save(save_directory.parent)
            best = learner.best_policy
            write_best(save_directory.parent, best, lambda directory: self._save_best(directory, best, whole=True))

    def _write(self, directory: Path, state_dict: dict[str, Tensor] | None) -> None:
        """A policy, and what is known of its demonstrations, from which limits come where it is deployed."""
        super()._save_pretrained(directory, state_dict=state_dict)
        if self._learner is not None:
            self._learner.demo_stats.write(directory)

    @property
    def _checkpoint_bytes(self) -> int:
        return checkpoint_bytes(self.state_dict().values(), (p for p in self.parameters() if p.requires_grad))

    def _save_best(self, directory: Path, best: "BestPolicy", whole: bool = False) -> None:
        """The weights that the evidence favours, in a policy that acts as ACT if they are not known to be better.

        Args:
            whole: with the files that LeRobot writes beside a policy.
        """
        state = dict(self.state_dict())
        if best.candidate is not None:
            state |= {f"agent.{name}": value for name, value in best.candidate.kept.tensors.items()}
        self._write(directory, state)
        config = copy.copy(self.config)  # the server's threads read the learner's own
        config.act_alone = not best.edits_are_better
        config.save_pretrained(directory)
        if whole:
            for processor in make_serl_sac_pre_post_processors(config):
                processor.save_pretrained(directory)
            if (loop := TrainLoop.find()) is not None:
                loop.save_config(directory)

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """LeRobot's card, and what is known of the policy."""
        card = super().generate_model_card(*args, **kwargs)
        if self._learner is not None and self._learner.watch is not None:
            card.text += f"\n\n## Evidence\n\n{evidence_text(self._learner.best_policy)}\n"
        return card

    def _initialise(self, checkpoint: PolicyCheckpoint | None, dataset_stats: Statistics | None) -> None:
        """Fill in what a saved checkpoint would contain: ACT's weights and statistics, the action box."""
        statistics, dataset = _as_tensors(dataset_stats), None
        if self._dataset_meta is not None:
            dataset = open_dataset(self._dataset_meta.repo_id, self._dataset_meta.root)
            vectors = [key for key, feature in (self.config.input_features or {}).items() if feature.type is not FeatureType.VISUAL]
            statistics = checked_statistics(statistics, dataset, [ACTION, *vectors])
        if checkpoint is not None:
            begin_as_base(self, checkpoint, statistics, dataset)
        elif self.config.base == NONE:
            if statistics:
                set_box(self.agent, statistics)
        else:
            self._begin_fresh(statistics)
        if dataset is not None:
            set_positions(self.agent, dataset)

    def _begin_fresh(self, statistics: Statistics) -> None:
        """With an ACT that nobody has trained."""
        logging.warning(
            "No --policy.act_path given: the policy starts from a fresh, random ACT. Learning from scratch takes far longer than improving "
            "a trained ACT; consider --policy.actor.edit_scale=2, so that the edits reach the whole action range."
        )
        self.config.act_source = FRESH_ACT
        if statistics:
            proposer(self.agent).set_statistics(statistics)
            set_box(self.agent, statistics)

    def _make_learner(self) -> "Learner":
        from ..online.learner import Learner

        if self._dataset_meta is None:
            raise RuntimeError("serl_sac learns inside lerobot-train, which passes the dataset: policy was created without one.")
        if (loop := TrainLoop.find()) is not None and loop.saves:
            require_room(loop.output_dir, self._checkpoint_bytes)
        return Learner(self.agent, self.config, self.progress, self._dataset_meta)


def _as_tensors(statistics: Statistics | None) -> dict[str, dict[str, Tensor]]:
    return {key: {name: torch.as_tensor(value) for name, value in named.items()} for key, named in (statistics or {}).items()}
