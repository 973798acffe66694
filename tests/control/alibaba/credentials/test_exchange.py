"""Exchanges that get temporary keys."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from flowmap.control.alibaba.credentials.exchange import CredentialsUri, EcsRole
from flowmap.errors import AuthError, ConfigError, ControlError, ProtocolError, Transient
from tests.support.control_clients import EPOCH
from tests.support.credentials import OIDC, PAGES, SECRET, STS, TOKEN, ScriptedPages, chain, get


def test_oidc_role_reads_its_token_each_time(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("jwt-1\n")
    web = ScriptedPages(PAGES)
    environ = {**OIDC, "OIDC_TOKEN_FILE": str(token), "STS_REGION": "cn-hangzhou", "VPC_ENDPOINT_ENABLED": "true"}
    provider = chain(tmp_path, web=web, **environ)
    first = get(provider)
    assert (first.security_token, first.expires_at) == (TOKEN, EPOCH + 3600)
    token.write_text("jwt-2\n")
    assert provider.reject(first) is True
    get(provider)
    (_, url, headers), (_, again, _) = web.asked
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert parts.netloc == "sts-vpc.cn-hangzhou.aliyuncs.com" and "authorization" not in headers
    assert query["Action"] == "AssumeRoleWithOIDC" and query["OIDCToken"] == "jwt-1"
    assert query["Timestamp"] == "2026-01-01T00:00:00Z" and query["RoleSessionName"] == "flowmap"
    assert "jwt-2" in again


def test_role_of_the_instance() -> None:
    pages = {**PAGES, "GET /latest/meta-data/ram/security-credentials/": b"my-role\n"}
    web = ScriptedPages(pages)
    found = asyncio.run(EcsRole(None, transport=web).fetch())
    assert found.access_key_id == "ecs-id"
    assert [headers.get("x-aliyun-ecs-metadata-token") for _, _, headers in web.asked] == [None] + [
        "metadata-token"
    ] * 2


@pytest.mark.parametrize("token", [404, Transient("no"), b"\xff\x00"])
def test_without_a_token_version_1_is_used_if_allowed(token: object) -> None:
    pages = {**PAGES, "PUT /latest/api/token": token}
    assert asyncio.run(EcsRole("my-role", transport=ScriptedPages(pages)).fetch()).access_key_id == "ecs-id"
    with pytest.raises(ControlError):
        asyncio.run(EcsRole("my-role", transport=ScriptedPages(pages), allow_version_1=False).fetch())


BROKEN: list[tuple[object, type[ControlError]]] = [
    (403, AuthError),
    (500, Transient),
    (Transient("down"), Transient),
    (b"", ProtocolError),
    (b"[]", ProtocolError),
    (b"{}", AuthError),
    ({**STS, "Code": "Fail"}, AuthError),
    ({**STS, "AccessKeyId": "\ud800"}, AuthError),
    ({**STS, "Expiration": "soon"}, ProtocolError),
    ({**STS, "Expiration": None}, ProtocolError),
    ({**STS, "AccessKeySecret": 7}, ProtocolError),
    ({**STS, "AccessKeyId": ""}, AuthError),
]


@pytest.mark.parametrize(("page", "error"), BROKEN, ids=str)
def test_broken_answers(page: object, error: type[ControlError]) -> None:
    pages = {**PAGES, "GET /latest/meta-data/ram/security-credentials/my-role": page}
    with pytest.raises(ControlError) as caught:
        asyncio.run(EcsRole("my-role", transport=ScriptedPages(pages)).fetch())
    assert type(caught.value) is error and SECRET not in str(caught.value)


def test_no_role_and_bad_roles() -> None:
    with pytest.raises(AuthError, match="no RAM role"):
        asyncio.run(EcsRole(None, transport=ScriptedPages({})).fetch())
    with pytest.raises(ConfigError, match="role name"):
        EcsRole("../x", transport=ScriptedPages({}))


@pytest.mark.parametrize("uri", ["http://10.0.0.1/x", "ftp://127.0.0.1/x", "x", ""])
def test_a_credentials_uri_is_local_or_secure(uri: str) -> None:
    with pytest.raises(ConfigError, match="credentials URI"):
        CredentialsUri(uri, transport=ScriptedPages({}))
