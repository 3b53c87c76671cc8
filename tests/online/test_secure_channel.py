"""Token and TLS between an actor's channel and the learner's server, over real connections."""

import logging
import threading

import pytest
from certificates import make_certificate
from small_data import make_recording
from small_learner import RawActor, SmallLearner

from lerobot_serl.access_token import TOKEN_VARIABLE
from lerobot_serl.online import server as server_module
from lerobot_serl.online.access import Access
from lerobot_serl.online.server import LearnerServer
from lerobot_serl.policy.parts import OnlineConfig
from lerobot_serl.secure_channel import open_channel

TOKEN = "a-token-of-more-than-16-letters"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(server_module, "POLL_S", 0.05)
    monkeypatch.setattr(server_module, "GOODBYE_S", 0.1)
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    return str(file)


def test_the_token_opens_every_call_and_nothing_else_does(token_file, caplog):
    with SmallLearner(access=Access.of(OnlineConfig(token_file=token_file))) as learner:
        with RawActor(learner.address, token=TOKEN) as actor:
            actor.ready()
            assert actor.weights()
            assert learner.received == [actor.send_recording(make_recording())]
        for token in (None, "wrong-token-of-some-length"):
            with RawActor(learner.address, "stranger", token=token) as stranger:
                calls = (stranger.ready, stranger.weights, lambda stranger=stranger: stranger.send_recording(make_recording()))
                for call in calls:
                    code, details = stranger.status_of(call)
                    assert code == "UNAUTHENTICATED"
                    assert TOKEN not in details
        assert len(learner.received) == 1
    assert "Refused ipv4:127.0.0.1:" in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("authority", [True, False])
def test_tls_with_the_users_certificate(tmp_path, token_file, authority):
    pair = make_certificate(tmp_path, authority=authority)
    online = OnlineConfig(token_file=token_file, certificate=str(pair.certificate), certificate_key=str(pair.key))
    other = make_certificate(tmp_path, "other").certificate
    with SmallLearner(access=Access.of(online)) as learner:
        with RawActor(learner.address, token=TOKEN, certificate=pair.certificate) as actor:
            actor.ready()
            assert actor.weights()
            actor.send_recording(make_recording(90_000, "truncated"))
            assert len(learner.received) == 1
        with RawActor(learner.address, token=TOKEN, certificate=other) as deceived:
            code, _ = deceived.status_of(lambda: deceived.ready(3))
            assert code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        with RawActor(learner.address, token=TOKEN) as plain:
            assert plain.status_of(lambda: plain.ready(3))[0] in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


def test_a_certificate_for_another_host_is_not_trusted(tmp_path):
    pair = make_certificate(tmp_path, host="192.0.2.7")
    with (
        SmallLearner(access=Access.of(OnlineConfig(certificate=str(pair.certificate), certificate_key=str(pair.key)))) as learner,
        RawActor(learner.address, certificate=pair.certificate) as actor,
    ):
        assert actor.status_of(lambda: actor.ready(3))[0] in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


def test_what_is_wrong_with_a_certificate_is_said_before_anything_starts(tmp_path):
    expired = make_certificate(tmp_path, days=(-9, -2))
    with pytest.raises(ValueError, match="has expired"):
        Access.of(OnlineConfig(certificate=str(expired.certificate), certificate_key=str(expired.key)))
    with pytest.raises(ValueError, match="has expired"):
        open_channel("127.0.0.1:1", None, expired.certificate)
    with pytest.raises(OSError, match=r"^certificate .*absent cannot be read"):
        Access.of(OnlineConfig(certificate=str(tmp_path / "absent"), certificate_key=str(expired.key)))
    with pytest.raises(OSError, match=r"^certificate .*absent cannot be read"):
        open_channel("127.0.0.1:1", None, tmp_path / "absent")


def test_other_machines_need_a_token_and_are_warned_of_clear_text(tmp_path, token_file, monkeypatch, caplog):
    with pytest.raises(ValueError, match=rf"'0.0.0.0'.*--policy.online.token_file.*{TOKEN_VARIABLE}"):
        Access.of(OnlineConfig(host="0.0.0.0"))
    with pytest.raises(ValueError, match=r"'0.0.0.0'.*--policy.online.token_file"):
        LearnerServer("0.0.0.0", 0, None, None, None)
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    with caplog.at_level(logging.WARNING):
        assert Access.of(OnlineConfig(host="0.0.0.0")).token == TOKEN
        assert "in clear" in caplog.text
        caplog.clear()
        pair = make_certificate(tmp_path)
        Access.of(OnlineConfig(host="0.0.0.0", certificate=str(pair.certificate), certificate_key=str(pair.key)))
        assert Access.of(OnlineConfig(token_file=token_file)).token == TOKEN
        assert not caplog.records


def test_a_learner_that_comes_back_is_noticed_within_the_back_off(tmp_path):
    learner = SmallLearner()
    with RawActor(learner.address) as actor:
        with learner:
            actor.ready()
        assert actor.status_of(lambda: actor.ready(2))[0] in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        again = SmallLearner()
        host, _, port = learner.address.rpartition(":")
        again.server = LearnerServer(host, int(port), again.publisher, again.receive, lambda: None)
        with again:
            back = threading.Event()
            while not back.wait(0.1):
                if actor.status_of(lambda: actor.ready(2))[0] == "OK":
                    back.set()
