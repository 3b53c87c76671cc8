"""One run: a variant, a seed, and where its results go."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lerobot.configs import FeatureType, PolicyFeature
from lerobot.datasets.dataset_metadata import LeRobotDatasetMetadata
from lerobot.utils.feature_utils import dataset_to_policy_features

from lerobot_serl.actor.planning import Planning
from lerobot_serl.actor.rollout import Act
from lerobot_serl.base.plan_maker import MakePlan, PlanMaker
from lerobot_serl.policy.modeling_serl_sac import SerlSacPolicy

from .base import Base
from .plan import Plan, Variant
from .practice import EVALUATION_SEED, Logbook, evaluate
from .results import describe_machine, replace_measured, write_json, write_rows

REPOSITORY = Path(__file__).parents[3]
EVALUATIONS, TRAINING, CONTROL, MARKER = "evaluations.csv", "training.csv", "control.csv", "done.json"


@dataclass(frozen=True)
class Run:
    """What a method gets.

    Attributes:
        plan, variant, seed: which run it is.
        base: demonstrations and ACT.
        directory: for its files.
        logbook: its rows.
    """

    plan: Plan
    variant: Variant
    base: Base
    directory: Path
    logbook: Logbook

    def maker(self, policy: SerlSacPolicy) -> Callable[[MakePlan], PlanMaker]:
        """Where the policy's base policy plans, as the variant says."""
        planning, execution = Planning(self.variant.planning, self.variant.plan_delay_s), policy.config.execution
        return planning.maker(execution, self.base.task.env().fps, True, policy.config.input_features or {})

    @property
    def seed(self) -> int:
        """Of the run."""
        return self.logbook.seed

    def evaluate(self, act: Act, inputs: dict, action_dim: int, step: int) -> float:
        """Measure the policy after so many environment steps; returns its success."""
        recordings = evaluate(self.base.world(inputs, action_dim, EVALUATION_SEED), act, self.plan.episodes)
        rows = [self.logbook.row(recording, step, index) for index, recording in enumerate(recordings)]
        self.logbook.evaluations.extend(rows)
        share = sum(row.success for row in rows) / len(rows)
        recent = self.logbook.training[-50:]
        practice = f", last {len(recent)} of practice {sum(row.success for row in recent) / len(recent):.0%}" if recent else ""
        print(
            f"{self.plan.name} {self.variant.name} seed {self.seed}: {step} steps, {share:.0%}{practice}, {rows[-1].wall_s:.0f} s",
            flush=True,
        )
        self.save()
        return share

    def due(self, step: int) -> bool:
        """Whether another evaluation has become due."""
        last = self.logbook.evaluations[-1].step if self.logbook.evaluations else -self.plan.evaluate_every
        return step // self.plan.evaluate_every > last // self.plan.evaluate_every

    def control_due(self, step: int) -> bool:
        """Whether the ways to deploy are measured at this evaluation."""
        return any(step - self.plan.evaluate_every < wanted <= step for wanted in self.plan.control_steps)

    def control(self, rows: Sequence[Mapping[str, str]], step: int) -> None:
        """Keep what was measured after so many environment steps; what an interrupted run measured goes when this one begins."""
        if step == 0:
            (self.directory / CONTROL).unlink(missing_ok=True)
        replace_measured(
            self.directory / CONTROL, [{"seed": str(self.seed), "step": str(step)} | dict(row) for row in rows], ("seed", "step")
        )

    def save(self) -> None:
        """Write what there is."""
        write_rows(self.directory / EVALUATIONS, self.logbook.evaluations)
        write_rows(self.directory / TRAINING, self.logbook.training)

    def finish(self, seconds: float) -> None:
        """The run is complete."""
        self.save()
        about = {"variant": self.variant.name, "seed": self.seed, "act": self.base.tried, "seconds": round(seconds, 1)}
        write_json(self.directory / MARKER, {**about, **describe_machine(REPOSITORY)})


def policy_features(meta: LeRobotDatasetMetadata) -> tuple[dict[str, PolicyFeature], dict[str, PolicyFeature]]:
    """A dataset's observations and action, as a policy's input and output; labels are neither."""
    features = {key: ft for key, ft in dataset_to_policy_features(meta.features).items() if not key.startswith("next.")}
    inputs = {key: ft for key, ft in features.items() if ft.type is not FeatureType.ACTION}
    return inputs, {key: ft for key, ft in features.items() if ft.type is FeatureType.ACTION}
