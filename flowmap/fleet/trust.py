"""Which answers of other hosts count for this one, and how its own become answers for others."""

from __future__ import annotations

from flowmap.control.clock import Clock
from flowmap.fleet.answers import Refused, Signer, carries, instants_of
from flowmap.fleet.calling import Made, Value, own_form, shared_form
from flowmap.fleet.requests import FleetScope, Kind, Request
from flowmap.fleet.server.clock import Bounds


class Trust:
    """Signs and verifies for one scope; ``ahead`` is by how much the server's clock is ahead of the monotonic one."""

    def __init__(self, scope: FleetScope, keys: tuple[bytes, ...], grace: float, clock: Clock) -> None:
        self._signer = Signer(scope.identity, keys)
        self._signs = bool(keys)
        self._grace = grace
        self._clock = clock

    def sign(self, question: str, made: Made, ahead: Bounds) -> bytes:
        """The answer for other hosts; empty if there can be none."""
        if not self._signs:
            return b""
        now, wall = self._clock.monotonic(), self._clock.wall()
        return self._signer.encode(question, shared_form(made, ahead, now=now, wall=wall)) or b""

    def read(self, request: Request, question: str, data: bytes, ahead: Bounds) -> Value:
        """Another host's answer, with its instants on this host. Refused if it must not count.

        Where the clocks are more than ``attribute.grace`` apart, somebody may have moved them to make an old answer a
        new one. Such an answer may narrow candidates, but not name an owner.
        """
        shared = self._signer.decode(question, data)
        if not carries(request.kind, shared):
            raise Refused("malformed", "an answer is of another kind")
        now, wall = self._clock.monotonic(), self._clock.wall()
        instants = instants_of(shared, ahead, now=now, wall=wall)
        apart = max(instants.uncertainty, instants.skew)
        if apart > self._grace and request.kind is Kind.OWNERS and not request.narrows:
            raise Refused("clock", f"the clocks of asker, server and this host are {apart:.3f} s apart")
        return own_form(request, shared, instants, epoch=wall - now)
