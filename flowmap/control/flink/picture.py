"""The picture of one cluster: the owners of its addresses over time, from readings. Pure; times are monotonic seconds.

A *place* is an endpoint: port 0 stands for the address itself. Its owners are deployments (at addresses of
TaskManagers) and roles (see :class:`flowmap.model.deployment.Role`).

    a reading shows an owner at a place     its tenure begins, or is confirmed up to the start of the reading, but not
                                            beyond the last sign of life of a TaskManager there that runs it
    a later reading does not show it        the tenure ends
    readings fail                           nothing is known from the last good one on
    the first good reading after failures   a JobManager that lost its state lists a TaskManager only once that has
                                            registered again: places that are not listed stay undecided until all
                                            TaskManagers from before are back, or for SETTLE seconds
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from flowmap.model.address import Address, Endpoint
from flowmap.model.deployment import Owner
from flowmap.model.tenure import Holders, Tenure

SETTLE = 60.0
"""Seconds after which an absent TaskManager counts as gone after an outage: without high availability TaskManagers
need 20 to 50 s to register with a new JobManager."""

TENURES = 32
"""Tenures kept of one place; the oldest is dropped first. Flows from before then get no name."""

PLACES = 100_000
"""Places kept, those without a present owner dropped first."""

KEEP = 3600.0
"""Seconds for which a place without a present owner is kept."""


class Facts(NamedTuple):
    """What a reading shows about one owner at one place."""

    alive_at: float
    """Last sign of life of the process there; -inf if none has come yet."""
    begun_at: float = -math.inf
    """Start of the owner's oldest job there."""

    def joined(self, other: Facts) -> Facts:
        """The sum of both: the owner is there twice."""
        return Facts(max(self.alive_at, other.alive_at), min(self.begun_at, other.begun_at))


class Held(NamedTuple):
    """An owner at a place, and the process by which it is there; see :attr:`flowmap.model.tenure.Tenure.process`."""

    owner: Owner
    process: str = ""


Places = Mapping[Endpoint, Mapping[Held, Facts]]


class Reading(NamedTuple):
    """What one reading of a cluster shows, true at an unknown moment between ``asked`` and ``arrived``."""

    asked: float
    arrived: float
    places: Places
    ended: Mapping[Owner, float] = {}
    """When the last job of an owner ended, for owners without a job that has not."""


@dataclass(slots=True)
class _Place:
    present: dict[Held, Tenure] = field(default_factory=dict)
    past: list[Tenure] = field(default_factory=list)


def place(address: Address) -> Endpoint:
    """The place that stands for an address."""
    return Endpoint(address, 0)


class ClusterPicture:
    """The tenures of one cluster's places. Used by one task."""

    def __init__(self) -> None:
        self.first_arrived = math.inf
        self.last_asked = -math.inf
        """Start of the last good reading."""
        self.dropped = 0
        """Places and tenures dropped at a limit."""
        self._places: dict[Endpoint, _Place] = {}
        self._failed = False
        self._missing: set[Endpoint] = set()
        """Places that had an owner before an outage and were not shown since."""
        self._settles_at = -math.inf
        self._settled_until = -math.inf
        """Up to this time a place that no reading shows certainly has no owner."""

    def __len__(self) -> int:
        return len(self._places)

    @property
    def settled(self) -> bool:
        """Whether a place that is not shown has no owner."""
        return not self._missing and not self._failed

    def fail(self) -> None:
        """Note that a reading failed."""
        self._failed = True

    def add(self, reading: Reading) -> None:
        """Fold one reading; readings come in the order of their start."""
        shown = reading.places
        if self._failed:
            self._failed = False
            self._missing = self._absent(shown)
            self._settles_at = reading.arrived + SETTLE
        self._missing.difference_update(shown)
        if self._missing:
            self._missing |= self._absent(shown)
        if reading.arrived >= self._settles_at:
            self._missing.clear()
        for at, owners in shown.items():
            self._show(self._places.setdefault(at, _Place()), owners, reading)
        for at, known in self._places.items():
            absent = known.present.keys() - shown.get(at, {}).keys()
            if absent and (at in shown or not self._missing):
                self._end(known, absent, reading)
        self.first_arrived = min(self.first_arrived, reading.arrived)
        self.last_asked = reading.asked
        if not self._missing:
            self._settled_until = reading.asked
        self._drop(reading.arrived)

    def confirm(self, at: Endpoint, held: Iterable[Held], alive_at: float) -> None:
        """Note a sign of life of the process at a place that holds these owners."""
        known = self._places.get(at)
        if known is None:
            return
        for one in held:
            tenure = known.present.get(one)
            if tenure is not None:
                until = max(tenure.seen_until, min(alive_at, self.last_asked))
                known.present[one] = tenure._replace(seen_until=until)

    def present(self, at: Endpoint) -> Mapping[Held, Tenure]:
        """The owners at a place that the last reading shows."""
        known = self._places.get(at)
        return known.present if known is not None else {}

    def holders(self, at: Endpoint) -> Holders:
        """Everything known about a place."""
        known = self._places.get(at)
        if known is None:
            return Holders((), self.first_arrived, self._settled_until)
        shown = bool(known.present) and at not in self._missing
        until = self.last_asked if shown else self._settled_until
        return Holders((*known.past, *known.present.values()), self.first_arrived, until)

    def _absent(self, shown: Places) -> set[Endpoint]:
        return {at for at, known in self._places.items() if known.present and at not in shown}

    def _show(self, known: _Place, shown: Mapping[Held, Facts], reading: Reading) -> None:
        for held, facts in shown.items():
            confirmed = min(reading.asked, facts.alive_at)
            before = known.present.get(held)
            if before is None:
                known.present[held] = Tenure(
                    held.owner,
                    self.last_asked,
                    reading.arrived,
                    confirmed,
                    begun_at=facts.begun_at,
                    process=held.process,
                )
            else:
                known.present[held] = before._replace(
                    seen_until=max(before.seen_until, confirmed), begun_at=min(before.begun_at, facts.begun_at)
                )

    def _end(self, known: _Place, gone: Iterable[Held], reading: Reading) -> None:
        for held in sorted(gone):
            ended = reading.ended.get(held.owner, math.inf)
            known.past.append(known.present.pop(held)._replace(gone_at=reading.arrived, ended_at=ended))
        self.dropped += max(0, len(known.past) - TENURES)
        del known.past[:-TENURES]

    def _drop(self, now: float) -> None:
        if len(self._places) > PLACES:
            empty = sorted((known.past[-1].gone_at, at) for at, known in self._places.items() if not known.present)
            for _, at in empty[: len(self._places) - PLACES]:
                del self._places[at]
                self.dropped += 1
        gone = [at for at, known in self._places.items() if not known.present and known.past[-1].gone_at < now - KEEP]
        for at in gone:
            del self._places[at]


def merge(parts: Iterable[tuple[Holders, bool]]) -> Holders:
    """Combine the holders of one place in several clusters, each given with whether its JobManager answers now.

    The address of a TaskManager is its own. So a cluster that does not answer matters only for places that no other
    cluster has.
    """
    known = list(parts)
    tenures = tuple(tenure for holders, _ in known for tenure in holders.tenures)
    held = any(up and any(tenure.gone_at == math.inf for tenure in holders.tenures) for holders, up in known)
    counting = [holders for holders, up in known if up or not held or _present(holders)]
    return Holders(
        tenures,
        max((holders.known_from for holders, _ in known), default=math.inf),
        min((holders.known_until for holders in counting), default=-math.inf),
        tuple(one for holders, _ in known for one in holders.local),
    )


def _present(holders: Holders) -> bool:
    return any(tenure.gone_at == math.inf for tenure in holders.tenures)
