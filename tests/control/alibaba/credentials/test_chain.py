"""Which provider of access keys is used."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flowmap.control.alibaba.api.client import ControlClient
from flowmap.control.alibaba.credentials.chain import CredentialsChain
from flowmap.control.http.transport import HttpTransport
from flowmap.errors import AuthError
from flowmap.sandbox.verify import AccessKey
from tests.support.control_clients import NAMESPACE
from tests.support.credentials import (
    CLI,
    ECS,
    ENV,
    INI,
    OIDC,
    PAGES,
    SECRET,
    STS,
    TOKEN,
    URI,
    ScriptedPages,
    chain,
    files,
    get,
)
from tests.support.sandbox import running_sandbox


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
def test_first_provider_that_is_set_up_is_used(tmp_path: Path, order: str, wins: str) -> None:
    given = order.split()
    (tmp_path / "token").write_text("jwt\n")
    oidc = {**OIDC, "OIDC_TOKEN_FILE": str(tmp_path / "token")}
    settings = {"env": ENV, "oidc": oidc, "uri": URI, "ecs": ECS}
    environ = {name: value for part in given for name, value in settings.get(part, {}).items()}
    home = files(tmp_path, ini=INI if "ini" in given else None, cli=CLI if "cli" in given else None)
    web = ScriptedPages(PAGES)
    assert get(chain(home, web=web, **environ)).access_key_id == wins
    if wins in ("env-id", "ini-id", "cli-id"):
        assert web.asked == []


def test_metadata_address_is_off_by_default(tmp_path: Path) -> None:
    for environ, ecs_role in (({}, False), ({**ECS, "ECS_METADATA_DISABLED": "true"}, True)):
        web = ScriptedPages(PAGES)
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
def test_provider_that_fails_is_an_error(tmp_path: Path, environ: dict[str, str], said: str) -> None:
    with pytest.raises(AuthError, match=said) as caught:
        get(chain(tmp_path, web=ScriptedPages(PAGES), ecs_role=True, **environ))
    assert SECRET not in str(caught.value)


def test_a_profile_of_another_kind_needs_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("flowmap.control.alibaba.credentials.vendor.importlib.import_module", missing)
    with pytest.raises(AuthError, match=r"flowmap\[credentials\]"):
        get(chain(files(tmp_path, ini=INI), PROFILE="role"))


def test_changed_file_is_read_after_a_refusal(tmp_path: Path) -> None:
    home = files(tmp_path, ini=INI)
    provider = chain(home)
    old = get(provider)
    assert provider.reject(old) is False
    (home / ".alibabacloud/credentials.ini").write_text(INI.replace("ini-id", "new-id"))
    assert provider.reject(old) is True
    assert get(provider).access_key_id == "new-id"
    (home / ".alibabacloud/credentials.ini").write_text("broken")
    assert provider.reject(get(provider)) is False


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


def test_call_with_the_role_of_the_instance(tmp_path: Path) -> None:
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
