"""Run as a process whose Hub is a local server: what LeRobot's own loader gets of a dataset on the Hub, into a file of JSON."""

import json
import sys
from pathlib import Path

from small_data import ACTION, ENV_STATE, STATE


def pull(repository: str, file: str) -> None:
    from lerobot.datasets import LeRobotDataset

    dataset = LeRobotDataset(repository)
    frames = [{key: frame[key].tolist() for key in (STATE, ENV_STATE, ACTION, "next.reward", "plan.action")} for frame in dataset]
    Path(file).write_text(json.dumps({"episodes": dataset.num_episodes, "frames": frames}))


if __name__ == "__main__":
    pull(*sys.argv[1:])
