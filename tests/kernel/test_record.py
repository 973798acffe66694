"""A recording of the real daemon on real traffic, replayed: the same owner for every flow, the same totals."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flowmap.recording.container import SIGNATURE, Chunks
from flowmap.recording.reader import RecordingReader
from flowmap.replay.recording import Replay
from tests.support.host import WORKSPACE, Daemon, Host, deployment, host, total_of
from tests.support.netns import needs_root
from tests.support.waiting import until

pytestmark = [pytest.mark.kernel, needs_root]

SERVICE, PORT = "10.77.1.10", 9092
FIRST, SECOND, STRANGER = "10.77.0.11", "10.77.0.12", "10.77.0.99"
END = f"{SERVICE}:{PORT}"
TRAFFIC = ("deployment", "shared", "unattributed", "observed", "pending", "expired")
"""Prefixes of the metrics that a replay must reproduce. Ignored flows are left out, as scrapes continue."""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Host]:
    addresses = [f"{address}/32" for address in (SERVICE, FIRST, SECOND, STRANGER)]
    catalog = [deployment("orders", FIRST, END), deployment("archive", SECOND, END)]
    with host(tmp_path, addresses, catalog) as made, made.service(SERVICE, PORT):
        yield made


def flowmap(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "flowmap", *arguments], capture_output=True, text=True, timeout=60)


def traffic(page: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The samples of traffic on a page."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name.startswith(tuple(f"flowmap_{name}_" for name in TRAFFIC))
        and not sample.name.endswith(("_info", "_jobs"))
    }


def told(flow: dict[str, Any]) -> tuple[str, ...]:
    """A flow and its owners, without times and counters."""
    names = [one["name"] for one in flow["deployments"]]
    return json.dumps([flow[key] for key in ("protocol", "client", "server", "transmitBytes")]), flow["state"], *names


def churn(machine: Host, daemon: Daemon) -> int:
    """Short connections while addresses change hands and the control plane fails; returns the bytes sent."""
    sent = 0
    for turn, (orders, history_reader) in enumerate([(FIRST, SECOND), (SECOND, FIRST), (FIRST, SECOND)]):
        catalog = [deployment("orders", orders, END), deployment("archive", history_reader, END)]
        machine.sandbox.set_catalog({"workspace": WORKSPACE, "deployments": catalog})
        machine.sandbox.set_faults([{"kind": "error", "status": 503, "times": 4}] if turn == 1 else [])
        for n in range(60):
            machine.exchange((FIRST, SECOND, STRANGER)[n % 3], SERVICE, PORT, 100 + n)
            sent += 100 + n
        daemon.samples()
        time.sleep(0.8)
    return sent


def settled(daemon: Daemon, sent: int, left: int) -> bool:
    """Whether so much was seen, and only open flows are left, all of them named."""
    if total_of(daemon.samples(), "flowmap_observed_transmit_bytes_total") < sent:
        return False
    flows = daemon.json("/api/v1/flows")["flows"]
    return len(flows) == left and all(flow["state"] == "attributed" and not flow["endedAt"] for flow in flows)


def test_a_recording_replays_to_the_daemons_totals(machine: Host, tmp_path: Path) -> None:
    recording = tmp_path / "recording"
    with (
        machine.daemon(arguments=["--record", str(recording)]) as daemon,
        machine.connection(FIRST, SERVICE, PORT) as peer,
        machine.connection(SECOND, SERVICE, PORT) as other,
    ):
        for one in (peer, other):
            one.sendall(b"x" * 5000)
        # A real connection ends before its address changes hands; so both have their names first.
        until(lambda: settled(daemon, 0, left=2), "the open connections have their names")
        sent = churn(machine, daemon)

        def quiet() -> bool:
            for one in (peer, other):
                one.sendall(b"x")
            return settled(daemon, sent, left=2)

        until(quiet, "every flow has an owner and only the open ones are left")
        # A last confirmation and a last full read, so that nothing happens between the scrape and the end.
        machine.sandbox.set_faults([{"kind": "hang"}])
        time.sleep(3)
        page, flows = daemon.get("/metrics"), daemon.json("/api/v1/flows")["flows"]
        status = daemon.json("/api/v1/status")["recording"]
        assert status["active"], status
        assert status["ended"] == ""
        assert daemon.stop() == 0
    assert recording.stat().st_mode & 0o777 == 0o600
    whole = flowmap("replay", str(recording), "-o", "prometheus")
    assert (whole.stderr, whole.returncode) == ("", 0)
    assert traffic(whole.stdout) == traffic(page)
    assert "flowmap_recording_active 1" in page
    listed = flowmap("replay", str(recording), "--format", "json")
    assert (listed.stderr, listed.returncode) == ("", 0)
    replayed = json.loads(listed.stdout)["flows"]
    assert len(replayed) >= 182
    last = sorted(told(flow) for flow in flows)
    assert sorted(told(flow) for flow in replayed if not flow["endedAt"]) == last
    assert {one["name"] for flow in replayed for one in flow["deployments"]} == {"orders", "archive"}
    assert {flow["state"] for flow in replayed} >= {"attributed", "unknown"}
    assert daemon_saw_every_byte(replayed, page)
    ends = f"{FIRST}:{peer_port(flows, FIRST)}", END
    found = flowmap("replay", str(recording), "-o", "json", "--query", *ends)
    assert found.returncode == 0, found.stderr
    assert [one["name"] for one in json.loads(found.stdout)["deployments"]] == ["orders"]
    assert secret_of(recording) == []


def peer_port(flows: list[dict[str, Any]], client: str) -> int:
    (port,) = [flow["client"]["port"] for flow in flows if flow["client"]["ip"] == client]
    return int(port)


def daemon_saw_every_byte(flows: list[dict[str, Any]], page: str) -> bool:
    """Whether the flows of the replay add up to what the daemon observed."""
    observed = {name: value for (name, _), value in traffic(page).items() if "observed" in name}
    return all(
        sum(flow[f"{way}Bytes"] for flow in flows) == observed[f"flowmap_observed_{way}_bytes_total"]
        for way in ("transmit", "receive")
    )


def secret_of(recording: Path) -> list[bytes]:
    """Secrets of the configuration that are in the recording."""
    with recording.open("rb") as file:
        file.seek(len(SIGNATURE))
        text = b"".join(chunk.data for chunk in Chunks(file))
    return [secret for secret in (b"sandbox-secret", b"sandbox-access-key") if secret in text]


def test_a_killed_daemon_leaves_its_recording(machine: Host, tmp_path: Path) -> None:
    recording = tmp_path / "recording"
    with machine.daemon(arguments=["--record", str(recording)]) as daemon:
        for _ in range(20):
            machine.exchange(FIRST, SERVICE, PORT, 100)
        until(lambda: settled(daemon, 2000, left=0), "every flow ended and was decided")
        time.sleep(1.6)
        page = daemon.get("/metrics")
        daemon.process.kill()
        daemon.process.wait()
    replayed = flowmap("replay", str(recording), "-o", "prometheus")
    assert replayed.returncode == 3
    assert replayed.stderr == f"flowmap: {recording} has no end: flowmap is still writing it, or was killed\n"
    assert traffic(replayed.stdout) == traffic(page)


def test_a_full_disk_ends_the_recording_only(machine: Host, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        with machine.daemon(arguments=["--record", str(disk / "recording")]) as daemon:
            ballast = (disk / "ballast").open("wb", buffering=0)
            with ballast, contextlib.suppress(OSError):
                while ballast.write(b"x" * 4096):
                    pass

            def ended() -> bool:
                machine.exchange(FIRST, SERVICE, PORT, 100)
                return not daemon.json("/api/v1/status")["recording"]["active"]

            until(ended, "the recording ended")
            assert daemon.json("/api/v1/status")["recording"]["ended"] == "disk"
            assert total_of(daemon.samples(), "flowmap_recording_ended_total", reason="disk") == 1
            seen = total_of(daemon.samples(), "flowmap_observed_transmit_bytes_total")
            machine.exchange(FIRST, SERVICE, PORT, 3000)
            until(
                lambda: total_of(daemon.samples(), "flowmap_observed_transmit_bytes_total") >= seen + 3000,
                "the daemon goes on",
            )
            assert daemon.stop() == 0
            assert "the file cannot be written: No space left on device" in daemon.log.read_text()
        with RecordingReader(disk / "recording") as reader:
            replay = Replay(reader)
            for _ in replay.run():
                pass
        assert replay.difference is None
        assert reader.ended == "disk" or "has no end" in reader.missing
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
