"""Names from the control plane may hold anything: what becomes of them in each kind of answer."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from flowmap.cli.output.text import table
from flowmap.cli.traffic.flows import HEADER, row
from flowmap.export.exposition import Exposition
from flowmap.export.labels import clean
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.export.series_table import SeriesKey, SeriesTable
from flowmap.export.snapshot import Snapshot
from flowmap.model.deployment import DeploymentInfo, Job, Owner
from flowmap.model.source import SourceReport, SourceStats
from flowmap.model.status import QuestionCounts, StatusView
from flowmap.model.traffic_map import MapDeployment, MapPeer
from flowmap.model.views import DeploymentView, FlowFilter, FlowPage, PeerTraffic
from flowmap.serve import ui
from flowmap.serve.api.app import build_app
from tests.support.fake_backend import CONNTRACK, FIGURES, FLOW, MAP, TRAFFIC, FakeBackend

HOSTILE = [
    "plain",
    "",
    "<script>alert(1)</script>",
    "</td></tr></table><img src=x onerror=alert(1)>",
    "\"' onmouseover='x' a=\"b",
    "&lt;&amp;&#60;",
    "<!--",
    "]]>",
    "a\nb\r\nc",
    "# HELP x y\n# TYPE x counter\nx 1",
    '{a="b"} 1\n',
    "back\\slash\\n\\",
    "nul\0byte",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202egnp.exe\u2066\u200f\u061c",
    "\ud800 and \udfff",
    'level=error msg="forged" time=0',
    '{"level": "error"}',
    "=cmd|' /C calc'!A0",
    "__proto__",
    "../../etc/passwd\0",
    "${jndi:ldap://x}",
    "%s%n{0}{}",
    "x" * 100_000,
    "\u2028\u2029\x85\xa0",
    "\U0001f980" * 200,
]


class Named(FakeBackend):
    """A backend in which everything that can have a name has this one."""

    def __init__(self, name: str) -> None:
        super().__init__(0)
        owner = Owner(name, name, name or "id", name)
        jobs = (Job(name, name, 1_700_000_000),)
        self.info = DeploymentInfo(
            owner, name, name, name, labels={name: name}, jobs_by_state={name: 1}, jobs=jobs, packages=(name,)
        )
        self.view = DeploymentView(self.info, TRAFFIC, (PeerTraffic(name, name, TRAFFIC, (owner,)),))
        self.name = name
        node = MapDeployment("d", "deployment", name, name, (owner,), {name: name}, FIGURES)
        self.map = dataclasses.replace(
            MAP, deployments=(node,), peers=(MapPeer("p", name, name, FIGURES),), namespaces=(name,)
        )

    async def flows(self, filter: FlowFilter, limit: int, cursor: str | None) -> FlowPage:
        return FlowPage((dataclasses.replace(FLOW, deployments=(self.info,), source=self.name),), self.name)

    async def deployments(self) -> tuple[DeploymentView, ...]:
        return (self.view,)

    async def peers(self) -> tuple[PeerTraffic, ...]:
        return self.view.peers

    def status(self) -> StatusView:
        plain = super().status()
        source = dataclasses.replace(plain.sources[0], error=self.name, stats=SourceStats(notes={self.name: self.name}))
        control = dataclasses.replace(plain.control_plane, questions=QuestionCounts(last_error=self.name))
        return dataclasses.replace(plain, sources=(source,), control_plane=control)

    def snapshot(self) -> Snapshot:
        series_table = SeriesTable(
            labels=("namespace", "deployment", "peer", "protocol"), max_series=10, idle_after=600
        )
        for kind in ("deployment", "shared"):
            owners = (self.info.owner, self.info.owner._replace(deployment_id="other"))
            series_table.series(SeriesKey(kind, owners[: 1 + (kind == "shared")], "", self.name, "tcp"), now=0)
        return Snapshot(
            source="conntrack",
            series_table=series_table.freeze(),
            deployments=(self.info,),
            sources=(SourceReport(CONNTRACK, SourceStats(lost={self.name: 1})),),
        )


def answers(backend: FakeBackend, *questions: tuple[str, str]) -> list[httpx.Response]:
    """One for each path and ``Accept``."""
    app = build_app(backend, Exposition(SelfMetrics("test"), deployment_labels=["team", backend.name]))  # type: ignore[attr-defined]

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return [await client.get(path, headers={"accept": accept}) for path, accept in questions]

    return asyncio.run(ask())


PAGE = (Path(ui.__file__).parent / "index.html").read_text()


def check(name: str) -> None:
    """All that holds of every answer, whatever the name."""
    text, openmetrics, page, *documents = answers(
        Named(name),
        ("/metrics", "text/plain"),
        ("/metrics", "application/openmetrics-text"),
        ("/", ""),
        *((f"/api/v1/{path}", "") for path in ("flows", "deployments", "peers", "status", "map")),
    )
    for response, parse in ((text, parse_text), (openmetrics, parse_openmetrics)):
        families: dict[str, Any] = {family.name: family for family in parse(response.text)}
        (sample,) = families["flowmap_deployment_connections"].samples
        assert sample.labels["deployment"] == clean(name)
    assert b"\0" not in text.content + page.content
    assert page.text == PAGE, "the page is a file; tests/serve/ui has what its script does with names"
    flows, deployments, peers, _, drawn = (json.loads(response.content) for response in documents)
    sent = name.encode("utf-8", "replace").decode()
    assert flows["nextCursor"] == flows["flows"][0]["deployments"][0]["labels"][sent] == sent
    assert deployments["deployments"][0]["packages"] == [sent]
    assert peers["peers"][0]["peer"] == drawn["peers"][0]["peer"] == sent
    assert drawn["deployments"][0]["name"] == drawn["namespaces"][0] == sent
    assert all(line.isprintable() for line in table(HEADER, [row(flow) for flow in flows["flows"]], width=80))


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name[:20]))
def test_hostile_names(name: str) -> None:
    check(name)


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(codec=None), max_size=40) | st.text("<>&\"'\\\n\0\x1b \u202e", max_size=12))
def test_any_name(name: str) -> None:
    check(name)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_reads_hostile_pages() -> None:
    for name in HOSTILE:
        (page,) = answers(Named(name), ("/metrics", "text/plain"))
        read = subprocess.run(["promtool", "check", "metrics"], input=page.content, capture_output=True)
        assert b"error while linting" not in read.stderr.lower() and read.returncode in (0, 3), (name[:40], read.stderr)
