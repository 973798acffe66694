"""Keys from the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowmap.control.alibaba.credentials.base import StaticCredentials
from flowmap.errors import ConfigError
from tests.support.credentials import SECRET, TOKEN, get


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"access_key_secret": "s", "access_key_secret_file": "f"},
        {"access_key_secret": "s", "security_token": "t", "security_token_file": "f"},
        {"access_key_secret_file": "/nowhere/secret"},
    ],
)
def test_static_keys_are_given_once(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        StaticCredentials("id", **options)


def test_static_keys_from_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    (tmp_path / "token").write_text(f" {TOKEN} \n")
    provider = StaticCredentials(
        "id", access_key_secret_file=tmp_path / "secret", security_token_file=tmp_path / "token"
    )
    first = get(provider)
    assert (first.access_key_secret, first.security_token) == (SECRET, TOKEN)
    assert SECRET not in repr(provider) and SECRET not in repr(first) and TOKEN not in repr(first)
    (tmp_path / "token").write_text("new")
    assert provider.reject(first) is True and get(provider).security_token == "new"
    (tmp_path / "secret").unlink()
    assert provider.reject(get(provider)) is False
    (tmp_path / "binary").write_bytes(b"\xff" + SECRET.encode())
    with pytest.raises(ConfigError) as caught:
        StaticCredentials("id", access_key_secret_file=tmp_path / "binary")
    assert SECRET not in str(caught.value)
