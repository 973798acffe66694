"""Commands: every change of the accounting, each as one immutable value.

``Books.apply`` is the only place that changes the accounting. A command carries its instants, so the accounting is a
function of its commands and their order: a recording is the list of them, and a replay applies them again and repeats
every decision. Reading the accounting and taking a snapshot of it are no commands. Times are monotonic seconds.

To add a command: a class here, a case in ``Books.apply``, a code in ``record.codec``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flowmap.attribute.answers.intervals import OwnershipInterval
from flowmap.attribute.answers.timeline import Answer
from flowmap.attribute.questions import Question
from flowmap.config.models import Config
from flowmap.model.deployment import DeploymentInfo
from flowmap.sources.base import Step


@dataclass(frozen=True, slots=True)
class QuestionResult:
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


@dataclass(frozen=True, slots=True)
class Deliver:
    """Take the result of a question, asked by :class:`Ask` or by a user."""

    now: float
    result: QuestionResult


@dataclass(frozen=True, slots=True)
class Decide:
    """Credit the flows whose owners the answers allow to decide."""

    now: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop waiting for the owners of flows that ended before ``older_than``."""

    older_than: float
    now: float


@dataclass(frozen=True, slots=True)
class Tidy:
    """Forget endpoints, answers and decisions that no flow needs, and expire idle series."""

    now: float


@dataclass(frozen=True, slots=True)
class Configure:
    """Apply the live settings of a configuration. Decided flows keep their series."""

    config: Config


@dataclass(frozen=True, slots=True)
class Restore:
    """Start with the ownership that a daemon before this one knew; precedes every other command."""

    known: tuple[tuple[Question, OwnershipInterval], ...]
    now: float


@dataclass(frozen=True, slots=True)
class CountFlowless:
    """Credit traffic of no kept flow (bytes sent and received, packets sent and received) as unattributed."""

    now: float
    reason: str
    totals: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Finish:
    """The daemon stops: write the decided open flows to the journal, as far as they are known to have lived."""


Command = TakeStep | Ask | Deliver | Decide | GiveUp | Tidy | Configure | Restore | CountFlowless | Finish

Apply = Callable[[Command], Sequence[Question]]
"""``Books.apply``, or a recorder in front of it. Returns the questions to ask now; empty for all but :class:`Ask`."""
