"""The embedded control plane as a server: admin paths, catalog files, start and end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from flowmap.catalog_file.catalog import example_catalog
from flowmap.errors import ConfigError
from flowmap.sandbox.control_plane import open_listener, serve, url_of
from tests.support.named_addresses import catalog, found
from tests.support.sandbox import running_sandbox


@pytest.mark.parametrize(
    "listen", ["10.0.0.1:80", "0.0.0.0:0", "127.0.0.1", "localhost:1", "127.0.0.1:70000", "[::]:1"]
)
def test_it_listens_on_loopback_only(listen: str) -> None:
    with pytest.raises(ConfigError, match="listen"):
        serve(listen)


def test_a_taken_port_is_told() -> None:
    with open_listener("127.0.0.1:0") as listener, pytest.raises(ConfigError, match="in use"):
        serve(url_of(listener).removeprefix("http://"))


def test_ipv6_loopback() -> None:
    with running_sandbox(catalog("a"), listen="[::1]:0") as sandbox:
        assert sandbox.url.startswith("http://[::1]:")
        assert found(sandbox.url) == ["a"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_on_a_signal(number: signal.Signals) -> None:
    code = "from flowmap.sandbox.control_plane import serve; serve(on_ready=lambda url: print(url, flush=True))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if httpx.get(f"{url}/_sandbox/requests").status_code == 200:
                break
        os.kill(process.pid, number)
        assert process.wait(10) == 0


def test_the_example_has_two_that_share_an_end() -> None:
    entries = example_catalog().deployments
    readers = [entry.name for entry in entries if ("127.0.2.1", 9092) in entry.reads]
    assert len(entries) == 4 and len(readers) == 2
