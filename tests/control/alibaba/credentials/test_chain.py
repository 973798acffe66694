"""Where keys come from: files, environment, exchanges, and how temporary ones stay fresh."""

from __future__ import annotations

import asyncio
import json
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from flowmap.control.alibaba.api.client import ControlClient
from flowmap.control.alibaba.credentials.base import Credentials, StaticCredentials
from flowmap.control.alibaba.credentials.chain import CredentialsChain
from flowmap.control.alibaba.credentials.exchange import CredentialsUri, EcsRole
from flowmap.control.alibaba.credentials.files import OtherKind, parse_cli, parse_ini
from flowmap.control.alibaba.credentials.refreshing import AGAIN_AFTER, AHEAD, RefreshingCredentials
from flowmap.control.alibaba.credentials.vendor import VendorExchange
from flowmap.control.alibaba.http.refusals import HttpReply
from flowmap.control.alibaba.http.route import Route
from flowmap.control.alibaba.http.transport import HttpTransport
from flowmap.control.clock import Clock
from flowmap.errors import AuthError, ConfigError, ControlError, ProtocolError, Transient
from flowmap.sandbox.running import running_sandbox
from flowmap.sandbox.verify import AccessKey
from tests.support.control_clients import EPOCH, NAMESPACE

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


class Web:
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
        transport=web or Web({}),
        environ={f"ALIBABA_CLOUD_{name}": value for name, value in environ.items()},
        home=home,
        ecs_role=ecs_role,
        clock=Clock(wall=lambda: EPOCH),
    )


def get(provider: Any) -> Credentials:
    result = asyncio.run(provider.get())
    assert isinstance(result, Credentials)
    return result


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


def test_profiles_that_are_not_there_or_of_another_kind() -> None:
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
WEB = {
    "GET /": {"Credentials": {**STS, "AccessKeyId": "oidc-id"}},
    "GET /uri": {**STS, "AccessKeyId": "uri-id"},
    "PUT /latest/api/token": b"metadata-token",
    "GET /latest/meta-data/ram/security-credentials/my-role": {**STS, "AccessKeyId": "ecs-id"},
}


@pytest.mark.parametrize(
    ("order", "wins"),
    [
        ("env ini cli oidc uri ecs", "env-id"),
        ("ini cli oidc uri ecs", "ini-id"),
        ("cli oidc uri ecs", "cli-id"),
        ("oidc uri ecs", "oidc-id"),
        ("uri ecs", "uri-id"),
        ("ecs", "ecs-id"),
    ],
)
def test_the_first_that_is_set_up_serves(tmp_path: Path, order: str, wins: str) -> None:
    given = order.split()
    (tmp_path / "token").write_text("jwt\n")
    oidc = {**OIDC, "OIDC_TOKEN_FILE": str(tmp_path / "token")}
    settings = {"env": ENV, "oidc": oidc, "uri": URI, "ecs": ECS}
    environ = {name: value for part in given for name, value in settings.get(part, {}).items()}
    home = files(tmp_path, ini=INI if "ini" in given else None, cli=CLI if "cli" in given else None)
    web = Web(WEB)
    assert get(chain(home, web=web, **environ)).access_key_id == wins
    if wins in ("env-id", "ini-id", "cli-id"):
        assert web.asked == []


def test_nothing_is_asked_of_the_metadata_address_unless_switched_on(tmp_path: Path) -> None:
    for environ, ecs_role in (({}, False), ({**ECS, "ECS_METADATA_DISABLED": "true"}, True)):
        web = Web(WEB)
        with pytest.raises(AuthError, match="no credentials"):
            get(chain(tmp_path, web=web, ecs_role=ecs_role, **environ))
        assert web.asked == []


def test_switches(tmp_path: Path) -> None:
    home = files(tmp_path, cli=CLI)
    with pytest.raises(AuthError, match="no credentials"):
        get(chain(home, CLI_PROFILE_DISABLED="true"))
    assert get(chain(home, PROFILE="sts")).security_token == TOKEN
    other = tmp_path / "other.ini"
    other.write_text(INI)
    assert get(chain(home, CREDENTIALS_FILE=str(other))).access_key_id == "ini-id"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"ACCESS_KEY_ID": "x"}, "ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
        ({"ACCESS_KEY_SECRET": SECRET}, "ALIBABA_CLOUD_ACCESS_KEY_ID"),
        ({"ACCESS_KEY_ID": "x", "ACCESS_KEY_SECRET": f"{SECRET}\n"}, "access_key_secret"),
        ({"CREDENTIALS_FILE": "/nowhere/x.ini"}, "/nowhere/x.ini"),
        ({"CREDENTIALS_URI": "http://10.0.0.1/x"}, "credentials URI"),
        ({"ECS_METADATA": "../x"}, "role name"),
        ({"STS_REGION": "a/b", "OIDC_TOKEN_FILE": "f", "ROLE_ARN": "r", "OIDC_PROVIDER_ARN": "p"}, "region"),
        ({"OIDC_TOKEN_FILE": "/nowhere/token", "ROLE_ARN": "r", "OIDC_PROVIDER_ARN": "p"}, "/nowhere/token"),
    ],
)
def test_what_is_set_up_and_does_not_work_is_an_error(tmp_path: Path, environ: dict[str, str], said: str) -> None:
    with pytest.raises(AuthError, match=said) as caught:
        get(chain(tmp_path, web=Web(WEB), ecs_role=True, **environ))
    assert SECRET not in str(caught.value)


def test_a_profile_of_another_kind_needs_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("flowmap.control.alibaba.credentials.vendor.importlib.import_module", missing)
    with pytest.raises(AuthError, match=r"flowmap\[credentials\]"):
        get(chain(files(tmp_path, ini=INI), PROFILE="role"))


def test_a_file_that_changed_serves_after_a_refusal(tmp_path: Path) -> None:
    home = files(tmp_path, ini=INI)
    provider = chain(home)
    old = get(provider)
    assert provider.reject(old) is False
    (home / ".alibabacloud/credentials.ini").write_text(INI.replace("ini-id", "new-id"))
    assert provider.reject(old) is True
    assert get(provider).access_key_id == "new-id"
    (home / ".alibabacloud/credentials.ini").write_text("broken")
    assert provider.reject(get(provider)) is False


def test_oidc_asks_unsigned_with_the_token_of_now(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("jwt-1\n")
    web = Web(WEB)
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


def test_the_instance_role_is_asked_for_by_name_and_with_a_token() -> None:
    pages = {**WEB, "GET /latest/meta-data/ram/security-credentials/": b"my-role\n"}
    web = Web(pages)
    found = asyncio.run(EcsRole(None, transport=web).fetch())
    assert found.access_key_id == "ecs-id"
    assert [headers.get("x-aliyun-ecs-metadata-token") for _, _, headers in web.asked] == [None] + [
        "metadata-token"
    ] * 2


@pytest.mark.parametrize("token", [404, Transient("no"), b"\xff\x00"])
def test_without_a_token_version_1_is_used_if_allowed(token: object) -> None:
    pages = {**WEB, "PUT /latest/api/token": token}
    assert asyncio.run(EcsRole("my-role", transport=Web(pages)).fetch()).access_key_id == "ecs-id"
    with pytest.raises(ControlError):
        asyncio.run(EcsRole("my-role", transport=Web(pages), allow_version_1=False).fetch())


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
    pages = {**WEB, "GET /latest/meta-data/ram/security-credentials/my-role": page}
    with pytest.raises(ControlError) as caught:
        asyncio.run(EcsRole("my-role", transport=Web(pages)).fetch())
    assert type(caught.value) is error and SECRET not in str(caught.value)


def test_no_role_and_bad_roles() -> None:
    with pytest.raises(AuthError, match="no RAM role"):
        asyncio.run(EcsRole(None, transport=Web({})).fetch())
    with pytest.raises(ConfigError, match="role name"):
        EcsRole("../x", transport=Web({}))


@pytest.mark.parametrize("uri", ["http://10.0.0.1/x", "ftp://127.0.0.1/x", "x", ""])
def test_a_credentials_uri_is_local_or_secure(uri: str) -> None:
    with pytest.raises(ConfigError, match="credentials URI"):
        CredentialsUri(uri, transport=Web({}))


class Mint:
    """An exchange that gives numbered keys, and a clock."""

    def __init__(self, life: float = 3600.0) -> None:
        self.now = EPOCH
        self.life = life
        self.fetched = 0
        self.failing = False

    async def fetch(self) -> Credentials:
        self.fetched += 1
        await asyncio.sleep(0)
        if self.failing:
            raise Transient("down")
        return Credentials(f"k{self.fetched}", "s", "t", self.now + self.life)

    def provider(self, chance: float = 0.0) -> RefreshingCredentials:
        return RefreshingCredentials(self, clock=Clock(wall=lambda: self.now, chance=lambda: chance))


def test_one_refresh_at_a_time() -> None:
    mint = Mint()
    provider = mint.provider()

    async def many() -> list[Credentials]:
        return await asyncio.gather(*(provider.get() for _ in range(20)))

    assert {found.access_key_id for found in asyncio.run(many())} == {"k1"}
    assert mint.fetched == 1


def test_keys_are_renewed_ahead_of_their_expiry() -> None:
    mint = Mint()
    provider = mint.provider()
    assert get(provider).access_key_id == "k1"
    mint.now += 3600 - AHEAD - 1
    assert get(provider).access_key_id == "k1"
    mint.now += 1
    assert get(provider).access_key_id == "k2"


def test_old_keys_serve_while_they_are_valid_and_a_refresh_fails() -> None:
    mint = Mint()
    provider = mint.provider()
    get(provider)
    mint.failing = True
    mint.now += 3600 - AHEAD
    assert [get(provider).access_key_id for _ in range(5)] == ["k1"] * 5
    assert mint.fetched == 2  # not asked again at once
    mint.now += AGAIN_AFTER
    assert get(provider).access_key_id == "k1" and mint.fetched == 3
    mint.now = EPOCH + 3600
    with pytest.raises(Transient):
        get(provider)


def test_keys_with_a_short_life_are_not_renewed_at_once() -> None:
    mint = Mint(life=60)
    provider = mint.provider()
    assert [get(provider).access_key_id for _ in range(3)] == ["k1"] * 3
    mint.now += 30
    assert get(provider).access_key_id == "k2"


def test_refused_keys_are_dropped_but_not_newer_ones() -> None:
    mint = Mint()
    provider = mint.provider()
    old = get(provider)
    assert provider.reject(old) is True
    new = get(provider)
    assert provider.reject(old) is True
    assert get(provider) == new and mint.fetched == 2


def test_the_vendor_library_is_asked_and_its_errors_are_not_quoted() -> None:
    class Keys:
        get_access_key_id = staticmethod(lambda: "v-id")
        get_access_key_secret = staticmethod(lambda: SECRET)
        get_security_token = staticmethod(lambda: TOKEN)

    class Provider:
        failing = False

        def get_credentials(self) -> Keys:
            if self.failing:
                raise RuntimeError(f"cannot parse {SECRET}")
            return Keys()

    provider = Provider()
    exchange = VendorExchange(provider, profile="p")
    assert asyncio.run(exchange.fetch()) == Credentials("v-id", SECRET, TOKEN, origin="p")
    provider.failing = True
    with pytest.raises(AuthError, match="RuntimeError") as caught:
        asyncio.run(exchange.fetch())
    assert SECRET not in str(caught.value) and caught.value.__suppress_context__


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


@contextmanager
def metadata_service() -> Iterator[str]:
    """A metadata service on 127.0.0.1 that wants its token."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self._answer(b"tok")

        def do_GET(self) -> None:
            if self.headers["x-aliyun-ecs-metadata-token"] != "tok":
                self.send_error(403)
            else:
                self._answer(b"my-role" if self.path.endswith("/") else json.dumps(ALWAYS).encode())

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


ALWAYS = {**STS, "Expiration": "2099-01-01T00:00:00Z"}


def test_the_whole_way_with_the_role_of_the_instance(tmp_path: Path) -> None:
    async def ask(url: str, metadata: str) -> int:
        transport = HttpTransport()
        provider = CredentialsChain(transport=transport, environ={}, home=tmp_path, ecs_role=True, metadata=metadata)
        async with ControlClient(
            endpoint=url, workspace="sandbox", credentials=provider, transport=transport
        ) as client:
            answer = await client.get_deployments_by_ip(namespace=NAMESPACE, dst_ip="127.0.2.1", dst_port=9092)
        return len(answer.deployments)

    with metadata_service() as metadata, running_sandbox(keys={"STS.1": AccessKey(SECRET, TOKEN)}) as sandbox:
        assert asyncio.run(ask(sandbox.url, metadata)) == 3
