"""Open connections of two deployments, whose jobs and later reads a test gives."""

from __future__ import annotations

from flowmap.attribute.settings import AttributionSettings
from flowmap.engine.commands import TakeStep
from flowmap.flows.records.batch import Flag, RecordKind
from flowmap.model.deployment import DeploymentInfo, Job, Jobs, Owner
from flowmap.sources.base import ReadFinished, ReadStarted
from tests.support.accounting import accounting_for
from tests.support.live_traffic import EPOCH, LiveTraffic, X, Y
from tests.support.records import Record, batch_of, replace

OF_X = Record(RecordKind.OPENED, counters=(500, 70, 5, 1), flags=int(Flag.PRESENT))
OF_Y = replace(OF_X, client="10.0.0.2", client_port=3, id=2)
OWNERS = {"10.0.0.1": [X], "10.0.0.2": [Y]}
BORN = 1001.0
"""When the first flows are opened, monotonic; they are decided afterwards."""


def open_connections() -> LiveTraffic:
    """Two connections of X and one of Y."""
    made = LiveTraffic(accounting_for(AttributionSettings(namespaces=("ns",), tie_wait=0)))
    for step in (ReadStarted("start"), ReadFinished(True)):
        made.accounting.apply(TakeStep(step, made.now, made.now))
    made.see(OF_X, replace(OF_X, client_port=2, id=3), OF_Y)
    made.answer(OWNERS)
    return made


def listed(traffic: LiveTraffic, owner: Owner, *jobs: Job, labels: dict[str, str] | None = None) -> None:
    """What the list of the owner's jobs says, read long after the flows began."""
    jobs_then = Jobs(jobs, EPOCH + 5000, True, 0.0, 0.0)
    traffic.accounting.deployments[owner.key] = DeploymentInfo(owner, listed=jobs_then, labels=labels or {})


def read_again(traffic: LiveTraffic, after: float, *records: Record) -> None:
    """A full read some seconds later."""
    traffic.now += after
    traffic.accounting.apply(TakeStep(ReadStarted("timer"), traffic.now, traffic.now))
    traffic.accounting.apply(TakeStep(batch_of(*records), traffic.now, traffic.now))
    traffic.accounting.apply(TakeStep(ReadFinished(True), traffic.now, traffic.now))


RUNNING = Job("new", "RUNNING", EPOCH + BORN + 60)
BEFORE = Job("old", "RUNNING", EPOCH + BORN - 60)
OVER = Job("over", "FINISHED", EPOCH + 1, EPOCH + BORN + 30, over=True)
