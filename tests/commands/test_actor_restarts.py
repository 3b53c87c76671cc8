"""Robot side and learner as processes that are killed and started again, in any order: nothing is lost, nothing comes twice."""

import signal
import time
from pathlib import Path

import pytest
from processes import eventually
from restartable_learner import uuids

from lerobot_serl.actor.outbox import OnlineDataset

pytestmark = pytest.mark.slow
ROBOT = ("--robot.type=two_arms", "--episode_time_s=0.4", "--safety.max_observation_age_s=10", "--patience_s=60")
LOCKSTEP = (*ROBOT, "--robot.lockstep=true")


class Lab:
    """A learner's and a robot's directory, and processes that use them."""

    def __init__(self, processes, root: Path):
        self.processes, self.root, self._port, self._logs = processes, root, 0, 0
        self.learner_directory, self.outbox = root / "learner", root / "spool"

    def learner(self, dataset="one", horizon=3):
        """On the same port as the one before."""
        said = self.learner_directory / "port"
        said.unlink(missing_ok=True)
        child = self.processes.start("learner", self._log(), str(self.learner_directory), self._port, dataset, horizon)
        eventually(lambda: said.exists() and said.read_text())
        self._port = int(said.read_text())
        return child

    def actor(self, *flags, world=ROBOT):
        flags = ("--name=arm", f"--spool_dir={self.outbox}", f"--learner=127.0.0.1:{self._port}", *world, *flags)
        return self.processes.start("actor", self._log(), *flags)

    def waiting_in_outbox(self):
        """UUIDs that wait on the robot's disk."""
        return sorted(path.stem.partition("-")[2] for path in self.outbox.glob("*/*.episode"))

    def received(self):
        """UUIDs that the learner has."""
        return uuids(self.learner_directory)

    def hold(self, on):
        """The learner's disk takes nothing."""
        self.learner_directory.mkdir(exist_ok=True)
        (self.learner_directory / "hold").touch() if on else (self.learner_directory / "hold").unlink(missing_ok=True)

    def _log(self):
        self._logs += 1
        return self.root / f"{self._logs}.log"


@pytest.fixture
def lab(processes, tmp_path):
    return Lab(processes, tmp_path)


def test_killed_between_disk_and_acknowledgement_the_next_start_sends_it_once(lab):
    lab.hold(True)
    lab.learner()
    first = lab.actor()
    eventually(lambda: (lab.learner_directory / "came").exists())
    (came,) = {(lab.learner_directory / "came").read_text()}
    first.kill()
    before = lab.waiting_in_outbox()
    assert came in before
    lab.hold(False)
    second = lab.actor("--n_episodes=1")
    assert second.end() == 0, second.output
    assert f"{len(before)} episodes of an earlier start wait" in second.output
    received = lab.received()
    assert set(before) < set(received)
    assert len(received) == len(set(received)) == len(before) + 1
    assert lab.waiting_in_outbox() == []


def test_a_robot_goes_on_without_its_learner_and_catches_up_when_it_is_back(lab):
    learner, actor = lab.learner(), lab.actor()
    actor.says("Episode 1:")
    eventually(lab.received)
    second = lab.actor()
    assert second.end() == 1
    assert f"outbox {lab.outbox} (--spool_dir) is in use by process {actor.pid}" in second.output
    assert "give each its own --name" in second.output

    learner.kill()
    actor.says("Learner away since")
    assert "collecting with weights 1," in actor.output
    waiting = eventually(lambda: len(lab.waiting_in_outbox()) >= 2 and lab.waiting_in_outbox())
    learner = lab.learner()
    actor.says("Learner back;")
    actor.says("The learner was started anew: weights 1")
    eventually(lambda: set(waiting) <= set(lab.received()))
    received = lab.received()  # once: the actor process goes on
    assert len(received) == len(set(received))

    learner.kill()
    eventually(lab.waiting_in_outbox)
    actor.send(signal.SIGTERM)
    assert actor.end() == 0, actor.output
    left = lab.waiting_in_outbox()
    assert f"{len(left)} episodes wait in {lab.outbox}; the next start with --name=arm sends them." in actor.output
    assert "Traceback" not in actor.output
    assert f"Stopped after {len(set(left) | set(lab.received()))} episodes." in actor.output


def test_a_simulation_waits_for_its_learner(lab):
    learner, actor = lab.learner(), lab.actor("--n_episodes=60", world=LOCKSTEP)
    actor.says("Episode 2:")
    learner.kill()
    actor.says("the simulation waits")
    eventually(lambda: len(lab.waiting_in_outbox()) == 1)
    time.sleep(1.0)  # for some ten episodes
    assert len(lab.waiting_in_outbox()) == 1
    lab.learner()
    assert actor.end() == 0, actor.output
    assert (len(lab.received()), lab.waiting_in_outbox()) == (60, [])


def test_away_for_too_long_or_back_with_another_policy_it_stops_and_keeps_everything(lab):
    learner, actor = lab.learner(), lab.actor("--max_disconnected_s=1")
    actor.says("Episode 1:")
    learner.kill()
    assert actor.end() == 1
    assert "--max_disconnected_s=1 allows no more" in actor.output
    left = lab.waiting_in_outbox()
    unknown = set(left) - set(lab.received())  # the learner may have died between its disk and its acknowledgement
    assert unknown

    learner = lab.learner(dataset="two")
    actor = lab.actor()
    actor.says(f"{len(left)} episodes for another dataset, test/one, wait in {lab.outbox}; this learner collects for test/two")
    actor.says("Episode 1:")
    learner.kill()
    lab.learner(dataset="two", horizon=2)
    assert actor.end() == 1
    assert "another policy: horizon was 3, is 2." in actor.output
    assert set(left) <= set(lab.waiting_in_outbox())
    assert unknown.isdisjoint(lab.received())


def test_an_episode_that_can_not_be_written_is_kept_until_it_can(lab):
    lab.hold(True)
    lab.learner()
    lab.outbox.mkdir()
    obstacle = lab.outbox / OnlineDataset("one").directory
    obstacle.touch()  # where the dataset's directory has to be
    actor = lab.actor()
    actor.says("could not be written to the outbox")
    actor.says("Sending 1 episodes")
    assert "Episode 2" not in actor.output
    obstacle.unlink()
    actor.says("is in the outbox now")
    lab.hold(False)
    assert actor.end() == 1
    assert len(lab.received()) == 1
    assert lab.waiting_in_outbox() == []


def test_without_room_nothing_is_collected(lab):
    lab.learner()
    lab.outbox.mkdir()
    with (lab.outbox / "large").open("wb") as handle:
        handle.truncate(60_000_000)
    actor = lab.actor("--spool_limit_gb=0.1")
    assert actor.end() == 1
    assert "--spool_limit_gb=0.1 allows no more" in actor.output
    assert "Episode 1:" not in actor.output
    assert lab.received() == []
