"""Figures of studies."""

import pytest
from study.collect import evaluations_of
from study.figures import COLOURS, MARKERS, curves_of
from study.results import Row, write_rows


def study(tmp_path, count):
    """Variants of which the n-th has seeds 0 to n and ends at n successes of 20."""
    names = [f"variant_{number}" for number in range(count)]
    for number, name in enumerate(names):
        seeds = range(len(names) if number == 0 else number + 1)
        rows = [
            Row(step=step, episode=episode, success=int(episode < (number if step else 2)), ret=0.0, length=1, seed=seed, wall_s=0.0)
            for seed in seeds
            for step in (0, 100)
            for episode in range(20)
        ]
        write_rows(evaluations_of(tmp_path, name), rows)
    return names


def ends(axes):
    """Where the curves end, in percent."""
    return [round(line.get_ydata()[-1]) for line in axes.get_lines() if len(line.get_xdata()) == 2 and line.get_marker() in MARKERS]


@pytest.mark.parametrize("count", [2, len(COLOURS)])
def test_a_few_variants_share_a_panel(tmp_path, count):
    names = study(tmp_path, count)
    (axes,) = curves_of(tmp_path, names, "a study").axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        f"ACT (mean of {count} seeds)",
        f"variant 0 ({count} seeds)",
        *(f"variant {number} ({number + 1} seeds)" for number in range(1, count)),
    ]
    assert ends(axes) == [5 * number for number in range(count)]
    assert len(axes.collections) == sum(seeds >= 3 for seeds in (count, *range(2, count + 1)))  # bands of intervals


def test_none_of_many_variants_is_left_out(tmp_path):
    names = study(tmp_path, len(COLOURS) + 2)
    shown = [axes for axes in curves_of(tmp_path, names, "a study").axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == [f"{name.replace('_', ' ')} ({number + 1} seeds)" for number, name in enumerate(names)][
        1:
    ]
    assert [ends(axes) for axes in shown] == [[0, 5 * number] for number in range(1, len(names))]


def test_a_method_looks_the_same_in_every_figure(tmp_path):
    names = study(tmp_path, 4)
    for old, new in zip(names, ("from_scratch", "a_trial", "serl_sac", "another"), strict=True):
        evaluations_of(tmp_path, old).rename(evaluations_of(tmp_path, new))

    def looks(*variants):
        (axes,) = curves_of(tmp_path, variants, "a study").axes
        lines = [line for line in axes.get_lines() if line.get_marker() in MARKERS and line.get_marker()]
        return {line.get_label().split(" (")[0]: (line.get_color(), line.get_marker()) for line in lines}

    alone, together = looks("serl_sac"), looks("a_trial", "from_scratch", "serl_sac", "another")
    assert alone["serl sac"] == together["serl sac"] == (COLOURS[0], MARKERS[0])
    assert len(set(together.values())) == 4
