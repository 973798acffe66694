"""Passwords of users, checked with bounded work and without timing differences.

A check is one bcrypt (about 60 ms at cost 10) in a worker thread, one at a time. It takes as long for a user that does
not exist. A correct password is remembered by a keyed digest, so each scrape need not repeat it. A wrong password costs
its client a token; without tokens the client is rejected unchecked.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import Enum

log = logging.getLogger(__name__)

REMEMBERED = 256
"""Maximum number of remembered correct passwords. A user has several after changes of its hash."""
WAITING = 16
"""Checks that may wait; more are rejected."""
BURST = 10
"""Wrong passwords that an address may send at once."""
REFILL = 5.0
"""Seconds until it may send one more."""
ADDRESSES = 4096
"""Addresses whose wrong passwords are remembered."""
QUIET = 60.0
"""Seconds between two lines in the log about wrong passwords."""

_LONGEST = 72  # bytes of a password that bcrypt uses
_NOBODY = "abcdefghijklmnopqrstuu" + "." * 31  # a salt, and a digest that no password has


class PasswordCheck(Enum):
    """The result of a check."""

    RIGHT = "right"
    WRONG = "wrong"
    BUSY = "busy"
    """Not checked: too many checks wait, or this client sent too many wrong passwords."""


class Passwords:
    """The hashes of users, remembered passwords, and tokens of clients. Used in one event loop."""

    def __init__(self, hashes: Mapping[str, str], *, clock: Callable[[], float] = time.monotonic) -> None:
        """``hashes``: bcrypt hashes by user."""
        self._clock = clock
        self._key = os.urandom(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._checking: dict[bytes, asyncio.Task[bool]] = {}
        self._turn = asyncio.Lock()
        self._failures, self._silent_until = 0, 0.0
        self.replace(hashes)

    def replace(self, hashes: Mapping[str, str]) -> None:
        """Replace the users. A remembered password counts only while its hash exists."""
        self._hashes = dict(hashes)
        cost = max((secret[4:6] for secret in hashes.values()), default="10")
        self._nobody = f"$2b${cost}${_NOBODY}"

    async def check(self, user: str, password: str, address: str) -> PasswordCheck:
        """Check the password of a user. ``address`` is the client, for the limit on wrong passwords."""
        known = self._hashes.get(user)
        secret = known if known is not None else self._nobody
        key = self._digest(user, secret, password)
        if known is not None and key in self._right:
            self._right.move_to_end(key)
            return PasswordCheck.RIGHT
        task = self._checking.get(key)
        if task is None:
            if len(self._checking) >= WAITING or not self._take_token(address):
                return PasswordCheck.BUSY
            task = asyncio.create_task(self._verify(key, password, secret, known is not None, address))
            self._checking[key] = task
            task.add_done_callback(lambda _: self._checking.pop(key))
        # Shielded: other requests may wait for the same check.
        return PasswordCheck.RIGHT if await asyncio.shield(task) else PasswordCheck.WRONG

    async def _verify(self, key: bytes, password: str, secret: str, exists: bool, address: str) -> bool:
        async with self._turn:
            same = await asyncio.to_thread(_matches, password, secret)
        if not (same and exists):
            self._note_failure(address)
            return False
        self._give_token_back(address)
        self._right[key] = None
        while len(self._right) > REMEMBERED:
            self._right.popitem(last=False)
        return True

    def _digest(self, *parts: str) -> bytes:
        """A digest of all parts, each after its length, so that other parts never give the same (CVE-2022-46146)."""
        state = hashlib.blake2b(key=self._key, digest_size=32)
        for part in parts:
            data = part.encode("utf-8", "surrogatepass")
            state.update(len(data).to_bytes(8, "big") + data)
        return state.digest()

    def _take_token(self, address: str) -> bool:
        now = self._clock()
        left, since = self._tokens.pop(address, (float(BURST), now))
        left = min(BURST, left + (now - since) / REFILL)
        taken = left >= 1
        self._tokens[address] = (left - taken, now)
        while len(self._tokens) > ADDRESSES:
            self._tokens.popitem(last=False)
        return taken

    def _give_token_back(self, address: str) -> None:
        if address in self._tokens:
            left, since = self._tokens[address]
            self._tokens[address] = (left + 1, since)

    def _note_failure(self, address: str) -> None:
        self._failures += 1
        now = self._clock()
        if now >= self._silent_until:
            log.warning("%d wrong user names or passwords, the last from %s", self._failures, address)
            self._failures, self._silent_until = 0, now + QUIET


def _matches(password: str, secret: str) -> bool:
    import bcrypt  # only needed with users

    try:
        return bcrypt.checkpw(password.encode()[:_LONGEST], secret.encode())
    except ValueError:  # a surrogate, or a password that bcrypt rejects
        return False
