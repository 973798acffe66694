"""One call of the control plane under a ticket: made, timed, and turned into an answer that can be shared."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flowmap.control.clock import Clock, asked_instant
from flowmap.control.port import ControlPlane, ListedDeployment, Listing, OwnersAnswer
from flowmap.fleet.admission import paid
from flowmap.fleet.answers import Instants, Shared
from flowmap.fleet.requests import Kind, Request
from flowmap.fleet.server.clock import Bounds
from flowmap.model.deployment import Job

Value = OwnersAnswer | Listing[ListedDeployment] | Listing[Job]
"""What a method of the port returns."""


@dataclass(frozen=True, slots=True)
class Made:
    """The result of a call, with its monotonic instants."""

    value: Value
    asked: float
    answered: float


async def make(control: ControlPlane, request: Request, clock: Clock) -> Made:
    """Make the call; ControlError if it fails. Its first exchange is paid for."""
    begun, begun_wall = clock.monotonic(), clock.wall()
    with paid():
        if request.kind is Kind.OWNERS:
            answer = await control.find_owners(
                request.workspace, request.namespace, request.source, request.destination
            )
            now, wall = clock.monotonic(), clock.wall()
            asked = asked_instant(begun, begun_wall, answer.asked_at, now, wall)
            return Made(replace(answer, instants=(asked, now)), asked, now)
        listing: Value
        if request.kind is Kind.DEPLOYMENTS:
            listing = await control.list_deployments(request.workspace, request.namespace)
        else:
            listing = await control.list_jobs(request.workspace, request.namespace, request.detail)
    return Made(listing, begun, clock.monotonic())


def shared_form(made: Made, ahead: Bounds, *, now: float, wall: float) -> Shared:
    """The call's answer for other hosts. ``ahead``: the server's clock ahead of the monotonic one at ``now``."""
    epoch = wall - now
    own = ahead.minus(Bounds(epoch, epoch))
    asked, answered = made.asked + epoch, made.answered + epoch
    value = made.value
    if isinstance(value, OwnersAnswer):
        return Shared(asked, answered, own, owners=value.deployments, unreadable=value.unreadable)
    deployments = tuple(one for one in value.items if isinstance(one, ListedDeployment))
    jobs = tuple(one for one in value.items if isinstance(one, Job))
    return Shared(asked, answered, own, deployments=deployments, jobs=jobs, gap=value.gap)


def own_form(request: Request, shared: Shared, instants: Instants, *, epoch: float) -> Value:
    """Another host's answer as this host's port returns it. ``epoch``: wall time minus monotonic time."""
    asked_at, answered_at = instants.asked + epoch, instants.answered + epoch
    if request.kind is Kind.OWNERS:
        owners = tuple(replace(info, seen_at=answered_at) for info in shared.owners)
        return OwnersAnswer(
            owners, asked_at, answered_at, shared.unreadable, instants=(instants.asked, instants.answered)
        )
    if request.kind is Kind.DEPLOYMENTS:
        return Listing(shared.deployments, shared.gap, asked_at)
    return Listing(shared.jobs, shared.gap, asked_at)
