"""Passwords: bcrypt in threads, what is remembered, and guesses."""

from __future__ import annotations

import asyncio
import logging
import threading

import bcrypt
import pytest

from flowmap.serve.server import passwords
from flowmap.serve.server.passwords import BURST, REFILL, WAITING, PasswordCheck, Passwords
from tests.support.certificates import HASH, PASSWORD


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
