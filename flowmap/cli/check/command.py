"""``flowmap check``: test everything the daemon needs on this host, before it runs.

One line for each finding, with its cost and its remedy. Exit status 1 if something essential fails.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from flowmap.cli.failures import describe
from flowmap.cli.output import text
from flowmap.cli.shared import options
from flowmap.errors import ConfigError

if TYPE_CHECKING:
    from flowmap.config import Config
    from flowmap.sources.base import Finding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``-c FILE`` and the output format."""
    options.add_config(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check everything and print the findings."""
    findings = list(look(arguments.config))
    show(findings, arguments)
    return 0 if is_good(findings) else 1


def is_good(findings: Iterable[Finding]) -> bool:
    """Whether nothing essential fails."""
    return all(finding.level != "failed" for finding in findings)


def show(findings: Sequence[Finding], arguments: argparse.Namespace) -> None:
    """Print findings in the form that the arguments ask for."""
    if options.wants_table(arguments):
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            line = f"{finding.message}; {finding.remedy}" if finding.remedy else finding.message
            print(text.clean(f"{finding.level:<8}  {finding.name:<{width}}  {line}"))
    else:
        text.print_json({"ok": is_good(findings), "findings": [asdict(finding) for finding in findings]})


def look(path: str | None) -> Iterator[Finding]:
    """All findings with the configuration at ``path``."""
    from flowmap.config import load, require_control_plane
    from flowmap.sources.base import Finding

    try:
        config = load(path, os.environ)
        require_control_plane(config)
    except ConfigError as error:
        for line in str(error).splitlines():
            yield Finding("config", "failed", line, "correct the configuration")
        return
    yield Finding("config", "ok", path or "defaults and the environment")
    from flowmap.cli.check import clickhouse, control, fleet, flink, history, host, peers, tls
    from flowmap.system.names import run_loop

    def control_plane() -> Iterable[Finding]:
        with run_loop() as runner:
            return runner.run(control.look(config))

    def clusters() -> Iterable[Finding]:
        with run_loop() as runner:
            return runner.run(flink.look(config))

    def shared() -> Iterable[Finding]:
        with run_loop() as runner:
            return runner.run(fleet.look(config))

    yield from _safely("host", lambda: host.look(path, config))
    yield from _safely("http.tls", lambda: tls.look(config))
    yield from _safely("history", lambda: history.look(config))
    yield from _safely("history.clickhouse", lambda: clickhouse.look(config))
    yield from _safely("export.peers", lambda: peers.look(config))
    if config.control_plane.enabled:
        yield from _safely("control_plane", control_plane)
    yield from _safely("flink", clusters)
    yield from _safely("fleet", shared)
    yield from _safely("collect", lambda: sources(config))


def _safely(name: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of one part. An error becomes a finding, so that the other parts are still checked."""
    from flowmap.sources.base import Finding

    try:
        yield from look()
    except Exception as error:
        for line in describe(error):
            yield Finding(name, "failed", line)


def sources(config: Config) -> list[Finding]:
    """Findings of the configured source; with ``auto`` one working source is enough."""
    from flowmap.sources.kinds import CAPTURE, KINDS
    from flowmap.sources.workloads.check import not_read

    settings = config.collect
    if settings.source != "auto":
        own = KINDS[settings.source].check(settings)
        return own if settings.source == "sockets" else [*own, not_read(settings.source)]
    kinds = [kind for kind in KINDS.values() if kind is not CAPTURE or settings.capture.interfaces]
    found = {kind.facts.name: kind.check(settings) for kind in kinds}
    chosen = _auto(config)
    works = {name: all(finding.level != "failed" for finding in those) for name, those in found.items()}
    return [chosen] + [
        replace(finding, level="degraded") if finding.level == "failed" and any(works.values()) else finding
        for those in found.values()
        for finding in those
    ]


def _auto(config: Config) -> Finding:
    """The choice of ``auto``, with its reason."""
    from flowmap.sources.base import Finding
    from flowmap.sources.choice import choose

    choice = choose(config.collect, own_port=config.http.listen.port)
    taken = {"conntrack": "conntrack and sockets"}.get(choice.kind, choice.kind)
    return Finding("collect.source", "degraded" if choice.costs else "ok", f"auto takes {taken}: {choice.why}")
