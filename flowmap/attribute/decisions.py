"""What was decided about flows, and on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from flowmap.attribute.answers import NO_OWNERS, Outcome
from flowmap.attribute.questions import Owners, Place, Question, Semantics, Shape
from flowmap.attribute.view import State
from flowmap.flows.index import Rows

STATES: tuple[State, ...] = (
    State.PENDING,
    State.ATTRIBUTED,
    State.SHARED,
    State.UNKNOWN,
    State.AMBIGUOUS,
    State.FAILED,
)
"""``state`` column of the flow table: the position in this tuple."""
CODE = {state: code for code, state in enumerate(STATES)}


@dataclass(frozen=True, slots=True)
class Decision:
    """Why a group of flows has its owners.

    A decision whose state is ``pending`` is a tie: its owners are the candidates, between which a ``link`` or ``exact``
    question may still tell.
    """

    state: State
    owners: Owners
    outcomes: Mapping[Question, Outcome]
    """What the answers to every question that counted say; :func:`by_shape` joins them."""
    decided_at: float
    cause: str = ""
    special: str = ""
    """Label ``reason`` of the bytes, where there is no owner and the state does not say why."""

    @property
    def reason(self) -> str:
        """Label ``reason`` of the bytes, if they have no owner."""
        return self.special or self.state.value


@dataclass(frozen=True, slots=True)
class Settings:
    """The part of the configuration that attribution needs; times in seconds."""

    namespaces: tuple[str, ...]
    """Of the main workspace."""
    semantics: Semantics = "both"
    confirm: Literal["strict", "fast"] = "strict"
    grace: float = 2.0
    owners_limit: int = 4
    cache_size: int = 100_000
    positive_ttl: float = 60.0
    negative_ttl: float = 30.0
    tie_wait: float = 60.0
    """How long a flow with several candidates stays pending for a question that tells them apart."""
    loopback: bool = True
    """Whether the control plane can know loopback addresses."""
    elsewhere: tuple[Place, ...] = ()
    """Namespaces of other workspaces."""
    places: tuple[Place, ...] = field(init=False)
    """Everywhere that is asked."""

    def __post_init__(self) -> None:
        own = tuple(Place("", namespace) for namespace in self.namespaces)
        object.__setattr__(self, "places", own + self.elsewhere)


def by_shape(outcomes: Mapping[Question, Outcome | None]) -> dict[Shape, Owners | None]:
    """The owners of every shape, all places together; None for a shape of which an answer is missing."""
    joined: dict[Shape, Owners | None] = {}
    for question, outcome in outcomes.items():
        known = joined.get(question.shape, NO_OWNERS)
        joined[question.shape] = None if outcome is None or known is None else known | outcome.owners
    return joined


def joined(decided: Sequence[tuple[Decision, Rows]]) -> list[tuple[State, Owners, str, Rows]]:
    """Rows by what they are credited to, since there can be a decision for every pair of ends; as they are where a row
    was decided twice, for then the order counts."""
    together: dict[tuple[State, Owners, str], list[Rows]] = {}
    for decision, rows in decided:
        together.setdefault((decision.state, decision.owners, decision.reason), []).append(rows)
    if len(together) < len(decided) and _disjoint([rows for _, rows in decided]):
        return [(*what, np.concatenate(parts)) for what, parts in together.items()]
    return [(decision.state, decision.owners, decision.reason, rows) for decision, rows in decided]


def _disjoint(parts: Sequence[Rows]) -> bool:
    every = np.concatenate(parts)
    return len(np.unique(every)) == len(every)
