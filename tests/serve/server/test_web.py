"""TLS, users and the web configuration: on real sockets, checked by promtool, scraped by a real Prometheus."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import ssl
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from flowmap.config import HttpConfig, Listen
from flowmap.errors import ConfigError
from flowmap.export.exposition import Exposition
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.serve.api.app import build_app
from flowmap.serve.server.server import HttpServer
from flowmap.serve.server.web import Web
from tests.support.certificates import HASH, PASSWORD, Authority
from tests.support.fake_backend import FakeBackend
from tests.support.waiting import until_async


class Site:
    """A running server, its settings and what it counted."""

    def __init__(self, http: HttpConfig) -> None:
        self.metrics = SelfMetrics("test")
        self.web = Web(http, report=self.metrics.set_http_settings)
        app = build_app(FakeBackend(), Exposition(self.metrics), self.web)
        self.server = HttpServer(app, "127.0.0.1", 0, web=self.web, refused=self.metrics.http_refused)

    def refused(self, reason: str) -> int:
        line = next(x for x in self.metrics.text().splitlines() if f'refused_total{{reason="{reason}"}}' in x)
        return int(float(line.split()[-1]))

    @property
    def settings_good(self) -> bool:
        return "flowmap_http_settings_last_reload_successful 1.0" in self.metrics.text()


@contextlib.asynccontextmanager
async def running(**http: Any) -> AsyncIterator[Site]:
    site = Site(HttpConfig(**http))
    await site.server.start()
    try:
        yield site
    finally:
        await site.server.stop()


async def ask(
    site: Site, path: str = "/metrics", login: tuple[str, str] | None = None, verify: ssl.SSLContext | bool = False
) -> httpx.Response:
    async with httpx.AsyncClient(base_url=site.server.url, trust_env=False, verify=verify) as client:
        return await client.get(path, auth=login)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def write_web(directory: Path, **sections: object) -> str:
    (directory / "web.yml").write_text(yaml.safe_dump(sections))
    return str(directory / "web.yml")


def full_web(authority: Authority) -> str:
    """A web configuration with most of what the format has."""
    authority.issue("server", "127.0.0.1", "localhost")
    tls = {
        "cert_file": "server.pem",
        "key_file": "server.key",
        "client_auth_type": "VerifyClientCertIfGiven",
        "client_ca_file": "ca.pem",
        "min_version": "TLS12",
        "cipher_suites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"],
        "prefer_server_cipher_suites": False,
    }
    headers = {"Strict-Transport-Security": "max-age=60", "X-Frame-Options": "sameorigin"}
    return write_web(
        authority.directory,
        tls_server_config=tls,
        http_server_config={"http2": False, "headers": headers},
        basic_auth_users={"prometheus": HASH, "ann": HASH},
    )


needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


@needs_promtool
def test_promtool_reads_the_web_configuration_as_we_do(authority: Authority) -> None:
    file = full_web(authority)
    checked = subprocess.run(["promtool", "check", "web-config", file], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    web = Web(HttpConfig(web_config=file))
    assert web.context is not None
    assert web.passwords is not None
    assert dict(web.headers) == {"strict-transport-security": "max-age=60", "x-frame-options": "sameorigin"}


@needs_promtool
@pytest.mark.parametrize(
    "sections",
    [
        {"tls_server_config": {"cert_file": "none.pem", "key_file": "none.key"}},
        {"tls_server_config": {"cert_file": "server.pem", "key_file": "other.key"}},
        {"basic_auth_users": {"ann": "no hash"}},
        {"tls": {}},
        {"http_server_config": {"headers": {"X-Frame-Options": "maybe"}}},
    ],
)
def test_promtool_refuses_what_we_refuse(authority: Authority, sections: dict[str, object]) -> None:
    authority.issue("server", "localhost")
    authority.issue("other", "localhost")
    file = write_web(authority.directory, **sections)
    assert subprocess.run(["promtool", "check", "web-config", file], capture_output=True).returncode != 0
    with pytest.raises(ConfigError):
        Web(HttpConfig(web_config=file))


def test_tls_users_and_headers(authority: Authority) -> None:
    async def run() -> None:
        async with running(web_config=full_web(authority)) as site:
            assert site.server.url.startswith("https://")
            trusting = authority.trusting()
            good = await ask(site, login=("ann", PASSWORD), verify=trusting)
            assert good.status_code == 200
            assert good.headers["strict-transport-security"] == "max-age=60"
            assert good.headers["x-frame-options"] == "sameorigin"
            assert good.headers["x-content-type-options"] == "nosniff"
            for login in (None, ("ann", "wrong"), ("nobody", PASSWORD), ("", ""), ("ann", PASSWORD + "\0")):
                bad = await ask(site, login=login, verify=trusting)
                assert bad.status_code == 401
                assert bad.headers["www-authenticate"].startswith("Basic ")
                assert "flowmap_" not in bad.text
            assert site.refused("login") == 5
            assert (await ask(site, "/-/healthy", verify=trusting)).status_code == 200
            with pytest.raises(httpx.ConnectError):
                await ask(site, verify=ssl.create_default_context())
            await until_async(lambda: site.refused("handshake") == 1, "a refused handshake")
            host, port = site.server.address.split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")  # plain HTTP to a TLS port
            with contextlib.suppress(ConnectionResetError):
                assert b"HTTP" not in await reader.read()
            writer.close()

    asyncio.run(run())


@pytest.mark.parametrize(("newest", "served"), [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_old_tls_is_refused(authority: Authority, newest: ssl.TLSVersion, served: bool) -> None:
    certificate, key = authority.issue("server", "127.0.0.1")
    client = authority.trusting()
    client.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    client.maximum_version = newest
    client.set_ciphers("ALL:@SECLEVEL=0")

    async def run() -> None:
        async with running(tls={"cert_file": certificate, "key_file": key}) as site:
            try:
                assert (await ask(site, verify=client)).status_code == 200
                assert served
            except httpx.ConnectError:
                assert not served

    asyncio.run(run())


CLIENTS = [
    ("RequireAndVerifyClientCert", (), None, False),
    ("RequireAndVerifyClientCert", (), "client", True),
    ("RequireAndVerifyClientCert", (), "foreign", False),
    ("RequireAndVerifyClientCert", ("prometheus.example",), "client", True),
    ("RequireAndVerifyClientCert", ("other.example",), "client", False),
    ("VerifyClientCertIfGiven", (), None, True),
    ("VerifyClientCertIfGiven", (), "foreign", False),
]


@pytest.mark.parametrize(("kind", "sans", "shown", "served"), CLIENTS)
def test_client_certificates(
    authority: Authority, tmp_path: Path, kind: str, sans: tuple[str, ...], shown: str | None, served: bool
) -> None:
    certificate, key = authority.issue("server", "127.0.0.1")
    authority.issue("client", "prometheus.example")
    Authority(tmp_path, "other-ca").issue("foreign", "prometheus.example")
    verify = authority.trusting()
    if shown is not None:
        verify.load_cert_chain(tmp_path / f"{shown}.pem", tmp_path / f"{shown}.key")
    tls = {
        "cert_file": certificate,
        "key_file": key,
        "client_auth_type": kind,
        "client_ca_file": str(authority.file),
        "client_allowed_sans": sans,
    }

    async def run() -> None:
        async with running(tls=tls) as site:
            try:
                assert (await ask(site, verify=verify)).status_code == 200
                assert served
            except httpx.TransportError:
                assert not served
                await until_async(lambda: site.refused("handshake") + site.refused("certificate") == 1, "a refusal")

    asyncio.run(run())


def other_key(directory: Path) -> None:
    _, key = Authority(directory, "new").issue("another", "x")
    os.replace(key, directory / "server.key")


BROKEN: list[tuple[str, Callable[[Path], object]]] = [
    ("server.pem", lambda path: (path / "server.pem").unlink()),
    ("key", lambda path: (path / "server.key").write_text("no key")),
    ("the key does not belong to the certificate", other_key),
    ("unknown key", lambda path: (path / "web.yml").write_text("tls_server: {}")),
    ("ca.pem", lambda path: (path / "ca.pem").write_text("")),
    ("other hosts", lambda path: (path / "web.yml").write_text("")),
]


@pytest.mark.parametrize(("said", "spoil"), BROKEN, ids=[row[0] for row in BROKEN])
def test_what_cannot_be_used_leaves_the_old_in_force(
    authority: Authority, said: str, spoil: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    trusting = authority.trusting()

    async def run() -> None:
        # As if on an address of the network: the server itself listens where the test says.
        http = {"listen": Listen("0.0.0.0", 0), "web_config": full_web(authority)}
        async with running(**http) as site:
            assert await site.web.refresh()
            spoil(authority.directory)
            assert not await site.web.refresh()
            assert not site.settings_good
            assert (await ask(site, login=("ann", PASSWORD), verify=trusting)).status_code == 200
            logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
            assert len(logged) == 1
            assert said in logged[0]
            await site.web.refresh()
            assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1
            full_web(authority)
            Authority(authority.directory)
            assert await site.web.refresh()
            assert site.settings_good

    asyncio.run(run())


def test_certificates_and_users_rotate_while_it_runs(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowmap.serve.server.web.LOOK_EVERY", 0.05)
    trusting = authority.trusting()

    async def serial(site: Site) -> bytes:
        host, port = site.server.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=trusting)
        der: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return der

    async def run() -> None:
        file = full_web(authority)
        async with running(web_config=file) as site:
            base = {"base_url": site.server.url, "trust_env": False, "verify": trusting}
            async with httpx.AsyncClient(**base) as kept:  # type: ignore[arg-type]
                before = await serial(site)
                assert (await kept.get("/metrics", auth=("ann", PASSWORD))).status_code == 200
                authority.issue("server", "127.0.0.1")

                async def changed() -> bool:
                    return await serial(site) != before

                await until_async(changed, "the new certificate is served")
                assert (await kept.get("/metrics", auth=("ann", PASSWORD))).status_code == 200
                content = yaml.safe_load(Path(file).read_text())
                del content["basic_auth_users"]["ann"]
                write_web(authority.directory, **content)

                async def shut_out() -> bool:
                    return (await kept.get("/metrics", auth=("ann", PASSWORD))).status_code == 401

                await until_async(shut_out, "the old password is refused")
                assert (await kept.get("/metrics", auth=("prometheus", PASSWORD))).status_code == 200

    asyncio.run(run())


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_a_real_prometheus_scrapes_with_tls_and_a_password(authority: Authority, tmp_path: Path) -> None:
    async def run() -> None:
        async with running(web_config=full_web(authority)) as site:
            target = {
                "scheme": "https",
                "basic_auth": {"username": "prometheus", "password": PASSWORD},
                "tls_config": {"ca_file": str(authority.file)},
                "static_configs": [{"targets": [site.server.address]}],
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
            }
            jobs = [
                {"job_name": "good", **target},
                {"job_name": "bad", **target, "basic_auth": {"username": "prometheus", "password": "no"}},
            ]
            (tmp_path / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": jobs}))
            await asyncio.to_thread(scrape, tmp_path)

    asyncio.run(run())


def scrape(directory: Path) -> None:
    """Run Prometheus until it has scraped both jobs."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        *("prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data"),
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError):
                query = f"http://127.0.0.1:{port}/api/v1/query?query=up"
                with urllib.request.urlopen(query, timeout=5) as answer:
                    found = httpx.Response(200, content=answer.read()).json()["data"]["result"]
                up = {series["metric"]["job"]: series["value"][1] for series in found}
                if up == {"good": "1", "bad": "0"}:
                    return
            assert time.monotonic() < deadline, "Prometheus did not scrape as it should"
            time.sleep(0.1)
    finally:
        process.terminate()
        process.wait()
