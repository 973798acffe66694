"""``flowmap jobs``: list the jobs of a deployment.

Exit status 1 if the answer is incomplete. stderr has the reason.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from flowmap.cli.output import text
from flowmap.cli.shared import options

if TYPE_CHECKING:
    from flowmap.cli.shared.asking import Losses
    from flowmap.config import Config
    from flowmap.control.alibaba.api.models import Job

HEADER = ("NAMESPACE", "JOB", "STATUS", "STARTED", "ENDED", "RESTARTS", "ENGINE", "FAILURE")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the deployment and the control plane."""
    parser.add_argument("deployment_id", metavar="DEPLOYMENT_ID", help="id of the deployment")
    options.add_namespace(parser)
    options.add_config(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Query the control plane and print the jobs."""
    from flowmap.cli.shared import asking

    config = asking.configured(arguments)
    losses = asking.Losses()
    found = asking.run(_ask(arguments, config, losses))
    if options.wants_table(arguments):
        text.print_table(HEADER, [row(namespace, job) for namespace, job in found])
    else:
        jobs = [as_json(namespace, job) for namespace, job in found]
        text.print_json({"jobs": jobs, "complete": not losses})
    return losses.report()


async def _ask(arguments: argparse.Namespace, config: Config, losses: Losses) -> list[tuple[str, Job]]:
    """The jobs, each with its namespace.

    An id exists in one namespace only. Once it is found, errors of the other namespaces are ignored.
    """
    from flowmap.cli.output.progress import Progress
    from flowmap.cli.shared import asking
    from flowmap.cli.shared.flink import flink_jobs, wanted_namespaces
    from flowmap.daemon.clients import control_client
    from flowmap.errors import BusinessError

    if found := await flink_jobs(arguments, config, losses):
        return found
    namespaces = asking.checked(wanted_namespaces(arguments, config))
    if not namespaces:
        return []
    refusal: BusinessError | None = None
    async with control_client(config.control_plane) as client:
        identity = arguments.deployment_id
        listings = {name: client.list_jobs(namespace=name, deployment_id=identity) for name in namespaces}
        pace = asking.Pace(config.control_plane)
        with Progress() as progress:
            for namespace, listing in listings.items():
                try:
                    jobs = await asking.read_all(pace, listing, progress, "jobs")
                except BusinessError as error:
                    refusal = refusal or error
                    continue
                losses.of_listing(listing, f"jobs of {identity}")
                if jobs:
                    return [(namespace, job) for job in jobs]
    if refusal is not None:
        raise refusal
    return []


def as_json(namespace: str, job: Job) -> dict[str, Any]:
    """A job with the API's field names, without absent fields."""
    return {"namespace": namespace} | job.model_dump(mode="json", by_alias=True, exclude_none=True)


def row(namespace: str, job: Job) -> tuple[object, ...]:
    """A row of the table."""
    from flowmap.serve.api.models import rfc3339

    status = job.status
    running, failure = (status.running, status.failure) if status else (None, None)
    return (
        job.namespace or namespace,
        job.job_id,
        status.current_job_status if status else None,
        rfc3339(job.start_time),
        rfc3339(job.end_time),
        running.observed_flink_job_restarts if running else None,
        job.engine_version,
        (failure.message or failure.reason) if failure else None,
    )
