"""The page of a dataset on the Hub: what was practised, on what, and how success went over time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.dataset as arrow
from huggingface_hub import DatasetCard, DatasetCardData
from lerobot.datasets import LeRobotDatasetMetadata

from ..words import printable
from .episode import ACTED_AS, ActedAs
from .labels import INTERVENTION, SUCCESS
from .manifest import manifest_entries

EPISODE = "episode_index"
# Rows of the table of success over time.
BLOCKS = 10
KINDS = {"as deployed": ActedAs.DEPLOYED, "base policy alone": ActedAs.ACT}
_LONGEST = 300


@dataclass(frozen=True)
class Outcome:
    """Of one episode.

    Attributes:
        frames: that it has.
        success: None: the dataset does not say.
        helped: a person acted in it.
        acted_as: what the policy was, as `ActedAs` says; empty: not known, as in demonstrations.
    """

    frames: int
    success: bool | None
    helped: bool
    acted_as: str


def outcomes(root: Path) -> list[Outcome]:
    """Of all episodes of a dataset, in order; pictures are not read.

    Raises:
        ValueError: its manifest is damaged.
        OSError: a file cannot be read.
    """
    table = arrow.dataset(root / "data", format="parquet", exclude_invalid_files=False)
    columns = [name for name in (EPISODE, SUCCESS, INTERVENTION) if name in table.schema.names]
    rows = table.to_table(columns=columns).to_pandas()
    flags = {name: rows[name].map(lambda value: bool(value[0] if hasattr(value, "__len__") else value)) for name in columns[1:]}
    by_episode = rows.assign(**flags).groupby(EPISODE)
    found = by_episode.agg(frames=(EPISODE, "size"), **{name: (name, "any") for name in flags})
    said = [str(entry.get(ACTED_AS, "")) for entry in manifest_entries(root)]
    said = said if len(said) == len(found) else [""] * len(found)  # episodes that no learner wrote are not in the manifest
    return [
        Outcome(int(row["frames"]), bool(row[SUCCESS]) if SUCCESS in flags else None, bool(row.get(INTERVENTION, False)), acted_as)
        for (_, row), acted_as in zip(found.iterrows(), said, strict=True)
    ]


def dataset_card(meta: LeRobotDatasetMetadata, episodes: Sequence[Outcome], license_id: str, made_by: str) -> DatasetCard:
    """The page, with the head that the Hub reads.

    Args:
        meta: of the dataset.
        episodes: from :func:`outcomes`.
        license_id: as the Hub names it.
        made_by: command line; empty: not known.
    """
    practised = any(episode.acted_as for episode in episodes)
    tags = ["LeRobot", "lerobot_serl", *(["reinforcement-learning"] if practised else [])]
    head = DatasetCardData(
        license=license_id, tags=tags, task_categories=["robotics"], configs=[{"config_name": "default", "data_files": "data/*/*.parquet"}]
    )
    lines = [f"# {meta.repo_id.rpartition('/')[2]}", "", _what(practised), "", *_facts(meta, episodes), "", *_over_time(episodes)]
    if made_by:
        lines += ["## How it was made", "", "    " + _clean(made_by, 4000), ""]
    lines += ["## How to use it", "", *_usage(meta.repo_id), "", "## Features", "", *_features(meta.features), ""]
    return DatasetCard(f"---\n{head.to_yaml()}\n---\n\n" + "\n".join(lines))


def _what(practised: bool) -> str:
    what = "Episodes of a policy that practised by reinforcement learning" if practised else "Recorded episodes"
    return f"{what}, a [LeRobot](https://github.com/huggingface/lerobot) dataset."


def _facts(meta: LeRobotDatasetMetadata, episodes: Sequence[Outcome]) -> list[str]:
    frames = sum(episode.frames for episode in episodes)
    tasks = [] if meta.tasks is None else [_clean(str(task)) for task in meta.tasks.index]
    helped, judged = sum(episode.helped for episode in episodes), [e.success for e in episodes if e.success is not None]
    facts = {
        "task": "; ".join(tasks) or "not named",
        "robot": _clean(str(meta.robot_type or "not named")),
        "cameras": ", ".join(_clean(key) for key in meta.camera_keys) or "none",
        "episodes": f"{len(episodes):,}, with {frames:,} frames at {meta.fps} Hz: {frames / meta.fps / 60:.1f} minutes",
        "successes": f"{sum(judged):,} of {len(judged):,}" if judged else "not recorded",
        "episodes in which a person acted": f"{helped:,}",
    }
    return [f"- **{name}**: {value}" for name, value in facts.items()]


def _over_time(episodes: Sequence[Outcome]) -> list[str]:
    """A table; none where success is not recorded, or nothing went on."""
    if len(episodes) < 2 or any(episode.success is None for episode in episodes):
        return []
    there = {episode.acted_as for episode in episodes}
    kinds = {"all": there} | {name: {kind.value} for name, kind in KINDS.items() if kind.value in there}
    rows = [f"| episodes | {' | '.join(kinds)} | a person acted |", "|---|" + "---|" * (len(kinds) + 1)]
    size = max(1, -(-len(episodes) // BLOCKS))
    for first in range(0, len(episodes), size):
        block = episodes[first : first + size]
        cells = [_share([episode.success for episode in block if episode.acted_as in kind]) for kind in kinds.values()]
        numbers = f"{first + 1} to {first + len(block)}" if size > 1 else f"{first + 1}"
        rows.append(f"| {numbers} | {' | '.join(cells)} | {sum(e.helped for e in block)} |")
    return ["## Success over time", "", *rows, ""]


def _share(successes: Sequence[bool | None]) -> str:
    return f"{100 * sum(map(bool, successes)) / len(successes):.0f} % of {len(successes)}" if successes else ""


def _usage(repo_id: str) -> list[str]:
    return [
        f"    lerobot-dataset-viz --repo-id={repo_id} --episode-index=0",
        f"    lerobot-train --policy.type=act --dataset.repo_id={repo_id} --output_dir=outputs/act --policy.push_to_hub=false",
    ]


def _features(features: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = ["| feature | dtype | shape | names |", "|---|---|---|---|"]
    for key, feature in features.items():
        names = feature.get("names") or ""
        words = ", ".join(map(str, names)) if isinstance(names, list) else str(names)
        rows.append(f"| {_clean(key)} | {feature['dtype']} | {tuple(feature['shape'])} | {_clean(words)} |")
    return rows


def _clean(text: str, most: int = _LONGEST) -> str:
    """Words of a dataset, as text of one line in a table: no control characters, no markup."""
    return printable(text, most).translate({ord(letter): f"&#{ord(letter)};" for letter in "|<>`[]"})
