"""Makes one LeRobot environment of one task, or says in a sentence why that cannot be done."""

from collections.abc import Iterator, Mapping
from ctypes import ArgumentError
from typing import Any

from lerobot.envs import EnvConfig, make_env

from .said import said

# LeRobot's loop for HIL-SERL on an arm is registered as an environment, and cannot be made as one.
HIL_SERL = "gym_manipulator"


def make_one(config: EnvConfig) -> Any:
    """The environment, a ``gymnasium.Env``.

    Raises:
        ValueError: there is none, or there are several; the message has LeRobot's text.
    """
    if config.type == HIL_SERL:
        raise ValueError(
            f"--env.type={HIL_SERL} is HIL-SERL's own loop around an arm, not an environment. Give the arm itself, --robot.type=... and "
            "--teleop.type=...; takeovers, rewards, limits and resets are flags here (docs/robots.md). A simulation of gym_hil takes an environment "
            "type of your own (docs/workflow.md)."
        )
    name = name_of(config)
    try:
        made = make_env(config, n_envs=1)
        vectors = {(suite, number): vector for suite, tasks in made.items() for number, vector in tasks.items()}
    except ArgumentError:  # ctypes makes one of Ctrl-C
        raise
    except Exception as error:  # packages, registries, files, renderers: anything
        raise ValueError(
            f"{name} cannot be made: {said(error)}. Is the package of the environment installed, and does it have that task? LeRobot's default "
            "task may be one that it no longer has: --env.task=... chooses another."
        ) from error
    if len(vectors) != 1:
        tasks = list(_tasks(vectors))
        for vector in vectors.values():
            vector.close()
        how = "--env.task_ids='[NUMBER]'" if hasattr(config, "task_ids") else "--env.task=NAME"
        raise ValueError(f"{name} is {len(tasks)} tasks, and one policy practises one: {', '.join(tasks)}. Choose it with {how}.")
    (vector,) = vectors.values()
    envs = getattr(vector, "envs", None)
    if not envs:
        raise ValueError(f"{name} makes a {type(vector).__name__}, which runs elsewhere; expected one environment in this process.")
    return envs[0]


def name_of(config: EnvConfig) -> str:
    """As on the command line."""
    return f"--env.type={config.type}" + (f" --env.task={config.task}" if config.task else "")


def _tasks(vectors: Mapping[tuple[str, int], Any]) -> Iterator[str]:
    """Number and name of each."""
    for (suite, number), vector in vectors.items():
        inner = next(iter(getattr(vector, "envs", [])), None)
        inner = getattr(inner, "unwrapped", inner)
        task = getattr(inner, "task", None)
        yield f"{number} ({task if isinstance(task, str) else suite})"
