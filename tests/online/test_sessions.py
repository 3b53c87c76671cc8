"""The registry of actor processes: one life for each name, and no more names than the limit."""

import pytest

from lerobot_serl.online import sessions as sessions_module
from lerobot_serl.online.sessions import Refused, Sessions


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now_s = 100.0

        def monotonic(self):
            return self.now_s

    clock = Clock()
    monkeypatch.setattr(sessions_module, "time", clock)
    return clock


def test_a_second_process_with_the_name_has_to_wait_for_the_end_of_the_first(clock):
    sessions = Sessions(limit=4, silent_s=5.0)
    sessions.enter("arm", "one", "ipv4:192.0.2.1:7")
    sessions.enter("arm", "one", "ipv4:192.0.2.1:8")  # another call of the same process
    clock.now_s += 60  # a call may last: the process is alive
    with pytest.raises(Refused, match=r"'arm' is connected from ipv4:192.0.2.1:8.*another --name.*5 s"):
        sessions.enter("arm", "two", "ipv4:192.0.2.2:7")
    sessions.leave("arm", "one")
    clock.now_s += 4
    with pytest.raises(Refused):
        sessions.enter("arm", "two", "ipv4:192.0.2.2:7")  # the other call still goes on
    sessions.leave("arm", "one")
    clock.now_s += 4.9
    with pytest.raises(Refused):
        sessions.enter("arm", "two", "ipv4:192.0.2.2:7")
    assert sessions.names() == ["arm"]
    clock.now_s += 0.2
    assert sessions.names() == []
    sessions.enter("arm", "two", "ipv4:192.0.2.2:7")
    sessions.leave("arm", "one")  # late news of the first process do not touch the second
    clock.now_s += 60
    with pytest.raises(Refused):
        sessions.enter("arm", "one", "ipv4:192.0.2.1:9")


def test_names_are_bounded_and_silent_ones_make_room(clock):
    sessions = Sessions(limit=3, silent_s=5.0)
    for index in range(3):
        sessions.enter(f"arm{index}", "a", "p")
    with pytest.raises(Refused, match="3 actor processes are connected"):
        sessions.enter("arm3", "a", "p")
    sessions.enter("arm0", "a", "p")  # who is in stays in
    sessions.leave("arm1", "a")
    clock.now_s += 6
    sessions.enter("arm3", "a", "p")
    assert sessions.names() == ["arm0", "arm2", "arm3"]
    for _ in range(10_000):
        sessions.leave("arm3", "a")
        clock.now_s += 6
        sessions.enter("arm3", "a", "p")
    assert len(sessions._by_name) <= 3
