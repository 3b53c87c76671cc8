"""Certificates: what is usable, and one clear sentence for what is not."""

import pytest
from certificates import make_certificate

from lerobot_serl.tls import MAX_PEM_BYTES, client_context, server_context


@pytest.mark.parametrize("authority", [True, False])
def test_a_self_signed_certificate_serves_both_sides(tmp_path, authority):
    pair = make_certificate(tmp_path, authority=authority)
    server_context(*pair)
    client_context(pair.certificate)
    client_context(None)


def test_an_expired_certificate_is_named_on_either_side(tmp_path):
    pair = make_certificate(tmp_path, days=(-9, -2))
    with pytest.raises(ValueError, match=r"certificate .*server.pem is not usable: certificate has expired; docs/security.md"):
        server_context(*pair)
    with pytest.raises(ValueError, match=r"server.pem has expired"):
        client_context(pair.certificate)


def test_a_certificate_of_tomorrow_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not yet valid"):
        server_context(*make_certificate(tmp_path, days=(1, 2)))


def test_the_key_has_to_belong_to_the_certificate(tmp_path):
    one, two = make_certificate(tmp_path, "one"), make_certificate(tmp_path, "two")
    with pytest.raises(ValueError, match=r"one.pem with certificate_key .*two.key is not usable: the key belongs to another certificate"):
        server_context(one.certificate, two.key)


def test_what_is_missing_unreadable_or_no_pem_is_named(tmp_path):
    pair = make_certificate(tmp_path)
    for certificate, key, name in (
        (tmp_path / "absent", pair.key, "certificate"),
        (pair.certificate, tmp_path / "absent", "certificate_key"),
    ):
        with pytest.raises(OSError, match=rf"^{name} .*absent cannot be read: No such file"):
            server_context(certificate, key)
    with pytest.raises(OSError, match="cannot be read: Is a directory"):
        client_context(tmp_path)
    text = tmp_path / "text"
    text.write_text("this is no certificate")
    for call in (lambda: server_context(text, pair.key), lambda: server_context(pair.certificate, text), lambda: client_context(text)):
        with pytest.raises(ValueError, match=r"text.* is not usable: .*PEM"):
            call()
    text.write_bytes(bytes(MAX_PEM_BYTES + 1))
    with pytest.raises(ValueError, match="more than"):
        client_context(text)


def test_a_key_with_a_password_does_not_ask_for_it(tmp_path):
    with pytest.raises(ValueError, match="encrypted with a password"):
        server_context(*make_certificate(tmp_path, password=b"secret"))
