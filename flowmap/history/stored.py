"""A flow of the past as a question finds it."""

from __future__ import annotations

from dataclasses import dataclass

from flowmap.model.views import Evidence, FlowView


@dataclass(frozen=True, slots=True)
class StoredFlow:
    """One flow of the history, or one connection of the fleet."""

    view: FlowView
    """Deployments have only their names of that time."""
    evidence: tuple[Evidence, ...]
    cause: str
    begun_after: float
    """Earliest possible start in seconds since the epoch; -inf if unknown."""
    sure: bool
    """Whether the flow was certainly open at the moment in question."""
