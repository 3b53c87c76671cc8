"""Lines that Ctrl-C must not cut in two."""

import os
import signal
import threading

import pytest

from lerobot_serl.actor.deferred_signals import SIGNALS, deferred_signals


@pytest.fixture(autouse=True)
def default_handlers():
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_waits_for_the_end_of_the_block(number):
    done = []

    def work():
        with deferred_signals():
            os.kill(os.getpid(), number)
            done.append("whole")
        done.append("after")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["whole"]
    assert all(signal.getsignal(each) is signal.default_int_handler for each in SIGNALS)


def test_a_second_signal_acts_at_once():
    done = []

    def work():
        with deferred_signals():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            done.append("never")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_get_no_signals_anyway():
    done = []

    def work():
        with deferred_signals():
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.default_int_handler]
