"""One line of a client: see :mod:`flowmap.attribute.continuity`. Times are monotonic seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flowmap.attribute.answers.timeline import Judgement
from flowmap.attribute.questions import Owners, Question
from flowmap.flows.index.hash_index import Rows

Times = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Base(NamedTuple):
    """The newest answers about a client, where they name one owner."""

    outcomes: Mapping[Question, Judgement]
    owners: Owners
    asked: float
    arrived: float


class ClientFlows(NamedTuple):
    """The connections of one client, as columns."""

    rows: Rows
    process: npt.NDArray[np.uint32]
    namespace: npt.NDArray[np.uint32]
    born_after: Times
    born_by: Times
    alive_until: Times
    ended_by: Times
    sure: Mask
    """Whether the client is certain."""


@dataclass(slots=True)
class Line:
    """The connections of one process from one address, without a gap."""

    process: int
    """Number of the workload."""
    namespace: int
    base: Base
    since: float
    """The answer it began with was asked then."""
    covered: float
    """A connection of the process was open at every moment up to here."""
    blocked: float = np.inf
    """From here on a connection may have begun whose process is not known yet."""

    def has(self, flows: ClientFlows) -> Mask:
        """Which connections are of the line's process."""
        mine: Mask = (flows.process == self.process) & (flows.namespace == self.namespace)
        return mine

    def extend(self, flows: ClientFlows) -> bool:
        """Go on through these connections of the client; False if one of another process ends the line."""
        mine = self.has(flows)
        others = ~mine & (flows.ended_by > self.since)
        if (others & (flows.process != 0)).any():
            return False
        self.blocked = float(flows.born_after[others].min(initial=np.inf))
        linked = np.flatnonzero(mine & flows.sure)
        for at in linked[np.argsort(flows.born_by[linked], kind="stable")].tolist():
            if flows.born_by[at] > self.covered:
                break
            self.covered = max(self.covered, float(flows.alive_until[at]))
        return True
