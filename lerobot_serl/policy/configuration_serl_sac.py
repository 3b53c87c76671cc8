"""Configuration of the policy type ``serl_sac``. Every field can be set with ``--policy.<name>=``."""

import json
import logging
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import draccus
import torch
from huggingface_hub.constants import CONFIG_NAME
from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.utils import is_torch_device_available

from ..execution import Execution
from ..label_settings import LabelSettings
from ..setting_error import checks_settings
from .base_settings import ACT, EmbeddedPolicy, settle_base
from .bounds import (
    BACKBONES,
    LARGEST_ATTENTION,
    LARGEST_IMAGE_SIDE,
    LARGEST_N_STEP,
    SMALLEST_IMAGE_SIDE,
    require_bounds,
    require_features,
    require_renames,
)
from .execution_settings import require_execution
from .parts import ActorConfig, CorrectorConfig, CriticConfig, GraspConfig, GuardConfig, OnlineConfig, StartupConfig, TemperatureConfig
from .removed_settings import forgetting
from .step_clock import StepClockConfig
from .validation import require, require_not_negative, require_positive

if TYPE_CHECKING:
    from lerobot.policies import ACTConfig


# Where an embedded ACT that nobody has trained came from.
FRESH_ACT = "fresh"


@dataclass
class ActArchitecture:
    """Architecture of the embedded ACT, in LeRobot's own terms (``ACTConfig``). Read from ``act_path`` when that is given."""

    # Steps predicted at once.
    chunk_size: int = 100
    vision_backbone: str = "resnet18"
    replace_final_stride_with_dilation: bool = False
    pre_norm: bool = False
    dim_model: int = 512
    n_heads: int = 8
    dim_feedforward: int = 3200
    feedforward_activation: str = "relu"
    n_encoder_layers: int = 4
    n_decoder_layers: int = 1
    latent_dim: int = 32
    # Feature type -> mode, as ACT was trained. ACT's default leaves ENV out: the environment state is then fed raw.
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: dict.fromkeys(("VISUAL", "STATE", "ACTION"), NormalizationMode.MEAN_STD)
    )
    # Feature -> mode, where ACT's saved processors do something else than the mapping says of its type; filled in from them.
    feature_modes: dict[str, NormalizationMode] = field(default_factory=dict)

    @checks_settings
    def __post_init__(self) -> None:
        require_bounds(self, "policy.act.")
        require(
            self.dim_model % self.n_heads == 0,
            "policy.act.n_heads", self.n_heads, f"a divisor of dim_model, {self.dim_model}", "Choose another --policy.act.n_heads.",
        )  # fmt: skip
        require(
            self.n_heads * self.chunk_size**2 <= LARGEST_ATTENTION,
            "policy.act.chunk_size", self.chunk_size, f"n_heads * chunk_size ** 2 of at most {LARGEST_ATTENTION}, with {self.n_heads} heads",
            "Lower one of them.",
        )  # fmt: skip
        choices = {"vision_backbone": BACKBONES, "feedforward_activation": ("relu", "gelu", "glu")}
        for name, allowed in choices.items():
            require(getattr(self, name) in allowed, f"policy.act.{name}", getattr(self, name), f"one of {', '.join(allowed)}")

    @classmethod
    def of(cls, config: "ACTConfig") -> "ActArchitecture":
        """The architecture of an ACT checkpoint's configuration."""
        values = {item.name: getattr(config, item.name) for item in fields(cls) if item.name != "feature_modes"}
        mapping = {str(getattr(k, "value", k)): NormalizationMode(v) for k, v in config.normalization_mapping.items()}
        # LeRobot declares the dilation switch as int; JSON of a checkpoint may hold 0 or false.
        dilation = bool(config.replace_final_stride_with_dilation)
        own = {"normalization_mapping": mapping, "replace_final_stride_with_dilation": dilation}
        return cls(**{**values, **own})

    def to_act_config(self, **features: Any) -> "ACTConfig":
        """LeRobot's configuration of the same network, without the VAE encoder (used only in ACT's own training)."""
        from lerobot.policies import ACTConfig  # imports every policy of LeRobot

        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "feature_modes"}
        # A checkpoint brings the backbone's weights, so none are downloaded.
        return ACTConfig(**values, **features, pretrained_backbone_weights=None, n_action_steps=1, use_vae=False, push_to_hub=False)


@forgetting
@PreTrainedConfig.register_subclass("serl_sac")
@dataclass
class SerlSacConfig(PreTrainedConfig):
    """ACT improved by SERL's soft actor-critic. Sources and reasons of the defaults: docs/algorithm.md."""

    # Directory or Hub id of the LeRobot ACT checkpoint to improve. Read once, when the policy is created; afterwards ACT lives in
    # this policy's own checkpoint and this field is empty.
    act_path: str | None = None
    # The same for any other LeRobot policy that plans chunks, such as Diffusion Policy, with its own saved processors.
    base_path: str | None = None
    # What proposes: "act", "lerobot" (the policy at base_path), or "none": the actor's output is the action, from scratch, as in SERL and RLPD.
    # Empty: as act_path and base_path say; "none" without either. "act" without act_path begins with a random ACT.
    base: str | None = None
    # The policy that was at base_path; filled in at creation.
    lerobot: EmbeddedPolicy = field(default_factory=EmbeddedPolicy)
    # Where the embedded base policy came from; filled in at creation, for information.
    act_source: str | None = None
    # The dataset's and robot's name of a feature -> ACT's name of it, where they differ: '{"observation.images.top": "observation.images.front"}'.
    # What ACT's own saved processors rename is filled in. It is kept in checkpoints: they take observations by the robot's names.
    act_rename_map: dict[str, str] = field(default_factory=dict)
    # Largest difference between the policy at its beginning and ACT as its owner runs it, in shares of each action entry's range. It is
    # measured when the policy is created from act_path; beyond it is an error. A larger one accepts another policy than the owner's.
    act_tolerance: float = 1e-4
    # Architecture of the embedded ACT. Set it only to train from scratch, without act_path.
    act: ActArchitecture = field(default_factory=ActArchitecture)

    # Act as ACT alone, whatever was learnt. The learner writes true into checkpoints/best where the episodes do not say that the edits are
    # better; a new run from there learns on.
    act_alone: bool = False

    # Steps that are executed before the policy looks again and decides anew, h: so many actions of the base policy's plan are edited at a time.
    horizon: int = 10
    # Steps of each of the base policy's plans that are carried out before it plans anew, N; at least horizon. Empty: as its owner runs it, filled in
    # from its configuration (checkpoints of earlier versions: horizon).
    n_action_steps: int | None = None
    # ACT's temporal ensembling, with n_action_steps=1 and horizon=1. Empty: as its owner runs it.
    temporal_ensemble_coeff: float | None = None
    # Steps whose rewards a target sums before it asks the critics for the value of what follows, n. Empty: horizon. At least horizon, since a
    # critic judges whole chunks; horizon=1 with n_step=3 is one action at a time with 3-step returns. Actions after the chunk are the data's,
    # without a correction, so large numbers favour what demonstrations and older weights did.
    n_step: int | None = None
    # Discount per control step, gamma. Empty: 0.4 ** (1 / median length of the demonstrations).
    discount: float | None = None
    # Reinforcement learning batch size. LeRobot's --batch_size is only the step clock: set it to 1.
    batch_size: int = 256
    # Share of each batch from the demonstrations and interventions, once online data exist (RLPD).
    demo_fraction: float = 0.5
    # Critic updates per collected environment step; the learner waits rather than running ahead.
    utd: float = 1.0
    # Actor and temperature join every policy_delay-th critic update.
    policy_delay: int = 2
    # What becomes of all learning rates: "constant", or "cosine", which takes them to 0 over lr_decay_updates (empty: --steps).
    lr_schedule: str = "constant"
    lr_decay_updates: int | None = None
    # Frames that the replay memory of the robot's episodes holds; the oldest go first.
    buffer_capacity: int = 200_000
    # Where the replay memories lie: "cpu", "cuda" (with policy.device=cuda), or "auto": on the policy's device if they take at most half of what is
    # free there, all frames of buffer_capacity counted. The learner's log tells the size.
    memory_device: str = "cpu"
    # Widening of the demonstrations' action range, as a fraction of half the range, to the action box.
    action_margin: float = 0.2
    # Largest share of ACT's plans and of the demonstrations' actions that the box may cut off; it happens to a checkpoint whose box was made with
    # another dataset.
    clipped_share: float = 0.01
    # Observation features of actor and critics: "state", "act" (frozen ACT's backbone, and where no plan outlives a decision its decoder), "both",
    # or "auto": state vectors, and ACT's features too when there are cameras. "cnn": state vectors and a small network of the critics' own for each
    # camera, trained with random shifts; the replay memory then keeps the images.
    features: str = "auto"
    # Longer side, in pixels, of the pictures that this small network sees and the replay memory keeps; larger ones are reduced. Empty: at most 64 on
    # a CPU and 128 on a GPU, filled in at creation.
    image_size: int | None = None
    # What is done with the grippers' entries of an action: "edit": as with any other; "base": the base policy's commands stay as they are;
    # "discrete": critics of their own decide in each chunk for each gripper, as the base policy commands, or one of the two positions at which the
    # demonstrations hold it (policy.grasp).
    gripper: str = "edit"
    # Clip the critics' targets to these values. Empty: to [0, 1] when every reward in the data is 0 or 1, else not at all.
    value_range: tuple[float, float] | None = None
    # Entropy in the critics' target: "none", "soft" (SAC), "serl" (SERL's form, without discount and mask).
    backup_entropy: str = "none"
    # Directory for metrics/*.csv, which lerobot-serl-report reads. Empty: LeRobot's output directory.
    metrics_dir: str | None = None
    # Seconds between two rows of metrics.
    metrics_period_s: float = 5.0

    labels: LabelSettings = field(default_factory=LabelSettings)
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    corrector: CorrectorConfig = field(default_factory=CorrectorConfig)
    grasp: GraspConfig = field(default_factory=GraspConfig)
    temperature: TemperatureConfig = field(default_factory=TemperatureConfig)
    startup: StartupConfig = field(default_factory=StartupConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    online: OnlineConfig = field(default_factory=OnlineConfig)

    # Written by the learner: true in train_config.json (--resume=true goes on counting), false in config.json (--policy.path= starts
    # a new run from the same weights).
    in_progress: bool = False
    # Version of this configuration's layout.
    schema_version: int = 1

    @checks_settings
    def __post_init__(self) -> None:
        if self.device is not None and not is_torch_device_available(self.device):
            logging.warning(
                f"policy.device={self.device!r} is not available here: PyTorch {torch.__version__} finds no such device, and LeRobot takes another. "
                "On a CPU core a learner makes about 50 updates a second with state vectors, far fewer with cameras (docs/benchmarks.md, Speed)."
            )
        super().__post_init__()
        require_positive(self, "policy.", "horizon", "batch_size", "utd", "policy_delay", "buffer_capacity")
        require_positive(self, "policy.", "metrics_period_s")
        require_not_negative(self, "policy.", "action_margin", "act_tolerance")
        require_renames(self.act_rename_map)
        settle_base(self)
        self._check_steps()
        require_bounds(self, "policy.")
        require_features("input_features", self.input_features)
        require_features("output_features", self.output_features)
        self._check_ranges()
        choices = {
            "features": ("auto", "state", "act", "both", "cnn"),
            "backup_entropy": ("none", "soft", "serl"),
            "gripper": ("edit", "discrete", "base"),
            "lr_schedule": ("constant", "cosine"),
            "memory_device": ("cpu", "cuda", "auto"),
        }
        for name, allowed in choices.items():
            require(getattr(self, name) in allowed, f"policy.{name}", getattr(self, name), f"one of {', '.join(allowed)}")
        self._refuse_what_is_not_supported()

    def _check_steps(self) -> None:
        """Chunk and window."""
        require(
            self.base != ACT or self.horizon <= self.act.chunk_size or self.act_path is not None,
            "policy.horizon", self.horizon, f"at most ACT's chunk_size, {self.act.chunk_size}", "Lower --policy.horizon.",
        )  # fmt: skip
        require(
            self.n_step is None or (type(self.n_step) is int and self.horizon <= self.n_step <= LARGEST_N_STEP),
            "policy.n_step", self.n_step, f"a whole number from policy.horizon, {self.horizon}, to {LARGEST_N_STEP}, or nothing",
            "A critic judges whole chunks: for shorter returns lower --policy.horizon, too.",
        )  # fmt: skip
        if self.act_path is None and self.base_path is None:
            require_execution(self)

    def _check_ranges(self) -> None:
        """Numbers that lie between others."""
        require(0 <= self.clipped_share <= 1, "policy.clipped_share", self.clipped_share, "a share from 0 to 1")
        require(self.discount is None or 0 < self.discount < 1, "policy.discount", self.discount, "a number between 0 and 1, or nothing")
        require(
            self.lr_decay_updates is None or self.lr_decay_updates > 0,
            "policy.lr_decay_updates", self.lr_decay_updates, "a number of updates above 0, or nothing",
        )  # fmt: skip
        require(
            self.image_size is None or (type(self.image_size) is int and SMALLEST_IMAGE_SIDE <= self.image_size <= LARGEST_IMAGE_SIDE),
            "policy.image_size", self.image_size, f"a whole number of pixels from {SMALLEST_IMAGE_SIDE} to {LARGEST_IMAGE_SIDE}, or nothing",
        )  # fmt: skip
        require(0 <= self.demo_fraction < 1, "policy.demo_fraction", self.demo_fraction, "a number from 0 to below 1")
        require(
            self.value_range is None or self.value_range[0] < self.value_range[1],
            "policy.value_range", self.value_range, "two numbers, the smaller first",
        )  # fmt: skip

    def _refuse_what_is_not_supported(self) -> None:
        require(
            not self.use_amp,
            "policy.use_amp", self.use_amp, "false: the losses are computed in float32", "Remove --policy.use_amp.",
        )  # fmt: skip
        require(
            not self.use_peft,
            "policy.use_peft", self.use_peft, "false: an adapter's files name another checkpoint to load", "Set it to false in config.json.",
        )  # fmt: skip
        require(self.schema_version == 1, "policy.schema_version", self.schema_version, "1", "Upgrade lerobot_policy_serl_sac.")

    @property
    def execution(self) -> Execution:
        """How the base policy's plans are carried out."""
        return Execution(self.horizon, self.n_action_steps or self.horizon, self.temporal_ensemble_coeff)

    @property
    def normalization_mapping(self) -> dict[str, NormalizationMode]:
        """Empty: the processors normalise nothing. ACT's statistics are buffers of the policy (docs/design.md)."""
        return {}

    @property
    def observation_delta_indices(self) -> None:
        return None

    @property
    def action_delta_indices(self) -> None:
        return None

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> StepClockConfig:
        """Of LeRobot's own step."""
        return StepClockConfig(lr=self.critic.lr)

    def get_scheduler_preset(self) -> None:
        return None

    def validate_features(self) -> None:
        """Raise unless there is an action and at least one observation that ACT can use, none of them too large (bounds.py).

        Raises:
            ValueError: with the features found.
        """
        require_features("input_features", self.input_features)
        require_features("output_features", self.output_features)
        require(self.action_feature is not None, "output_features", self.output_features, "a feature named 'action'")
        require(
            self.base != ACT or bool(self.image_features) or self.env_state_feature is not None,
            "input_features", list(self.input_features or {}), "at least one camera or 'observation.environment_state'",
            "ACT needs one of them.",
        )  # fmt: skip
        names = sorted(self.act_rename_map.keys() - (self.input_features or {}).keys())
        remedy = "It is chosen when the policy is created from ACT; in lerobot-eval and lerobot-rollout LeRobot's --rename_map renames."
        require(not names, "policy.act_rename_map", names, f"names of {list(self.input_features or {})}", remedy)
        if self.gripper != "edit" and self.action_feature is not None:
            self.grasp.require_fit(self.action_feature.shape[0])
        require(self.features != "cnn" or bool(self.image_features), "policy.features", self.features, "cameras", "Use 'auto'.")

    def _save_pretrained(self, save_directory: Path) -> None:
        encoded = draccus.encode(self, PreTrainedConfig)
        (save_directory / CONFIG_NAME).write_text(json.dumps({**encoded, "in_progress": False}, indent=4))
