"""Film strips of practice: a few frames of an episode, how far its actions were edited, and the way of the tool."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lerobot_serl.report.curves import WrittenFigure
from lerobot_serl.report.practice_episodes import Trace, read_recorded, worth_a_look
from lerobot_serl.report.style import BLACK, BLUE, ORANGE, STYLE, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

SHOWN_FRAMES = 7
LONGEST_SIDE_PX = 160
DOTS_PER_INCH = 110
MOST_CAMERAS = 3
PLANNED_EVERY = 10
"""Frames from one drawn piece of the base policy's plan to the next."""
LEAST_FIT = 0.5
"""Share of the tool's motion that the actions have to explain, before their plans are drawn as a way."""
AXES = ("x", "y", "z")
FIGURE_WIDTH_IN, STRIP_HEIGHT_IN, EDIT_HEIGHT_IN, WAY_HEIGHT_IN = 8.0, 1.2, 1.7, 2.9


def draw_strips(root: Path, repo_id: str, output_dir: Path) -> list[WrittenFigure]:
    """Draw the episodes that are worth a look, one PNG file each.

    Args:
        root: of the online dataset.
        output_dir: for the files; made if it is not there.

    Raises:
        OSError, ValueError: the dataset cannot be read, for example because there is none yet.
    """
    from matplotlib import rc_context
    from tqdm import tqdm

    recorded = read_recorded(root)
    if recorded is None:
        return []
    output_dir.mkdir(parents=True, exist_ok=True)
    pictures = Pictures(root, repo_id, recorded.cameras[:MOST_CAMERAS])
    written = []
    with rc_context(STYLE):
        for reason, trace in tqdm(worth_a_look(recorded.traces), desc="Film strips", unit="episode", delay=3, leave=False):
            path = output_dir / f"episode_{trace.number}.png"
            way = way_of_the_tool(trace, recorded.names)
            _draw(trace, pictures.of(trace), way, recorded.fps, path)
            end = "success" if trace.success else "failure"
            title = f"Episode {trace.number}: {end}, {len(trace.action) / recorded.fps:.1f} s"
            written.append(WrittenFigure(title, _caption(reason, trace, way is not None), path))
    return written


class Pictures:
    """Frames of a dataset's cameras, small.

    Args:
        cameras: their keys.
    """

    def __init__(self, root: Path, repo_id: str, cameras: Sequence[str]) -> None:
        self._root, self._repo_id, self._cameras = root, repo_id, cameras
        self._dataset: Any = None

    def of(self, trace: Trace) -> dict[str, list[tuple[int, np.ndarray]]]:
        """Camera -> step and picture ``(H, W, 3)`` uint8, evenly spaced; none, with a warning, where they cannot be read."""
        steps = sorted({round(step) for step in np.linspace(0, len(trace.action) - 1, SHOWN_FRAMES)})
        found: dict[str, list[tuple[int, np.ndarray]]] = {key: [] for key in self._cameras}
        try:
            for step in steps if self._cameras else ():
                frame = self._opened()[trace.first + step]
                for key in self._cameras:
                    found[key].append((step, _small(frame[key])))
        except Exception as error:  # whatever a decoder stumbles over: the numbers are drawn all the same
            logging.warning(f"The pictures of episode {trace.number} cannot be read: {' '.join(str(error).split())[:200]}")
            return {}
        return found

    def _opened(self) -> Any:
        if self._dataset is None:
            from lerobot.datasets import LeRobotDataset

            self._dataset = LeRobotDataset(self._repo_id, root=self._root)
        return self._dataset


def way_of_the_tool(trace: Trace, names: Mapping[str, Sequence[str]]) -> tuple[np.ndarray, list[np.ndarray]] | None:
    """Where the tool went, ``(T, 3)``, and pieces ``(n, 3)`` of where the base policy's plan would have taken it.

    Known where state and action have entries of x, y and z, and the state follows the action: as its place, or as its sum.
    """
    places = _entries(names.get("observation.state", ()))
    moves = _entries(names.get("action", ()))
    if places is None or moves is None or len(trace.action) < 3:
        return None
    tool, action, plan = trace.state[:, places], trace.action[:, moves], trace.plan[:, moves]
    change = np.diff(tool, axis=0)
    lines = {True: _line(action[:-1], change), False: _line(action[:-1], tool[1:])}
    is_sum = max(lines, key=lambda kind: lines[kind][2])
    gain, offset, fit = lines[is_sum]
    if fit < LEAST_FIT:
        return None
    pieces = []
    for start in range(0, len(plan) - 1, PLANNED_EVERY):
        planned = plan[start : start + PLANNED_EVERY] * gain + offset
        pieces.append(np.vstack([tool[start], (tool[start] + np.cumsum(planned, axis=0)) if is_sum else planned]))
    return tool, pieces


def _line(action: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Slope and offset of each axis, and the share of the target's variance that they explain."""
    centred, wanted = action - action.mean(axis=0), target - target.mean(axis=0)
    gain = (centred * wanted).sum(axis=0) / np.maximum((centred**2).sum(axis=0), 1e-12)
    left = ((wanted - gain * centred) ** 2).sum() / max((wanted**2).sum(), 1e-12)
    return gain, target.mean(axis=0) - gain * action.mean(axis=0), float(1 - left)


def _entries(names: Sequence[str]) -> list[int] | None:
    """Places of x, y and z, where each is there once; of a tool rather than of anything else."""
    found = []
    for axis in AXES:
        fitting = [index for index, name in enumerate(names) if name.lower().replace("-", "_").replace(".", "_").split("_")[-1] == axis]
        if len(fitting) != 1:
            return None
        found += fitting
    return found


def _small(image: Any) -> np.ndarray:
    """``(3, H, W)`` float in [0, 1] -> ``(h, w, 3)`` uint8."""
    from PIL import Image

    values = np.asarray(image)
    pixels = (255 * values).round().clip(0, 255).astype(np.uint8) if values.dtype.kind == "f" else values.astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(pixels[:3].transpose(1, 2, 0)) if pixels.shape[0] >= 3 else pixels[0]).convert("RGB")
    picture.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX))
    return np.asarray(picture)


def _draw(
    trace: Trace,
    pictures: Mapping[str, list[tuple[int, np.ndarray]]],
    way: tuple[np.ndarray, list[np.ndarray]] | None,
    fps: float,
    path: Path,
) -> None:
    from matplotlib.figure import Figure

    strips = {key: frames for key, frames in pictures.items() if frames}
    heights = [STRIP_HEIGHT_IN * len(strips)] * bool(strips) + [EDIT_HEIGHT_IN] + [WAY_HEIGHT_IN] * (way is not None)
    figure = Figure(figsize=(FIGURE_WIDTH_IN, sum(heights)), layout="constrained")
    parts = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    if strips:
        _draw_frames(parts.pop(0), strips, fps)
    _draw_edit(parts.pop(0).subplots(), trace, fps)
    if way is not None:
        for axes, (across, up) in zip(parts.pop(0).subplots(1, 2), ((0, 1), (0, 2)), strict=True):
            _draw_way(axes, way, across, up)
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _draw_frames(part: SubFigure, strips: Mapping[str, list[tuple[int, np.ndarray]]], fps: float) -> None:
    """A row for each camera."""
    grid = part.subplots(len(strips), SHOWN_FRAMES, squeeze=False)
    for row, frames in zip(grid, strips.values(), strict=True):
        for axes in row:
            axes.set_axis_off()
        for axes, (step, picture) in zip(row, frames, strict=False):
            axes.imshow(picture)
            if axes in grid[0]:
                axes.set_title(f"{step / fps:.1f} s", fontsize=9, pad=2)


def _draw_edit(axes: Axes, trace: Trace, fps: float) -> None:
    """Size of the edit over time; where a person acted is shaded."""
    time_s = np.arange(len(trace.edit)) / fps
    axes.plot(time_s, 100 * trace.edit, color=BLUE, linewidth=1.4)
    changes = np.flatnonzero(np.diff(np.concatenate([[0], trace.intervention.astype(int), [0]])))
    for number, (first, stop) in enumerate(zip(changes[::2], changes[1::2], strict=True)):
        axes.axvspan(first / fps, stop / fps, color=ORANGE, alpha=0.3, linewidth=0, label="" if number else "a person acts")
    axes.set_xlabel("time (s)")
    axes.set_ylabel("edit (% of half\nthe range)")
    axes.set_xlim(0, max(time_s[-1], 1 / fps))
    axes.set_ylim(0, 115 * max(np.nanmax(trace.edit, initial=0.0), 0.01))
    if len(changes):
        axes.legend(loc="upper right", fontsize=8)


def _draw_way(axes: Axes, way: tuple[np.ndarray, list[np.ndarray]], across: int, up: int) -> None:
    tool, pieces = way
    for number, piece in enumerate(pieces):
        axes.plot(piece[:, across], piece[:, up], color=VERMILION, linewidth=1.0, label="" if number else "base policy's plan")
    axes.plot(tool[:, across], tool[:, up], color=BLUE, linewidth=1.6, label="executed")
    axes.plot(*tool[0, [across, up]], "o", color=BLACK, markersize=5, label="start")
    axes.set_xlabel(f"tool {AXES[across]} (m)")
    axes.set_ylabel(f"tool {AXES[up]} (m)")
    axes.set_title("from above" if up == 1 else "from the side", fontsize=10)
    axes.set_aspect("equal", adjustable="datalim")
    if up == 1:
        axes.legend(fontsize=8, loc="best", frameon=True, framealpha=0.8)


def _caption(reason: str, trace: Trace, has_way: bool) -> str:
    helped = int(trace.intervention.sum())
    words = [f"Shown as {reason}.", f"Edits are {100 * trace.mean_edit:.0f} % of half the range on average."]
    if helped:
        words.append(f"A person acted in {helped} steps.")
    if has_way:
        words.append("The way of the tool is the state's; the plan's way follows from how the state answered the actions in this episode.")
    return " ".join(words)
