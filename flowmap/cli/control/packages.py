"""``flowmap packages``: list jobs of a legacy Blink project that use a package (GetRefPackageJob).

Needs ``control_plane.blink.enabled``. Exit status 1 if the answer is incomplete. stderr has the reason.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from flowmap.cli.output import text
from flowmap.cli.shared import options

if TYPE_CHECKING:
    from flowmap.cli.shared.asking import Losses
    from flowmap.config import Config
    from flowmap.control.alibaba.api.blink import BlinkJob

HEADER = ("PROJECT", "JOB", "ID", "TYPE", "ENGINE", "PACKAGES")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the project and the package."""
    parser.add_argument("project", metavar="PROJECT", help="name of the project")
    parser.add_argument("package", metavar="PACKAGE", help="exact file name of the package")
    parser.add_argument(
        "--namespace", metavar="N", action="append", help="ignored: the legacy API has projects instead of namespaces"
    )
    options.add_config(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Query the legacy API and print the jobs."""
    from flowmap.cli.shared import asking
    from flowmap.config import load

    config = load(arguments.config, os.environ)  # a workspace is not needed here
    losses = asking.Losses()
    found = asking.run(_ask(arguments, config, losses))
    if options.wants_table(arguments):
        text.print_table(HEADER, [row(arguments.project, job) for job in found])
    else:
        jobs = [job.model_dump(mode="json", by_alias=True, exclude_none=True) for job in found]
        text.print_json({"jobs": jobs, "complete": not losses})
    return losses.report()


async def _ask(arguments: argparse.Namespace, config: Config, losses: Losses) -> tuple[BlinkJob, ...]:
    from flowmap.cli.output.progress import Progress
    from flowmap.cli.shared import asking

    async with asking.blink_client(config.control_plane) as client:
        listing = client.get_ref_package_job(project=arguments.project, package=arguments.package)
        with Progress() as progress:
            jobs = await asking.read_all(asking.Pace(config.control_plane), listing, progress, "jobs")
        losses.of_listing(listing, f"jobs of {arguments.project}")
        return jobs


def row(project: str, job: BlinkJob) -> tuple[object, ...]:
    """A row of the table."""
    return (
        job.project_name or project,
        job.job_name,
        job.job_id,
        job.job_type,
        job.engine_version,
        None if job.packages is None else ", ".join(job.packages),
    )
