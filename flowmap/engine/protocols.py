"""What the accounting needs of others: descriptions of deployments, and a journal of what leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from flowmap.attribute.answers.intervals import IntervalChange
from flowmap.attribute.decisions import Decision
from flowmap.attribute.questions import Question
from flowmap.flows.bursts import Times
from flowmap.flows.index.hash_index import Rows
from flowmap.flows.table import FlowTable
from flowmap.model.deployment import DeploymentInfo, DeploymentKey


class DeploymentDirectory(Protocol):
    """Descriptions of deployments from the catalog; implemented in ``flowmap.engine.catalog_adapter``."""

    @property
    def generation(self) -> int:
        """Grows whenever a description may have changed."""

    def describe(self, key: DeploymentKey, reported: DeploymentInfo | None) -> DeploymentInfo | None:
        """The newest description of a deployment; ``reported`` is from the last answer that named it."""


class Journal(Protocol):
    """Receives closed flows and ownership intervals; implemented in ``flowmap.history``.

    Called on the engine's thread: no method may block or raise. What it keeps is not part of the conservation.
    """

    def left(
        self,
        table: FlowTable,
        rows: Rows,
        decisions: Mapping[int, Decision],
        *,
        open_until: Times | None = None,
    ) -> None:
        """Take flows with their decisions, before their rows are freed or the daemon stops.

        ``open_until``: the daemon stops and the flows are still open; the monotonic instants up to which they are known
        to be.
        """

    def confirmed(self, question: Question, change: IntervalChange) -> None:
        """Take the effect of an answer on the ownership intervals of its question."""


class NoDirectory:
    """A directory without a catalog: answers are the only descriptions."""

    generation = 0

    def describe(self, key: DeploymentKey, reported: DeploymentInfo | None) -> DeploymentInfo | None:
        """``reported`` as it is."""
        return reported
