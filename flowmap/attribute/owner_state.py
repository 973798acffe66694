"""What is decided about the owner of a flow, as three columns of the flow table record it.

    series     verdict   state      meaning
    IGNORED    -1        pending    a filter leaves the flow out
    PENDING    -1        pending    undecided: no answer counts for the flow yet
    PENDING    number    pending    tied: several candidates are left, and narrowing may still tell them apart
    PENDING    number    another    decided; the accounting credits the flow in the same turn
    id         number    another    credited to a series

A connectionless flow that is credited becomes undecided again when more traffic follows; see ``flowmap.flows.bursts``.
Its columns keep what was decided before.

The flow table resets all three for a new flow. Attribution writes ``verdict``, the number of a decision, and ``state``,
the code of the decision's state. The accounting writes ``series`` when it credits the flow. An open flow that is
credited may be decided once more: ``unknown`` if an answer names an owner, ``shared`` and ``ambiguous`` if narrowing
leaves fewer candidates.
"""

from __future__ import annotations

import numpy as np

from flowmap.attribute.decisions import CODE
from flowmap.flows.bursts import is_connectionless, is_unconfirmed
from flowmap.flows.columns import IGNORED, PENDING, FlowColumns, Mask, Row
from flowmap.flows.index.hash_index import Rows
from flowmap.model.deployment import State

_SEVERAL = (CODE[State.SHARED], CODE[State.AMBIGUOUS])
_OPEN, _OPEN_OR_ENDED = np.uint32(Row.OPEN), np.uint32(Row.OPEN | Row.ENDED)


def is_undecided(columns: FlowColumns, rows: Rows) -> Mask:
    """Whether no decision was made about each flow, or about its last burst."""
    undecided: Mask = (columns.series[rows] == PENDING) & (columns.verdict[rows] < 0)
    undecided |= is_unconfirmed(columns, rows)
    return undecided


def may_be_named(columns: FlowColumns, rows: Rows) -> Mask:
    """Whether an answer may decide each flow: it is undecided, or open and ``unknown``."""
    unknown = (columns.state[rows] == CODE[State.UNKNOWN]) & (columns.flags[rows] & _OPEN != 0)
    unknown &= columns.series[rows] != IGNORED
    unknown &= ~is_connectionless(columns, rows)  # answered up to their last packet
    found: Mask = is_undecided(columns, rows) | unknown
    return found


def is_tied(columns: FlowColumns, rows: Rows) -> Mask:
    """Whether each flow waits, uncredited, for its candidates to be narrowed."""
    decided = (columns.series[rows] == PENDING) & (columns.verdict[rows] >= 0)
    tied: Mask = decided & (columns.state[rows] == CODE[State.PENDING])
    return tied


def is_credited_to_several(columns: FlowColumns, rows: Rows) -> Mask:
    """Whether each flow is credited to a series of several candidates."""
    several: Mask = np.isin(columns.state[rows], _SEVERAL) & (columns.series[rows] != PENDING)
    several &= ~is_unconfirmed(columns, rows)
    return several


def is_connected(columns: FlowColumns, rows: Rows) -> Mask:
    """Whether the connection of each flow still exists; the kernel may keep an entry of one that has ended."""
    connected: Mask = columns.flags[rows] & _OPEN_OR_ENDED == _OPEN
    return connected
