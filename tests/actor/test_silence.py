"""The watch over a call in which nothing may be happening any more."""

import threading
import time

from lerobot_serl.actor.call_watchdog import CallWatchdog


class Call:
    """What of a call the watch uses."""

    def __init__(self):
        self.cancelled = threading.Event()

    def cancel(self):
        self.cancelled.set()


def test_parts_that_keep_coming_may_take_as_long_as_they_like():
    call, watch = Call(), CallWatchdog(1.0)

    def slowly():
        for number in range(8):
            time.sleep(0.25)
            yield number

    with watch.of(call) as watched:
        assert watched is call
        assert list(watch.over(slowly(), 1.0)) == list(range(8))
    assert not watch.was_silent
    assert not call.cancelled.is_set()


def test_silence_cancels_the_call_at_the_beginning_and_between_two_parts():
    for before in (0, 3):
        call, watch = Call(), CallWatchdog(0.2)
        with watch.of(call):
            assert list(watch.over(range(before), 0.2)) == list(range(before))
            assert call.cancelled.wait(30)
        assert watch.was_silent


def test_a_call_that_has_ended_is_not_cancelled():
    call, watch = Call(), CallWatchdog(0.3)
    with watch.of(call):
        pass
    assert not call.cancelled.wait(0.6)
    assert not watch.was_silent


def test_one_thing_may_be_given_more_time():
    call, watch = Call(), CallWatchdog(0.2)
    with watch.of(call):
        watch.expect(60.0)
        assert not call.cancelled.wait(0.6)
    assert not watch.was_silent


def test_the_next_thing_may_have_to_come_sooner():
    call, watch = Call(), CallWatchdog(300.0)
    with watch.of(call):
        watch.expect(0.2)
        assert call.cancelled.wait(30)
    assert watch.was_silent
