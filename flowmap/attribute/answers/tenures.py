"""The rule of time for a control plane that reads the owners of addresses over and over: rule ``tenure``.

Such a control plane gives every owner of an address with the bounds of its tenure, so no sample has to fall into the
life of a flow. The owner is the one that had the address when the flow began, in (``born_after``, ``born_by``].

    the owner's tenure                                     then the owner
    cannot include the flow's start                        is none
    is confirmed at or after the flow's start              is a candidate
    lasts, and was confirmed before the flow's start only  may be dead already: the flow waits
    ended, and was never confirmed after the flow's start
        a TaskManager from then was confirmed              is a candidate
        the flow was open after the tenure's end           is none
        else                                               leaves the flow without owner: it may be another program's
    began after the flow's start was known                 is none, however long the flow lives

A flow from before the first reading has a candidate only if its client sent something after the reading that showed
the candidate first: entries of a vanished client must not be credited to the address's next owner.

Of several candidates one whose job had ended is dropped, if the client sent something after its tenure and another
candidate's job began after that end: a job's connections close with it.

The cgroup and the process of the client's socket, where they are known, tell more (rule ``local``):

    the tenure's process                                   then the owner
    makes its sockets in another cgroup                    is none
    is the only program in the socket's cgroup             has the flow: other programs on the host do not
    shares it with others, and holds the socket            has the flow
    shares it with others, and another one holds it        is none
    shares it with others, and the holder is not known     stays a candidate, as without this

Where that could tell candidates apart, an open flow waits :data:`LOCAL_WAIT` seconds until its socket is read.

Nearly all comparisons have the form ``instant of the flow <= bound`` or its negation, so flows whose instants lie
between the same bounds are judged together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.attribute.answers.intervals import Answer
from flowmap.attribute.answers.timeline import NO_OWNERS, Judgement, Lifetimes
from flowmap.attribute.distinct import distinct_rows
from flowmap.attribute.questions import Owners
from flowmap.model.deployment import FLINK, Role
from flowmap.model.tenure import Holders, LocalProcess, Tenure

LOCAL_WAIT = 10.0
"""Seconds after which an open flow is judged without its socket: longer than two reads of the socket table."""
_OTHER = np.iinfo(np.uint64).max
"""Stands for every cgroup in which no TaskManager makes its sockets, and for every process that is none of theirs."""


class _Flow(NamedTuple):
    """What the rule needs of one flow; see :class:`Lifetimes`."""

    born_after: float
    born_by: float
    alive_until: float
    proven_until: float
    ended_by: float
    cgroup: int
    pid: int


class _Undecided(Exception):
    """A later reading is needed."""


class _Doubtful(Exception):
    """No reading will show which owner had the address."""


def judge_tenures(
    holders: Holders, answer: Answer, lifetimes: Lifetimes, *, grace: float
) -> tuple[npt.NDArray[np.intp], list[Judgement | None]]:
    """For each flow a position in the list of distinct judgements; None in the list means that the flow waits.

    ``answer``: what the judgements rest on.
    """
    bounds = np.unique(_bounds(holders, grace))
    columns = (
        lifetimes.born_after,
        lifetimes.born_by,
        lifetimes.alive_until,
        lifetimes.proven_until,
        lifetimes.ended_by,
    )
    cells = [np.searchsorted(bounds, column, "left") for column in columns]
    cgroups = _told(lifetimes.cgroup, [one.cgroup for one in holders.local], len(lifetimes.born_by))
    pids = _told(lifetimes.pid, [pid for one in holders.local for pid in one.pids], len(lifetimes.born_by))
    young = lifetimes.alive_until <= lifetimes.born_by + LOCAL_WAIT
    cases, position = distinct_rows([*cells, np.isinf(lifetimes.ended_by), cgroups, pids, young])
    first = np.zeros(len(cases), np.intp)
    first[position[::-1]] = np.arange(len(position))[::-1]
    flows = (
        _Flow._make([*(float(column[row]) for column in columns), int(cgroups[row]), int(pids[row])]) for row in first
    )
    return position, [_judge(holders, answer, flow, grace) for flow in flows]


def _told(reported: npt.NDArray[np.uint64] | None, ours: list[int], count: int) -> npt.NDArray[np.uint64]:
    """The cgroup or process of each flow: 0 where it is not known, or none is ours; all others are the same."""
    if reported is None or not ours:
        return np.zeros(count, np.uint64)
    known = np.isin(reported, np.array(ours, np.uint64))
    return np.where(known | (reported == 0), reported, np.uint64(_OTHER))


def _bounds(holders: Holders, grace: float) -> list[float]:
    found = [holders.known_from, holders.known_from - grace, holders.known_until]
    for tenure in holders.tenures:
        found += tenure[1:7]
    for one in holders.local:
        found += one[2:4]
    return found


def _judge(holders: Holders, answer: Answer, flow: _Flow, grace: float) -> Judgement | None:
    if flow.born_by > holders.known_until:
        return None
    possible = [tenure for tenure in holders.tenures if _may_include_start(tenure, flow)]
    if _awaits_socket(holders, possible, flow):
        return None
    told_apart = _of_socket(holders, possible, flow)
    rule = "tenure" if len(told_apart) == len(possible) else "local"
    possible = told_apart
    known = flow.born_after > holders.known_from - grace
    try:
        roles = [tenure for tenure in possible if tenure.owner.workspace != FLINK]
        living = [one for one in roles if one.owner.deployment_id == Role.TASK_MANAGER and _confirmed(one, flow)]
        owners = NO_OWNERS
        for group in (roles, [tenure for tenure in possible if tenure.owner.workspace == FLINK]):
            owners |= _of_group(group, flow, known=known, living=living)
    except _Undecided:
        return None
    except _Doubtful:
        return Judgement(NO_OWNERS, "unconfirmed", answer)
    return Judgement(owners, rule, answer)


def _awaits_socket(holders: Holders, possible: Sequence[Tenure], flow: _Flow) -> bool:
    """Whether the client's socket could tell the candidates apart, and may still be read."""
    if not holders.local or flow.ended_by < np.inf or flow.alive_until > flow.born_by + LOCAL_WAIT:
        return False
    processes = {tenure.process for tenure in possible if tenure.process}
    shared = any(tenure.owner.deployment_id == Role.HOST for tenure in possible)
    local = {one.process: one for one in holders.local if one.process in processes}
    if not local or not (shared or len(processes) > 1):
        return False
    by_process = [one for one in local.values() if one.cgroup == flow.cgroup and one.pids and not _alone(one, flow)]
    return not flow.cgroup or (not flow.pid and bool(by_process))


def _alone(one: LocalProcess, flow: _Flow) -> bool:
    return one.is_alone(flow.born_after, flow.born_by)


def _of_socket(holders: Holders, possible: list[Tenure], flow: _Flow) -> list[Tenure]:
    """The tenures that the cgroup and the process of the client's socket leave."""
    if not flow.cgroup:
        return possible
    local = {one.process: one for one in holders.local}
    there = {name: one for name, one in local.items() if one.cgroup == flow.cgroup}
    own = {name for name, one in there.items() if _alone(one, flow)}
    own = own or {name for name, one in there.items() if flow.pid in one.pids}
    if own:
        return [tenure for tenure in possible if tenure.process in own]
    others = {name for name, one in there.items() if flow.pid and one.pids}  # another process holds the socket
    return [one for one in possible if one.process not in local or one.process in there.keys() - others]


def _may_include_start(tenure: Tenure, flow: _Flow) -> bool:
    late, early = flow.born_by <= tenure.absent_at, flow.born_after > tenure.gone_at
    return not (late or early or flow.born_by <= tenure.begun_at or flow.born_after > tenure.ended_at)


def _confirmed(tenure: Tenure, flow: _Flow) -> bool:
    return flow.born_by <= tenure.seen_until


def _of_group(possible: Iterable[Tenure], flow: _Flow, *, known: bool, living: Sequence[Tenure]) -> Owners:
    """The owners that are left; ``known``: the flow began after the first reading; ``living``: tenures of TaskManagers
    at the address that were confirmed after the flow's start."""
    left: list[Tenure] = []
    for tenure in possible:
        if not _confirmed(tenure, flow):
            if tenure.gone_at == np.inf:
                raise _Undecided
            same = [one for one in living if one.process == tenure.process]
            if not any(one.absent_at < tenure.seen_until for one in same):  # else the owner's process may live
                if flow.alive_until <= tenure.gone_at:
                    raise _Doubtful
                continue
        if not known and flow.proven_until <= tenure.seen_from:
            if flow.ended_by == np.inf:
                raise _Undecided
            raise _Doubtful
        left.append(tenure)
    return frozenset(tenure.owner for tenure in left if not _closed_with_its_job(tenure, left, flow))


def _closed_with_its_job(tenure: Tenure, others: Sequence[Tenure], flow: _Flow) -> bool:
    """Whether the flow outlived the owner's job, so that it is a later job's."""
    if flow.proven_until <= tenure.gone_at:
        return False
    return any(other.begun_at > tenure.ended_at for other in others)
