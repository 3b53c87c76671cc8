"""lerobot-serl-report --watch: what a run does at the moment, served to browsers of this machine."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from html.parser import HTMLParser

import pytest
from test_report import write_run

from lerobot_serl.report.csv_appender import CsvAppender
from lerobot_serl.report.metrics_files import EPISODE_COLUMNS, LEARNER_LEADING_COLUMNS, MetricsDirectory
from lerobot_serl.report.now import now_html
from lerobot_serl.report.watch import Watch
from lerobot_serl.scripts.lerobot_serl_report import main


def write_small_run(run_dir, learner=(), **columns):
    """Thirty episodes: the first ten of the base policy alone, then by turns as deployed and exploring; every third fails."""
    files = MetricsDirectory(run_dir)
    with CsvAppender(files.episodes, EPISODE_COLUMNS) as episodes:
        for number in range(30):
            episodes.append({
                "episode": number, "env_steps": 60 * (number + 1), "wall_s": number, "actor": "arm", "phase": "collect" if number < 10 else "actor",
                "success": int(number % 3 != 0), "return": 0.0, "length": 60, "interventions": 0, "takeovers": 0,
                "decided_by": "person", "acted_as": "ACT" if number < 10 else ("deployed", "exploring")[number % 2],
            } | columns)  # fmt: skip
    with CsvAppender(files.learner, (*LEARNER_LEADING_COLUMNS, "lead_steps", "wait_s", "alarms", "rollbacks", "skipped_updates")) as rows:
        row = {"step": 900, "env_steps": 1800, "wall_s": 40, "phase": "actor", "lead_steps": 3, "wait_s": 0.1, "alarms": 0, "rollbacks": 0}
        rows.append(row | {"skipped_updates": 0} | dict(learner))
    files.write_run_info({"name": "serl_sac", "fps": 10})
    return run_dir


def panel(run_dir, **changes):
    return now_html(run_dir, MetricsDirectory(run_dir).load(), **changes)


def tile(html, name):
    """Value and note."""
    (found,) = re.findall(rf"<div><b>([^<]*)</b><span>{re.escape(name)}</span><small>([^<]*)</small></div>", html)
    return tuple(text.replace("\xa0", " ").replace("&nbsp;", " ") for text in found)


def test_the_panel_counts_minutes_and_each_kind_of_success(tmp_path):
    html = panel(write_small_run(tmp_path, interventions=0))
    assert "Practising: edits are learnt" in html
    assert tile(html, "Robot") == ("3.0 min", "30 episodes")
    assert tile(html, "Person") == ("0.0 min", "0 takeovers")
    assert tile(html, "Success as deployed")[0] == "70 %"
    assert tile(html, "Success as deployed")[1].startswith("7 of 10; 95 %: ")
    assert tile(html, "Base policy alone")[1].startswith("6 of 10; 95 %: ")
    assert tile(html, "All practice")[1].startswith("14 of 20; 95 %: ")
    assert tile(html, "Learner") == ("900", "updates; keeps up")
    assert html.count("<i class=") == 20
    assert html.index(">29<") < html.index(">22<")
    assert ">21<" not in html
    assert "alarm" not in html


def test_a_persons_minutes_are_those_in_which_they_acted(tmp_path):
    html = panel(write_small_run(tmp_path, interventions=20, takeovers=2))
    assert tile(html, "Person") == ("1.0 min", "60 takeovers")
    assert tile(html, "Success as deployed") == ("none", "no episode yet")  # help says nothing about the policy


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"lead_steps": 1234}, "updates; 1,234 steps behind the robot"),
        ({"wait_s": 4.0}, "updates; waits for the robot"),
    ],
)
def test_who_waits_for_whom(tmp_path, row, said):
    assert tile(panel(write_small_run(tmp_path, row)), "Learner")[1] == said


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"alarms": 1}, "Once success fell far below"),
        ({"rollbacks": 2}, "2 times the weights were set back"),
        ({"skipped_updates": 1}, "1 update was not made"),
    ],
)
def test_what_needs_a_look_is_an_alarm(tmp_path, row, said):
    assert f'<p class="alarm">{said}' in panel(write_small_run(tmp_path, row))


def test_silence_is_told(tmp_path):
    write_small_run(tmp_path)
    assert "Nothing new" not in panel(tmp_path, now_s=time.time() + 60)
    assert "Nothing new for 5.0 min" in panel(tmp_path, now_s=time.time() + 300)


def test_words_of_a_run_are_not_markup(tmp_path):
    html = panel(write_small_run(tmp_path, decided_by="<script>alert(1)</script>"))
    assert "<script" not in html
    assert "&lt;script&gt;" in html


class Loads(HTMLParser):
    """Addresses that a page makes a browser ask."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "action", "data")]


@pytest.fixture
def served(tmp_path):
    """A watch of a run that has not begun, and what asks it."""
    watch = Watch(tmp_path / "run", "127.0.0.1", 0, 5.0)
    thread = threading.Thread(target=watch.serve)
    thread.start()

    def ask(path="/", host=None, method="GET"):
        request = urllib.request.Request(f"http://127.0.0.1:{watch.port}{path}", method=method)
        if host is not None:
            request.add_unredirected_header("Host", host)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.headers, answer.read().decode()

    yield tmp_path / "run", ask
    watch.close()
    thread.join()


def test_the_page_follows_the_run_from_before_its_beginning(served):
    run_dir, ask = served
    assert "Waiting for the first episode of the run." in ask()[1]
    write_run(run_dir, episodes=80)
    headers, page = ask()
    assert "Waiting" not in page
    assert 'http-equiv="refresh" content="5"' in page
    assert headers["Cache-Control"] == "no-store"
    until = time.monotonic() + 60
    while "Figures of" not in page:
        assert time.monotonic() < until
        time.sleep(0.1)
        page = ask()[1]
    loads = Loads()
    loads.feed(page)
    assert loads.addresses
    assert all(address.startswith("data:image/png;base64,") for address in loads.addresses)
    assert "default-src 'none'" in page
    with MetricsDirectory(run_dir).episodes.open("a") as file:
        file.write("damaged\n")
    assert '<p class="alarm">' in ask()[1]


def test_nothing_else_is_served_and_nobody_asks_under_another_name(served):
    _, ask = served
    for host in ("localhost:8088", "[::1]:1", "localhost"):
        assert "Waiting" in ask("/?again=1", host)[1]
    for path, host, method, status in (
        ("/metrics/run.json", None, "GET", 404), ("/../etc/passwd", None, "GET", 404), ("/", "evil.example:80", "GET", 403),
        ("/", "127.0.0.1.evil.example", "GET", 403), ("/", None, "POST", 501), ("/", None, "DELETE", 501),
    ):  # fmt: skip
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(path, host, method)
        assert refused.value.code == status, (path, host, method)
    assert ask(method="HEAD")[1] == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port=1"], "--host, --port and --every_s go with --watch"),
        (["--watch", "--every_s=0.1"], "--every_s=0.1 must be between 1 and 3600 seconds"),
        (["--watch", "--port=70000"], "--port=70000 is no port number"),
        (["--watch", "--output_dir=x"], "--watch takes RUN_DIR; neither --compare nor --output_dir goes with it"),
    ],
)
def test_flags_that_do_not_go_together_are_a_usage_error(tmp_path, capsys, arguments, said):
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path), *arguments])
    assert said in capsys.readouterr().err


def test_a_port_in_use_is_a_sentence(tmp_path, capsys):
    watch = Watch(tmp_path, "127.0.0.1", 0, 5.0)
    assert main([str(tmp_path), "--watch", f"--port={watch.port}"]) == 1
    watch._server.server_close()
    assert (
        capsys.readouterr().err
        == f"lerobot-serl-report: port {watch.port} of 127.0.0.1: Address already in use. --port=0 takes any that is free.\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_command_serves_until_ctrl_c(tmp_path, host):
    write_small_run(tmp_path / "run")
    command = [
        sys.executable,
        "-m",
        "lerobot_serl.scripts.lerobot_serl_report",
        str(tmp_path / "run"),
        "--watch",
        "--port=0",
        f"--host={host}",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    line = process.stdout.readline()
    port = int(re.match(rf"http://{re.escape(host)}:(\d+)/ shows .* as it goes on. Ctrl-C ends this.", line)[1])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
        assert b"Practising" in answer.read()
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, "")
    assert "Traceback" not in errors
    assert ("Everyone who reaches 0.0.0.0 can read the page" in errors) == (host == "0.0.0.0")
