"""Passwords of users, checked so that neither time nor the processor tells or costs more than it must.

A check is one bcrypt (some 60 ms at cost 10), one at a time in a worker thread, whoever asks: a user that does not
exist costs as much as one that does. A password that was right is remembered by a keyed digest, so that Prometheus pays
once. Wrong ones are not: they cost their client tokens instead, and whoever has none left is turned away unchecked.
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
"""Right passwords remembered at most: a user may have used several, before a hash was changed."""
WAITING = 16
"""Checks that may wait for their turn; more are turned away."""
BURST = 10
"""Wrong passwords an address may send at once …"""
REFILL = 5.0
"""… and seconds until it may send one more."""
ADDRESSES = 4096
"""Addresses whose wrong passwords are remembered."""
QUIET = 60.0
"""Seconds between two lines in the log about wrong passwords."""

_LONGEST = 72  # bytes of a password that bcrypt looks at
_NOBODY = "abcdefghijklmnopqrstuu" + "." * 31  # a salt, and a digest nobody knows a password for


class PasswordCheck(Enum):
    """What a check found."""

    RIGHT = "right"
    WRONG = "wrong"
    BUSY = "busy"
    """Not checked: too many checks wait, or this client sent too many wrong passwords."""


class Passwords:
    """The users' hashes, and the memory of what was right and who was wrong. Of one event loop."""

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
        """Other users from now on. What was remembered counts only for a hash that is still there."""
        self._hashes = dict(hashes)
        cost = max((secret[4:6] for secret in hashes.values()), default="10")
        self._nobody = f"$2b${cost}${_NOBODY}"

    async def check(self, user: str, password: str, address: str) -> PasswordCheck:
        """Whether ``user`` has ``password``. ``address`` is the client's, for the limit on wrong ones."""
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
        # Shielded: others may wait for the same check, and what was begun is not undone.
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
        """One of all parts, each with its length in front: two lists of parts never give the same (CVE-2022-46146)."""
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
    import bcrypt  # only where there are users

    try:
        return bcrypt.checkpw(password.encode()[:_LONGEST], secret.encode())
    except ValueError:  # a surrogate, or what this implementation refuses to hash
        return False
