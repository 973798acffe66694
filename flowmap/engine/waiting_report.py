"""Reports to the fleet which questions this host waits for, and how much traffic waits for each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from flowmap.attribute.attribution import Attribution
from flowmap.attribute.questions import Question
from flowmap.model.address import Endpoint

EVERY = 0.25
"""Shortest pause in seconds between two reports while no question begins."""

URGENT = 1e18
"""Bytes that a user's question counts for: it comes before every other."""

Traffic = Mapping[tuple[str, str, Endpoint | None, Endpoint | None], float]
"""Bytes that wait, by workspace, namespace, source and destination of a question."""


class WaitingReport:
    """Called by the engine at every turn. A report reads every flow, so it takes at most a twentieth of a core."""

    def __init__(
        self,
        attribution: Attribution,
        deliver: Callable[[Traffic], None],
        *,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        """``deliver`` takes a report and returns at once. ``cpu``: seconds of a core that the engine's thread used."""
        self._attribution = attribution
        self._deliver = deliver
        self._cpu = cpu
        self._next = self._again = float("-inf")
        self._reported, self._hurried = False, 0

    def __call__(
        self, now: float, questions: Collection[Question], urgent: Collection[Question], begun: bool = False
    ) -> int:
        """Report ``questions``, which are under way. Users wait for those in ``urgent``. ``begun``: some are new.

        Returns the number of questions that flows or users waited for at the last report.
        """
        if now < (self._next if begun else self._again) or not (questions or self._reported):
            return self._hurried
        began = self._cpu()
        charged = [question for question in questions if not question.place.is_flink]
        pending = self._attribution.pending_traffic(charged)
        pending |= dict.fromkeys(
            (question for question in urgent if question in pending or question in questions), URGENT
        )
        report = {
            (one.workspace, one.namespace, one.source, one.destination): amount for one, amount in pending.items()
        }
        self._deliver(report)
        self._reported = bool(report)
        self._next = now + 20 * (self._cpu() - began)
        self._again = max(self._next, now + EVERY)
        self._hurried = sum(amount > 0 for amount in report.values())
        return self._hurried
