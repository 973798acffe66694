"""Whether other network namespaces can be read here, for ``flowmap check``."""

from __future__ import annotations

import select
import time
from pathlib import Path
from typing import TYPE_CHECKING

from flowmap.opener.protocol import Report
from flowmap.sources.base import Finding
from flowmap.sources.namespaces.client import Disconnected, OpenerClient, Passed, raise_file_limit, room
from flowmap.sources.namespaces.notes import problem_of

if TYPE_CHECKING:
    from flowmap.config import CollectConfig

NAME = "sockets.namespaces"
PATIENCE = 5.0
"""Seconds to wait for the opener's first report."""


def finding(settings: CollectConfig) -> Finding:
    """Whether the wanted namespaces can be read. Asks the opener, and closes what it passes."""
    raise_file_limit()  # as the daemon does
    client = OpenerClient(Path(settings.opener), settings.wanted_namespaces, conntrack=False)
    try:
        report = _report(client)
    finally:
        client.close()
    if report is None:
        why, remedy = client.error or "the opener does not answer", client.remedy
        return Finding(NAME, "degraded", f"other network namespaces are not read: {why}", remedy)
    if problem := problem_of(report):
        what = f"{report.opened} of {report.found} other network namespaces can be read"
        return Finding(NAME, "degraded", f"{what}: {problem}", _remedy(report))
    message = f"{report.found} other network namespaces can be read; there is room for {room(conntrack=False)}"
    return Finding(NAME, "ok", message)


def _report(client: OpenerClient) -> Report | None:
    client.connect()
    until = time.monotonic() + PATIENCE
    while client.fileno() >= 0 and (left := until - time.monotonic()) > 0:
        select.select([client.fileno()], [], [], left)
        for news in client.receive():
            if isinstance(news, Passed):
                for one in news.sockets:
                    one.close()
            elif isinstance(news, Report):
                return news
            elif isinstance(news, Disconnected):
                return None
    return None


def _remedy(report: Report) -> str:
    if report.over_limit:
        return "raise LimitNOFILE of flowmap"
    if report.failed or report.hidden:
        return "give flowmap opener CAP_SYS_ADMIN and CAP_SYS_PTRACE, and the host's pid namespace"
    return "correct collect.namespaces"
