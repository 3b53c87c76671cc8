"""What a machine takes for plans, features and updates: that it is measured, of what it says, and written only where asked to."""

import sys
from pathlib import Path

import hardware
import pytest


@pytest.fixture(scope="module")
def lines():
    return list(hardware.Bench(hardware.SMALL, "auto", "cpu", few=2, many=4).lines(whole=True))


def test_sizes_are_those_of_the_policy(lines):
    sizes = {line.quantity: line.median for line in lines if line.unit != "ms"}
    agent = hardware.agent_of(hardware.SMALL, "auto", "cpu")
    tensors = [*agent.parameters(), *agent.buffers()]
    assert sizes["memory of base policy"] + sizes["memory of what learns, targets included"] == pytest.approx(
        sum(tensor.nbytes for tensor in tensors) / 1e6
    )
    # Features, chunk and action of a frame in 32 bits, and few numbers of its window.
    assert 0 < sizes["a frame in the replay memory"] - 4 * (21 + 10 * 4 + 4) < 64


def test_what_is_measured_takes_time_and_a_tenth_of_it_longer(lines):
    times = [line for line in lines if line.unit == "ms"]
    assert len({line.quantity for line in times}) == len(times) == 5
    assert all(0 < line.median <= line.p90 for line in times)


def test_a_full_size_act_with_its_own_features_carries_plans_out_over_several_decisions():
    execution = hardware.agent_of(hardware.FULL, "auto", "cpu").execution
    assert (execution.horizon, execution.n_action_steps, execution.is_open) == (10, 100, True)


def test_the_table_has_a_column_for_each_policy_and_leaves_out_what_was_not_measured():
    one = hardware.Line("cpu", "A", "auto", "a plan", 1234.5, 2000.0, "ms")
    other = hardware.Line("cpu", "B", "cnn", "parameters", 3.0, 3.0, "million")
    assert hardware.table([one, other]).splitlines()[2:] == ["| a plan | ms | 1,234 (2,000) |  |", "| parameters | million |  | 3 |"]


def test_nothing_is_written_unless_asked_and_rows_of_another_device_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        hardware, "measured", lambda device, few, many, side: iter([hardware.Line(device, "A", "auto", "a plan", 1.0, 2.0, "ms")])
    )
    for arguments in ([], ["--output=out/hardware.csv"], ["--device=cuda", "--output=out/hardware.csv"], ["--output=out/hardware.csv"]):
        monkeypatch.setattr(sys, "argv", ["hardware.py", *arguments])
        hardware.main()
        assert (tmp_path / "out").exists() == bool(arguments)
    assert [line.device for line in hardware.read_lines(Path("out/hardware.csv"))] == ["cuda", "cpu"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["hardware.csv", "meta_cpu.json", "meta_cuda.json"]


def test_smaller_cameras_are_measured_with_pictures_as_they_are_and_reduced():
    lines = list(hardware.measured("cpu", few=1, many=2, side=72))
    assert {line.features for line in lines if line.quantity == "an update, 256 windows"} == {"auto", "cnn, 64 px", "cnn, 72 px"}
    kept = {line.features: line.median for line in lines if line.quantity == "a frame in the replay memory"}
    for side in (64, 72):
        assert 2 * 3 * side * side < kept[f"cnn, {side} px"] < 2 * 3 * side * side + 1000
