"""Requests that the embedded control plane answers: its API, and the admin paths."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support.named_addresses import catalog, found
from tests.support.sandbox import running_sandbox


def test_the_catalog_changes_from_python_and_over_http() -> None:
    with running_sandbox(catalog("a")) as sandbox:
        assert found(sandbox.url) == ["a"]
        sandbox.set_catalog(catalog("b", "c"))
        assert found(sandbox.url) == ["b", "c"]
        put = httpx.put(f"{sandbox.url}/_sandbox/catalog", json=catalog("d"))
        assert (put.status_code, found(sandbox.url)) == (200, ["d"])
        assert httpx.get(f"{sandbox.url}/_sandbox/catalog").json()["deployments"][0]["id"] == "d"
        bad = httpx.put(f"{sandbox.url}/_sandbox/catalog", json={"deployments": [{"id": "x"}]})
        assert bad.status_code == 400 and "deployments.0.name" in bad.json()["error"]
        for broken in (b"{", b"[" * 100_000, b"\xff"):
            assert httpx.put(f"{sandbox.url}/_sandbox/catalog", content=broken).status_code == 400
        assert found(sandbox.url) == ["d"]


def test_faults_and_counts_over_http() -> None:
    with running_sandbox(catalog("a")) as sandbox:
        put = httpx.put(f"{sandbox.url}/_sandbox/faults", json=[{"kind": "error", "times": 1}])
        assert put.status_code == 200
        told = httpx.get(f"{sandbox.url}/_sandbox/faults").json()
        assert told["active"] == [{"kind": "error", "times": 1}] and "gzip_bomb" in told["kinds"]
        assert found(sandbox.url) == ["a"]  # asked twice
        assert httpx.get(f"{sandbox.url}/_sandbox/faults").json()["active"] == []
        assert httpx.get(f"{sandbox.url}/v").status_code == 400
        assert httpx.get(f"{sandbox.url}/_sandbox/requests").json() == {
            "total": 2,
            "byOperation": {"GetDeploymentsByIp": {"client": 2}},
            "refused": {"MissingXAcsAction": 1},
            "faults": {"error": 1},
            "catalogError": None,
        }
        bad = httpx.put(f"{sandbox.url}/_sandbox/faults", json=[{"kind": "earthquake"}])
        assert bad.status_code == 400 and "0.kind" in bad.json()["error"]
        assert httpx.put(f"{sandbox.url}/_sandbox/faults", json={"kind": "error"}).status_code == 400


def test_a_catalog_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("deployments: [{id: a, name: a, addresses: [10.0.0.1]}]")
    with running_sandbox(catalog_path=path) as sandbox:
        assert found(sandbox.url) == ["a"]
        path.write_text("deployments: [{id: bb, name: bb, addresses: [10.0.0.1]}]")
        assert found(sandbox.url) == ["bb"]
        path.write_text("deployments: [{id: bb}]")
        assert found(sandbox.url) == ["bb"]  # the last good one stays
        assert "deployments.0.name" in str(sandbox.catalog_error)
        path.unlink()
        assert found(sandbox.url) == ["bb"]
        assert "No such file" in str(sandbox.catalog_error)
        path.write_text("deployments: [{id: c, name: ccc, addresses: [10.0.0.1]}]")
        assert found(sandbox.url) == ["ccc"]
        assert sandbox.catalog_error is None


def test_the_gateway_answers_in_the_documented_shape() -> None:
    with running_sandbox() as sandbox:
        reply = httpx.get(f"{sandbox.url}/api/v2/namespaces/x/jobs")
        assert reply.status_code == 400
        assert set(reply.json()) == {"RequestId", "HostId", "Code", "Message", "Recommend"}
        assert reply.headers["x-acs-request-id"] == reply.json()["RequestId"]
