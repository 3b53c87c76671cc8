"""Phases, pacing and the actor's ramp, from counters that travel in the checkpoint."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_policy import small_config

from lerobot_serl.policy.parts import OnlineConfig, StartupConfig
from lerobot_serl.policy.progress import Phase, Progress

ONLINE = OnlineConfig(repo_id="test/online")


def progress_of(collect=10, critic=20, ramp=4, online=True, updates=0, env_steps=0, **changes):
    startup = StartupConfig(collect_steps=collect, critic_updates=critic, ramp_updates=ramp)
    progress = Progress(small_config(startup=startup, online=ONLINE if online else OnlineConfig(), **changes))
    progress.updates = updates
    progress.env_steps = env_steps
    return progress


@pytest.mark.parametrize(
    ("updates", "env_steps", "phase", "may_update"),
    [
        (0, 0, "collect", False),
        (0, 9, "collect", False),
        (0, 10, "critic", True),
        (19, 10, "critic", True),
        (20, 10, "actor", False),
        (20, 11, "actor", True),
        (21, 11, "actor", False),
        (500, 9, "collect", False),
    ],
)
def test_phases_online(updates, env_steps, phase, may_update):
    progress = progress_of(updates=updates, env_steps=env_steps)
    assert progress.phase == phase
    assert progress.may_update is may_update


@pytest.mark.parametrize(("updates", "phase"), [(0, "critic"), (19, "critic"), (20, "actor"), (10**6, "actor")])
def test_offline_nothing_is_collected_and_nothing_is_paced(updates, phase):
    progress = progress_of(online=False, updates=updates)
    assert progress.phase == phase
    assert progress.may_update


def test_startup_phases_can_be_left_out():
    progress = progress_of(collect=0, critic=0)
    assert progress.phase is Phase.ACTOR
    assert not progress.may_update  # no data yet


@settings(max_examples=100, deadline=None)
@given(
    collect=st.integers(0, 12),
    critic=st.integers(0, 12),
    utd=st.sampled_from([0.25, 0.5, 1.0, 1.5, 4.0]),
    episodes=st.lists(st.integers(1, 9), max_size=8),
)
def test_pacing_against_a_simulation(collect, critic, utd, episodes):
    """Updating whenever it is allowed takes exactly what the data pay for, and the phases come in order."""
    progress = progress_of(collect, critic, utd=utd)
    phases = [progress.phase]
    for length in [0, *episodes]:
        progress.env_steps += length
        while progress.may_update:
            progress.updates += 1
            phases.append(progress.phase)
            assert progress.updates <= 12 + 4 * 8 * 9
        steps = int(progress.env_steps)
        earned = 0 if steps < collect else critic + math.ceil(utd * (steps - collect))
        assert progress.updates == earned
        assert progress.lead_steps <= 0
        phases.append(progress.phase)
    order = [Phase.COLLECT, Phase.CRITIC, Phase.ACTOR]
    assert phases == sorted(phases, key=order.index)


def test_lead_is_in_steps_of_the_robot():
    assert progress_of(env_steps=5).lead_steps == 0
    assert progress_of(updates=20, env_steps=10).lead_steps == 0
    assert progress_of(updates=20, env_steps=40).lead_steps == 30
    assert progress_of(updates=20, env_steps=40, utd=2.0).lead_steps == 30
    assert progress_of(updates=50, env_steps=40, utd=2.0).lead_steps == 15
    assert progress_of(updates=0, env_steps=10, utd=0.5).lead_steps == 40  # critics have 20 updates to go


def test_the_actor_joins_every_policy_delay_th_update():
    progress = progress_of(critic=5, env_steps=1000, policy_delay=3)
    joined = []
    for _ in range(15):
        if progress.actor_joins:
            joined.append(progress.updates)
        progress.updates += 1
    assert joined == [6, 9, 12]


def test_ramp_rises_in_a_line_and_stays_at_one():
    progress = progress_of(critic=20, ramp=4, env_steps=1000)
    values = []
    for updates in range(20, 27):
        progress.updates = updates
        values.append(progress.ramp)
    assert values == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1])
    assert progress_of(critic=20, ramp=0, updates=20, env_steps=1000).ramp == 1.0


def test_ramps_go_on_where_weights_were_set_back_to_and_pacing_does_not():
    progress = progress_of(critic=20, ramp=10, env_steps=1000, updates=300)
    progress.undone_updates = 276
    assert progress.ramp == pytest.approx(0.5)
    assert progress.scale_fraction == pytest.approx(0.1 + 0.9 * 4 / 6000)
    assert progress.phase is Phase.ACTOR
    assert progress.lead_steps == 990 - 280


def test_restart_begins_anew():
    progress = progress_of(updates=5, env_steps=7)
    progress.restart()
    assert set(progress.counters().values()) == {0}


def test_the_counters_of_a_checkpoint_go_on():
    progress, other = progress_of(), progress_of()
    progress.restore({name: value for value, name in enumerate(progress.counters(), start=2**40)})
    other.restore(progress.counters())
    assert list(other.counters().values()) == list(range(2**40, 2**40 + len(progress.counters())))


def test_a_cosine_takes_the_rates_to_zero():
    progress = progress_of(updates=0, env_steps=10, lr_schedule="cosine", lr_decay_updates=100)
    factors = []
    for progress.updates in (0, 50, 100, 150):
        factors.append(progress.lr_factor)
    assert factors == pytest.approx([1.0, 0.5, 0.0, 0.0])
    assert progress_of(updates=50).lr_factor == 1.0
