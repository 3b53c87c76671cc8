"""What a study runs: a YAML file with task, budget, seeds and variants."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

WITHOUT_ACT = frozenset({"from_scratch", "lerobot_sac"})
"""Methods whose own first evaluation is not ACT's."""
QUICK_ACT_STEPS = 20
"""ACT's training in the quick form, which asks whether everything runs, not how well."""


class PlanError(ValueError):
    """The file does not describe a study."""


@dataclass(frozen=True)
class Variant:
    """One way to learn.

    Attributes:
        name: of its files.
        method: key of `methods.METHODS`.
        policy: settings of the method, nested as in the method's configuration; empty: its defaults.
        seeds: instead of the plan's.
        planning, plan_delay_s: where the base policy plans and how long that takes, as the flags of ``lerobot-serl-actor``.
    """

    name: str
    method: str
    policy: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] | None = None
    planning: str = "auto"
    plan_delay_s: float = 0.0


@dataclass(frozen=True)
class Plan:
    """One study.

    Attributes:
        name: directory under ``docs/results``.
        task: key of `tasks.TASKS`.
        seeds: fixed before anything is run; all are reported.
        env_steps: environment steps of each run.
        evaluate_every: environment steps between two evaluations.
        episodes: of each evaluation, always with the same seeds.
        variants: by name.
        control_steps: environment steps at whose evaluation every way to deploy the weights is measured, on episodes of their own.
        control_episodes: of each such measurement.
        quick: only whether everything runs: no wish is made of ACT.
    """

    name: str
    task: str
    seeds: tuple[int, ...]
    env_steps: int
    evaluate_every: int
    episodes: int
    variants: Mapping[str, Variant]
    control_steps: tuple[int, ...] = ()
    control_episodes: int = 200
    quick: bool = False

    def jobs(self) -> list[tuple[Variant, int]]:
        """Every run: seed by seed, so that all variants have a first result early."""
        seeds = sorted({seed for variant in self.variants.values() for seed in self.seeds_of(variant)})
        return [(variant, seed) for seed in seeds for variant in self.variants.values() if seed in self.seeds_of(variant)]

    def quickly(self) -> "Plan":
        """One seed and a few hundred steps of everything."""
        startup = {"startup": {"collect_steps": 200, "critic_updates": 50, "ramp_updates": 10, "scale_updates": 50}}
        variants = {
            name: replace(variant, seeds=None, policy={**startup, **variant.policy} if variant.method in ("serl_sac",) else variant.policy)
            for name, variant in self.variants.items()
        }
        return replace(
            self,
            name=f"{self.name}_quick",
            seeds=self.seeds[:1],
            env_steps=400,
            evaluate_every=200,
            episodes=3,
            variants=variants,
            control_steps=(400,) if self.control_steps else (),
            control_episodes=3,
            quick=True,
        )

    def base_root(self, root: Path, seed: int) -> Path:
        """Where the demonstrations and the ACT of a seed are, the same for all plans of a task."""
        return root / ("bases_quick" if self.quick else "bases") / self.task / f"seed{seed}"

    def seeds_of(self, variant: Variant) -> tuple[int, ...]:
        """The variant's seeds."""
        return self.seeds if variant.seeds is None else variant.seeds


def load_plan(path: Path, quick: bool = False) -> Plan:
    """Read a plan.

    Args:
        quick: make it :meth:`Plan.quickly`.

    Raises:
        PlanError: a key is missing, unknown, or of another type.
    """
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    required = {"task", "seeds", "env_steps", "evaluate_every", "episodes", "variants"}
    allowed = {item.name for item in fields(Plan)} - {"quick"}
    found = set(document) if isinstance(document, dict) else set()
    if not required <= found or not found <= allowed:
        raise PlanError(f"{path}: found {sorted(found)}, expected {sorted(required)}, and of {sorted(allowed - required)} what is wanted.")
    for key in ("env_steps", "evaluate_every", "episodes", *({"control_episodes"} & found)):
        if not isinstance(document[key], int) or document[key] < 1:
            raise PlanError(f"{path}: {key} is {document[key]!r}, expected a whole number of at least 1.")
    variants = {name: _variant(path, name, entry) for name, entry in document.pop("variants").items()}
    own = {
        "name": path.stem,
        "seeds": _numbers(path, document.pop("seeds")),
        "control_steps": _numbers(path, document.pop("control_steps", [])),
    }
    plan = Plan(**{**own, **document}, variants=variants)
    return plan.quickly() if quick else plan


def _variant(path: Path, name: str, entry: Any) -> Variant:
    if not isinstance(entry, dict) or "method" not in entry or not set(entry) <= {"method", "policy", "seeds", "planning", "plan_delay_s"}:
        raise PlanError(f"{path}: variant {name!r} is {entry!r}, expected a method, and perhaps policy, seeds, planning and plan_delay_s.")
    seeds = entry.get("seeds")
    where = {key: entry[key] for key in ("planning", "plan_delay_s") if key in entry}
    return Variant(name, entry["method"], entry.get("policy") or {}, None if seeds is None else _numbers(path, seeds), **where)


def _numbers(path: Path, values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(isinstance(value, int) for value in values):
        raise PlanError(f"{path}: {values!r} is no list of whole numbers.")
    return tuple(values)
