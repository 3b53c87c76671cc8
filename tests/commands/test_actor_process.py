"""The actor process on a robot, as a command: a person at its terminal, Ctrl-C, and refusals, against a real learner."""

import codecs
import io
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from act_checkpoints import save_act, small_act_config
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.utils.feature_utils import hw_to_dataset_features

from lerobot_serl.replay.episode import Decider
from lerobot_serl.robots.config_franka_sim_robot import FrankaSimRobotConfig
from lerobot_serl.robots.franka_sim_robot import FrankaSimRobot
from lerobot_serl.teleoperators.config_franka_sim_expert import FrankaSimExpertConfig
from lerobot_serl.teleoperators.franka_sim_expert import FrankaSimExpert

pytestmark = pytest.mark.slow
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
ENVIRONMENT |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
PATIENCE_S = 900
ROBOT = ("--robot.type=franka_sim", "--robot.control_mode=ee_delta", "--robot.image_height_px=32", "--robot.image_width_px=32")
REAL_TIME = (*ROBOT, "--robot.cameras=true", "--robot.lockstep=false", "--episode_time_s=300", "--safety.max_observation_age_s=10")
ACTOR = (sys.executable, "-m", "lerobot_serl.scripts.lerobot_serl_actor")

REFUSALS = {
    "rate": ((*ROBOT, "--robot.cameras=true", "--fps=30"), "--fps=30: the demonstrations, and with them the policy, run at 10 Hz."),
    "robot's rate": ((*ROBOT, "--robot.cameras=true", "--robot.fps=20"), "--robot.fps=20: the demonstrations, and with them the policy, run"),
    "camera": (ROBOT, "the policy needs the image 'observation.images.front'; this robot gives none. Add the camera."),
    "teleoperator": (
        (*ROBOT, "--robot.cameras=true", "--robot.control_mode=joint", "--teleop.type=keyboard_ee"),
        "--teleop.type=keyboard_ee gives ['delta_x', 'delta_y', 'delta_z'",
    ),
    "no arm for the expert": (
        (*ROBOT, "--robot.cameras=true", "--teleop.type=franka_sim_expert", "--teleop.robot_id=another"),
        "--teleop.type=franka_sim_expert: there is no simulated robot with the id 'another'",
    ),
    "reward": ((*ROBOT, "--robot.cameras=true", "--reward.source=environment"), "--reward.source=environment is for --env.type."),
    "robot's keys": (
        (*ROBOT, "--robot.cameras=true", "--robot_keys.velocities=[base.vx]"), "--robot_keys.velocities names 'base.vx', expected some of"
    ),
}  # fmt: skip


def record(root, n_episodes=2, n_steps=12):
    """Demonstrations with cameras, as lerobot-record writes them; returns their statistics."""
    robot = FrankaSimRobot(
        FrankaSimRobotConfig(id="recorded", control_mode="ee_delta", cameras=True, image_height_px=32, image_width_px=32)
    )
    expert = FrankaSimExpert(FrankaSimExpertConfig(robot_id="recorded", noise_std=0.2))
    features = hw_to_dataset_features(robot.observation_features, "observation", use_video=False)
    features |= hw_to_dataset_features(robot.action_features, "action", use_video=False)
    dataset = LeRobotDataset.create("local/demos", fps=10, features=features, root=root, use_videos=False)
    robot.connect()
    expert.connect()
    state_names, action_names = features["observation.state"]["names"], features["action"]["names"]
    for _ in range(n_episodes):
        robot.reset()
        for _ in range(n_steps):
            seen, done = robot.get_observation(), robot.send_action(expert.get_action())
            frame = {f"observation.images.{camera}": seen[camera] for camera in ("front", "wrist")}
            frame["observation.state"] = np.array([seen[name] for name in state_names], np.float32)
            frame["action"] = np.array([done[name] for name in action_names], np.float32)
            dataset.add_frame({**frame, "task": "lift"})
        dataset.save_episode()
    dataset.finalize()
    robot.disconnect()
    return LeRobotDataset("local/demos", root=root).meta.stats


class Terminal:
    """A command at a terminal of its own, and what it says."""

    def __init__(self, *command):
        self.master, self.slave = pty.openpty()
        self.attributes = termios.tcgetattr(self.slave)
        # A process of the forkserver has its terminal for the signals of the keys, too.
        self.process = subprocess.Popen(command, stdin=self.slave, stdout=self.slave, stderr=self.slave, env=ENVIRONMENT)
        self.output = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(errors="replace"), translate=True)
        while True:
            ended = self.process.poll() is not None  # asked before looking, so that its last words are read
            if select.select([self.master], [], [], 0.1)[0]:
                self.output += decoder.decode(os.read(self.master, 65536))
            elif ended:
                return

    def wait_for(self, text, patience_s=PATIENCE_S, since=0):
        """Whether this is said in time, after the first ``since`` characters."""
        deadline = time.monotonic() + patience_s
        while text not in self.output[since:]:
            if time.monotonic() > deadline or self.process.poll() is not None:
                return text in self.output[since:]
            time.sleep(0.02)
        return True

    def press(self, key, expected):
        """Press until it has worked: what is pressed between two episodes is forgotten."""
        since = len(self.output)
        for _ in range(10):
            os.write(self.master, key.encode())
            if self.wait_for(expected, 4, since):
                return
        raise AssertionError(f"{key!r} did not lead to {expected!r}:\n{self.output[-3000:]}")

    def hold(self, shown, steps_s):
        """Wait until the live line has shown this for so much of the robot's time, however long that takes here."""
        deadline, pattern = time.monotonic() + PATIENCE_S, re.compile(r"Episode \d+, +([\d.]+) s: " + shown)
        while True:
            times_s = [float(found) for found in pattern.findall(self.output)]
            if times_s and times_s[-1] - times_s[0] >= steps_s:
                return
            assert time.monotonic() < deadline, self.output[-3000:]
            assert self.process.poll() is None, self.output[-3000:]
            time.sleep(0.02)

    def end(self, patience_s=PATIENCE_S):
        """The exit code, and whether the terminal is as it was."""
        try:
            code = self.process.wait(patience_s)
        finally:
            if self.process.poll() is None:
                self.process.kill()
        self._reader.join(10)
        restored = termios.tcgetattr(self.slave)[3] == self.attributes[3]
        os.close(self.master)
        os.close(self.slave)
        return code, restored


@dataclass
class Run:
    """What came out of one learner and its actors."""

    codes: dict = field(default_factory=dict)
    outputs: dict = field(default_factory=dict)
    restored: dict = field(default_factory=dict)
    seconds_to_start: dict = field(default_factory=dict)
    seconds_to_stop: dict = field(default_factory=dict)
    online: LeRobotDataset | None = None


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def person_at_the_keys(run, address):
    """An episode for each key, then q."""
    actor = Terminal(*ACTOR, f"--learner={address}", "--name=keys", *REAL_TIME, "--teleop.type=franka_sim_expert", "--task=lift the cube")
    try:
        assert actor.wait_for("Robot franka_sim at 10 Hz"), actor.output[-3000:]
        actor.press("s", "Episode 1: success (person)")
        actor.press("f", "Episode 2: failure (person)")
        actor.press("r", "Episode discarded.")
        actor.press(" ", "The person takes over.")
        actor.hold("YOU move the arm", 1.5)
        actor.press(" ", "The policy goes on.")
        assert actor.wait_for("the policy moves the arm", since=actor.output.rindex("The policy goes on."))
        actor.press("s", "Episode 3: success (person)")
        actor.press("q", "Stopping after this episode.")
        time.sleep(0.5)
        if actor.process.poll() is None:  # pressed within an episode, which goes on until somebody ends it
            os.write(actor.master, b"f")
    finally:
        run.codes["keys"], run.restored["keys"] = actor.end()
        run.outputs["keys"] = actor.output


def stopped(run, name, address, stop):
    """An actor that is stopped while the arm moves."""
    launched = time.monotonic()
    actor = Terminal(*ACTOR, f"--learner={address}", f"--name={name}", *REAL_TIME)
    try:
        assert actor.wait_for("Robot franka_sim at 10 Hz"), actor.output[-3000:]
        run.seconds_to_start[name] = time.monotonic() - launched
        time.sleep(1.5)
        began = time.monotonic()
        os.write(actor.master, b"\x03") if stop is None else actor.process.send_signal(stop)
    finally:
        run.codes[name], run.restored[name] = actor.end()
        run.seconds_to_stop[name] = time.monotonic() - began
        run.outputs[name] = actor.output


ALL_IN_ONE_PROCESS = """
import json, sys
import lerobot.teleoperators.keyboard
from lerobot_serl.scripts.lerobot_serl_actor import main
for name, flags in json.loads(sys.argv[1]).items():
    print("BEGIN", name, flush=True)
    sys.argv = ["lerobot-serl-actor", *flags]
    try:
        main()
    except SystemExit as end:
        print("END", end.code, flush=True)
"""


def refusals(run, address):
    """One command after the other, in one process: starting Python for each takes longer than everything else."""
    flags = {
        name: [f"--learner={address}", f"--name=refusal-{number}", *given] for number, (name, (given, _)) in enumerate(REFUSALS.items())
    }
    done = subprocess.run(
        [sys.executable, "-c", ALL_IN_ONE_PROCESS, json.dumps(flags)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT, timeout=PATIENCE_S,
    )  # fmt: skip
    for part in done.stdout.split("BEGIN ")[1:]:
        name, _, output = part.partition("\n")
        output, _, code = output.partition("END ")
        run.outputs[name], run.codes[name] = output, int(code.split()[0]) if code else None


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One learner; actors one after the other."""
    root, run = tmp_path_factory.mktemp("actor_process"), Run()
    ENVIRONMENT["HF_LEROBOT_HOME"] = str(root / "home")  # of the outboxes
    try:
        statistics = record(root / "demos")
    except RuntimeError as error:
        pytest.skip(f"no OpenGL: {error}")
    tensors = {key: {name: torch.as_tensor(value) for name, value in named.items()} for key, named in statistics.items()}
    save_act(root / "act", small_act_config(1), tensors)
    port = free_port()
    address, log = f"127.0.0.1:{port}", root / "learner.log"
    with log.open("w") as handle:
        learner = subprocess.Popen(
            [
                sys.executable, "-c",
                # A job in a shell's background ignores SIGINT, and so would what it starts.
                "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
                "from lerobot.utils.import_utils import register_third_party_plugins; register_third_party_plugins();"
                "from lerobot.scripts.lerobot_train import main; main()",
                "--policy.type=serl_sac", f"--policy.act_path={root / 'act'}", "--policy.device=cpu", "--policy.push_to_hub=false",
                "--policy.online.repo_id=local/online", f"--policy.online.root={root / 'online'}", f"--policy.online.port={port}",
                "--policy.startup.collect_steps=100000", "--dataset.repo_id=local/demos", f"--dataset.root={root / 'demos'}",
                "--batch_size=1", "--num_workers=0", "--steps=1000000", f"--output_dir={root / 'train'}",
            ],
            stdout=handle, stderr=subprocess.STDOUT, env=ENVIRONMENT,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + PATIENCE_S
        while "Learner listens at" not in log.read_text():
            assert learner.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.1)
        person_at_the_keys(run, address)
        stops = [("ctrl-c", None), ("sigterm", signal.SIGTERM)]
        threads = [threading.Thread(target=stopped, args=(run, name, address, stop)) for name, stop in stops]
        threads.append(threading.Thread(target=refusals, args=(run, address)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        learner.send_signal(signal.SIGINT)
        try:
            learner.wait(PATIENCE_S)
        finally:
            learner.kill()
    run.outputs["learner"] = log.read_text()
    run.online = LeRobotDataset("local/online", root=root / "online")
    return run


def column(run, name):
    """A column of the online dataset, one list for each episode."""
    episodes = np.array(run.online.hf_dataset["episode_index"])
    values = np.array(run.online.hf_dataset[name]).reshape(len(episodes), -1)[:, 0]
    return [values[episodes == episode].tolist() for episode in range(run.online.num_episodes)]


def test_keys_end_episodes_and_the_dataset_says_who_decided(run):
    assert run.codes["keys"] == 0, run.outputs["keys"][-3000:]
    decided = column(run, "next.decided_by")
    assert len(decided) in (3, 4)  # the discarded one is not there; q may have come between two episodes
    assert all(episode[-1] == Decider.PERSON.number and not any(episode[:-1]) for episode in decided)
    assert [episode[-1] for episode in column(run, "next.success")][:3] == [True, False, True]
    assert [episode[-1] for episode in column(run, "next.reward")][:3] == [1.0, 0.0, 1.0]
    assert f"Stopped after {len(decided)} episodes." in run.outputs["keys"]
    assert run.online[0]["task"] == "lift the cube"


def test_frames_of_the_person_are_marked_and_nothing_else(run):
    first, second, third = column(run, "is_intervention")[:3]
    assert not any(first)
    assert not any(second)
    by_hand = np.flatnonzero(third)
    assert len(by_hand) >= 15  # the live line has shown 1.5 seconds of them, at 10 Hz
    assert np.all(np.diff(by_hand) == 1)
    assert by_hand[0] > 0
    assert by_hand[-1] < len(third) - 1
    assert f"Episode 3: success (person) after {len(third)} steps, {len(by_hand)} steps by hand" in run.outputs["keys"]


def test_what_is_recorded_has_the_demonstrations_names_and_the_executed_actions(run):
    assert run.online.features["action"]["names"] == ["delta_x.pos", "delta_y.pos", "delta_z.pos", "gripper.pos"]
    assert run.online.features["observation.images.front"]["shape"] == (32, 32, 3)
    actions = np.array(run.online.hf_dataset["action"])
    assert np.isfinite(actions).all()
    assert np.abs(actions).max() <= 1.0


@pytest.mark.parametrize("name", ["ctrl-c", "sigterm"])
def test_a_stop_is_quick_drops_the_episode_and_reaches_disconnect(run, name):
    output = run.outputs[name]
    assert run.codes[name] == 0, output[-3000:]
    # An episode lasts 300 s. How fast this machine is just now, the start tells, which is 60 s where the stop is 5.
    assert run.seconds_to_stop[name] < max(run.seconds_to_start.values())
    assert "Traceback" not in output
    _, _, after = output.partition("Interrupted; the unfinished episode is dropped.")
    assert "Attempt " in after  # the simulated arm reports its attempt when it is disconnected
    assert "Stopped after 0 episodes." in after


@pytest.mark.parametrize("name", ["keys", "ctrl-c", "sigterm"])
def test_the_terminal_is_given_back_as_it_was(run, name):
    assert run.restored[name]


@pytest.mark.parametrize("name", REFUSALS)
def test_what_does_not_fit_is_refused_in_one_sentence(run, name):
    assert run.codes[name] == 1, run.outputs[name][-3000:]
    assert REFUSALS[name][1] in run.outputs[name]
    assert "Traceback" not in run.outputs[name]


def test_limits_are_printed_before_anything_moves(run):
    limits, _, _ = run.outputs["keys"].partition("Episode 1")
    assert "Limits of every target:\n  delta_x.pos: -" in limits
    assert "reset: robot." in limits
    assert "success decided by: the robot (keys s and f too)" in limits
