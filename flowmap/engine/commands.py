"""Commands: every change of the accounting, each as one immutable value.

``FlowAccounting.apply`` is the only place that changes the accounting. A command carries its instants, so the state of
the accounting follows from its commands and their order: a recording is the list of them, and a replay applies them
again and repeats every decision. Reading the accounting and taking a snapshot are not commands. Times are monotonic
seconds.

To add a command: a class here, a case in ``FlowAccounting.apply``, a code in ``recording/codec.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flowmap.attribute.answers.intervals import OwnershipInterval
from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.calls.schedule import UNKNOWN_CHANGES, AnswerChanges
from flowmap.attribute.questions import Owners, Question
from flowmap.config.models import Config
from flowmap.model.deployment import DeploymentInfo
from flowmap.model.tenure import Holders
from flowmap.sources.base import Step


@dataclass(frozen=True, slots=True)
class QuestionResult:
    """The result of one question: an answer, or the cause of its failure. Times are monotonic seconds."""

    question: Question
    answer: Answer | None
    deployments: tuple[DeploymentInfo, ...] = ()
    cause: str = ""
    """Why there is no answer: ``reason: text``."""
    unreadable: int = 0
    """Elements of the answer that could not be read."""
    retry_after: float | None = None
    """Seconds after which to ask again, if the control plane or its client gave them."""
    holders: Holders | None = None
    """Who had the address when, if the control plane keeps track of it."""

    @property
    def own_clusters(self) -> Owners:
        """The owners that are known to have a cluster of their own."""
        return frozenset(info.owner for info in self.deployments if info.own_cluster)


@dataclass(frozen=True, slots=True)
class TakeStep:
    """Apply one step of the source, read from the kernel between ``read_at`` and ``now``."""

    step: Step
    now: float
    read_at: float


@dataclass(frozen=True, slots=True)
class Ask:
    """Choose at most ``limit`` questions to ask now. A :class:`Deliver` follows for each of them."""

    now: float
    limit: int
    changes: AnswerChanges = UNKNOWN_CHANGES
    """When answers change, where that is known: in the replay of a capture, never in a recording."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Take the result of a question that :class:`Ask` chose or a user asked."""

    now: float
    result: QuestionResult


@dataclass(frozen=True, slots=True)
class Decide:
    """Credit the flows whose owners the answers allow to decide."""

    now: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Decide ``failed`` for flows that ended before ``older_than`` and still have no owner."""

    older_than: float
    now: float


@dataclass(frozen=True, slots=True)
class Tidy:
    """Drop endpoints, answers and decisions that no flow needs, and expire idle series."""

    now: float


@dataclass(frozen=True, slots=True)
class Configure:
    """Apply the live settings of a configuration. Decided flows keep their series."""

    config: Config


@dataclass(frozen=True, slots=True)
class Restore:
    """Start with the ownership intervals from before a restart; precedes every other command."""

    known: tuple[tuple[Question, OwnershipInterval], ...]
    now: float


@dataclass(frozen=True, slots=True)
class CountFlowless:
    """Credit traffic without a tracked flow as unattributed.

    ``totals``: bytes sent and received, packets sent and received.
    """

    now: float
    reason: str
    totals: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Finish:
    """Write the decided open flows to the journal, because the daemon stops."""


Command = TakeStep | Ask | Deliver | Decide | GiveUp | Tidy | Configure | Restore | CountFlowless | Finish

Apply = Callable[[Command], Sequence[Question]]
"""``FlowAccounting.apply``, or that of a recorder before it: see there."""
