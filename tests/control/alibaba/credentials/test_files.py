"""Keys in the files of the vendor's tools."""

from __future__ import annotations

import json
import traceback
from typing import Any

import pytest

from flowmap.control.alibaba.credentials.base import Credentials
from flowmap.control.alibaba.credentials.files import OtherKind, parse_cli, parse_ini
from flowmap.errors import AuthError
from tests.support.credentials import CLI, INI, SECRET, TOKEN


@pytest.mark.parametrize(
    ("profile", "key", "secret", "token"), [(None, "ini-id", SECRET, None), ("sts", "a", "b", "t")]
)
def test_ini(profile: str | None, key: str, secret: str, token: str | None) -> None:
    found = parse_ini(INI, profile=profile, origin="f")
    assert isinstance(found, Credentials)
    assert (found.access_key_id, found.access_key_secret, found.security_token) == (key, secret, token)


@pytest.mark.parametrize(
    ("profile", "key", "secret", "token"), [(None, "cli-id", SECRET, None), ("sts", "a", "b", TOKEN)]
)
def test_cli(profile: str | None, key: str, secret: str, token: str | None) -> None:
    found = parse_cli(json.dumps(CLI), profile=profile, origin="f")
    assert isinstance(found, Credentials)
    assert (found.access_key_id, found.access_key_secret, found.security_token) == (key, secret, token)


def test_missing_profiles_and_other_kinds() -> None:
    assert parse_ini(INI, profile="none", origin="f") is None
    assert parse_cli(json.dumps(CLI), profile="none", origin="f") is None
    assert parse_cli(json.dumps(CLI), profile="new", origin="f") is None
    ini, cli = parse_ini(INI, profile="role", origin="f"), parse_cli(json.dumps(CLI), profile="sso", origin="f")
    assert isinstance(ini, OtherKind) and ini.kind == "ram_role_arn"
    assert isinstance(cli, OtherKind) and cli.kind == "CloudSSO"


@pytest.mark.parametrize(
    ("text", "parse"),
    [
        (f"access_key_secret = {SECRET}", parse_ini),
        (f"[default\n{SECRET}", parse_ini),
        (f"[default]\n{SECRET}\n", parse_ini),
        (f"[default]\naccess_key_secret = {SECRET}\n", parse_ini),
        (f'{{"x": "{SECRET}"', parse_cli),
        (f'["{SECRET}"]', parse_cli),
        (f'{{"profiles": "{SECRET}"}}', parse_cli),
        ('{"profiles": [{"name": "default", "access_key_id": "a"}]}', parse_cli),
        ("[" * 100_000, parse_cli),
    ],
)
def test_broken_files_are_named_and_not_quoted(text: str, parse: Any) -> None:
    with pytest.raises(AuthError) as caught:
        parse(text, profile=None, origin="the-file")
    assert "the-file" in str(caught.value) and SECRET not in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
