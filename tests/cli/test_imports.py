"""What a command does not load: the server, SQLite, the sandbox, rich."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.shell import Shell

SERVER = ("uvicorn", "starlette", "flowmap.serve.server", "flowmap.daemon.wiring", "flowmap.daemon.lifecycle")
STORAGE = ("sqlite3", "flowmap.history", "flowmap.recording")
UNUSED = (*SERVER, *STORAGE, "flowmap.sandbox", "rich", "pygments", "click", "scapy")

CODE = """
import sys
from flowmap.cli import main
status = main(sys.argv[2:])
sys.stderr.write(f"{status} {[name for name in sys.argv[1].split(',') if name in sys.modules]}")
"""

CLIENTS = [
    ("jobs", "d1"),
    ("deployments", "by-ip", "--src-ip", "10.0.0.1"),
    ("deployments", "list"),
    ("packages", "legacy", "x.jar"),
    ("package-users", "log4j-core-2.14.jar", "--url", "http://127.0.0.1:9"),
    ("calibrate", "10.0.0.1:40000", "10.1.0.1:9092", "d1"),
    ("query", "10.0.0.1:40000", "10.1.0.1:9092", "--direct"),
]


def loaded(watched: tuple[str, ...], *words: str) -> str:
    """The exit status of a command, and which of the modules it loaded."""
    result = subprocess.run(
        [sys.executable, "-c", CODE, ",".join(watched), *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"},
    )
    return result.stderr.splitlines()[-1]


@pytest.mark.parametrize("form", ["table", "json"])
@pytest.mark.parametrize("words", CLIENTS, ids=" ".join)
def test_clients_of_the_control_plane_load_no_server(shell: Shell, words: tuple[str, ...], form: str) -> None:
    blink = {"enabled": True, "projects": ["legacy"], "endpoint": shell.sandbox.url}
    config = str(shell.config(blink=blink))
    status, modules = loaded(UNUSED, *words, "-c", config, "-o", form).split(" ", 1)
    assert modules == "[]"
    assert int(status) in (0, 1, 3)
    assert shell.asked()


def test_replay_with_a_catalog_loads_no_sandbox(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text("deployments: [{id: d-1, name: orders, addresses: [10.9.0.1]}]")
    capture = Path(__file__).parent.parent / "data" / "captures" / "http.pcap"
    words = ("replay", str(capture), "--catalog", str(catalog), "-o", "json")
    assert loaded(("flowmap.sandbox", *SERVER, "rich"), *words) == "0 []"


def test_the_daemon_loads_sqlite_and_flink_only_where_they_are_configured() -> None:
    code = "import sys, flowmap.daemon.lifecycle; print([name for name in sys.argv[1:] if name in sys.modules])"
    watched = ["sqlite3", "flowmap.control.flink.cluster", "redis", "rich", "scapy", "starlette"]
    result = subprocess.run([sys.executable, "-c", code, *watched], capture_output=True, text=True, check=True)
    assert result.stdout == "['starlette']\n", "what it needs is loaded, so the names are right"
