"""The truth of a run as its clients recorded it, and which of its flows can be attributed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.ground_truth.modes import MODES
from tests.ground_truth.plan import TCP, UDP, Connect, End, Fate, Plan

PROTOCOLS = {TCP: "tcp", UDP: "udp"}
NOBODY: frozenset[str] = frozenset()


@dataclass(slots=True)
class Connection:
    """One connection that was made. Times are seconds since the epoch."""

    plan: Connect
    called: End
    """The service end as the client called it."""
    end: End
    """The one that answered."""
    possible: frozenset[str]
    """Deployments that had the client's address and talk to the service; the owner is one of them, if there is one."""
    began: float
    """Of one that is older than the daemon: when the daemon was started."""
    older: bool = False
    sent: int = 0
    """Bytes of payload that were handed to the kernel and, of TCP, answered."""
    received: int = 0
    exchanges: int = 0
    """Requests that were sent; of UDP, each is one datagram, and so is its answer."""
    parts: int = 1
    """Flows that the kernel may have seen: of UDP, one more for each pause that outlasted the router's time-out."""
    last_sent: float = 0.0
    """When the client last sent data: its goodbye is no sign that it is still there."""
    ended: float | None = None
    failure: str = ""
    """Why it did not come to what was planned."""

    @property
    def owner(self) -> str | None:
        return self.plan.owner

    @property
    def tuple(self) -> tuple[str, str, int, str, int]:
        """Protocol, client end, and the service end that was called: how the daemon lists it."""
        return PROTOCOLS[self.plan.protocol], self.plan.address, self.plan.port, *self.called


@dataclass(frozen=True, slots=True)
class Change:
    """From ``at`` on ``owners`` have the address."""

    at: float
    address: str
    owners: frozenset[str]
    known: float = float("-inf")
    """From when on every answer shows it; mostly the same instant."""


@dataclass(slots=True)
class Record:
    """Everything a run did."""

    connections: list[Connection] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    blind: list[tuple[float, float]] = field(default_factory=list)
    """When the control plane did not answer as it should."""
    partial: list[tuple[float, float]] = field(default_factory=list)
    """When its answers had parts that could not be read: somebody else may be in those."""
    storms: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Timing:
    """How a run is paced, and how soon a question is asked again and answered where nothing hinders it. Seconds."""

    ttl: float = 2.0
    """``positive_ttl`` and ``negative_ttl``."""
    resync: float = 2.0
    lingers: int = 4
    """How long the router keeps entries of ended connections, and of UDP that is silent."""
    slack: float = 2.5
    """From when a question is due until its answer counts."""
    recovery: float = 12.0
    """The same after the control plane was away: breaker (5 s, then 10 s) and pauses must end first."""

    patience: float = 10.0
    """How long the end of a run waits without news of a pending flow. Whose client vanished before any answer could
    tell who it was waits for as long as the kernel keeps its entry: for days."""

    @property
    def udp_end(self) -> float:
        """From the last datagram until the kernel has given its entry up and said so."""
        return 1.5 * self.lingers + 4.0


QUICK = Timing(ttl=1.0, resync=1.0, lingers=1, recovery=6.0, patience=3.0)
"""For short runs."""


class Knowable:
    """Which flows the rules of time let anybody name, if questions are asked as attribute/README.md says.

    A flow counts as attributable if it has one owner, no other deployment at its address talks to its service, the
    kernel saw it as one flow, and

    - its client sent something after an answer that was asked within its life must have come, or
    - its owner (and each that talked to its service end) was confirmed before it began, under the same circumstances,
      and will be after it ended; or nothing was known of its end before, and the first answer came within ``grace``.

    This is told from the truth alone; what the daemon made of it does not matter.
    """

    def __init__(self, plan: Plan, record: Record, timing: Timing) -> None:
        mode = MODES[plan.mode]
        self._late = {deployment.id for deployment in plan.deployments if deployment.late}
        self._undeclared = {(one.id, service) for one in plan.deployments for service in one.undeclared}
        self._grace = 0.0 if mode.answer_age else plan.grace  # answers are dated too early for that
        began = min((one.began for one in record.connections), default=0.0)
        # Only when a few clients were asked about is it clear that the API names none.
        self._from = began + 3 * timing.ttl + timing.slack if mode.scene == "dataflow" else began
        self._only_alive = mode.source == "sockets"  # what is over before a read sees it is not observed
        self._soon = timing.ttl + timing.slack + mode.answer_age
        self._record = record
        self._timing = timing
        reused = {one.plan.reuses for one in record.connections if one.plan.protocol == UDP}
        self._bursts = {one.plan.number for one in record.connections if one.plan.number in reused}
        self._bursts |= {one.plan.number for one in record.connections if one.plan.protocol == UDP and one.plan.reuses}
        self._blind = [(start, end + timing.recovery) for start, end in record.blind]
        self._blind += [(start - 0.5, start + timing.resync + timing.slack) for start in record.storms]
        self._changes = _by_address(record.changes)
        self._by_client: Mapping[str, list[Connection]] = defaultdict(list)
        self._by_end: Mapping[tuple[int, End], list[Connection]] = defaultdict(list)
        for one in sorted(record.connections, key=lambda each: each.began):
            self._by_client[one.plan.address].append(one)
            self._by_end[one.plan.protocol, one.end].append(one)

    def attributable(self, one: Connection) -> bool:
        """Whether the flow must get the name of its owner."""
        if one.owner is None or len(one.possible) != 1 or one.ended is None or one.failure or one.parts > 1:
            return False
        if one.plan.number in self._bursts or (one.owner, one.plan.service) in self._undeclared:
            return False  # several share one flow of the kernel; no answer names the owner
        if one.began < max(self._from, self._held(one)[0]):
            return False  # its owner was not known yet
        partial = self._record.partial
        if any(start < self.answered_by(one.ended) and self.answered_by(end) > one.began for start, end in partial):
            return False  # the last answer before it, one within it or the first after it may be one of those
        if one.older or self._only_alive or self._seen_alive(one):
            return self._seen_alive(one)
        return self._client_known(one) and self._service_known(one)

    def answered_by(self, instant: float) -> float:
        """When an answer that was asked at ``instant`` or later must have come, where flows of the end are there."""
        normal = self._soon
        by = instant + normal
        for start, end in self._blind:
            if start < by and end > instant:
                by = max(by, end + normal)
        return by

    def _seen_alive(self, one: Connection) -> bool:
        # A full read has to see that the client sends: that is how conntrack tells of it.
        return one.last_sent >= self.answered_by(one.began) + self._timing.resync

    def _client_known(self, one: Connection) -> bool:
        since, until = self._held(one)
        assert one.ended is not None
        ended = one.ended + (self._timing.resync if one.plan.protocol == UDP else 0.0)  # a full read tells the end
        if self.answered_by(ended) > until:
            return False
        earlier = [other for other in self._by_client[one.plan.address] if other.began < one.began]
        if not earlier:
            return self._first_answer_in_grace(one)
        return any(other.began >= since and self.answered_by(other.began) <= one.began for other in earlier)

    def _service_known(self, one: Connection) -> bool:
        earlier = [
            other
            for other in self._by_end[one.plan.protocol, one.end]
            if other.began < one.began and other.owner is not None
        ]
        if not earlier:
            return self._first_answer_in_grace(one)
        since = self._named_since(one.owner)
        return any(other.began >= since and self.answered_by(other.began) <= one.began for other in earlier)

    def _first_answer_in_grace(self, one: Connection) -> bool:
        return self._grace > 0 and not any(
            start < one.began + self._grace and end > one.began for start, end in self._blind
        )

    def _held(self, one: Connection) -> tuple[float, float]:
        """The time around the flow for which its address had the same owners, from when the control plane knew them."""
        since, until = float("-inf"), float("inf")
        for change in self._changes[one.plan.address]:
            if change.at <= one.began:
                since = max(change.at, change.known)
            else:
                return since, change.at
        return since, until

    def _named_since(self, owner: str | None) -> float:
        if owner not in self._late:
            return float("-inf")
        return min(change.at for change in self._record.changes if owner in change.owners)


def _by_address(changes: Iterable[Change]) -> Mapping[str, list[Change]]:
    found: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        found[change.address].append(change)
    return found


def silent(one: Connection) -> bool:
    """Whether its client went away without a word."""
    return one.plan.fate in (Fate.VANISH, Fate.PUSHED)


def summary(connections: Sequence[Connection]) -> str:
    """How many of what, in a line."""
    made = [one for one in connections if not one.failure]
    reused = sum(one.plan.reuses is not None for one in made)
    gone = sum(silent(one) for one in made)
    return f"{len(made)} connections, {gone} of them left without a word, {reused} on a tuple that was used before"
