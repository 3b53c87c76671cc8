"""The groups of settings inside :class:`SerlSacConfig`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..setting_error import checks_settings
from .bounds import MOST_DECISIONS, require_bounds
from .validation import require, require_not_negative, require_positive

# Largest gradient norm of the networks whose limit is no setting.
GRAD_CLIP_NORM = 10.0


@dataclass
class ActorConfig:
    """``--policy.actor.*``: the network that edits ACT's chunk."""

    # Largest change of an action, rho, in action units (1 = half the width of the action box); one number, or one for each entry of the
    # action. Empty: what the demonstrations' action changes from one step to the next, from 0.05 to 0.2 (docs/algorithm.md).
    edit_scale: float | tuple[float, ...] | None = None
    # Points of a chunk at which the edit is learnt and tried out; it is interpolated between them. Empty: every step, as in a
    # chunk that has no more steps than this.
    knots: int | None = 3
    hidden_sizes: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    # Standard deviation of the edit before tanh: at the start, and its limits.
    init_std: float = 0.2
    min_std: float = 0.05
    max_std: float = 0.6
    # Keep the standard deviation at init_std (TD3-like).
    fixed_std: bool = False
    lr: float = 3e-4
    # Largest gradient norm; 0 switches clipping off.
    grad_clip_norm: float = 10.0
    weight_decay: ClassVar[float] = 0.0
    # Weight of the mean squared edit in the actor's loss: the pull towards ACT.
    anchor: float = 0.01
    # Let ACT's own chunk compete with the edited ones, in acting and in the critics' target.
    candidates: bool = True
    # Standard deviations (over the critics) that the actor takes off an edit's advantage over ACT's chunk.
    pessimism: float = 1.0
    # Standard deviations (over the critics) by which an edit must beat ACT's chunk to be chosen.
    margin: float = 0.5
    # Share of the exploration noise's variance that all steps of a chunk have in common. White noise averages out over a chunk, and
    # tells the critics nothing about the coherent edits that the actor learns.
    noise_correlation: float = 0.5
    # Probability with which a sampled edit is executed without asking the critics, once the actor learns.
    explore: float = 0.1
    # Share of the practice episodes that are carried out as the policy would be deployed, twice as many while at least 90 % of them succeed.
    # Every fourth of them is ACT's, to compare with. Before the actor learns it is half of all episodes.
    deployed_share: float = 0.2

    @checks_settings
    def __post_init__(self) -> None:
        require(
            self.edit_scale is None or (len(self.edit_scales) > 0 and all(0 < scale <= 2 for scale in self.edit_scales)),
            "policy.actor.edit_scale", self.edit_scale, "numbers from above 0 to 2, or nothing",
        )  # fmt: skip
        require(self.knots is None or self.knots >= 1, "policy.actor.knots", self.knots, "a whole number of at least 1, or nothing")
        require_positive(self, "policy.actor.", "lr", "init_std", "min_std", "max_std")
        require(
            self.min_std <= self.init_std <= self.max_std,
            "policy.actor.init_std", self.init_std, f"between min_std {self.min_std} and max_std {self.max_std}",
        )  # fmt: skip
        require_not_negative(self, "policy.actor.", "grad_clip_norm", "anchor", "margin", "pessimism")
        require(0 <= self.explore <= 1, "policy.actor.explore", self.explore, "a probability")
        require(0 <= self.deployed_share <= 1, "policy.actor.deployed_share", self.deployed_share, "a share from 0 to 1")
        require(0 <= self.noise_correlation <= 1, "policy.actor.noise_correlation", self.noise_correlation, "a share from 0 to 1")
        _check_network(self, "policy.actor.")

    @property
    def edit_scales(self) -> tuple[float, ...]:
        """Every number that ``edit_scale`` holds."""
        scale = self.edit_scale
        return () if scale is None else tuple(scale) if isinstance(scale, Sequence) else (scale,)


@dataclass
class CorrectorConfig:
    """``--policy.corrector.*``: the network that changes ACT's chunk as people's interventions taught it, before the actor edits it."""

    # It begins to learn after so many takeovers; without them it has no effect. 0 switches it off.
    least_takeovers: int = 10
    hidden_sizes: tuple[int, ...] = (256, 256)
    lr: float = 3e-4
    activation: ClassVar[str] = "relu"
    weight_decay: ClassVar[float] = 0.0
    grad_clip_norm: ClassVar[float] = GRAD_CLIP_NORM

    @checks_settings
    def __post_init__(self) -> None:
        require_positive(self, "policy.corrector.", "lr")
        require_not_negative(self, "policy.corrector.", "least_takeovers")
        _check_network(self, "policy.corrector.")


@dataclass
class CriticConfig:
    """``--policy.critic.*``: the ensemble of critics."""

    members: int = 4
    # Target critics, drawn anew for each update, that the minimum is taken over (REDQ, RLPD).
    subset: int = 2
    hidden_sizes: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    lr: float = 3e-4
    # Decoupled, as in AdamW.
    weight_decay: float = 0.0
    # Largest gradient norm; 0 switches clipping off.
    grad_clip_norm: float = 10.0
    # Penalty on the squared advantage that the critics see in the actor's edits: it weighs as much as so many recorded steps. Without it they
    # promise much for edits that nobody tried, and all of them the same. 0 switches it off.
    prior_steps: int = 300
    # Polyak rate of the target critics per update, tau.
    target_rate: float = 0.005

    @checks_settings
    def __post_init__(self) -> None:
        require(1 <= self.subset <= self.members, "policy.critic.subset", self.subset, f"1 to members, {self.members}")
        require_positive(self, "policy.critic.", "lr")
        require_not_negative(self, "policy.critic.", "grad_clip_norm", "weight_decay", "prior_steps")
        require(0 < self.target_rate <= 1, "policy.critic.target_rate", self.target_rate, "a number from above 0 to 1")
        _check_network(self, "policy.critic.")


@dataclass
class GraspConfig:
    """``--policy.grasp.*``: the critics that decide about the grippers, for ``policy.gripper=discrete``; ``names`` also for ``base``."""

    # Entries of the action that are grippers, by name; action[3] where the dataset has no names. Empty: those with "gripper" in their name.
    names: tuple[str, ...] | None = None
    # Their places in the action; filled in at creation.
    entries: tuple[int, ...] = ()
    # Steps of a chunk, evenly spaced from the first, from which a gripper may be told otherwise than by the base policy.
    moments: int = 1
    # What a change of a gripper's command from one of its two positions to the other costs (HIL-SERL).
    penalty: float = 0.02
    # Probability with which an exploring chunk takes any of the decisions instead of the best.
    epsilon: float = 0.2
    # Standard deviations (over the critics) by which a decision must beat the base policy's own command to be chosen.
    margin: float = 0.5
    members: int = 4
    hidden_sizes: tuple[int, ...] = (128, 128)
    lr: float = 3e-4
    activation: ClassVar[str] = "relu"
    weight_decay: ClassVar[float] = 0.0
    grad_clip_norm: ClassVar[float] = GRAD_CLIP_NORM
    # Polyak rate of the target networks per update, tau: SERL's.
    target_rate: ClassVar[float] = 0.005

    @checks_settings
    def __post_init__(self) -> None:
        require_positive(self, "policy.grasp.", "lr")
        require_not_negative(self, "policy.grasp.", "penalty", "margin")
        require(0 <= self.epsilon <= 1, "policy.grasp.epsilon", self.epsilon, "a probability")
        _check_network(self, "policy.grasp.")

    def require_fit(self, action_dim: int) -> None:
        """Raise unless ``entries`` are some of the action's, not all, and not too many.

        Raises:
            ValueError: naming the setting.
        """
        places, free = set(self.entries), action_dim - len(self.entries)
        require(
            0 < len(places) == len(self.entries) and places <= set(range(action_dim)) and free > 0,
            "policy.grasp.entries", self.entries, f"places of the grippers in an action of {action_dim} entries, each once, and not all of them",
            "They are filled in when a policy is created with a dataset; name the grippers with --policy.grasp.names.",
        )  # fmt: skip
        decisions = (1 + 2 * self.moments) ** min(len(self.entries), 8)  # 8 are too many in any case
        require(
            decisions <= MOST_DECISIONS,
            "policy.grasp.moments", self.moments, f"at most {MOST_DECISIONS} decisions; {len(self.entries)} grippers have {decisions}",
            "Lower it, or name fewer grippers with --policy.grasp.names.",
        )  # fmt: skip


@dataclass
class TemperatureConfig:
    """``--policy.temperature.*``: the weight of the entropy, alpha; it multiplies the log-probability per action dimension."""

    init: float = 1e-3
    lr: float = 1e-4
    # Largest gradient norm; 0 switches clipping off.
    grad_clip_norm: float = 10.0
    weight_decay: ClassVar[float] = 0.0
    # Entropy per action dimension of the edit, in nats. Empty: that of the actor at the start.
    target_entropy: float | None = None

    @checks_settings
    def __post_init__(self) -> None:
        require_positive(self, "policy.temperature.", "init", "lr")
        require_not_negative(self, "policy.temperature.", "grad_clip_norm")
        wanted = self.target_entropy
        require(wanted is None or math.isfinite(wanted), "policy.temperature.target_entropy", wanted, "a finite number, or nothing")


@dataclass
class StartupConfig:
    """``--policy.startup.*``: from ACT alone to learning."""

    # Environment steps collected before any update: every second episode with ACT alone, the others with small edits.
    collect_steps: int = 1500
    # Critic updates before the actor joins.
    critic_updates: int = 2000
    # Updates over which the actor's learning rate rises from 0.
    ramp_updates: int = 1000
    # Edit scale when the actor joins, as a fraction of actor.edit_scale, and the updates over which it grows to the whole: the edits
    # grow no faster than the data that judge them.
    scale_fraction: float = 0.1
    scale_updates: int = 6000

    @checks_settings
    def __post_init__(self) -> None:
        require_not_negative(self, "policy.startup.", "collect_steps", "critic_updates", "ramp_updates", "scale_updates")
        require(0 < self.scale_fraction <= 1, "policy.startup.scale_fraction", self.scale_fraction, "a share from above 0 to 1")


@dataclass
class GuardConfig:
    """``--policy.guard.*``: what the learner does when learning itself goes wrong."""

    # Episodes without help, collected while the actor learns, over which success is measured.
    window: int = 50
    # Alarm when success over the window is below that of the start-up episodes by more than this share, and by more than chance.
    margin: float = 0.25
    # On an alarm, go back to the copy with the best evidence.
    rollback: bool = True

    @checks_settings
    def __post_init__(self) -> None:
        require(self.window >= 10, "policy.guard.window", self.window, "at least 10 episodes; fewer tell nothing")
        require(0 <= self.margin < 1, "policy.guard.margin", self.margin, "a share from 0 to below 1")


@dataclass
class OnlineConfig:
    """``--policy.online.*``: learning while a robot collects. Offline when ``repo_id`` is empty."""

    # LeRobotDataset that every episode of the robot is appended to.
    repo_id: str | None = None
    # Its directory. Empty: LeRobot's dataset cache.
    root: str | None = None
    # Address to listen at for actor processes. Others than loopback need a token (docs/security.md).
    host: str = "127.0.0.1"
    port: int = 50051
    # File with the token that actor processes have to know. Empty: the environment variable LEROBOT_SERL_TOKEN, if it is set.
    token_file: str | None = None
    # PEM files of the certificate that the learner shows, and of its private key. Empty: no TLS.
    certificate: str | None = None
    certificate_key: str | None = None
    # Updates between two publications of new weights.
    publish_every: int = 50
    # Steps that a simulated actor may run ahead of the learner before it has to wait; real robots never wait.
    max_lead_steps: int = 100
    # An episode is refused when a number of it lies farther outside the demonstrations' range than so many times that range (for an entry that
    # stood still there, its size counts, or 1; for rewards 100): a fault of a sensor, of which ACT would make NaN.
    reach: float = 100.0
    # A takeover ends the policy's part of an episode as a failure (the person's part counts as it came out). Empty: where rewards are 0 or 1.
    takeover_is_failure: bool | None = None
    # Store camera images as video instead of single images. Empty: as in the online dataset that is there; else as pictures if an episode of two
    # minutes has no more pixels than LeRobot can store so.
    use_videos: bool | None = None
    # Resume a run although the online dataset holds fewer episodes than the checkpoint says. It counts for one start, and is false again then.
    accept_lost_episodes: bool = False

    @property
    def enabled(self) -> bool:
        """Whether episodes are collected."""
        return self.repo_id is not None

    @checks_settings
    def __post_init__(self) -> None:
        accepts = self.accept_lost_episodes
        require(isinstance(accepts, bool), "policy.online.accept_lost_episodes", accepts, "true or false")
        require(0 <= self.port < 65536, "policy.online.port", self.port, "a port number, or 0 for any free port")
        require_positive(self, "policy.online.", "publish_every", "reach")
        require_not_negative(self, "policy.online.", "max_lead_steps")
        # What the files hold is looked at where the learner starts: this configuration also comes to machines that do not have them.
        require(
            bool(self.host.strip()), "policy.online.host", self.host, "an address of this machine", "127.0.0.1 is for this machine only."
        )
        require(
            (self.certificate is None) == (self.certificate_key is None),
            "policy.online.certificate", self.certificate, f"a file beside certificate_key, {self.certificate_key!r}", "Give both or none.",
        )  # fmt: skip
        require(
            self.root is None or self.repo_id is not None,
            "policy.online.root", self.root, "policy.online.repo_id beside it", "Add --policy.online.repo_id=<you>/<name>.",
        )  # fmt: skip


def _check_network(owner: ActorConfig | CorrectorConfig | CriticConfig | GraspConfig, prefix: str) -> None:
    sizes = owner.hidden_sizes
    require(len(sizes) > 0 and min(sizes) > 0, f"{prefix}hidden_sizes", sizes, "one or more positive layer widths")
    require_bounds(owner, prefix)
    require(owner.activation in ("relu", "silu", "tanh"), f"{prefix}activation", owner.activation, "relu, silu or tanh")
