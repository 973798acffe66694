"""The truth of a run beside what the daemon said: who was named rightly, wrongly, or not at all. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowmap.attribute.questions import UNREADABLE
from flowmap.model.address import format_endpoint
from tests.ground_truth.observer import WAYS, Imbalance, Seen, Tuple
from tests.ground_truth.plan import UDP
from tests.ground_truth.truth import PROTOCOLS, Connection

CLOCKS = 0.05
"""Seconds by which a flow may seem to begin before it did: times are rounded, and two clocks are compared."""

Series = tuple[str, str, str]
"""Deployment, peer, protocol."""
Peer = tuple[str, str]
"""Deployment and peer."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A name that is not the owner's."""

    connection: Connection | None
    """None where only the page's counts show it."""
    seen: Seen | None
    what: str


@dataclass(slots=True)
class Verdict:
    """How a run went, flow by flow."""

    flows: int = 0
    right: int = 0
    """Flows with exactly their owner's name."""
    shared: int = 0
    """Flows with a set of deployments that all had the address, the owner among them."""
    wrong: list[Wrong] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    """Flows without a name, by what the daemon last said of them; ``nobody's`` for those that are nobody's."""
    attributable: int = 0
    attributed: int = 0
    """Attributable flows with their owner's name."""
    missed: list[tuple[Connection, Seen | None]] = field(default_factory=list)
    """Attributable flows without it."""
    tied: int = 0
    """Flows that several deployments could have made, as far as answers about one end go."""
    untied: int = 0
    """Of those, the ones with their owner's name."""

    @property
    def share(self) -> float:
        """Attributable flows that were attributed, in percent."""
        return 100.0 * self.attributed / self.attributable if self.attributable else 100.0


def error_in(one: Connection, seen: Seen) -> str:
    """What is wrong with what was said of the connection; empty if nothing is."""
    names = seen.owners - {UNREADABLE}
    if not names:
        return ""
    if one.owner is None:
        return f"it is nobody's, and was said to be of {_list(names)}"
    if one.owner not in seen.owners:
        return f"it is of {one.owner}, and was said to be of {_list(names)}"
    if not names <= one.possible:
        return f"it is of {one.owner}; {_list(names - one.possible)} had nothing to do with it"
    return ""


def matched(connections: Sequence[Connection], seen: Mapping[Tuple, Sequence[Seen]]) -> dict[int, list[Seen]]:
    """What was said of each connection, by its number. A listed flow is the last one of its tuple that had begun."""
    by_tuple: dict[Tuple, list[Connection]] = defaultdict(list)
    for one in sorted(connections, key=lambda each: each.began):
        by_tuple[one.tuple].append(one)
    found: dict[int, list[Seen]] = defaultdict(list)
    for key, listings in seen.items():
        for listed in listings:
            began = listed.at if listed.started is None else listed.started + CLOCKS
            candidates = [one for one in by_tuple[key] if one.began <= began]
            if candidates:
                found[candidates[-1].plan.number].append(listed)
    return found


def judge(
    connections: Sequence[Connection],
    attributable: set[int],
    seen: Mapping[Tuple, Sequence[Seen]],
    opened: Mapping[Series, int],
) -> Verdict:
    """``attributable``: numbers of the connections that must be named; ``opened``: connections counted by series."""
    verdict = Verdict()
    said = matched(connections, seen)
    for one in connections:
        listings = said.get(one.plan.number, [])
        verdict.wrong += [Wrong(one, listed, what) for listed in listings if (what := error_in(one, listed))]
        if not one.failure:
            _count(one, listings[-1] if listings else None, one.plan.number in attributable, verdict)
    verdict.wrong += _too_many(connections, opened)
    return verdict


def _too_many(connections: Sequence[Connection], opened: Mapping[Series, int]) -> list[Wrong]:
    """Series on the page with more connections than their deployment made."""
    made: Counter[tuple[str | None, str, str]] = Counter()
    for one in connections:
        made[one.owner, _peer(one), PROTOCOLS[one.plan.protocol]] += one.parts
    return [
        Wrong(None, None, f"{count} connections of {series}, which made {made[series]}")
        for series, count in opened.items()
        if count > made[series]
    ]


def _count(one: Connection, last: Seen | None, must: bool, verdict: Verdict) -> None:
    named = last is not None and last.state == "attributed" and one.owner in last.owners
    shared = last is not None and last.state == "shared" and not error_in(one, last)
    tied = len(one.possible) > 1
    verdict.flows += 1
    verdict.right += named
    verdict.shared += shared
    verdict.tied += tied
    verdict.untied += tied and named
    verdict.attributable += must
    verdict.attributed += must and named
    if must and not named:
        verdict.missed.append((one, last))
    if not named and not shared:
        state = "never listed" if last is None else last.state
        verdict.states["nobody's" if one.owner is None and state == "unknown" else state] += 1


def udp_bytes(connections: Sequence[Connection], header: int) -> Mapping[Peer, tuple[int, int]]:
    """What each deployment's clients sent by UDP, and got at most. ``header``: bytes of a datagram without payload."""
    found: dict[Peer, tuple[int, int]] = {}
    for one in connections:
        if one.plan.protocol == UDP and one.owner is not None:
            up, down = found.get((one.owner, _peer(one)), (0, 0))
            headers = header * one.exchanges
            found[one.owner, _peer(one)] = up + one.sent + headers, down + 2 * one.sent + headers
    return found


def _peer(one: Connection) -> str:
    return format_endpoint(*one.end)


def _list(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes as the daemon counted them, beside the witness."""

    snapshots: int
    imbalances: tuple[Imbalance, ...]
    fallen: tuple[str, ...]
    observed: tuple[int, int]
    witnessed: tuple[int, int]
    named: Mapping[str, tuple[int, int]]
    """By deployment."""
    at_most: Mapping[str, tuple[int, int]]
    """By deployment, what the witness counted at all addresses it ever had."""
    named_udp: Mapping[Peer, tuple[int, int]] = field(default_factory=dict)
    """UDP alone, by deployment and peer."""
    sent_udp: Mapping[Peer, tuple[int, int]] = field(default_factory=dict)
    """What the deployment's clients sent there by UDP, and got; with headers."""

    @property
    def missing(self) -> int:
        """Bytes that were forwarded and never observed."""
        return sum(self.witnessed) - sum(self.observed)

    def faults(self, *, losses_allowed: bool) -> list[str]:
        """What is wrong with them."""
        found = [f"{one.way}: observed {one.observed}, but the parts are {one.parts}" for one in self.imbalances]
        found += [f"a counter fell: {one}" for one in self.fallen]
        for way, observed, witnessed in zip(WAYS, self.observed, self.witnessed, strict=True):
            if observed > witnessed:
                found.append(f"{way}: {observed - witnessed} bytes more than were forwarded")
            elif observed < witnessed and not losses_allowed:
                found.append(f"{way}: {witnessed - observed} bytes were forwarded and not observed")
        for name, counted in self.named.items():
            most = self.at_most.get(name, (0, 0))
            if counted[0] > most[0] or counted[1] > most[1]:
                found.append(f"{name} is said to have moved {counted}, its addresses only moved {most}")
        for (name, peer), counted in self.named_udp.items():
            most = self.sent_udp.get((name, peer), (0, 0))
            if counted[0] > most[0] or counted[1] > most[1]:
                found.append(f"misattributed: {counted} bytes of UDP with {peer} are {name}'s, which moved {most}")
        return found

    @property
    def udp_share(self) -> float:
        """UDP bytes with their deployment's name, of those that deployments moved, in percent."""
        moved = sum(map(sum, self.sent_udp.values()))
        return 100.0 * sum(map(sum, self.named_udp.values())) / moved if moved else 100.0


@dataclass(frozen=True, slots=True)
class Calls:
    """Questions the control plane was asked, beside what they may be."""

    ends: int
    """Client addresses and twice the service endpoints that had flows."""
    allowed: float
    """What the configured rate allows in the time of the run."""
    asked: int
    """Calls with one end, without those that met a fault."""
    ties: int
    """Calls about both endpoints."""
    faulty: int
    """Calls that met a fault."""


def explain(wrong: Wrong, changes: Sequence[Any]) -> dict[str, Any]:
    """What is needed to look into a wrong name."""
    one, seen = wrong.connection, wrong.seen
    if one is None:
        return {"what": wrong.what}
    return {
        "what": wrong.what,
        "connection": {
            "tuple": one.tuple, "end": one.end, "owner": one.owner, "possible": sorted(one.possible),
            "began": one.began, "lastSent": one.last_sent, "ended": one.ended, "fate": one.plan.fate,
            "number": one.plan.number, "reuses": one.plan.reuses, "failure": one.failure,
        },
        "said": seen and {"at": seen.at, **seen.raw},
        "address": [
            {"at": change.at, "owners": sorted(change.owners)}
            for change in changes
            if change.address == one.plan.address
        ],
    }  # fmt: skip
