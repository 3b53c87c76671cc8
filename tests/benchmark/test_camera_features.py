"""The measurement of what ACT's parts know of a camera's picture."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import camera_features
import pytest
import torch
from act_checkpoints import save_act, small_act_config

from lerobot_serl.envs.gl_platform import choose_gl_platform

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmark" / "camera_features.py"


def test_peaks_are_where_a_channel_is_strongest():
    maps = torch.zeros(1, 3, 5, 9)
    maps[0, 0, 0, 8] = maps[0, 1, 4, 0] = maps[0, 2, 2, 4] = 1.0
    y, x = camera_features.peaks(maps)[0].unflatten(0, (2, 3))
    torch.testing.assert_close(y, torch.tensor([-1.0, 1.0, 0.0]), atol=0.01, rtol=0)
    torch.testing.assert_close(x, torch.tensor([1.0, -1.0, 0.0]), atol=0.01, rtol=0)


@pytest.mark.slow
def test_the_error_is_that_of_places_not_seen_before():
    torch.manual_seed(0)
    places = torch.rand(camera_features.TEST + 400, 2)
    told, nothing = torch.cat([places, places**2], dim=1), torch.rand(len(places), 4)
    assert camera_features.error_m(told, places, 400) < 0.05
    assert camera_features.error_m(nothing, places, 400) > 0.25


@pytest.mark.slow
@pytest.mark.skipif(choose_gl_platform() in (None, "disable"), reason="no OpenGL library to render cameras with")
def test_the_command_writes_a_row_for_each_part(tmp_path):
    config = small_act_config(1)
    camera = "observation.images.front"
    config.input_features[camera] = replace(config.input_features[camera], shape=(3, 96, 96))
    save_act(tmp_path / "act", config)
    command = [sys.executable, str(SCRIPT), str(tmp_path / "act"), "--known", "30", "60", f"--results={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    with (tmp_path / "cube_error.csv").open() as file:
        rows = list(csv.DictReader(file))
    sizes = {row["features"]: int(row["size"]) for row in rows}
    assert len(rows) == 2 * len(sizes) == 12
    assert sizes["decoder and mean of the backbone's map"] == sizes["decoder"] + sizes["mean of the backbone's map"] == 32 + 512
    assert all(0 < float(row["error_mm"]) < 500 for row in rows)
    assert all(row["features"] in done.stdout for row in rows)
