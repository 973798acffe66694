"""The client of the control plane beside the vendor's SDK: import, a long listing, one question, one signature.

    python -m tests.bench.bench_control [--deployments 10000] [--oracle PYTHON]

``--oracle`` is a Python that has the extra ``oracle`` (the SDK) besides flowmap; without it, and without the SDK in
this Python, the peer's figures are missing. Each side runs in a process of its own against one sandbox, so that memory
is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.sandbox import running_sandbox

ROOT = Path(__file__).parent.parent.parent

START = """
import json, os, sys, time
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
before, started = rss(), time.perf_counter()
"""

OUR_IMPORT = (
    START
    + """
import flowmap.control.alibaba.api.client, flowmap.control.http.transport
print(json.dumps({"seconds": time.perf_counter() - started, "mib": rss() - before}))
"""
)

SDK_IMPORT = (
    START
    + """
import alibabacloud_ververica20220718.client
print(json.dumps({"seconds": time.perf_counter() - started, "mib": rss() - before}))
"""
)

OUR_LIST = (
    START
    + """
import asyncio
from flowmap.control.client import ControlClient
from flowmap.control.credentials import StaticCredentials
import flowmap.control.http.transport
async def main(url):
    keys = StaticCredentials("sandbox-access-key", "sandbox-secret")
    async with ControlClient(endpoint=url, workspace="sandbox", credentials=keys, timeout=60) as client:
        await client.list_deployments(namespace="default-namespace", name="nobody").all()
        before, started = rss(), time.perf_counter()
        found = await client.list_deployments(namespace="default-namespace").all()
        seconds, mib = time.perf_counter() - started, rss() - before
        times = []
        for _ in range(200):
            started = time.perf_counter()
            await client.get_deployments_by_ip(namespace="default-namespace", src_ip="10.0.0.1")
            times.append(time.perf_counter() - started)
    names = [item.deployment_id for item in found]
    print(json.dumps({"seconds": seconds, "mib": mib, "count": len(set(names)), "ordered": names == sorted(names),
                      "question": sorted(times)[len(times) // 2]}))
asyncio.run(main(sys.argv[1]))
"""
)

SDK_LIST = (
    START
    + """
from alibabacloud_ververica20220718 import models
from alibabacloud_ververica20220718.client import Client
from alibabacloud_tea_openapi.models import Config
from darabonba.runtime import RuntimeOptions
client = Client(Config(access_key_id="sandbox-access-key", access_key_secret="sandbox-secret",
                       endpoint=sys.argv[1].removeprefix("http://"), protocol="http"))
def page(index, name=None):
    return client.list_deployments_with_options(
        "default-namespace",
        models.ListDeploymentsRequest(page_index=index, page_size=100, name=name, sort_name="gmt_create"),
        models.ListDeploymentsHeaders(workspace="sandbox"), RuntimeOptions()).body
page(1, "nobody")
before, started = rss(), time.perf_counter()
found, index = [], 1
while True:
    body = page(index)
    found += body.data
    if index * 100 >= body.total_size:
        break
    index += 1
seconds, mib = time.perf_counter() - started, rss() - before
times = []
for _ in range(200):
    started = time.perf_counter()
    client.get_deployments_by_ip_with_options(
        "default-namespace", models.GetDeploymentsByIpRequest(src_ip="10.0.0.1", ignore_resource_setting=True),
        models.GetDeploymentsByIpHeaders(workspace="sandbox"), RuntimeOptions())
    times.append(time.perf_counter() - started)
names = [item.deployment_id for item in found]
print(json.dumps({"seconds": seconds, "mib": mib, "count": len(set(names)), "ordered": names == sorted(names),
                  "question": sorted(times)[len(times) // 2]}))
"""
)


def run(python: str, code: str, *arguments: str) -> dict[str, Any] | None:
    """What a child prints; None if it cannot run (the SDK is not there)."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"}
    done = subprocess.run(
        [python, "-c", code, *arguments], env=environ, capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        print(f"  ({python}: {done.stderr.strip().splitlines()[-1]})")
        return None
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def median_of(python: str, code: str, rounds: int) -> dict[str, Any] | None:
    results = [run(python, code) for _ in range(rounds)]
    good = [result for result in results if result is not None]
    return {name: statistics.median(one[name] for one in good) for name in good[0]} if good else None


def show(
    what: str, unit: str, field: str, ours: dict[str, Any], theirs: dict[str, Any] | None, scale: float = 1.0
) -> None:
    peer = "peer missing"
    if theirs is not None:
        peer = f"SDK {theirs[field] * scale:8.1f} {unit}   ratio {ours[field] / theirs[field]:.2f}"
    print(f"{what:34} {ours[field] * scale:8.1f} {unit}   {peer}")


def catalog(count: int) -> dict[str, Any]:
    return {
        "deployments": [
            {
                "id": f"d{number:06}",
                "name": f"deployment-{number}",
                "createdAt": 1_700_000_000 + number,
                "labels": {"team": f"t{number % 10}"},
                "addresses": [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"],
                "artifact": {"kind": "JAR", "jarArtifact": {"jarUri": f"oss://bucket/job-{number}.jar"}},
                "jobs": [{"id": f"j{number}"}],
            }
            for number in range(count)
        ]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deployments", type=int, default=10_000)
    parser.add_argument("--oracle", default=os.environ.get("FLOWMAP_ORACLE_PYTHON", sys.executable))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for python, code in ((sys.executable, OUR_IMPORT), (options.oracle, SDK_IMPORT)):
        run(python, code)  # warms the caches of both
    ours, theirs = (
        median_of(sys.executable, OUR_IMPORT, options.rounds),
        median_of(options.oracle, SDK_IMPORT, options.rounds),
    )
    assert ours is not None
    show("import", "ms ", "seconds", ours, theirs, 1000)
    show("import, memory", "MiB", "mib", ours, theirs)
    with running_sandbox(catalog(options.deployments)) as sandbox:
        ours, theirs = run(sys.executable, OUR_LIST, sandbox.url), run(options.oracle, SDK_LIST, sandbox.url)
    assert ours is not None and ours["count"] == options.deployments and ours["ordered"], ours
    assert theirs is None or theirs["count"] == options.deployments
    show(f"{options.deployments} deployments listed", "s  ", "seconds", ours, theirs)
    show("… memory of the result", "MiB", "mib", ours, theirs)
    show("one question, median", "ms ", "question", ours, theirs, 1000)


if __name__ == "__main__":
    main()
