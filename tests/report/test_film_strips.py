"""Film strips of practice in the report: which episodes, what is drawn of them, and what becomes of data that cannot be read."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_data import ACTION, FPS, STATE, make_recording, vector_features
from test_watch import write_small_run

from lerobot_serl.replay.store import EpisodeStore, online_features
from lerobot_serl.report import page
from lerobot_serl.report.film_strips import draw_strips, way_of_the_tool
from lerobot_serl.report.metrics_files import MetricsDirectory
from lerobot_serl.report.page import write_report
from lerobot_serl.report.practice_episodes import Trace, read_recorded, worth_a_look

CAMERA = "observation.images.front"
FEATURES = {**vector_features(), CAMERA: {"dtype": "video", "shape": (32, 48, 3), "names": ["height", "width", "channels"]}}


def trace(number, success=True, edit=(), **changes):
    edit = np.array(edit, dtype=float) if len(edit) else np.full(4, np.nan)
    zeros = np.zeros((len(edit), 2))
    parts = {"action": zeros, "plan": zeros, "intervention": np.zeros(len(edit), dtype=bool), "state": zeros}
    return Trace(number, 4 * number, success, **({"edit": edit, **parts} | changes))


def store_with(root, recordings, use_videos=False):
    features = online_features(FEATURES, use_videos=use_videos)
    made = EpisodeStore("local/online", str(root), FPS, features, use_videos)
    made.append([(f"{number}", recording) for number, recording in enumerate(recordings)])
    return made


def filmed(frames=12, **changes):
    """Pictures whose red is the step."""
    images = torch.zeros(frames, 3, 32, 48, dtype=torch.uint8)
    images[:, 0] = 20 * torch.arange(frames, dtype=torch.uint8).view(-1, 1, 1)
    plain = make_recording(frames, **changes)
    return replace(plain, observation={**plain.observation, CAMERA: images})


def practice():
    """Three episodes: one fails, a person acts in the last."""
    action = torch.stack([torch.linspace(0, 1, 12), torch.linspace(0, 2, 12)], dim=1)
    person = torch.zeros(12, dtype=torch.bool)
    person[3:6] = True
    age, no = torch.arange(12), torch.zeros(12, dtype=torch.bool)
    plans = [action, action + torch.tensor([0.25, 0.0]), action + torch.tensor([0.0, 0.1])]
    return [
        filmed(action=action, plan_action=plans[0], plan_age=age, intervention=no),
        filmed(action=action, plan_action=plans[1], plan_age=age, intervention=no, success=False),
        filmed(action=action, plan_action=plans[2], plan_age=age, intervention=person),
    ]


def test_first_and_last_failures_and_largest_edits_each_once():
    traces = [trace(number, success=number % 2 == 0, edit=[number / 100] * 4) for number in range(20)]
    chosen = worth_a_look(traces)
    assert [(found.number, reason.split("the ")[1]) for reason, found in chosen] == [
        (1, "first failures"), (3, "first failures"), (5, "first failures"), (13, "largest edits"), (14, "largest edits"), (15, "last failures"),
        (16, "largest edits"), (17, "last failures"), (18, "largest edits"), (19, "last failures"),
    ]  # fmt: skip
    assert worth_a_look([trace(0), trace(1)]) == []  # all succeeded, and nothing was edited
    assert [found.number for _, found in worth_a_look([trace(0, success=False)])] == [0]


def test_edits_are_shares_of_half_the_range_where_something_was_planned(tmp_path):
    store_with(tmp_path / "online", practice())
    recorded = read_recorded(tmp_path / "online")
    assert [found.success for found in recorded.traces] == [True, False, True]
    assert [found.first for found in recorded.traces] == [0, 12, 24]
    assert recorded.traces[0].mean_edit == 0
    assert recorded.traces[1].edit == pytest.approx(np.full(12, 0.5), abs=1e-5)
    assert np.isnan(recorded.traces[2].edit[3:6]).all()
    assert recorded.traces[2].mean_edit == pytest.approx(0.1, abs=1e-5)
    assert (recorded.fps, recorded.cameras) == (FPS, [CAMERA])
    assert len(recorded.names[STATE]) == recorded.traces[0].state.shape[1]


@pytest.mark.parametrize("kind", ["displacements", "places"])
def test_the_way_of_the_plan_follows_from_how_the_tool_answered(kind):
    """Displacements of 2 cm at full action; or places, whose tool is there a step later."""
    generator = np.random.default_rng(0)
    action = generator.uniform(-1, 1, (30, 4))
    tool = np.zeros((30, 3))
    for t in range(29):
        tool[t + 1] = tool[t] + 0.02 * action[t, :3] if kind == "displacements" else 0.5 + action[t, :3]
    plan = action + np.array([0.5, 0, 0, 0])
    names = {STATE: ["joint.pos", "tcp.x", "tcp.y", "tcp.z"], ACTION: ["delta_x", "delta_y", "delta_z", "gripper"]}
    found = trace(0, edit=[0.1] * 30, action=action, plan=plan, state=np.hstack([np.zeros((30, 1)), tool]))
    way, pieces = way_of_the_tool(found, names)
    assert way == pytest.approx(tool)
    assert [len(piece) for piece in pieces] == [11, 11, 11]
    expected = tool[10] + 0.02 * plan[10:13, :3].sum(0) if kind == "displacements" else 0.5 + plan[12, :3]
    assert pieces[1][0] == pytest.approx(tool[10])
    assert pieces[1][3] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (["tcp.x", "tcp.y"], ["delta_x", "delta_y", "delta_z"]),
        (["tcp.x", "tcp.y", "tcp.z"], ["joint_1", "joint_2", "joint_3"]),
        (["left.x", "right.x", "tcp.y", "tcp.z"], ["delta_x", "delta_y", "delta_z"]),
        (["tcp.x", "tcp.y", "tcp.z"], ["delta_x", "delta_y", "delta_z"]),  # the tool does not answer
    ],
)
def test_without_a_known_tool_no_way_is_drawn(state, action):
    generator = np.random.default_rng(1)
    values = {"action": generator.normal(size=(40, len(action))), "state": generator.normal(size=(40, len(state)))}
    found = trace(0, edit=[0.1] * 40, plan=values["action"], **values)
    assert way_of_the_tool(found, {STATE: state, ACTION: action}) is None


@pytest.mark.parametrize("use_videos", [False, True])
def test_strips_are_drawn_with_their_pictures(tmp_path, use_videos, monkeypatch):
    from lerobot_serl.report import film_strips

    drawn = []
    original = film_strips._draw
    monkeypatch.setattr(film_strips, "_draw", lambda trace, pictures, *rest: drawn.append(pictures) or original(trace, pictures, *rest))
    store_with(tmp_path / "online", practice(), use_videos)
    strips = draw_strips(tmp_path / "online", "local/online", tmp_path / "out")
    assert [strip.title for strip in strips] == ["Episode 1: failure, 1.2 s", "Episode 2: success, 1.2 s"]
    assert "one of the first failures" in strips[0].caption
    assert "A person acted in 3 steps." in strips[1].caption
    assert all(strip.path.read_bytes().startswith(b"\x89PNG") for strip in strips)
    frames = drawn[0][CAMERA]
    assert [step for step, _ in frames] == [0, 2, 4, 6, 7, 9, 11]
    assert all(abs(int(picture[8, 8, 0]) - 20 * step) < 16 for step, picture in frames)
    assert frames[0][1].shape == (32, 48, 3)


def test_pictures_that_cannot_be_read_leave_the_numbers(tmp_path, caplog):
    store_with(tmp_path / "online", practice(), use_videos=True)
    for video in (tmp_path / "online").resolve().rglob("*.mp4"):
        video.write_bytes(b"no video")
    with caplog.at_level(logging.WARNING):
        strips = draw_strips(tmp_path / "online", "local/online", tmp_path / "out")
    assert len(strips) == 2
    assert "The pictures of episode 1 cannot be read: " in caplog.text


def run_with(tmp_path, **info):
    run = write_small_run(tmp_path / "run")
    files = MetricsDirectory(run)
    files.write_run_info({**files.read_run_info(), **info})
    return run


def html_of(run):
    return write_report(run).page.read_text()


def test_the_page_shows_them(tmp_path):
    store_with(tmp_path / "online", practice())
    run = run_with(tmp_path, online_root=str(tmp_path / "online"), online_dataset="local/online")
    html = html_of(run)
    assert "<h2>Episodes</h2>" in html
    assert "<h3>Episode 1: failure, 1.2 s</h3>" in html
    assert sorted(path.name for path in (run / "report" / "episodes").iterdir()) == ["episode_1.png", "episode_2.png"]


def test_a_page_does_not_grow_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MAX_STRIPS_BYTES", 10)
    store_with(tmp_path / "online", practice())
    html = html_of(run_with(tmp_path, online_root=str(tmp_path / "online"), online_dataset="local/online"))
    assert "the page would grow too large" in html
    assert "<h3>" not in html


@pytest.mark.parametrize(
    "info", [{}, {"online_root": "/nowhere", "online_dataset": "local/online"}, {"online_root": None, "online_dataset": None}]
)
def test_runs_without_a_dataset_have_no_such_part(tmp_path, info):
    assert "<h2>Episodes</h2>" not in html_of(run_with(tmp_path, **info))


def test_a_damaged_dataset_is_a_sentence(tmp_path):
    store_with(tmp_path / "online", practice())
    run = run_with(tmp_path, online_root=str(tmp_path / "online"), online_dataset="local/online")
    for table in (tmp_path / "online").resolve().glob("data/**/*.parquet"):
        table.write_bytes(b"nothing")
    assert "cannot be drawn: " in html_of(run)
    (tmp_path / "online" / "meta" / "info.json").write_text("{")
    assert "cannot be drawn: " in html_of(run)


def test_demonstrations_are_no_practice(tmp_path):
    store_with(tmp_path / "online", practice())
    info = tmp_path / "online" / "meta" / "info.json"
    assert json.loads(info.read_text())["total_episodes"] == 3
    import pyarrow.parquet as parquet

    for table in (tmp_path / "online").resolve().glob("data/**/*.parquet"):
        rows = parquet.read_table(table)
        parquet.write_table(rows.drop_columns(["next.success"]), table)
    assert read_recorded(tmp_path / "online") is None
    assert draw_strips(tmp_path / "online", "local/online", tmp_path / "out") == []
