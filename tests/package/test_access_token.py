"""The token: where it comes from, what is one, and which addresses need one."""

import pytest

from lerobot_serl.access_token import TOKEN_VARIABLE, bearer, is_loopback, is_right, read_token, require_token

TOKEN = "a-token-of-more-than-16-letters"


def test_token_comes_from_a_file_or_the_environment(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_token(None, TOKEN_VARIABLE) is None
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert read_token(None, TOKEN_VARIABLE) == TOKEN
    assert read_token(None, "ANOTHER_VARIABLE") is None
    file = tmp_path / "token"
    file.write_text("another-token-of-20-letters\n")
    file.chmod(0o600)
    assert read_token(file, TOKEN_VARIABLE) == "another-token-of-20-letters"
    assert not caplog.records
    file.chmod(0o644)
    read_token(file, TOKEN_VARIABLE)
    assert "chmod 600" in caplog.text
    for bad in ("short", "", "has spaces in its middle", "über-umlauts-are-no-ascii"):
        file.write_text(bad)
        with pytest.raises(ValueError, match=r"token_file .* holds no usable token.*secrets.token_urlsafe"):
            read_token(file, TOKEN_VARIABLE)
    for unreadable in (tmp_path / "absent", tmp_path):
        with pytest.raises(OSError, match=rf"^token_file {unreadable} cannot be read: \w"):
            read_token(unreadable, TOKEN_VARIABLE)


@pytest.mark.parametrize(
    "given", ["", TOKEN, f"bearer {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer \xff", "Bearer \ud800"]
)
def test_only_the_whole_token_is_right(given):
    assert is_right(bearer(TOKEN), TOKEN)
    assert not is_right(given, TOKEN)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.0.2.1", "no.such.host.invalid", "a" * 70 + ".x"])
def test_what_others_can_reach_needs_a_token(host):
    assert not is_loopback(host)
    with pytest.raises(ValueError, match=rf"'{host}' lets other machines dance.*--flag.*{TOKEN_VARIABLE}.*127.0.0.1"):
        require_token(host, None, "dance", "--flag", TOKEN_VARIABLE)
    require_token(host, TOKEN, "dance", "--flag", TOKEN_VARIABLE)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_loopback_needs_none(host):
    assert is_loopback(host)
    require_token(host, None, "dance", "--flag", TOKEN_VARIABLE)
