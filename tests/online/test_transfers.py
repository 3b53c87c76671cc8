"""Slow transfers are ended, stalled ones make room, honest ones are left alone."""

import threading
import time

import pytest

from lerobot_serl.online.transfers import Transfers


@pytest.fixture
def make():
    made = []

    def make(limit=2, grace_s=60.0, bytes_per_s=1000.0, stalled_s=60.0):
        made.append(Transfers(limit, grace_s, bytes_per_s, stalled_s))
        made[-1].start()
        return made[-1]

    yield make
    for transfers in made:
        transfers.close()


def test_a_transfer_that_does_not_move_is_cut(make):
    ended = threading.Event()
    transfer = make(grace_s=0.1).begin(ended.set)
    assert ended.wait(20)
    assert transfer.was_cut


def test_a_trickle_is_cut_and_a_flow_is_not(make):
    transfers = make(grace_s=0.3, bytes_per_s=1000.0)
    trickle, flow = threading.Event(), threading.Event()
    slow, quick = transfers.begin(trickle.set), transfers.begin(flow.set)
    while not trickle.is_set():
        slow.moved(1)
        quick.moved(1000)  # a second more for each
        time.sleep(0.05)
    assert not flow.is_set()
    assert quick.n_bytes % 1000 == 0
    assert transfers.n_bytes() == slow.n_bytes + quick.n_bytes
    transfers.finish(slow)
    assert transfers.n_bytes() == quick.n_bytes


def test_what_has_arrived_is_not_cut_however_long_it_takes_us(make):
    ended = threading.Event()
    transfer = make(limit=1, grace_s=0.05, stalled_s=0.0).begin(ended.set)
    transfer.arrived()
    assert not ended.wait(0.8)
    assert not transfer.is_due


def test_where_all_places_are_taken_the_stillest_makes_room(make):
    transfers = make(limit=2, stalled_s=0.05)
    ended = []
    first, second = (transfers.begin(lambda name=name: ended.append(name)) for name in ("first", "second"))
    time.sleep(0.1)
    second.moved(1)
    assert transfers.begin(lambda: None) is None
    assert ended == ["first"]
    transfers.finish(first)
    transfers.finish(first)  # may be called twice
    assert transfers.begin(lambda: None) is not None


def test_moving_transfers_are_not_driven_out(make):
    transfers = make(limit=1, stalled_s=60.0)
    ended = threading.Event()
    transfers.begin(ended.set)
    assert transfers.begin(lambda: None) is None
    assert not ended.is_set()
