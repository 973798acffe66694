"""`flowmap check` with each thing really taken away: what it says then, and that it says nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowmap.cli.check import command as check
from flowmap.sandbox.verify import ACCESS_KEY_ID, ACCESS_KEY_SECRET
from tests.support.host import WORKSPACE, Host, deployment, host
from tests.support.netns import needs_root

pytestmark = [pytest.mark.kernel, needs_root]

Settings = dict[str, Any]
NAMESPACE = "control_plane.default-namespace"


OF_THE_TEST_HOST = ("sockets.containers", "sockets.namespaces", "sockets.processes")
"""Findings about the cgroups and processes of the host that the tests run on; tests/sources/workloads has theirs."""


class CheckedHost:
    """A host on which everything is in order, and a configuration for it."""

    def __init__(self, machine: Host, directory: Path) -> None:
        self.machine = machine
        self.secret = directory / "secret"
        self.secret.write_text(ACCESS_KEY_SECRET)
        self.secret.chmod(0o600)
        self.file = directory / "flowmap.yaml"
        self.settings: Settings = {
            "control_plane": {
                "endpoint": machine.sandbox.url,
                "workspace": WORKSPACE,
                "timeout": "1s",
                "credentials": {"access_key_id": ACCESS_KEY_ID, "access_key_secret_file": str(self.secret)},
            },
            "collect": {"source": "conntrack", "conntrack": {"receive_buffer": "1MiB"}},
            "http": {"listen": "127.0.0.1:10817"},
        }
        self.held = contextlib.ExitStack()

    def write(self) -> None:
        self.file.write_text(json.dumps(self.settings))

    def found(self) -> dict[str, tuple[str, str, str]]:
        """Level, message and remedy of what is not in order."""
        self.write()
        with self.machine.inside.entered():
            findings = list(check.look(str(self.file)))
        assert len(findings) > 10 or any(one.level == "failed" for one in findings)
        here = OF_THE_TEST_HOST
        return {x.name: (x.level, x.message, x.remedy) for x in findings if x.level != "ok" and x.name not in here}


@pytest.fixture
def checked(tmp_path: Path) -> Iterator[CheckedHost]:
    catalog = [deployment("orders", "10.77.0.11", "10.77.1.10:9092")]
    with host(tmp_path, ["10.77.1.10/32", "10.77.0.11/32"], catalog) as machine:
        machine.inside.sysctl("net.netfilter.nf_conntrack_events", 1)
        with machine.service("10.77.1.10", 9092):
            machine.exchange("10.77.0.11", "10.77.1.10", 9092, 100)
            made = CheckedHost(machine, tmp_path)
            with made.held:
                yield made


def accounting_off(checked: CheckedHost) -> None:
    checked.machine.inside.sysctl("net.netfilter.nf_conntrack_acct", 0)


def events_auto(checked: CheckedHost) -> None:
    checked.machine.inside.sysctl("net.netfilter.nf_conntrack_events", 2)


def events_off(checked: CheckedHost) -> None:
    checked.machine.inside.sysctl("net.netfilter.nf_conntrack_events", 0)


def no_rule(checked: CheckedHost) -> None:
    checked.machine.inside.run("nft", "flush", "ruleset")
    checked.machine.inside.run("conntrack", "-F")


def port_taken(checked: CheckedHost) -> None:
    with checked.machine.inside.entered():
        checked.held.enter_context(socket.create_server(("127.0.0.1", 10817)))


def address_of_another_host(checked: CheckedHost) -> None:
    checked.settings["http"] = {"listen": "192.0.2.1:10817", "insecure": True}


def secret_for_all(checked: CheckedHost) -> None:
    checked.secret.chmod(0o644)


def config_for_all(checked: CheckedHost) -> None:
    credentials = {"access_key_id": ACCESS_KEY_ID, "access_key_secret": ACCESS_KEY_SECRET}
    checked.settings["control_plane"]["credentials"] = credentials
    checked.write()
    checked.file.chmod(0o644)


def config_changed_by_all(checked: CheckedHost) -> None:
    checked.write()
    checked.file.chmod(0o666)


def nobody_answers(checked: CheckedHost) -> None:
    checked.settings["control_plane"]["endpoint"] = "http://127.0.0.1:9"


def wrong_key(checked: CheckedHost) -> None:
    checked.secret.write_text("not-the-secret")


def no_key_file(checked: CheckedHost) -> None:
    checked.secret.unlink()


def clock_off(checked: CheckedHost) -> None:
    checked.machine.sandbox.set_faults([{"kind": "clock", "seconds": 3600}])


def jobs_refused(checked: CheckedHost) -> None:
    checked.machine.sandbox.set_faults([{"kind": "gateway", "operation": "ListJobs"}])


TAKEN: list[tuple[Callable[[CheckedHost], None], dict[str, tuple[str, str, str]]]] = [
    (accounting_off, {"conntrack.accounting": ("degraded", "without bytes", "nf_conntrack_acct=1")}),
    (events_auto, {"conntrack.events": ("degraded", "only the next full read notices", "nf_conntrack_events=1")}),
    (events_off, {"conntrack.events": ("degraded", "short connections are missed", "nf_conntrack_events=1")}),
    (no_rule, {"conntrack.table": ("degraded", "the kernel tracks nothing", "add an nft or iptables rule")}),
    (port_taken, {"http.listen": ("failed", "in use by python", "choose another http.listen")}),
    (address_of_another_host, {"http.listen": ("failed", "cannot listen on 192.0.2.1", "choose another http.listen")}),
    (secret_for_all, {"files.access_key_secret_file": ("degraded", "every user may read", "chmod o-rwx")}),
    (config_for_all, {"files.config": ("degraded", "every user may read the secrets", "separate files")}),
    (config_changed_by_all, {"files.config": ("degraded", "every user may change it", "chmod o-w")}),
    (nobody_answers, {f"{NAMESPACE}.GetDeploymentsByIp": ("failed", "no connection can be named", "endpoint")}),
    (no_key_file, {"config": ("failed", "No such file", "correct the configuration")}),
    (clock_off, {"control_plane.clock": ("degraded", "s ahead", "correct this host's clock")}),
    (jobs_refused, {f"{NAMESPACE}.ListJobs": ("degraded", "jobs and the packages", "permissions")}),
]


def test_nothing_is_wrong_where_nothing_is(checked: CheckedHost) -> None:
    assert checked.found() == {}


@pytest.mark.parametrize(("take", "wanted"), TAKEN, ids=[take.__name__ for take, _ in TAKEN])
def test_what_is_taken_away_is_named_with_its_remedy(
    checked: CheckedHost, take: Callable[[CheckedHost], None], wanted: dict[str, tuple[str, str, str]]
) -> None:
    take(checked)
    found = checked.found()
    assert found.keys() == wanted.keys(), found
    for name, (level, message, remedy) in wanted.items():
        assert (found[name][0], message in found[name][1], remedy in found[name][2]) == (level, True, True), found[name]


def test_a_wrong_key_fails_every_operation_by_name(checked: CheckedHost) -> None:
    wrong_key(checked)
    found = checked.found()
    assert {name: level for name, (level, *_) in found.items()} == {
        f"{NAMESPACE}.GetDeploymentsByIp": "failed",
        f"{NAMESPACE}.GetDeploymentsByLabel": "degraded",
        f"{NAMESPACE}.ListDeployments": "degraded",
    }
    assert all("see control_plane.credentials" in remedy for *_, remedy in found.values())
    assert "not-the-secret" not in str(found)


def test_what_auto_takes(checked: CheckedHost) -> None:
    checked.settings["collect"] = {"source": "auto"}
    assert checked.found() == {}
    accounting_off(checked)
    found = checked.found()
    assert found.keys() == {"collect.source", "conntrack.accounting"}
    assert "auto takes sockets: the kernel tracks connections but does not count" in found["collect.source"][1]
    checked.settings["collect"]["conntrack"] = {"enable_accounting": True}
    assert checked.found().keys() == {"conntrack.accounting"}
    assert checked.machine.inside.sysctl("net.netfilter.nf_conntrack_acct") == 0, "looking changes nothing"


WEAK = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--")


@pytest.mark.parametrize(("source", "status"), [("conntrack", 1), ("auto", 0), ("sockets", 0)])
def test_without_the_capability(checked: CheckedHost, source: str, status: int) -> None:
    checked.settings["collect"] = {"source": source}
    checked.write()
    command = [*WEAK, sys.executable, "-m", "flowmap", "check", "-c", str(checked.file), "-o", "json"]
    environ = os.environ | {"ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"}
    with checked.machine.inside.entered():
        done = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert done.returncode == status, done.stdout + done.stderr
    report = json.loads(done.stdout)
    levels = {one["name"]: one["level"] for one in report["findings"] if one["level"] != "ok"}
    for name in OF_THE_TEST_HOST:
        levels.pop(name, None)
    assert report["ok"] is (status == 0)
    level = "failed" if status else "degraded"
    wanted = {} if source == "sockets" else {"host.capabilities": level, "conntrack.access": level}
    if source == "auto":
        wanted["collect.source"] = level
        (told,) = (one["message"] for one in report["findings"] if one["name"] == "collect.source")
        assert told.startswith("auto takes sockets: the kernel tracks connections, but its table cannot be read")
    # Without CAP_NET_ADMIN the kernel grants net.core.rmem_max, and sockets close by the thousand here.
    levels.pop("sockets.receive_buffer", None)
    assert levels == wanted
