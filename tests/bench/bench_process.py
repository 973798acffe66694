"""Start-up, idle memory and idle CPU of the daemon: ``python -m tests.bench.bench_process`` (as root: undisturbed)."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.sandbox import running_sandbox

RUNS = 7
IDLE_SECONDS = 20.0
AS_INSTALLED = "import sys; sys.modules['trio'] = None; "
"""httpcore imports trio where it is installed: by libraries of the tests, not with flowmap."""
DAEMON = AS_INSTALLED + "from flowmap.cli import main; sys.exit(main(sys.argv[1:]))"
PEER = AS_INSTALLED + "sys.modules['httpx._main'] = None; "
PEER += "import asyncio, httpx, numpy, prometheus_client, pydantic, starlette.applications, uvicorn, yaml; input()"
"""The libraries the daemon stands on, imported and then left alone."""


def wall(command: list[str]) -> float:
    """Median seconds of the whole process."""
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def daemon(endpoint: str, directory: str) -> Iterator[tuple[int, float]]:
    """A daemon on the socket table whose filters leave every flow out; its pid and seconds to ready."""
    path = Path(directory) / "flowmap.yaml"
    keys = {"access_key_id": "sandbox-access-key", "access_key_secret": "sandbox-secret"}
    plane = {"endpoint": endpoint, "workspace": "demo", "credentials": keys}
    collect = {"source": "sockets", "include": ["192.0.2.0/24"]}
    settings = {"control_plane": plane, "collect": collect, "http": {"listen": "127.0.0.1:10877"}}
    path.write_text(json.dumps(settings | {"log": {"level": "error"}}))
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", DAEMON, "run", "-c", str(path)])
    try:
        while not ready():
            assert process.poll() is None, "the daemon ended"
            time.sleep(0.01)
        yield process.pid, time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(timeout=10)


def ready() -> bool:
    try:
        with urllib.request.urlopen("http://127.0.0.1:10877/-/ready", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def peer_mib() -> float:
    with subprocess.Popen([sys.executable, "-c", PEER], stdin=subprocess.PIPE) as peer:
        time.sleep(3)
        size = resident_mib(peer.pid)
        peer.communicate(b"\n")
    return size


def main() -> None:
    if os.geteuid():
        measure()
        return
    from tests.support.netns import namespace

    with namespace() as quiet, quiet.entered():  # what else this machine's sockets do must not be counted
        measure()


def measure() -> None:
    version, bare = wall([sys.executable, "-m", "flowmap", "--version"]), wall([sys.executable, "-c", "pass"])
    print(f"flowmap --version: {version:.3f} s (reach ≤ 0.15); python -c pass {bare:.3f} s; ratio {version / bare:.1f}")
    with running_sandbox() as sandbox, tempfile.TemporaryDirectory() as directory:
        starts = []
        for _ in range(3):
            with daemon(sandbox.url, directory) as (pid, seconds):
                starts.append(seconds)
        print(f"start to ready: {statistics.median(starts):.2f} s (reach ≤ 1.5)")
        with daemon(sandbox.url, directory) as (pid, _):
            time.sleep(5)
            used = cpu_seconds(pid)
            time.sleep(IDLE_SECONDS)
            share = (cpu_seconds(pid) - used) / IDLE_SECONDS
            size = resident_mib(pid)
    peer = peer_mib()
    print(f"idle: {size:.0f} MiB resident (reach ≤ 75); the libraries alone {peer:.0f} MiB; ratio {size / peer:.2f}")
    print(f"idle: {share:.2%} CPU (reach < 1 %)")


if __name__ == "__main__":
    main()
