"""Why a flow has its state, as told to people: everything that was looked at. All values are immutable."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from flowmap.model.address import Endpoint
from flowmap.model.deployment import Owner


class Relation(StrEnum):
    """How an answer lies to a flow's life."""

    BEFORE = "before"
    """It arrived before the flow can have begun."""
    INSIDE = "inside"
    """It was asked after the flow had begun, and arrived while it was known to be open."""
    AFTER = "after"
    """It was asked after the flow was over."""
    UNCERTAIN = "uncertain"
    """It was under way when the flow began or ended, or nobody knows yet that the flow was open when it arrived."""


@dataclass(frozen=True, slots=True)
class ReceivedAnswer:
    """One answer to a question; times are seconds since the epoch."""

    asked_at: float
    answered_at: float
    owners: tuple[Owner, ...]
    relation: Relation
    decisive: bool = False
    """Whether the rule took this one (the last, where it took several)."""


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """One question that matters for a flow, with what came back."""

    shape: str
    workspace: str
    """Empty: that of ``control_plane.workspace``."""
    namespace: str
    source: Endpoint | None
    """srcIp and srcPort; port 0 means none."""
    destination: Endpoint | None
    answers: tuple[ReceivedAnswer, ...]
    """Those that are kept, and the one that the rule took, oldest first."""
    rule: str
    """The rule of time by which an answer counts for the flow; ``unconfirmed`` where none can any more. Empty: nothing
    is decided yet and the next answer will tell, or the decision does not rest on this question."""
    owners: tuple[Owner, ...]
    """Whom it contributes."""
    confirmed_from: float | None = None
    """The range its last answers add up to: the owners are confirmed from here …"""
    confirmed_until: float | None = None
    """… to here."""
    error: str | None = None
    """Why the last try failed, if it did."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When a flow began and ended, as far as it is known; seconds since the epoch, None where nothing is."""

    started_after: float | None
    started_by: float | None
    open_until: float | None
    """It was still open then."""
    client_seen_until: float | None
    """Its client was there then: it sent something, or its socket is on this host."""
    ended_by: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole chain from a flow to its owners."""

    seen_by: tuple[str, ...]
    """Sources: the one that counts it, and one that measures it."""
    orientation: str
    """How it is known which end is the client."""
    client: Endpoint
    """The client end that was asked about."""
    service: Endpoint
    """The service end that was asked about."""
    endpoint_reason: str
    """Why these ends, where NAT changed one; else empty."""
    life: Lifetime
    questions: tuple[AskedQuestion, ...]
    combination: str
    """How what they contribute combines."""
    decided_at: float | None
    jobs: str
    """How the jobs beside the owners were found."""
