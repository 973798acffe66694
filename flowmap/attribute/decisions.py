"""Decisions: the state and the owners of a group of flows, and the answers they are based on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flowmap.attribute.answers.timeline import Judgement
from flowmap.attribute.questions import Owners, Question
from flowmap.flows.index.hash_index import Rows
from flowmap.model.deployment import State

STATES: tuple[State, ...] = (
    State.PENDING,
    State.ATTRIBUTED,
    State.SHARED,
    State.UNKNOWN,
    State.AMBIGUOUS,
    State.FAILED,
    State.INTERNAL,
)
"""The ``state`` column of the flow table holds positions in this tuple."""
CODE = {state: code for code, state in enumerate(STATES)}


@dataclass(frozen=True, slots=True)
class Decision:
    """State and owners of a group of flows, with their reasons.

    A decision with state ``pending`` is a tie: its owners are candidates that narrowing may still reduce.
    """

    state: State
    owners: Owners
    outcomes: Mapping[Question, Judgement]
    """The judgement of each question that counted; :func:`combine` joins them."""
    decided_at: float
    cause: str = ""
    special: str = ""
    """Label ``reason`` of the bytes, if there is no owner for another reason than the state."""

    inferred: bool = False
    """Whether the owners follow from the service endpoint alone: see ``inference``."""

    @property
    def reason(self) -> str:
        """Label ``reason`` of the bytes if they have no owner."""
        return self.special or self.state.value


def joined(decided: Sequence[tuple[Decision, Rows]]) -> list[tuple[State, Owners, str, Rows]]:
    """Rows grouped by the series they are credited to: there can be a decision for every pair of endpoints.

    Not grouped if a row was decided twice, since then the order counts.
    """
    together: dict[tuple[State, Owners, str], list[Rows]] = {}
    for decision, rows in decided:
        together.setdefault((decision.state, decision.owners, decision.reason), []).append(rows)
    if len(together) < len(decided) and _disjoint([rows for _, rows in decided]):
        return [(*what, np.concatenate(parts)) for what, parts in together.items()]
    return [(decision.state, decision.owners, decision.reason, rows) for decision, rows in decided]


def _disjoint(parts: Sequence[Rows]) -> bool:
    every = np.concatenate(parts)
    return len(np.unique(every)) == len(every)
