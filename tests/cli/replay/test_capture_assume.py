"""flowmap replay --assume-current: every flow that today's answers name is named, whenever it was in the capture."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from flowmap.cli import command
from tests.support.capture_files import SECOND, Row, pcap
from tests.support.packets import ACK, FIN, SYN
from tests.support.shell import Shell, deployment

START = 1_700_000_000.0
SERVICE = ("10.1.0.1", 9092)


def frame(time: float, source: tuple[str, int], target: tuple[str, int], tcp_flags: int, sequence: int = 1) -> Row:
    """An Ethernet frame with a TCP segment of no data."""
    ends = b"".join(bytes(map(int, ip.split("."))) for ip in (source[0], target[0]))
    tcp = struct.pack("!HHIIBBHHH", source[1], target[1], sequence, 0, 0x50, tcp_flags, 0, 0, 0)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + ends
    return Row(bytes(12) + b"\x08\0" + ip + tcp, 54, int((START + time) * SECOND))


def lives(client: tuple[str, int], began: float) -> list[list[Row]]:
    """One connection in each of the ways in which a short capture can show it."""
    return [
        [frame(began + n / 5, client, SERVICE, ACK) for n in range(3)],  # picked up, and open in the end
        [frame(began, client, SERVICE, ACK)],  # one packet of it
        [frame(began, SERVICE, client, ACK)],  # which the server sent
        [frame(began, client, SERVICE, SYN), frame(began + 0.01, client, SERVICE, FIN | ACK)],  # over before any answer
        [frame(began, client, SERVICE, ACK), frame(began + 0.01, SERVICE, client, FIN | ACK)],
        [frame(began, client, SERVICE, SYN), frame(began + 0.5, client, SERVICE, ACK)],  # begun, and open in the end
    ]


@pytest.mark.parametrize("gap", [0.0, 40.0, 3600.0])
def test_every_flow_that_today_s_answers_name_is_named(shell: Shell, gap: float) -> None:
    """Two connections of each kind and client: one when nothing was asked yet, one when all answers are there."""
    shell.sandbox.set_catalog(
        {
            "workspace": "w",
            "namespaces": ["orders", "risk"],
            "deployments": [
                deployment(f"d-{n}", "orders", jobs=1, addresses=[f"10.0.0.{n}"], reads=["10.1.0.1:9092"])
                for n in range(1, 5)
            ],
        }
    )
    rows, port = [], 40_000
    for number in range(1, 9):
        for began in (0.0, 1.0 + gap):
            for kind in range(6):
                port += 1
                rows += lives((f"10.0.0.{number}", port), began)[kind]
    path = shell.directory / "short.pcap"
    path.write_bytes(pcap(sorted(rows, key=lambda row: row.time)))
    assert command.main(["replay", str(path), "-c", str(shell.config()), "--assume-current", "-o", "json"]) == 0
    flows = json.loads(shell.capsys.readouterr().out)["flows"]
    found = {
        (flow["client"]["ip"], flow["client"]["port"]): (flow["state"], [one["name"] for one in flow["deployments"]])
        for flow in flows
    }
    expected = {
        (f"10.0.0.{(port - 40_001) // 12 + 1}", port): (port - 40_001) // 12 + 1 for port in range(40_001, 40_097)
    }
    assert found == {
        ends: ("attributed", [f"name-d-{number}"]) if number <= 4 else ("unknown", [])
        for ends, number in expected.items()
    }


@pytest.mark.parametrize("over", [True, False])
def test_a_tie_that_today_s_answers_break(shell: Shell, over: bool) -> None:
    """Two deployments have the address; the connection is known by its port, be it over or not."""
    end = "10.0.0.1:40001"
    both: dict[str, Any] = {"jobs": 1, "addresses": ["10.0.0.1"], "reads": ["10.1.0.1:9092"]}
    shell.sandbox.set_catalog(
        {
            "workspace": "w",
            "namespaces": ["orders", "risk"],
            "deployments": [
                deployment("d-1", "orders", **both),
                deployment("d-2", "orders", **both, connections=[{"client": end, "server": "10.1.0.1:9092"}]),
            ],
        }
    )
    rows = [row for n in (1, 2) for row in lives(("10.0.0.1", 40_000 + n), 0.0)[3 if over else 5]]
    path = shell.directory / "tie.pcap"
    path.write_bytes(pcap(sorted(rows, key=lambda row: row.time)))
    assert command.main(["replay", str(path), "-c", str(shell.config()), "--assume-current", "-o", "json"]) == 0
    flows = {flow["client"]["port"]: flow for flow in json.loads(shell.capsys.readouterr().out)["flows"]}
    assert [one["name"] for one in flows[40_001]["deployments"]] == ["name-d-2"]
    assert flows[40_002]["state"] == "shared"


def test_evidence_names_the_assumption(shell: Shell, tmp_path: Path) -> None:
    shell.sandbox.set_catalog(
        {
            "workspace": "w",
            "namespaces": ["orders", "risk"],
            "deployments": [deployment("d-1", "orders", jobs=1, addresses=["10.0.0.1"], reads=["10.1.0.1"])],
        }
    )
    path = tmp_path / "short.pcap"
    path.write_bytes(pcap(lives(("10.0.0.1", 40_001), 0.0)[1]))
    words = ["replay", str(path), "-c", str(shell.config()), "--assume-current", "-o", "json"]
    assert command.main([*words, "--query", "10.0.0.1:40001", "10.1.0.1:9092", "--explain"]) == 0
    answer = json.loads(shell.capsys.readouterr().out)
    assert {(piece["origin"], piece["rule"]) for piece in answer["evidence"]} <= {
        ("assumed", "assumed"),
        ("assumed", "host"),
    }
