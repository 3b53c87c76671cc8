"""Two processes under one supervisor: small programs in their places, real signals; the real two are in test_commands.py and test_learner.py."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from traps import lay_traps

from lerobot_serl.run import supervisor
from lerobot_serl.run.recipe import Recipe
from lerobot_serl.transport import WAITS_FOR_THE_ROBOT

PATIENCE_S = 300
STUBBORN = """
import pathlib, signal, sys, time
here = pathlib.Path({directory!r})
def stop(number, frame):
    time.sleep({stops_after_s})
    (here / "{name}.ended").write_text("well")
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
(here / "{name}.started").write_text("")
while True:
    time.sleep(0.02)
    {meanwhile}
"""
PROCESSES = multiprocessing.get_context("forkserver")  # what takes seconds to import is imported once
PROCESSES.set_forkserver_preload(["lerobot_serl.run.supervisor"])


def supervise(directory, hangups_ignored):
    """In a process of its own."""
    output = os.open(directory / "output", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ["PYTHONPATH"] = str(directory)
    signal.signal(signal.SIGHUP, signal.SIG_IGN if hangups_ignored else signal.SIG_DFL)
    supervisor.LEARNER, supervisor.ACTOR, supervisor.LOG_PERIOD_S = "stub_learner", "stub_actor", 0.1
    os.chdir(directory / "work")
    sys.exit(supervisor.supervise(Recipe(directory / "run", (), (), "127.0.0.1:1"), directory / "logs"))


class Supervised:
    """A supervisor, with its two programs in ``directory``."""

    def __init__(self, directory, learner="pass", actor="pass", stops_after_s=0.7, hangups_ignored=False):
        self.directory = directory
        (directory / "work").mkdir()
        self.mark = lay_traps(directory / "work")
        for name, meanwhile in (("learner", learner), ("actor", actor)):
            text = STUBBORN.format(directory=str(directory), name=name, stops_after_s=stops_after_s, meanwhile=meanwhile)
            (directory / f"stub_{name}.py").write_text(text)
        self.process = PROCESSES.Process(target=supervise, args=(directory, hangups_ignored))
        self.process.start()

    def wait_for(self, *files):
        deadline = time.monotonic() + PATIENCE_S
        while not all((self.directory / file).exists() for file in files):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def send(self, number):
        os.kill(self.process.pid, number)

    def end(self):
        """Exit code, output, and which of the two programs were asked to end, and did."""
        self.process.join(PATIENCE_S)
        ended = {name for name in ("learner", "actor") if (self.directory / f"{name}.ended").exists()}
        return self.process.exitcode, (self.directory / "output").read_text(), ended


@pytest.fixture(scope="module")
def _imported():
    """Not within the time of the first test."""
    process = PROCESSES.Process(target=os.getpid)
    process.start()
    process.join()


@pytest.fixture
def supervised(tmp_path, _imported):
    started = []

    def start(**settings):
        started.append(Supervised(tmp_path, **settings))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.join()
    subprocess.run(["pkill", "-KILL", "-f", "stub_(learner|actor)"], check=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_presses_ctrl_c_again_and_again_gets_both_ended_well(supervised, number):
    """The second one left the learner behind, for ever."""
    run = supervised()
    run.wait_for("learner.started", "actor.started")
    for _ in range(4):
        run.send(number)
        time.sleep(0.3)
    code, output, ended = run.end()
    assert (code, ended) == (130, {"learner", "actor"})
    assert "Stopping the actor, then the learner" in output
    assert "Already stopping" in output


def test_no_file_in_the_working_directory_is_run(supervised):
    """Both programs import a module of Python's own that lies there too."""
    run = supervised(learner="import secrets; sys.exit(0)", actor="import secrets", stops_after_s=0)
    assert run.end()[0] == 0
    assert not run.mark.exists()


def test_a_lost_terminal_ends_both(supervised):
    """They have sessions of their own, and went on with the arm when nobody saw them."""
    run = supervised(stops_after_s=0)
    run.wait_for("learner.started", "actor.started")
    run.send(signal.SIGHUP)
    code, _, ended = run.end()
    assert (code, ended) == (130, {"learner", "actor"})


def test_under_nohup_both_go_on(supervised):
    run = supervised(stops_after_s=0, hangups_ignored=True)
    run.wait_for("learner.started", "actor.started")
    run.send(signal.SIGHUP)
    time.sleep(1.0)
    assert run.process.is_alive()
    run.send(signal.SIGINT)
    assert run.end()[0] == 130


def test_when_the_actor_is_done_the_learner_uses_up_what_there_is(supervised):
    learner = f'(here / "actor.gone").exists() and (time.sleep(1.0), print("{WAITS_FOR_THE_ROBOT} (9 steps)", flush=True))'
    run = supervised(actor='(here / "actor.gone").write_text(""); sys.exit(0)', learner=learner, stops_after_s=0)
    code, output, ended = run.end()
    assert (code, ended) == (0, {"learner"})
    assert output.index("The actor has ended; the learner goes on") < output.index("The learner has used up what the robot gave it")


def test_a_learner_that_ends_by_itself_afterwards_is_not_disturbed(supervised):
    run = supervised(actor="sys.exit(0)", learner="time.sleep(2); sys.exit(0)")
    code, output, ended = run.end()
    assert (code, ended) == (0, set())
    assert "used up" not in output


def test_the_end_of_the_log_is_shown_of_the_one_that_fails(supervised):
    run = supervised(actor='print("no robot here", flush=True); sys.exit(3)', stops_after_s=0)
    code, output, ended = run.end()
    assert (code, ended) == (1, {"learner"})
    assert "The actor stopped with exit code 3" in output
    assert "no robot here" in output
