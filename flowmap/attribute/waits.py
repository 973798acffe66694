"""What pending flows wait for, counted when the status is made.

    narrowing   several candidates are left, and answers about both endpoints may leave fewer
    outage      an answer about an endpoint, while the control plane does not answer
    budget      such an answer: the endpoint was due and got no call
    answer      such an answer: it is under way, or the endpoint is not due yet
    proof       traffic of the client after the answers so far: see rule ``inside`` in ``answers/timeline``
    judging     nothing more: the engine decides them once the source is read up to the answers' arrival

Every pending flow counts once. The answers themselves are not judged here, which would cost as much as deciding. The
cause follows from the instants of the last answers about both endpoints. They leave one case open: the service endpoint
was only asked about before the flow. That is enough if the client has one owner (``corroborated``), otherwise a new
answer is needed. Such a flow counts as ``proof`` until its client has sent.
"""

from __future__ import annotations

import numpy as np

from flowmap.attribute.answers.lifetimes import lifetimes_of
from flowmap.attribute.calls.schedule import Schedule, wanted_after
from flowmap.attribute.owner_state import is_tied
from flowmap.flows.bursts import is_unconfirmed
from flowmap.flows.columns import PENDING, Mask, Row
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.table import FlowTable
from flowmap.model.status import PendingFor


def pending_for(table: FlowTable, schedule: Schedule, *, services_decide: bool, outage: bool) -> PendingFor:
    """The pending flows of this moment by what they wait for. It takes one look at the flow table.

    ``services_decide``: clients are not asked about. ``outage``: the control plane does not answer.
    """
    columns, rows = table.columns, table.live()
    rows = rows[(columns.series[rows] == PENDING) | is_unconfirmed(columns, rows)]
    tied = is_tied(columns, rows)
    narrowing, rows = int(np.count_nonzero(tied)), rows[~tied]
    clients, services, since = columns.client[rows], columns.service[rows], wanted_after(columns, rows)
    unproven = _lack_proof(table, schedule, rows, services_decide=services_decide)
    of_client = ~schedule.has_inside_answer(clients, since) & (not services_decide)
    of_service = ~schedule.has_inside_answer(services, since)
    if not services_decide:
        of_service &= schedule.are_promising(clients) & (~unproven | (schedule.answered_at(services) == 0))
    waits = of_client | of_service
    proof = unproven & ~waits
    # Another question about an answered endpoint may be under way, such as the one about the service's host.
    waits |= ~proof & (schedule.are_asked_about(clients) | schedule.are_asked_about(services))
    left = waits & schedule.got_no_call(np.where(of_client, clients, services))
    answers, budget, proven = (int(np.count_nonzero(some)) for some in (waits & ~left, left, proof))
    judging = len(rows) - answers - budget - proven
    if outage:
        return PendingFor(outage=answers + budget, proof=proven, narrowing=narrowing, judging=judging)
    return PendingFor(answers, budget, 0, proven, narrowing, judging)


def _lack_proof(table: FlowTable, schedule: Schedule, rows: Rows, *, services_decide: bool) -> Mask:
    """Whether the client of each flow may have vanished before the last answer about an endpoint arrived."""
    columns, lives = table.columns, lifetimes_of(table, rows)
    services = columns.service[rows]
    answered = np.where(schedule.has_inside_answer(services, lives.born_by), schedule.answered_at(services), 0.0)
    if not services_decide:
        answered = np.maximum(answered, schedule.answered_at(columns.client[rows]))
    here = (columns.flags[rows] & np.uint32(Row.PRESENT)) != 0  # its socket is on this host
    lacking: Mask = np.isinf(lives.ended_by) & ~lives.connectionless & ~here & (lives.proven_until < answered)
    return lacking
