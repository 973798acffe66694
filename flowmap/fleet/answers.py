"""Answers on their way between hosts: signed, with their times, and bounded in size.

    answer     form (1 byte), signature (32 bytes), body
    form       "j": JSON, "z": JSON that zlib has compressed
    signature  HMAC-SHA256 of the scope, the question, the form and the body, with the fleet's key

The body carries when the host asked and was answered by its own clock, and by how much the server's clock is ahead of
it, with bounds. The receiver adds the bounds of its own clock. So the instants it gets are as uncertain as both hosts'
exchanges with the server were slow.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from flowmap.control.port import ListedDeployment
from flowmap.fleet.requests import Kind
from flowmap.fleet.server.clock import Bounds
from flowmap.model.deployment import DeploymentInfo, Job

MAX_SIZE = 4 << 20
"""Bytes of one answer; a longer one is not shared."""

COMPRESSED_FROM = 1024
"""Bytes from which on an answer is compressed."""

KEPT = 400.0
"""Seconds: an older answer is not taken. The server keeps answers for a shorter time."""

_SIGNATURE = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class Shared:
    """An answer of the control plane, as it is shared."""

    asked: float
    """Seconds since the epoch by the asker's clock, as is ``answered``."""
    answered: float
    ahead: Bounds
    """Seconds by which the server's clock was ahead of the asker's."""
    owners: tuple[DeploymentInfo, ...] = ()
    deployments: tuple[ListedDeployment, ...] = ()
    jobs: tuple[Job, ...] = ()
    unreadable: int = 0
    gap: str = ""


class Refused(Exception):
    """An answer that must not be used; ``reason`` is a label of ``flowmap_fleet_refused_total``."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


_ADAPTER = TypeAdapter(Shared)


class Signer:
    """Signs and verifies with the keys of a fleet."""

    def __init__(self, scope: str, keys: Sequence[bytes]) -> None:
        """The first of ``keys`` signs, each of them verifies: so a key can be replaced host by host."""
        self._scope = scope.encode()
        self._keys = keys

    def encode(self, question: str, shared: Shared) -> bytes | None:
        """The answer's bytes; None if it is too large to share."""
        body = _ADAPTER.dump_json(shared, exclude_defaults=True)
        if len(body) > MAX_SIZE:
            return None
        form = b"j"
        if len(body) >= COMPRESSED_FROM:
            form, body = b"z", zlib.compress(body, 1)
        return self.seal(question, form, body)

    def seal(self, question: str, form: bytes, body: bytes) -> bytes:
        """Any body in any form, signed."""
        return form + self._signature(self._keys[0], question, form, body) + body

    def decode(self, question: str, data: bytes) -> Shared:
        """The inverse of :meth:`encode`; Refused if a key did not sign exactly this."""
        form, signature, body = data[:1], data[1 : 1 + _SIGNATURE], data[1 + _SIGNATURE :]
        expected = [self._signature(key, question, form, body) for key in self._keys]
        if not any(hmac.compare_digest(signature, one) for one in expected):
            raise Refused("signature", "an answer is not signed with the key of this fleet")
        try:
            if form == b"z":
                unpacked = zlib.decompressobj()
                body = unpacked.decompress(body, MAX_SIZE)
                if unpacked.unconsumed_tail:
                    raise Refused("malformed", "an answer is too large")
            return _ADAPTER.validate_json(body)
        except (ValidationError, zlib.error) as error:
            raise Refused("malformed", f"a signed answer cannot be read: {type(error).__name__}") from error

    def _signature(self, key: bytes, question: str, form: bytes, body: bytes) -> bytes:
        signed = b"\n".join((self._scope, question.encode(), form, body))
        return hmac.new(key, signed, hashlib.sha256).digest()


@dataclass(frozen=True, slots=True)
class Instants:
    """Between which monotonic instants of this host an answer was true, and how well the clocks are known."""

    asked: float
    answered: float
    uncertainty: float
    """Seconds by which the bounds were widened."""
    skew: float
    """Largest difference, in seconds, between the server's clock and that of the asker, or of this host."""


def instants_of(shared: Shared, own_ahead: Bounds, *, now: float, wall: float) -> Instants:
    """The instants of an answer on this host; Refused if they cannot be.

    ``own_ahead``: seconds by which the server's clock is ahead of this host's monotonic clock. ``wall``: this host's
    epoch seconds at the monotonic instant ``now``.
    """
    ahead = shared.ahead
    if ahead.width < 0 or shared.answered < shared.asked:
        raise Refused("time", "the times of an answer contradict each other")
    asked = Bounds(shared.asked, shared.asked).plus(ahead).minus(own_ahead)
    answered = Bounds(shared.answered, shared.answered).plus(ahead).minus(own_ahead)
    if answered.earliest > now:
        raise Refused("time", f"an answer is {answered.earliest - now:.3f} s in the future")
    if now - asked.earliest > KEPT:
        raise Refused("time", f"an answer is {now - asked.earliest:.0f} s old")
    own = own_ahead.plus(Bounds(now - wall, now - wall))
    return Instants(
        asked.earliest,
        min(answered.latest, now),
        asked.width,
        max(abs((ahead.earliest + ahead.latest) / 2), abs((own.earliest + own.latest) / 2)),
    )


def carries(kind: Kind, shared: Shared) -> bool:
    """Whether an answer is of the kind that was asked for."""
    parts = {Kind.OWNERS: shared.owners, Kind.DEPLOYMENTS: shared.deployments, Kind.JOBS: shared.jobs}
    return not any(part for other, part in parts.items() if other is not kind)
