"""Who is let in to what, and what guessing costs."""

from __future__ import annotations

import asyncio
import base64
import logging
import threading
from typing import Any

import bcrypt
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.config import HttpConfig
from flowmap.export.exposition import Exposition
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.serve.api.app import build_app
from flowmap.serve.server import passwords
from flowmap.serve.server.access import client_network, is_loopback, read_login
from flowmap.serve.server.passwords import BURST, REFILL, WAITING, PasswordCheck, Passwords
from flowmap.serve.server.web import Web
from tests.support.certificates import HASH, PASSWORD
from tests.support.fake_backend import FakeBackend

USERS = {"prometheus": HASH, "ann": HASH}

# What is configured; then who asks (user, address); then the statuses of a scrape, a query and a health check.
MATRIX: list[tuple[dict[str, Any], str | None, str, tuple[int, int, int]]] = [
    ({}, None, "127.0.0.1", (200, 200, 200)),
    ({}, None, "10.0.0.1", (200, 200, 200)),  # insecure, or reached through TLS without users
    ({"access": {"query": ["loopback"]}}, None, "127.0.0.1", (200, 200, 200)),
    ({"access": {"query": ["loopback"]}}, None, "::1", (200, 200, 200)),
    ({"access": {"query": ["loopback"]}}, None, "::ffff:127.0.0.1", (200, 200, 200)),
    ({"access": {"query": ["loopback"]}}, None, "10.0.0.1", (200, 403, 200)),
    ({"access": {"query": []}}, None, "127.0.0.1", (200, 403, 200)),
    ({"users": USERS}, None, "127.0.0.1", (401, 401, 200)),
    ({"users": USERS}, "ann", "10.0.0.1", (200, 200, 200)),
    ({"users": USERS}, "eve", "10.0.0.1", (401, 401, 200)),
    ({"users": USERS, "access": {"scrape": ["prometheus"], "query": ["ann"]}}, "ann", "10.0.0.1", (403, 200, 200)),
    ({"users": USERS, "access": {"scrape": ["prometheus"], "query": ["ann"]}}, "prometheus", "::1", (200, 403, 200)),
    ({"users": USERS, "access": {"scrape": ["anonymous"]}}, None, "10.0.0.1", (200, 401, 200)),
    ({"users": USERS, "access": {"query": ["loopback", "ann"]}}, None, "127.0.0.1", (401, 200, 200)),
    ({"users": USERS, "access": {"query": ["loopback", "ann"]}}, "prometheus", "10.0.0.1", (200, 403, 200)),
    ({"users": USERS, "access": {"health": ["prometheus"]}}, None, "127.0.0.1", (401, 401, 401)),
    ({"users": USERS, "access": {"health": ["prometheus"]}}, "prometheus", "127.0.0.1", (200, 200, 200)),
]

SCRAPES = ("/metrics",)
QUERIES = ("/", "/api/v1/status", "/api/v1/flows", "/api/v1/deployments/id-1", "/api/v1/peers", "/openapi.json")
HEALTH = ("/-/healthy", "/-/ready")


@pytest.mark.parametrize(("http", "user", "address", "expected"), MATRIX)
def test_who_may_do_what(
    http: dict[str, Any],
    user: str | None,
    address: str,
    expected: tuple[int, int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passwords, "BURST", 1000)

    async def run() -> None:
        web = Web(HttpConfig.model_validate(http))
        app = build_app(FakeBackend(), Exposition(SelfMetrics("test")), web)
        transport = httpx.ASGITransport(app, client=(address, 4))
        login = None if user is None else (user, PASSWORD)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", auth=login) as client:
            for paths, status in zip((SCRAPES, QUERIES, HEALTH), expected, strict=True):
                for path in paths:
                    for method in ("GET", "HEAD"):
                        assert (await client.request(method, path)).status_code == status, path
            # What is not there tells nobody more than what is.
            for path in ("/metrics/", "//metrics", "/METRICS", "/-/healthy/..", "/%6detrics", "/api/v1/nothing"):
                status = (await client.get(httpx.URL("http://localhost").copy_with(raw_path=path.encode()))).status_code
                assert status in {404 if expected[1] == 200 else expected[1], expected[0]}, path
                assert status == expected[0] or path != "/%6detrics"

    asyncio.run(run())


def basic(text: str | bytes) -> str:
    return "Basic " + base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


LOGINS: list[tuple[list[str], tuple[str, str] | None]] = [
    ([basic("ann:secret")], ("ann", "secret")),
    ([basic("ann:a:b:")], ("ann", "a:b:")),
    ([basic(":")], ("", "")),
    ([basic("änn:pä\u202ess")], ("änn", "pä\u202ess")),
    (["basic " + basic("a:b")[6:]], ("a", "b")),
    ([], None),
    ([basic("a:b"), basic("a:b")], None),
    ([basic("no colon")], None),
    ([basic(b"\xff\xfe:x")], None),
    (["Basic"], None),
    (["Basic !!!"], None),
    (["Bearer " + basic("a:b")[6:]], None),
    (["Basic " + "A" * 5000], None),
]


@pytest.mark.parametrize(("headers", "expected"), LOGINS)
def test_logins(headers: list[str], expected: tuple[str, str] | None) -> None:
    assert read_login(headers) == expected


@given(st.lists(st.text(), max_size=2))
def test_any_login_is_read_or_not(headers: list[str]) -> None:
    assert read_login(headers) is None or len(headers) == 1


NETWORKS = [
    ("10.0.0.1", "10.0.0.1"),
    ("::ffff:10.0.0.1", "10.0.0.1"),
    ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
    ("", ""),
    ("unix", "unix"),
]


@pytest.mark.parametrize(("address", "network"), NETWORKS)
def test_what_counts_as_one_client(address: str, network: str) -> None:
    assert client_network(address) == network
    assert not is_loopback(address)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hash of every bcrypt that was really done."""
    done: list[str] = []
    real = bcrypt.checkpw

    def counting(password: bytes, secret: bytes) -> bool:
        assert threading.current_thread() is not threading.main_thread()
        done.append(secret.decode())
        return real(password, secret)

    monkeypatch.setattr(bcrypt, "checkpw", counting)
    return done


def test_a_right_password_costs_one_bcrypt_and_a_stranger_as_much(checks: list[str]) -> None:
    async def run() -> None:
        guard = Passwords({"ann": HASH})
        for _ in range(3):
            assert await guard.check("ann", PASSWORD, "a") is PasswordCheck.RIGHT
        assert checks == [HASH]
        assert await guard.check("eve", PASSWORD, "a") is PasswordCheck.WRONG
        assert [secret[:7] for secret in checks] == [HASH[:7]] * 2
        for _ in range(2):
            assert await guard.check("ann", "wrong", "a") is PasswordCheck.WRONG
        assert len(checks) == 4  # a wrong one is not remembered

    asyncio.run(run())


def test_the_memory_holds_no_password_and_cannot_be_poisoned(checks: list[str]) -> None:
    """CVE-2022-46146: parts joined as they are would make one key of two questions."""

    async def run() -> None:
        guard = Passwords({"ann": HASH, "annb": HASH})
        assert await guard.check("ann", PASSWORD, "a") is PasswordCheck.RIGHT
        assert await guard.check(f"ann{HASH}", PASSWORD, "a") is PasswordCheck.WRONG
        assert await guard.check("", f"ann{HASH}{PASSWORD}", "a") is PasswordCheck.WRONG
        assert await guard.check("annb", PASSWORD[1:], "a") is PasswordCheck.WRONG
        assert PASSWORD not in repr(vars(guard))
        guard.replace({"ann": HASH.replace("$2b$", "$2y$")})  # another hash: the memory does not count
        assert await guard.check("ann", PASSWORD, "a") is PasswordCheck.RIGHT
        assert len(checks) == 5
        guard.replace({})
        assert await guard.check("ann", PASSWORD, "a") is PasswordCheck.WRONG

    asyncio.run(run())


def test_guessing_is_slowed_down_counted_and_told_once(checks: list[str], caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        clock = Clock()
        guard = Passwords({"ann": HASH}, clock=clock)
        found = [await guard.check("ann", f"guess {n}\n\x1b[31m", "10.0.0.1") for n in range(BURST + 5)]
        assert found == [PasswordCheck.WRONG] * BURST + [PasswordCheck.BUSY] * 5
        assert len(checks) == BURST
        # Neither another client nor the right password from a client that is known suffers.
        assert await guard.check("ann", PASSWORD, "10.0.0.2") is PasswordCheck.RIGHT
        assert await guard.check("ann", PASSWORD, "10.0.0.1") is PasswordCheck.RIGHT
        clock.now = REFILL
        assert await guard.check("ann", "guess", "10.0.0.1") is PasswordCheck.WRONG
        assert await guard.check("ann", "guess", "10.0.0.1") is PasswordCheck.BUSY
        clock.now = 3600
        await guard.check("ann", "guess", "10.0.0.1")
        lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert lines == [
            "1 wrong user names or passwords, the last from 10.0.0.1",
            f"{BURST + 1} wrong user names or passwords, the last from 10.0.0.1",
        ]

    asyncio.run(run())


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, checks: list[str]) -> None:
    monkeypatch.setattr(passwords, "ADDRESSES", 8)
    monkeypatch.setattr(passwords, "REMEMBERED", 2)

    async def run() -> None:
        guard = Passwords(dict.fromkeys("abcd", HASH), clock=Clock())
        for _ in range(BURST):
            await guard.check("a", "guess", "10.0.0.0")
        assert await guard.check("a", "guess", "10.0.0.0") is PasswordCheck.BUSY
        for n in range(1, 9):
            await guard.check("a", "guess", f"10.0.0.{n}")
        assert await guard.check("a", "guess", "10.0.0.0") is PasswordCheck.WRONG, "its failures are forgotten"
        for name in "abcd":
            assert await guard.check(name, PASSWORD, "x") is PasswordCheck.RIGHT
        checks.clear()
        for name, hashed in (("d", 0), ("c", 0), ("a", 1)):
            assert await guard.check(name, PASSWORD, "x") is PasswordCheck.RIGHT
            assert len(checks) == hashed, "the last two right passwords are remembered"

    asyncio.run(run())


def test_checks_wait_in_a_short_line_and_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()

    def slow(password: bytes, secret: bytes) -> bool:
        return gate.wait(10)

    monkeypatch.setattr(bcrypt, "checkpw", slow)

    async def run() -> None:
        guard = Passwords({"ann": HASH})
        asked = [asyncio.create_task(guard.check("ann", str(n), str(n))) for n in range(WAITING)]
        same = [asyncio.create_task(guard.check("ann", "0", "many")) for _ in range(50)]
        await asyncio.sleep(0)
        assert await guard.check("ann", "one more", "x") is PasswordCheck.BUSY
        gate.set()
        assert set(await asyncio.gather(*asked, *same)) == {PasswordCheck.RIGHT}

    asyncio.run(run())


ODD = ["", "\0", "x" * 73, "x" * 100_000, "\ud800", "p\0q", "ü" * 50]


@pytest.mark.parametrize("password", ODD)
def test_odd_passwords_are_wrong_and_nothing_else(password: str) -> None:
    async def run() -> None:
        guard = Passwords({"ann": HASH})
        assert await guard.check("ann", password, "a") is PasswordCheck.WRONG
        assert await guard.check("\ud800\0" * 100, password, "a") is PasswordCheck.WRONG

    asyncio.run(run())


def test_a_long_password_counts_as_far_as_bcrypt_looks() -> None:
    long = "0123456789" * 10
    secret = bcrypt.hashpw(long.encode()[:72], bcrypt.gensalt(4)).decode()

    async def run() -> None:
        guard = Passwords({"ann": secret})
        assert await guard.check("ann", long, "a") is PasswordCheck.RIGHT
        assert await guard.check("ann", long[:71], "a") is PasswordCheck.WRONG

    asyncio.run(run())
