"""Everything that is done to the books, as a short list of operations.

The one writer changes the books through these and through nothing else, each with its instants as arguments. So the
books are a function of the operations and their order: the log of them is a recording, and doing them again is a replay
that repeats every decision. Whatever new changes what is decided (an answer from elsewhere, a setting) becomes an
operation here, or recordings of it replay wrongly. Reading the books, and measuring them for a snapshot, is no
operation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from flowmap.attribute.answers import Answer
from flowmap.attribute.questions import Question
from flowmap.attribute.ranges import Range
from flowmap.attribute.view import DeploymentInfo
from flowmap.collect.base import Step


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came back for a question; times are monotonic seconds."""

    question: Question
    answer: Answer | None
    deployments: tuple[DeploymentInfo, ...] = ()
    cause: str = ""
    """Why there is no answer."""
    unreadable: int = 0
    """Elements of the answer that could not be read."""
    retry_after: float | None = None
    """Seconds after which asking again makes sense, where the control plane or its client said so."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """Settings that may change while the books are kept: plain values, so that a recording can hold them.

    Each is as in the configuration, times in seconds.
    """

    confirm: Literal["strict", "fast"]
    grace: float
    owners_limit: int
    positive_ttl: float
    negative_ttl: float
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    peers: Mapping[str, tuple[str, ...]]
    idle_after: float


class Operations(Protocol):
    """What :class:`flowmap.books.Books` does, and whoever stands before it passes on. Times are monotonic seconds."""

    def step(self, step: Step, *, now: float, read_at: float) -> None:
        """Take one step of the source, read from the kernel between ``read_at`` and ``now``."""

    def ask(self, *, now: float, limit: int) -> list[Question]:
        """Questions to ask now; each of them is delivered later, whatever comes of it."""

    def deliver(self, delivery: Delivery, *, now: float) -> None:
        """Take what came back for a question, asked for by the books or by a user."""

    def restore(self, known: Sequence[tuple[Question, Range]], *, now: float) -> None:
        """Take the ranges of ownership from before a restart, ahead of everything else."""

    def settle(self, now: float) -> None:
        """Credit what the answers allow to decide."""

    def give_up(self, *, older_than: float, now: float) -> None:
        """Stop waiting for the owners of flows that ended before ``older_than``."""

    def tidy(self, now: float) -> None:
        """Forget what no flow needs any more, and let idle series leave."""

    def tune(self, tuning: Tuning) -> None:
        """Other settings for what comes from now on; what is decided stays."""
