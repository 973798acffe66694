"""Flags and first facts of rows, and the choice of records that the flow table applies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from flowmap.flows.columns import FlowColumns, Mask, Row
from flowmap.flows.counters import sums
from flowmap.flows.filter import Filter
from flowmap.flows.index.hash_index import Positions, Rows
from flowmap.flows.index.ports import pack_nat
from flowmap.flows.records.batch import Flag, FlowBatch, RecordKind
from flowmap.flows.records.changes import Shed
from flowmap.model.namespace import OWN

DUMPED, UPDATED = int(RecordKind.DUMPED), int(RecordKind.UPDATED)
NEWS = int(Flag.COUNTERS | Flag.ENDING | Flag.HEALTH | Flag.ASSURED)
DOUBTFUL, FLAG_ASSURED = int(Flag.DOUBTFUL), int(Flag.ASSURED)
USED, OPEN, PREEXISTING, END_UNANNOUNCED, UNANNOUNCED, ASSURED = (
    np.uint32(flag) for flag in (Row.USED, Row.OPEN, Row.PREEXISTING, Row.END_UNANNOUNCED, Row.UNANNOUNCED, Row.ASSURED)
)


def opening_flags(batch: FlowBatch, before: Mask) -> npt.NDArray[np.uint32]:
    """Flags of rows that begin with these records; ``before``: flows older than the first full read."""
    flags = np.full(len(batch), USED | OPEN, np.uint32)
    flags[before] |= PREEXISTING
    flags[(batch.flags & Flag.GUESSED) != 0] |= np.uint32(Row.GUESSED)
    flags[(batch.flags & Flag.TRANSLATED) != 0] |= np.uint32(Row.TRANSLATED)
    flags[(batch.flags & Flag.END_UNANNOUNCED) != 0] |= END_UNANNOUNCED
    flags[(batch.flags & Flag.PICKED_UP) != 0] |= np.uint32(Row.PICKED_UP)
    flags[(batch.flags & Flag.PRESENT) != 0] |= np.uint32(Row.PRESENT)
    flags[(batch.kind == DUMPED) | (batch.kind == UPDATED)] |= UNANNOUNCED
    return flags


def note_flags(columns: FlowColumns, batch: FlowBatch, rows: Rows) -> None:
    """Note which rows have an end that may not be announced, and which are assured."""
    # Other namespaces are read at a pace of their own, so an event about one flow says nothing about later ones.
    columns.flags[rows[(batch.kind != DUMPED) & (batch.namespace == OWN)]] &= ~END_UNANNOUNCED
    columns.flags[rows[(batch.flags & DOUBTFUL) != 0]] |= END_UNANNOUNCED
    columns.flags[rows[(batch.flags & FLAG_ASSURED) != 0]] |= ASSURED


def write_translation(columns: FlowColumns, batch: FlowBatch, rows: Rows) -> None:
    """Write the translated endpoints of flows with NAT."""
    changed = np.flatnonzero(batch.flags & Flag.TRANSLATED)
    if len(changed):
        some = batch.take(changed)
        client = (some.translated_client_high, some.translated_client_low)
        server = (some.translated_server_high, some.translated_server_low)
        columns.translated[rows[changed]] = np.stack((*client, *server), axis=1)
        columns.translated_ports[rows[changed]] = pack_nat(some.translated_client_port, some.translated_server_port)


def applicable(batch: FlowBatch, part: Positions) -> Positions:
    """The records of ``part`` without updates that carry no fact of the table, of which a flow can send many."""
    news = (batch.flags[part] & NEWS) != 0
    chosen: Positions = part[(batch.kind[part] != UPDATED) | news]
    return chosen


def count_refused(batch: FlowBatch, admit: Filter) -> Shed:
    """What is counted of records of flows that the table refused: the final counters of closed ones."""
    ignored = admit.ignores(batch)
    final = (batch.kind == RecordKind.CLOSED) & ((batch.flags & Flag.COUNTERS) != 0)
    totals = sums(batch, final & ~ignored)
    return Shed(int(np.count_nonzero(~ignored)), totals, sum(sums(batch, final & ignored)[:2]))
