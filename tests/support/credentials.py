"""Providers of access keys for tests: scripted web pages, a chain without this machine's environment, keys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flowmap.control.alibaba.credentials.base import Credentials
from flowmap.control.alibaba.credentials.chain import CredentialsChain
from flowmap.control.clock import Clock
from flowmap.control.http.route import Route
from flowmap.control.http.transport_api import HttpReply
from tests.support.control_clients import EPOCH

SECRET = "canary-5e1d"
TOKEN = "canary-token-77"
EXPIRY = "2026-01-01T01:00:00Z"  # an hour after EPOCH

STS = {
    "Code": "Success",
    "AccessKeyId": "STS.1",
    "AccessKeySecret": SECRET,
    "SecurityToken": TOKEN,
    "Expiration": EXPIRY,
}


class ScriptedPages:
    """A transport that answers by path, and remembers what it was asked."""

    def __init__(self, pages: Mapping[str, object]) -> None:
        self.pages = dict(pages)
        self.asked: list[tuple[str, str, Mapping[str, str]]] = []

    async def send(self, method: str, url: str, headers: Mapping[str, str], *, timeout: float) -> HttpReply:
        self.asked.append((method, url, headers))
        page = self.pages.get(f"{method} {urlsplit(url).path}", 404)
        if isinstance(page, Exception):
            raise page
        if isinstance(page, int):
            return HttpReply(page, {}, b"")
        return HttpReply(200, {}, page if isinstance(page, bytes) else json.dumps(page).encode())

    def configure(self, route: Route) -> None:
        raise AssertionError("no test asks for it")

    async def aclose(self) -> None:
        return None


def chain(home: Path, *, web: Any = None, ecs_role: Any = False, **environ: str) -> CredentialsChain:
    return CredentialsChain(
        transport=web or ScriptedPages({}),
        environ={f"ALIBABA_CLOUD_{name}": value for name, value in environ.items()},
        home=home,
        ecs_role=ecs_role,
        clock=Clock(wall=lambda: EPOCH),
    )


def get(provider: Any) -> Credentials:
    result = asyncio.run(provider.get())
    assert isinstance(result, Credentials)
    return result


def files(home: Path, *, ini: str | None = None, cli: object = None) -> Path:
    if ini is not None:
        (home / ".alibabacloud").mkdir()
        (home / ".alibabacloud/credentials.ini").write_text(ini)
    if cli is not None:
        (home / ".aliyun").mkdir()
        (home / ".aliyun/config.json").write_text(json.dumps(cli))
    return home


ENV = {"ACCESS_KEY_ID": "env-id", "ACCESS_KEY_SECRET": "s"}
OIDC = {"ROLE_ARN": "role", "OIDC_PROVIDER_ARN": "provider", "OIDC_TOKEN_FILE": "TOKEN"}
URI = {"CREDENTIALS_URI": "http://127.0.0.1:1/uri"}
ECS = {"ECS_METADATA": "my-role"}
PAGES = {
    "GET /": {"Credentials": {**STS, "AccessKeyId": "oidc-id"}},
    "GET /uri": {**STS, "AccessKeyId": "uri-id"},
    "PUT /latest/api/token": b"metadata-token",
    "GET /latest/meta-data/ram/security-credentials/my-role": {**STS, "AccessKeyId": "ecs-id"},
}

INI = f"""\
[default]
type = access_key
access_key_id = ini-id # the team's
access_key_secret = {SECRET}# no blank before

[sts]
type = sts
access_key_id = a
access_key_secret = b
security_token = t

[role]
type = ram_role_arn
access_key_id = a
access_key_secret = {SECRET}
role_arn = acs:ram::1:role/x

[half]
type = access_key
access_key_id = a
"""

CLI = {
    "current": "mine",
    "profiles": [
        {"name": "mine", "mode": "AK", "access_key_id": "cli-id", "access_key_secret": SECRET, "sts_token": "old"},
        {"name": "sts", "mode": "StsToken", "access_key_id": "a", "access_key_secret": "b", "sts_token": TOKEN},
        {"name": "sso", "mode": "CloudSSO"},
        {"name": "new", "mode": "AK", "access_key_id": "", "access_key_secret": ""},
    ],
}
