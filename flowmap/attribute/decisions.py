"""What was decided about flows, and on what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flowmap.attribute.answers.timeline import Judgement
from flowmap.attribute.questions import Owners, Question
from flowmap.flows.hash_index import Rows
from flowmap.model.deployment import State

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
    outcomes: Mapping[Question, Judgement]
    """What the answers to every question that counted say; :func:`combine` joins them."""
    decided_at: float
    cause: str = ""
    special: str = ""
    """Label ``reason`` of the bytes, where there is no owner and the state does not say why."""

    @property
    def reason(self) -> str:
        """Label ``reason`` of the bytes, if they have no owner."""
        return self.special or self.state.value


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
