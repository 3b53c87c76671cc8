"""Where plans are made, on a robot in real time and in simulations: beside the control loop the arm never waits; planners and plans that fail."""

import json
import logging
import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from counter_env import CounterEnv
from edited_act import save_edited_act, with_small_camera
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.robots import RobotConfig
from scripted_hand import ScriptedHandConfig
from small_robots import KEYS, TwoArmsThatKnow, TwoArmsThatKnowConfig

from lerobot_serl.actor import planning as planning_module
from lerobot_serl.actor.evaluation import EvaluationSettings, evaluate
from lerobot_serl.actor.evaluation_file import EvaluationFile
from lerobot_serl.actor.planning import Planning
from lerobot_serl.actor.robot_setup import RobotSettings
from lerobot_serl.actor.settings import DeployedPolicyConfig, RobotKeysConfig, SafetyConfig
from lerobot_serl.base.act import ActBase
from lerobot_serl.base.base_policy import Plan
from lerobot_serl.base.plan_maker import Beside, PlayedDelay
from lerobot_serl.base.timeline import NO_PLAN
from lerobot_serl.execution import Execution
from lerobot_serl.online.feature_cache import cache_features
from lerobot_serl.policy import look_time
from lerobot_serl.replay.memory import BASE, FEATURES
from lerobot_serl.scripts import lerobot_serl_actor as script
from lerobot_serl.setting_error import SettingError

FPS, HORIZON, PLANNED, LONGEST = 20, 5, 30, 60
MEASURED_PLANS = 1 + look_time.MEASURED_TIMES


@RobotConfig.register_subclass("serl_test_watched_arms")
@dataclass(kw_only=True)
class WatchedArmsConfig(TwoArmsThatKnowConfig):
    """See `WatchedArms`."""


class WatchedArms(TwoArmsThatKnow):
    """The last one that was made."""

    config_class = WatchedArmsConfig
    made: "WatchedArms"

    def __init__(self, config):
        super().__init__(config)
        WatchedArms.made = self


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    config = with_small_camera("observation.images.front", 4, chunk_size=LONGEST, n_action_steps=PLANNED)
    return save_edited_act(tmp_path_factory.mktemp("arms"), config, horizon=HORIZON)


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    config = with_small_camera("observation.image", 2, chunk_size=LONGEST, n_action_steps=PLANNED)
    return save_edited_act(tmp_path_factory.mktemp("counter"), config, horizon=HORIZON)


class Base:
    """What ACT's plans are like: how long they take, which of them fail how; who made them."""

    def __init__(self, monkeypatch):
        self.delay_s, self.threads, self.failing = 0.0, [], lambda number, plan: plan
        plan = ActBase.plan

        def planned(base, observation, steps):
            self.threads.append(threading.current_thread().name)
            number = len(self.threads)
            time.sleep(self.delay_s)
            return self.failing(number, plan(base, observation, steps))

        monkeypatch.setattr(ActBase, "plan", planned)


@pytest.fixture
def base(monkeypatch):
    return Base(monkeypatch)


@pytest.fixture
def episodes(monkeypatch):
    """Those of an evaluation."""
    kept, add = [], EvaluationFile.add
    monkeypatch.setattr(EvaluationFile, "add", lambda file, episode: (kept.append(episode), add(file, episode)))
    return kept


def settings_of(checkpoint, results, seconds=2.0, lockstep=False, **changes):
    robot = RobotSettings(FPS, episode_time_s=seconds, safety=SafetyConfig(enabled=False, max_observation_age_s=10.0))
    values = {
        "env": None, "robot_config": WatchedArmsConfig(lockstep=lockstep), "teleop_config": None, "seed": 7, "robot": robot,
        "policy": DeployedPolicyConfig(str(checkpoint)), "n_episodes": 1, "results": results / "eval_info.json",
    }  # fmt: skip
    return EvaluationSettings(**(values | changes))


def exit_code(checkpoint, results, monkeypatch, planning="beside", seconds=2.0, n_episodes=1):
    """Of the whole command."""
    monkeypatch.setattr(script, "init_logging", lambda: None)  # it would take the test's own log away
    return script.run(
        script.ActorProcessConfig(
            robot=WatchedArmsConfig(),
            policy=DeployedPolicyConfig(str(checkpoint)),
            fps=FPS,
            episode_time_s=seconds,
            n_episodes=n_episodes,
            safety=SafetyConfig(enabled=False, max_observation_age_s=10.0),
            planning=planning,
            output_dir=results,
        )
    )


@pytest.mark.slow
def test_beside_the_loop_the_arm_never_waits(arms, base, episodes, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    base.delay_s = 0.2
    evaluate(settings_of(arms.serl, tmp_path, seconds=3.0))
    (episode,) = episodes
    ages = episode.plan_age.tolist()
    assert "held_steps" not in episode.info
    assert NO_PLAN not in ages
    assert base.threads[:MEASURED_PLANS] == ["MainThread"] * MEASURED_PLANS
    assert set(base.threads[MEASURED_PLANS:]) == {"planner"}
    begins = [t for t in range(1, len(ages)) if ages[t] != ages[t - 1] + 1]
    assert len(begins) >= 1
    assert all(0 < ages[t] < PLANNED for t in begins)  # its first actions were for steps that had gone by
    assert max(ages) < LONGEST
    assert "control steps: they are made beside the control loop, and begun" in caplog.text
    assert not any(thread.name == "planner" for thread in threading.enumerate())


@pytest.mark.slow
def test_in_the_loop_every_plan_makes_a_tick_late(arms, base, episodes, tmp_path, caplog):
    base.delay_s = 0.2
    evaluate(settings_of(arms.serl, tmp_path, seconds=3.1, planning=Planning("in_loop")))
    (episode,) = episodes
    assert episode.plan_age.tolist() == [t % PLANNED for t in range(62)]
    assert set(base.threads) == {"MainThread"}
    assert episode.info["late_ticks"] >= len(base.threads) - MEASURED_PLANS == 3
    assert episode.info["worst_lateness_s"] >= 0.1
    assert "they are made in the control loop; the arm waits for each." in caplog.text


def maker_of(make, execution, fps, **flags):
    made = Planning(**flags).maker(execution, fps, False, {"observation.state": PolicyFeature(FeatureType.STATE, (2,))})(make)
    made.close()
    return made


def plan_in(delay_s):
    def make(observation):
        time.sleep(delay_s)
        return Plan(observation["observation.state"].expand(1, 40, 2), torch.zeros(1, 0))

    return make


def test_what_is_measured_decides_where_plans_are_made(caplog):
    caplog.set_level(logging.INFO)
    assert isinstance(maker_of(plan_in(0.0), Execution(5, 20), 1), PlayedDelay)
    assert "they are made in the control loop." in caplog.text
    assert "waits" not in caplog.text
    assert isinstance(maker_of(plan_in(0.0), Execution(5, 20), 1, place="beside"), Beside)
    made = maker_of(plan_in(0.05), Execution(5, 40), 20)
    assert isinstance(made, Beside)
    assert made.steps_ahead >= 1 + 2
    assert f"begun {made.steps_ahead} steps ahead" in caplog.text
    assert "the arm will wait" not in caplog.text.replace("waits", "")
    assert isinstance(
        maker_of(plan_in(0.05), Execution(5, 5), 20), PlayedDelay
    )  # without an open plan there is nothing to carry out meanwhile


def test_plans_too_short_for_their_time_are_told(caplog):
    assert isinstance(maker_of(plan_in(0.1), Execution(5, 8), 20), Beside)
    assert "A plan lasts 8 steps (n_action_steps), too few for the next one to be there in time: the arm will wait." in caplog.text


@pytest.fixture(params=["RuntimeError: device lost", "no plan came within 0.4 s"], ids=["raises", "hangs"])
def dying(request, base, monkeypatch):
    """Every plan after the first of the first episode fails so."""
    monkeypatch.setattr(planning_module, "LEAST_PATIENCE_S", 0.4)
    monkeypatch.setattr(planning_module, "PATIENCE_PLANS", 1)
    forever = threading.Event()

    def failing(number, plan):
        if number > MEASURED_PLANS + 1:
            if request.param.startswith("no plan"):
                forever.wait(20)
            raise RuntimeError("device lost")
        return plan

    base.failing = failing
    yield request.param
    forever.set()


@pytest.mark.slow
def test_a_planner_that_dies_again_leaves_the_open_plan_and_then_the_arm_is_held(arms, dying, tmp_path, monkeypatch, caplog):
    assert exit_code(arms.serl, tmp_path, monkeypatch, seconds=60.0) == 1
    again = f"The planner has failed again ({dying}), after it was started anew."
    said = [record.getMessage() for record in caplog.records]
    assert sum(message.startswith(f"The planner has failed ({dying}). It is started anew") for message in said) == 1
    assert sum(message.startswith(f"{again} The ") and "are carried out; the process ends then" in message for message in said) == 1
    assert said[-1] == again
    assert "Traceback" not in caplog.text
    robot = WatchedArms.made
    assert robot.calls[-1] == "disconnect"
    assert robot.sent[-1] == {key: float(np.clip(robot.sent[-2][key], -1, 1)) for key in KEYS}  # what was executed last
    assert len(robot.sent) == LONGEST + 1
    assert not (tmp_path / "eval_info.json").exists()


@pytest.mark.slow
def test_an_episode_for_which_the_open_plan_suffices_counts_and_none_follows(arms, dying, episodes, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    assert exit_code(arms.serl, tmp_path, monkeypatch, seconds=2.5, n_episodes=3) == 1
    (episode,) = episodes
    assert episode.plan_age.tolist() == list(range(50))
    assert episode.info.get("held_steps") is None
    assert json.loads((tmp_path / "eval_info.json").read_text())["per_episode"][0]["steps"] == 50
    assert caplog.records[-1].getMessage() == f"The planner has failed again ({dying}), after it was started anew."
    assert WatchedArms.made.calls.count("disconnect") == 1
    assert len(WatchedArms.made.sent) <= 50 + 2  # of the next episode nothing but holding still


@pytest.mark.parametrize("planning", [Planning("in_loop"), Planning("beside", 0.1)])
def test_plans_that_are_not_finite_are_never_carried_out(arms, base, episodes, tmp_path, planning):
    base.failing = lambda number, plan: plan._replace(actions=plan.actions * torch.nan) if number in (2, 3) else plan
    evaluate(settings_of(arms.serl, tmp_path, 3.5, lockstep=True, planning=planning))
    (episode,) = episodes
    assert episode.info["refused_plans"] == 2
    ages, held = episode.plan_age.tolist(), episode.info.get("held_steps", 0)
    assert ages.count(NO_PLAN) == held
    if planning.place == "in_loop":
        assert held == 2
        assert ages[28:34] == [28, 29, NO_PLAN, NO_PLAN, 0, 1]
    sent = np.array([list(action.values()) for action in WatchedArms.made.sent])
    assert np.isfinite(sent).all()
    for t in np.flatnonzero(episode.plan_age.numpy() == NO_PLAN):
        assert torch.equal(episode.action[t], episode.action[t - 1])  # the arm keeps still
        assert torch.equal(episode.plan_action[t], episode.action[t])
    assert episode.is_finite


def test_without_any_finite_plan_it_ends_with_a_sentence(arms, base, tmp_path, monkeypatch, caplog):
    base.failing = lambda number, plan: plan._replace(actions=plan.actions / 0)
    assert exit_code(arms.serl, tmp_path, monkeypatch, "in_loop") == 1
    assert caplog.records[-1].getMessage().startswith("10 plans in a row had numbers that are not finite.")
    assert "Traceback" not in caplog.text
    assert WatchedArms.made.sent[-1] == dict.fromkeys(KEYS, 0.0)  # where it was


def test_flags_that_do_not_fit_are_refused_by_name(arms, tmp_path, tmp_path_factory):
    closed = save_edited_act(
        tmp_path_factory.mktemp("closed"), with_small_camera("observation.images.front", 4, chunk_size=10, n_action_steps=10), horizon=10
    )
    with pytest.raises(ValueError, match=r"--planning=beside: the policy plans anew at every decision \(n_action_steps=10, horizon=10\)"):
        evaluate(settings_of(closed.serl, tmp_path / "a", planning=Planning("beside")))
    with pytest.raises(ValueError, match=r"--plan_delay_s=0.2: expected 0 where time does not stand still"):
        evaluate(settings_of(arms.serl, tmp_path / "b", planning=Planning(delay_s=0.2)))
    for flags in (Planning("beside"), Planning(delay_s=0.1)):
        with pytest.raises(ValueError, match=r"--policy.path=.*act: --planning and --plan_delay_s are for serl_sac"):
            evaluate(settings_of(arms.act, tmp_path / "c", planning=flags))
    assert WatchedArms.made.sent == [] or WatchedArms.made.calls[-1] == "disconnect"
    device = {"robot": WatchedArmsConfig(), "policy": DeployedPolicyConfig("x")}
    with pytest.raises(SettingError, match=r"--planning=soon: expected one of auto, in_loop, beside."):
        script.ActorProcessConfig(**device, planning="soon")
    for seconds in (-1.0, 61.0, float("nan")):
        with pytest.raises(SettingError, match=r"--plan_delay_s=.*: expected 0 to 60 seconds"):
            script.ActorProcessConfig(**device, plan_delay_s=seconds)


BY_HAND = (13, 14, 15)


@pytest.mark.parametrize(("delay_steps", "place"), [(0, "in_loop"), (3, "beside"), (3, "in_loop")])
def test_after_a_takeover_the_policy_plans_anew(counter, episodes, tmp_path, delay_steps, place):
    env = CounterEnv(truncate_at=45)
    evaluate(
        settings_of(
            counter.serl,
            tmp_path,
            robot_config=None,
            robot=RobotSettings(robot_keys=RobotKeysConfig(positions=["*"])),
            env=env,
            teleop_config=ScriptedHandConfig(takes_over=BY_HAND),
            planning=Planning(place, delay_steps / env.fps),
        )
    )
    (episode,) = episodes
    by_hand = episode.intervention.nonzero().ravel().tolist()
    assert by_hand == [12, 13, 14]
    ages = [*range(12), *[NO_PLAN] * 3, *[NO_PLAN] * delay_steps, *range(PLANNED)][:45]
    assert episode.plan_age.tolist()[: len(ages)] == ages
    assert episode.info.get("held_steps", 0) == delay_steps
    without = episode.plan_age == NO_PLAN
    assert torch.equal(episode.plan_action[without], episode.action[without])
    assert json.loads((tmp_path / "eval_info.json").read_text())["per_episode"][0]["steps_by_hand"] == 3

    agent = counter.policy.agent
    cached, plan = cache_features(agent, episode, 64).cached, agent.box.normalize(episode.plan_action)
    first = 15 + delay_steps
    for t in (0, 5, first, first + 5):
        torch.testing.assert_close(cached[BASE][t], plan[t : t + HORIZON], rtol=1e-5, atol=1e-5)
        assert cached[FEATURES][t, -1].item() * PLANNED == pytest.approx(int(episode.plan_age[t]), abs=1e-3)
    # Of the cut-off decision two steps were carried out; the memory knows what the plan went on to say.
    torch.testing.assert_close(cached[BASE][10][:2], plan[10:12], rtol=1e-5, atol=1e-5)
    seen = {key: value[:1].float() / (255 if value.dtype == torch.uint8 else 1) for key, value in episode.observation.items()}
    torch.testing.assert_close(cached[BASE][10], agent.plan(seen).actions[0, 10:15], rtol=1e-5, atol=1e-5)
