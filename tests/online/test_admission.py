"""Which calls get in: token, protocol, names, counts; and who gets out of the way of others."""

import time

import pytest

from lerobot_serl.access_token import bearer
from lerobot_serl.online.admission import MAX_REMEMBERED, Admission
from lerobot_serl.online.limits import ServerLimits
from lerobot_serl.online.sessions import Refused
from lerobot_serl.transport import ACTOR_KEY, PROTOCOL, PROTOCOL_KEY, SESSION_KEY

TOKEN = "a-token-of-more-than-16-letters"
PEER = "ipv4:192.0.2.1:50000"


def metadata(name="arm", session="0" * 32, **changes):
    return {PROTOCOL_KEY: str(PROTOCOL), ACTOR_KEY: name, SESSION_KEY: session} | changes


def refusal(admission, peer, values):
    with pytest.raises(Refused) as caught:
        admission.enter(peer, values)
    return caught.value.code.name, str(caught.value)


@pytest.mark.parametrize("given", [{}, {"authorization": TOKEN}, {"authorization": "Bearer wrong"}, {"authorization": bearer(TOKEN) + " "}])
def test_without_the_token_nothing_else_is_looked_at(given):
    admission = Admission(TOKEN, ServerLimits())
    code, words = refusal(admission, PEER, given)
    assert code == "UNAUTHENTICATED"
    assert TOKEN not in words
    assert "--token_file" in words
    admission.enter(PEER, metadata(authorization=bearer(TOKEN)))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (metadata(**{PROTOCOL_KEY: "1"}), f"learner speaks protocol {PROTOCOL}, this actor process 1: install"),
        ({}, "this actor process none"),
        (metadata(name=""), "actor name ''"),
        (metadata(name="../arm"), "actor name '../arm'"),
        (metadata(name="x" * 65), "1 to 64 letters"),
        (metadata(name="arm\nERROR"), "actor name"),
        (metadata(session="0" * 31), "32 hexadecimal digits"),
        (metadata(session="g" * 32), "32 hexadecimal digits"),
        (metadata(session="0" * 33), "32 hexadecimal digits"),
    ],
)
def test_who_does_not_say_who_it_is_stays_out(values, said):
    code, words = refusal(Admission(None, ServerLimits()), PEER, values)
    assert code == "FAILED_PRECONDITION"
    assert said in words


def test_a_name_belongs_to_one_process():
    admission = Admission(None, ServerLimits(session_s=0.0))
    caller = admission.enter(PEER, metadata())
    code, words = refusal(admission, "ipv4:192.0.2.2:1", metadata(session="1" * 32))
    assert code == "ALREADY_EXISTS"
    assert PEER in words
    admission.leave(caller)
    admission.enter("ipv4:192.0.2.2:1", metadata(session="1" * 32))


def test_calls_are_counted_for_each_connection_and_in_all():
    admission = Admission(None, ServerLimits(calls=5, calls_per_connection=3))
    callers = [admission.enter("a:1", metadata()) for _ in range(3)]
    assert refusal(admission, "a:1", metadata()) == ("RESOURCE_EXHAUSTED", "3 calls of this connection are in progress, which is the limit")
    for _ in range(2):
        admission.enter("b:1", metadata("other"))
    assert "5 calls are in progress" in refusal(admission, "c:1", metadata("third"))[1]
    admission.leave(callers[0])
    admission.enter("c:1", metadata("third"))


def test_refused_calls_take_no_place():
    admission = Admission(None, ServerLimits(calls=2, actors=1))
    admission.enter("a:1", metadata())
    for _ in range(10):
        assert refusal(admission, "b:1", metadata(session="1" * 32))[0] == "ALREADY_EXISTS"
        assert refusal(admission, "b:1", metadata("other"))[0] == "RESOURCE_EXHAUSTED"
    admission.enter("b:1", metadata())
    assert set(admission._calls) == {"a:1", "b:1"}


def test_a_connection_that_sends_rubbish_is_not_listened_to_for_a_while():
    admission = Admission(None, ServerLimits(refusals=3, penalty_s=60.0))
    for _ in range(2):
        admission.unusable("a:1")
    admission.leave(admission.enter("a:1", metadata()))
    admission.unusable("a:1")
    assert "3 unusable messages" in refusal(admission, "a:1", metadata())[1]
    admission.enter("b:1", metadata())  # others do not suffer
    slow = Admission(None, ServerLimits(refusals=2, penalty_s=0.2))
    slow.unusable("a:1")
    time.sleep(0.3)
    slow.unusable("a:1")
    slow.leave(slow.enter("a:1", metadata()))  # two, but not within the time
    short = Admission(None, ServerLimits(refusals=1, penalty_s=0.05))
    short.unusable("a:1")
    time.sleep(0.1)
    short.enter("a:1", metadata())


def test_what_is_remembered_of_strangers_is_bounded():
    admission = Admission(None, ServerLimits())
    for index in range(3 * MAX_REMEMBERED):
        admission.unusable(f"a:{index}")
    assert len(admission._unusable) == MAX_REMEMBERED
