"""Push-T's expert: tries straight pushes in a copy of the table and carries out the best one."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pygame's, about setuptools
    from gym_pusht.envs.pusht import PushTEnv, pymunk_to_shapely
import shapely.geometry as geometry
from shapely.ops import unary_union

Point = NDArray[np.float64]
FINGER_PX, CLEAR_PX = 15.0, 0.5
# The finger waits this far from the edge that it is going to push, and goes around the T on a circle of this radius.
APPROACH_PX, DETOUR_PX = 22.0, 120.0
PUSH_PX_PER_STEP, TRAVEL_PX_PER_STEP = 6.0, 25.0
# Places along the edge and directions, off the perpendicular, that are tried; steps of the longest push.
PLACES_PX, TURNS_RAD, LONGEST_PUSH = 8.0, (-0.4, -0.2, 0.0, 0.2, 0.4), 24
# A step costs as much as the corners being so much farther from their goal. A push that has made things worse by this much is given up.
STEP_COST_PX, WORSE_PX = 0.05, 8.0
# Where no push brings as much as this, any is made: it may free the way.
LEAST_GAIN_PX = 0.2


class Table:
    """gym-pusht's physics with a state that can be set and copied."""

    def __init__(self) -> None:
        self._env = PushTEnv(obs_type="environment_state_agent_pos")
        self._env.reset(seed=0)
        self._put(self._env.goal_pose)
        self.goal_corners = self.corners

    @property
    def finger(self) -> Point:
        """``(2,)``."""
        return np.array(self._env.agent.position)

    @property
    def corners(self) -> Point:
        """``(8, 2)``, of the two boxes that make the T."""
        return np.asarray(self._env.get_keypoints(self._env._block_shapes))

    @property
    def distance(self) -> float:
        """Of the corners from where they belong, on average."""
        return float(np.linalg.norm(self.corners - self.goal_corners, axis=1).mean())

    @property
    def coverage(self) -> float:
        """Share of its outline that the T covers."""
        return float(self._env._get_coverage())

    @property
    def outline(self) -> geometry.Polygon:
        """Of the T; wider by a pixel, so that its two boxes touch."""
        return unary_union([box.buffer(1.0, join_style=2) for box in pymunk_to_shapely(self._env.block, self._env.block.shapes).geoms])

    def place(self, offset: Point, generator: np.random.Generator) -> None:
        """The T at its goal plus ``offset`` ``(x, y, angle)``; the finger anywhere beside it."""
        self._env.reset(seed=0)
        self._put(self._env.goal_pose + offset)
        finger = generator.uniform(50, 450, 2)
        while self.outline.distance(geometry.Point(finger)) < FINGER_PX + CLEAR_PX:
            finger = generator.uniform(50, 450, 2)
        self.lift_to(finger)

    def lift_to(self, finger: Point) -> None:
        """The finger at another place, at rest."""
        self._env.agent.position, self._env.agent.velocity = tuple(finger.tolist()), (0.0, 0.0)
        self._env.space.reindex_shapes_for_body(self._env.agent)

    def move(self, target: Point) -> None:
        """A control step towards ``target``: gym-pusht's, without its measuring of the reward."""
        env, goal = self._env, np.asarray(target, np.float64)
        for _ in range(round(1 / (env.dt * env.control_hz))):
            acceleration = env.k_p * (goal - env.agent.position) - env.k_v * np.array(env.agent.velocity)
            env.agent.velocity = tuple((np.array(env.agent.velocity) + env.dt * acceleration).tolist())
            env.space.step(env.dt)

    def copy_from(self, other: "Table") -> None:
        """Take over the T of another table."""
        block = other._env.block
        self._put(np.array([*block.position, block.angle]))

    def _put(self, pose: Point) -> None:
        block = self._env.block
        # The angle first: it turns the T about its centre of gravity, which is not its position.
        block.angle, block.velocity, block.angular_velocity = float(pose[2]), (0.0, 0.0), 0.0
        block.position = tuple(pose[:2].tolist())
        self._env.space.reindex_shapes_for_body(block)


@dataclass(frozen=True, eq=False)
class _Push:
    gain: float
    cost: float
    targets: list[Point]


class Planner:
    """Push by push: place, direction and length that bring the corners closest to their goal, as the physics says.

    The same T at the same place is pushed in the same way, so that there is something to imitate.

    Args:
        table: that it acts on.
        seed: of what it does when no push helps.
    """

    def __init__(self, table: Table, seed: int) -> None:
        self._table, self._trial = table, Table()
        self._generator = np.random.default_rng(seed)
        self._targets: list[Point] = []

    def act(self) -> Point:
        """The next target of the finger, ``(2,)``."""
        if not self._targets:
            outline = self._table.outline
            first = outline.exterior.project(geometry.Point(self._table.corners[0]))
            places = [self._start(outline, first + place) for place in np.arange(0.0, outline.exterior.length, PLACES_PX)]
            pushes = [self._push(outline, *place, turn) for place in places if place is not None for turn in TURNS_RAD]
            useful = [push for push in pushes if push.gain > LEAST_GAIN_PX]
            chosen = min(useful, key=lambda push: push.cost) if useful else pushes[self._generator.integers(len(pushes))]
            self._targets = [*chosen.targets, chosen.targets[-1]]  # the finger lags behind: give it a step to arrive
        return self._targets.pop(0)

    def _start(self, outline: geometry.Polygon, along: float) -> tuple[Point, Point] | None:
        """Where a push of that place begins, and its perpendicular direction; None if the finger does not fit there."""
        edge = outline.exterior
        here, beside = (np.array(edge.interpolate((along + step) % edge.length).coords[0]) for step in (0.0, 0.5))
        outward = np.array([beside[1] - here[1], here[0] - beside[0]]) / max(float(np.linalg.norm(beside - here)), 1e-9)
        if outline.contains(geometry.Point(here + 2 * outward)):
            outward = -outward
        start = here + APPROACH_PX * outward
        fits = outline.distance(geometry.Point(start)) >= FINGER_PX + CLEAR_PX and _on_table(start, FINGER_PX)
        return (start, -outward) if fits else None

    def _push(self, outline: geometry.Polygon, start: Point, inward: Point, turn: float) -> _Push:
        cosine, sine = np.cos(turn), np.sin(turn)
        direction = np.array([cosine * inward[0] - sine * inward[1], sine * inward[0] + cosine * inward[1]])
        distance, push = self._simulate(start, direction)
        targets = [*_steps(self._table.finger, _way_around(self._table.finger, start, outline)), *push]
        return _Push(self._table.distance - distance, distance + STEP_COST_PX * len(targets), targets)

    def _simulate(self, start: Point, direction: Point) -> tuple[float, list[Point]]:
        """The least distance that a push reaches, and its targets up to there."""
        trial, best, length, targets = self._trial, np.inf, 1, list[Point]()
        trial.copy_from(self._table)
        trial.lift_to(start)
        for step in range(1, LONGEST_PUSH + 1):
            target = start + step * PUSH_PX_PER_STEP * direction
            if not _on_table(target, 5.0):
                break
            targets.append(target)
            trial.move(target)
            if trial.distance < best:
                best, length = trial.distance, step
            elif trial.distance > best + WORSE_PX:
                break
        return best, targets[:length]


def _on_table(point: Point, margin: float) -> bool:
    return bool((point > margin).all() and (point < 512 - margin).all())


def _way_around(start: Point, goal: Point, outline: geometry.Polygon) -> list[Point]:
    """Points on the way to ``goal`` that keep the finger off the T: straight, or out to a circle, along it, and in."""

    def free(one: Point) -> bool:
        return bool(geometry.LineString([one, goal]).distance(outline) > FINGER_PX + CLEAR_PX)

    if free(start):
        return [goal]
    centre = np.array(outline.centroid.coords[0])
    first, last = (np.arctan2(*(point - centre)[::-1]) for point in (start, goal))
    turn = (last - first + np.pi) % (2 * np.pi) - np.pi
    way: list[Point] = []
    for angle in np.linspace(first, first + turn, 1 + max(1, int(np.ceil(abs(turn) / 0.35)))):
        way.append(np.clip(centre + DETOUR_PX * np.array([np.cos(angle), np.sin(angle)]), 20, 492))
        if free(way[-1]):
            break
    return [*way, goal]


def _steps(start: Point, way: Sequence[Point]) -> list[Point]:
    """The way in steps of the finger's travelling speed."""
    steps, here = [], start
    for point in way:
        count = max(1, int(np.ceil(np.linalg.norm(point - here) / TRAVEL_PX_PER_STEP)))
        steps += [here + (point - here) * step / count for step in range(1, count + 1)]
        here = point
    return steps
