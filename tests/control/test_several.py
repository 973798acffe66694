"""Several control planes as one."""

from __future__ import annotations

import asyncio
from typing import Any

from flowmap.control.port import ControlPlane, ControlStatus, Listing, OwnersAnswer
from flowmap.control.several import SeveralControlPlanes
from flowmap.model.address import Address, Endpoint


class Plane:
    """Notes what it is asked."""

    def __init__(self, name: str) -> None:
        self.endpoint, self.workspace = f"https://{name}", name
        self.asked: list[tuple[Any, ...]] = []
        self.started = self.closed = 0

    def start(self) -> None:
        self.started += 1

    async def find_owners(self, *asked: Any) -> OwnersAnswer:
        self.asked.append(asked)
        return OwnersAnswer((), 0.0, 1.0)

    async def list_deployments(self, *asked: Any) -> Listing[Any]:
        self.asked.append(asked)
        return Listing((self.workspace,))

    async def list_jobs(self, *asked: Any) -> Listing[Any]:
        self.asked.append(asked)
        return Listing((self.workspace,))

    def status(self) -> ControlStatus:
        return ControlStatus(breaker_open=self.workspace == "main")

    async def aclose(self) -> None:
        self.closed += 1


def test_the_workspace_says_whom_to_ask() -> None:
    main, flink = Plane("main"), Plane("flink")
    both: ControlPlane = SeveralControlPlanes(main, {"flink.apache.org": flink})
    end = Endpoint(Address.parse("10.0.0.1"), 0)

    async def run() -> None:
        both.start()
        for workspace in ("", "other", "flink.apache.org"):
            await both.find_owners(workspace, "ns", end, None)
            await both.list_deployments(workspace, "ns")
            await both.list_jobs(workspace, "ns", "id")
        await both.aclose()

    asyncio.run(run())
    assert [asked[0] for asked in main.asked] == ["", "", "", "other", "other", "other"]
    assert flink.asked == [
        ("flink.apache.org", "ns", end, None),
        ("flink.apache.org", "ns"),
        ("flink.apache.org", "ns", "id"),
    ]
    assert (main.started, flink.started, main.closed, flink.closed) == (1, 1, 1, 1)
    assert (both.endpoint, both.workspace) == ("https://main, https://flink", "main")
    assert both.status().breaker_open, "the pauses of the first one count"
