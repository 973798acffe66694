"""What is not as it should be about other network namespaces, as notes of a source."""

from __future__ import annotations

from flowmap.opener.protocol import Report
from flowmap.sources.namespaces.client import OpenerClient
from flowmap.sources.namespaces.pace import SharedPace

KEYS = frozenset({"opener", "namespaces", "namespace_pace"})
"""Keys of the notes about namespaces."""


def notes_about(client: OpenerClient, report: Report | None, pace: SharedPace) -> dict[str, str]:
    """The notes, by key. ``report``: the latest of the opener."""
    notes: dict[str, str] = {}
    if client.error:
        remedy = f"; {client.remedy}" if client.remedy else ""
        notes["opener"] = f"no new network namespaces are read: {client.error}{remedy}"
    if report is not None and (problem := problem_of(report)):
        notes["namespaces"] = problem
    if pace.pause > 2 * pace.interval:
        notes["namespace_pace"] = (
            f"open connections of other network namespaces are read every {pace.pause:.0f} s, to take at most "
            f"{pace.share:.1%} of a core; closed ones are reported at once"
        )
    return notes


def problem_of(report: Report) -> str:
    """Which wanted namespaces are not read, and why; empty if all are."""
    problems = []
    if report.over_limit:
        problems.append(f"{report.over_limit} are over the limit (raise LimitNOFILE)")
    if report.failed:
        problems.append(f"{report.failed} cannot be entered")
    if report.missing:
        problems.append(f"not found: {', '.join(report.missing)}")
    if report.hidden:
        number = "1 process" if report.hidden == 1 else f"{report.hidden} processes"
        problems.append(f"those of {number} may not be read")
    cause = f": {report.cause}" if report.cause else ""
    return f"{'; '.join(problems)}{cause}" if problems else ""
