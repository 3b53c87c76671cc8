"""Faults of an SO-101 as its owner meets them: the whole command, its exit code, what it says last, and what the motors were told."""

import signal

import pytest
from processes import Processes, eventually
from so101_bus import LOST, MOTORS

pytestmark = pytest.mark.slow
POWERED = "may still be under torque. Support the arm and switch its power off."


class Lab:
    """One learner; actor processes one after the other."""

    def __init__(self, root):
        self._root, self._processes, self._number = root, Processes(), 0
        self._processes.start("learner", root / "learner.log", str(root / "learner"), 0, "one", 3, "so101")
        port = root / "learner" / "port"
        eventually(lambda: port.exists() and port.read_text())
        self._address = f"127.0.0.1:{port.read_text()}"

    def actor(self, *flags, bus="", camera=""):
        """Starts one; its arm's log is `bus_log`."""
        self._number += 1
        name = f"arm-{self._number}"
        self._bus_log = self._root / f"{name}.log"
        flags = (
            f"--name={name}", f"--spool_dir={self._root / name}", f"--learner={self._address}", "--robot.type=so101_follower",
            f"--robot.port={self._root / name}?{bus}", f"--robot.calibration_dir={self._root}", "--episode_time_s=0.5", *flags,
            f"--robot.cameras={{front: {{type: faulty_camera, width: 5, height: 6, fps: 30, faults: '{camera}'}}}}",
            "--safety.max_observation_age_s=10", "--patience_s=60", "--reward.function=so101_bus:never",
        )  # fmt: skip
        return self._processes.start("actor", self._root / f"{name}.out", *flags)

    @property
    def off(self):
        """Motors that were told to let go, in the end."""
        return [line.removeprefix("off ") for line in self._bus_log.read_text().splitlines() if line.startswith("off ")]

    @property
    def is_closed(self):
        return self._bus_log.read_text().splitlines()[-1] == "closed"

    def close(self):
        self._processes.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("faults"))
    yield lab
    lab.close()


def last_line(actor):
    return actor.output.strip().splitlines()[-1]


def test_one_lost_packet_costs_one_episode(lab):
    actor = lab.actor("--n_episodes=3", bus="read@9=lost")
    assert actor.end() == 0, actor.output
    assert "Torque of so_follower at the end: goes off, and what is not supported falls" in actor.output.partition("Episode ")[0]
    assert actor.output.count("Episode dropped: The robot so_follower does not answer: SOFollower.get_observation() raised") == 1
    assert last_line(actor).endswith("Stopped after 3 episodes.")
    assert lab.off == list(MOTORS)


def test_a_bus_that_stays_away_ends_it_with_a_sentence_and_a_plain_end(lab):
    actor = lab.actor(bus="read@20x9999=lost")
    assert actor.end() == 1
    assert f"SOFollower.get_observation() raised ConnectionError: {LOST} Check its cable and power. That was the third" in last_line(actor)
    assert "Traceback" not in actor.output
    assert (lab.off, lab.is_closed) == (list(MOTORS), True)


def test_a_camera_that_stays_away_is_named_and_the_torque_goes_off(lab):
    actor = lab.actor(camera="frame@20=unplug")
    assert actor.end() == 1
    assert "Camera 'front' of so_follower gives no frame" in last_line(actor)
    assert "its parts were disconnected one by one" in actor.output
    assert (lab.off, lab.is_closed) == (list(MOTORS), True)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_motor_in_overload_is_the_last_line_and_the_exit_code(lab, stop):
    actor = lab.actor(bus="gripper@1x99=overload")
    actor.says("Episode 1:")
    actor.send(stop)
    assert actor.end() == 1
    assert last_line(actor).endswith(f"its motors (gripper) {POWERED}")
    assert actor.output.count("Overload error!") == 1
    assert "Traceback" not in actor.output
    assert set(lab.off) == set(MOTORS[:-1])
    assert lab.is_closed


def test_what_ended_it_is_said_before(lab):
    actor = lab.actor(bus="write@20x9999=lost,elbow_flex@1x99=overload")
    assert actor.end() == 1
    before, last = actor.output.strip().splitlines()[-2:]
    assert "SOFollower.send_action() raised ConnectionError" in before
    assert "That was the third attempt" in before
    assert last.endswith(f"its motors (elbow_flex) {POWERED}")


def test_an_error_of_a_driver_s_class_is_a_sentence(lab):
    actor = lab.actor(bus="read@20=key")
    assert actor.end() == 1
    assert "The robot so_follower cannot go on: SOFollower.get_observation() raised KeyError: 'shoulder_pan' (so101_bus.py" in last_line(
        actor
    )
    assert "Traceback" not in actor.output
    assert (lab.off, lab.is_closed) == (list(MOTORS), True)


def test_torque_that_shall_stay_on_stays_on_and_it_is_said(lab):
    actor = lab.actor("--n_episodes=1", "--robot.disable_torque_on_disconnect=false")
    assert actor.end() == 0, actor.output
    assert "Torque of so_follower at the end: stays on, at the last target" in actor.output
    assert (lab.off, lab.is_closed) == ([], True)
