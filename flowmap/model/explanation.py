"""The explanation of a flow's state: questions, answers and how they combine. All values are immutable."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from flowmap.model.address import Endpoint
from flowmap.model.deployment import Owner


class Relation(StrEnum):
    """The position in time of an answer relative to a flow's life."""

    BEFORE = "before"
    """It arrived before the flow can have begun."""
    INSIDE = "inside"
    """It was asked after the flow had begun, and arrived while the flow was known to be open."""
    AFTER = "after"
    """It was asked after the flow had ended."""
    UNCERTAIN = "uncertain"
    """It was under way when the flow began or ended, or it is not known yet that the flow was open when it arrived."""


@dataclass(frozen=True, slots=True)
class ReceivedAnswer:
    """One answer to a question; times are seconds since the epoch."""

    asked_at: float
    answered_at: float
    owners: tuple[Owner, ...]
    relation: Relation
    decisive: bool = False
    """Whether the judgement is based on this answer (the last one, if on several)."""


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """One question that matters for a flow, with its answers."""

    shape: str
    workspace: str
    """Empty: ``control_plane.workspace``."""
    namespace: str
    source: Endpoint | None
    """srcIp and srcPort; port 0 means none."""
    destination: Endpoint | None
    answers: tuple[ReceivedAnswer, ...]
    """Answers in the cache and the decisive one, oldest first."""
    rule: str
    """The rule of time by which an answer counts for the flow; ``unconfirmed`` if no rule can hold any more. Empty if
    the flow still waits for an answer, or if the decision does not use this question."""
    owners: tuple[Owner, ...]
    """Owners that the question contributes."""
    confirmed_from: float | None = None
    """Start of the newest ownership interval; None if a single answer makes it."""
    confirmed_until: float | None = None
    """End of the newest ownership interval."""
    error: str | None = None
    """Cause of the last failure; None if the last call returned an answer."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When a flow began and ended; seconds since the epoch, None if not known."""

    started_after: float | None
    started_by: float | None
    open_until: float | None
    """Latest instant at which the flow was known to be open."""
    client_seen_until: float | None
    """Latest instant at which the client was known to exist: it sent something, or its socket is on this host."""
    ended_by: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole chain from a flow to its owners."""

    seen_by: tuple[str, ...]
    """The source that counts the flow, and the one that measures its health, if any."""
    orientation: str
    """How it is known which endpoint is the client."""
    client: Endpoint
    """The client endpoint that was asked about."""
    service: Endpoint
    """The service endpoint that was asked about."""
    endpoint_reason: str
    """Why these endpoints were asked about, if NAT changed one; else empty."""
    life: Lifetime
    questions: tuple[AskedQuestion, ...]
    combination: str
    """How the owners of the questions combine."""
    decided_at: float | None
    jobs: str
    """How the jobs beside the owners were selected."""
