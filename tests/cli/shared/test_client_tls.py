"""The commands against a daemon with TLS and users: what they need, and what they say without it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from flowmap.cli import command
from flowmap.config import HttpConfig
from flowmap.export.exposition import Exposition
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.serve.api.app import build_app
from flowmap.serve.server.server import HttpServer
from flowmap.serve.server.web import Web
from tests.support.certificates import HASH, PASSWORD, Authority
from tests.support.fake_backend import FakeBackend
from tests.support.whole_daemon import in_thread


@contextlib.asynccontextmanager
async def serving(http: HttpConfig) -> AsyncIterator[str]:
    """The address of a server."""
    web = Web(http)
    server = HttpServer(build_app(FakeBackend(), Exposition(SelfMetrics("test")), web), "127.0.0.1", 0, web=web)
    await server.start()
    try:
        yield server.address
    finally:
        await server.stop()


def daemon(http: HttpConfig) -> AbstractContextManager[str]:
    """The same in another thread: the commands block."""
    return in_thread(lambda: serving(http))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    directory = tmp_path_factory.mktemp("pki")
    authority = Authority(directory)
    certificate, key = authority.issue("server", "127.0.0.1")
    Authority(directory, "other")
    (directory / "password").write_text(PASSWORD + "\n")
    (directory / "wrong").write_text("wrong\n")
    (directory / "junk").write_text("junk\n")
    http = {"tls": {"cert_file": certificate, "key_file": key}, "users": {"ann": HASH}}
    with daemon(HttpConfig.model_validate(http)) as address:
        yield address, directory


GOOD = {"--ca-file": "ca.pem", "--user": "=ann", "--password-file": "password"}

ROWS: list[tuple[dict[str, str | None], str]] = [
    ({}, ""),
    (
        {"--ca-file": None},
        "certificate not accepted: unable to get local issuer certificate; give the CA with --ca-file",
    ),
    ({"--ca-file": "other.pem"}, "certificate not accepted: "),
    ({"--ca-file": "junk"}, "junk: no certificate or crl found"),
    ({"--ca-file": "nowhere"}, "nowhere: No such file or directory"),
    ({"--cert-file": "junk"}, "--cert-file"),
    ({"--user": None}, "Give a user name and a password. Use --user and --password-file."),
    ({"--password-file": None}, "no password for ann; give --password-file or FLOWMAP_PASSWORD"),
    ({"--user": "=\udcff"}, "the user name or the password is not UTF-8 text"),
    ({"--password-file": "wrong"}, "The user name or the password is wrong. Use --user"),
    ({"--password-file": "nowhere"}, "nowhere: No such file or directory"),
]


@pytest.mark.parametrize(("change", "said"), ROWS)
@pytest.mark.parametrize("way", ["arguments", "environment"])
def test_a_daemon_with_tls_and_users(
    site: tuple[str, Path],
    change: dict[str, str | None],
    said: str,
    way: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, directory = site
    words = ["flows", "-o", "json"]
    given = {"--url": f"=https://{address}", **GOOD, **change}
    for name, value in given.items():
        if value is None:
            continue
        text = value[1:] if value.startswith("=") else str(directory / value)
        if way == "arguments":
            words += [name, text]
        else:
            monkeypatch.setenv(f"FLOWMAP_{name[2:].upper().replace('-', '_')}", text)
    status = command.main(words)
    out, err = capsys.readouterr()
    if said:
        assert (status, out, len(err.splitlines())) == (1, "", 1)
        assert said in err
    else:
        assert (status, err) == (0, "")
        assert '"attributed"' in out
    assert PASSWORD not in err


def test_the_password_itself_in_the_environment(site: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWMAP_PASSWORD", PASSWORD)
    monkeypatch.setenv("FLOWMAP_USER", "ann")
    assert command.main(["flows", "--url", f"https://{site[0]}", "--ca-file", str(site[1] / "ca.pem")]) == 0


def test_the_wrong_scheme_is_told(site: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["flows", "--url", f"http://{site[0]}"]) == 1
    assert "is it https://?" in capsys.readouterr().err
    with daemon(HttpConfig()) as plain:
        assert command.main(["flows", "--url", f"https://{plain}"]) == 1
        assert "this server does not use TLS; is it http://?" in capsys.readouterr().err


def test_a_password_in_the_url_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["flows", "--url", "https://ann:hunter2@127.0.0.1:1"]) == 1
    err = capsys.readouterr().err
    assert "--password-file" in err
    assert "hunter2" not in err


def test_a_daemon_that_wants_a_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", "127.0.0.1")
    shown, shown_key = authority.issue("client", "ann.example")
    tls = {
        "cert_file": certificate,
        "key_file": key,
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": str(authority.file),
    }
    with daemon(HttpConfig.model_validate({"tls": tls})) as address:
        words = ["flows", "--url", f"https://{address}", "--ca-file", str(authority.file)]
        assert command.main(words) == 1
        assert "does it want a certificate (--cert-file, --key-file)?" in capsys.readouterr().err
        assert command.main([*words, "--cert-file", shown, "--key-file", shown_key]) == 0
