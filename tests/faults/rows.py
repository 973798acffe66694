"""The faults: what is done to a daemon under churn, and what that may cost."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.faults.scene import FLOODED, Scene
from tests.support import kernel_traffic as traffic
from tests.support.host import Daemon
from tests.support.waiting import until


@dataclass(frozen=True, slots=True)
class Row:
    """One fault."""

    name: str
    done: str
    """What is done to the daemon, in words."""
    act: Callable[[Scene], None]
    """Does it, and checks that it had its effect and that the daemon tells of it."""
    loses: str = ""
    """What may be lost, in words; nothing if empty."""
    nameless: str = ""
    """Why connections may stay without their name, in words."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Sections of the configuration."""
    alone: bool = False
    """Needs a daemon of its own; the others happen to one, one after the other, in CI."""
    by_hand: bool = False
    """Takes long, since the control plane is left alone after a failure, or is much like another: not in CI."""


@dataclass(frozen=True, slots=True)
class CoveredElsewhere:
    """A fault that another test makes."""

    name: str
    done: str
    test: str
    """As pytest takes it."""


def stopped(scene: Scene) -> None:
    scene.daemon.process.send_signal(signal.SIGSTOP)
    time.sleep(2 * scene.pace)
    scene.daemon.process.send_signal(signal.SIGCONT)
    scene.lasts(1)


def killed(scene: Scene) -> None:
    scene.lasts(1)
    scene.restart(killed=True)
    scene.lasts(1)


def ended(scene: Scene) -> None:
    scene.lasts(1)
    scene.restart(killed=False)
    scene.lasts(1)


def overrun(scene: Scene) -> None:
    scene.daemon.process.send_signal(signal.SIGSTOP)
    traffic.insert(scene.machine.inside, 3000)
    scene.daemon.process.send_signal(signal.SIGCONT)
    until(lambda: scene.total("source_overruns_total"), "the loss is reported")
    until(lambda: scene.total("source_resyncs_total", reason="overrun"), "a full read follows")
    scene.machine.inside.run("conntrack", "-D", "-d", "10.0.0.1")
    scene.lasts(1)


def flooded(scene: Scene) -> None:
    for first in range(0, 6000, 1000):
        traffic.insert(scene.machine.inside, 1000, first=first, status=8)
        scene.lasts(0.3)
        assert scene.total("open_flows") <= 500
    assert scene.total("flows_shed_total", reason="unanswered") > 1000
    assert scene.total("flows_shed_total") > 4000
    assert scene.total("series") < 50
    scene.lasts(2.5)
    scene.machine.inside.run("conntrack", "-D", "-d", "10.0.0.1")


def api(fault: Mapping[str, Any], seconds: float = 2.5) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        before = scene.sandbox.requests["faults"].get(fault["kind"], 0)
        scene.sandbox.set_faults([fault])
        if fault["kind"] != "clock":
            until(lambda: scene.sandbox.requests["faults"].get(fault["kind"], 0) > before, "a call met it")
        scene.lasts(seconds)
        scene.sandbox.set_faults([])
        scene.lasts(0.5)

    return act


def cut_off(scene: Scene) -> None:
    port = scene.sandbox.url.rpartition(":")[2]
    scene.machine.inside.nft(
        f"table ip cut {{ chain out {{ type filter hook output priority 0; tcp dport {port} drop; }}; }}\n"
    )
    scene.lasts(2.5)
    scene.machine.inside.run("nft", "delete", "table", "ip", "cut")
    scene.lasts(0.5)


def flushed(scene: Scene) -> None:
    scene.machine.inside.run("conntrack", "-F")
    scene.again += 2
    scene.lasts(1)


def zeroed(scene: Scene) -> None:
    scene.lasts(2.5)
    scene.machine.inside.run("conntrack", "-L", "-z")
    scene.lasts(2.5)


def uncounted(scene: Scene) -> None:
    scene.machine.inside.sysctl("net.netfilter.nf_conntrack_acct", 0)
    until(lambda: "nf_conntrack_acct" in json.dumps(scene.daemon.json("/api/v1/status")["sources"]), "it is reported")
    scene.machine.inside.sysctl("net.netfilter.nf_conntrack_acct", 1)
    scene.lasts(1)


def port_taken(scene: Scene) -> None:
    second = scene.directory / "second"
    second.mkdir(exist_ok=True)
    other = Daemon(scene.machine.inside, scene.daemon.config, second)
    try:
        assert other.process.wait(timeout=60) == 1
    finally:
        other.process.kill()  # on a busy machine it may find the port free after this test
    assert "in use" in other.log.read_text()
    scene.look()


def broken_configuration(scene: Scene) -> None:
    good = scene.daemon.path.read_text()
    scene.daemon.path.write_text("collect: [\n")
    scene.daemon.process.send_signal(signal.SIGHUP)
    until(lambda: not scene.total("config_last_reload_successful"), "it is refused")
    scene.daemon.path.write_text(good)
    scene.daemon.process.send_signal(signal.SIGHUP)
    until(lambda: scene.total("config_last_reload_successful"), "the good one is taken")


def few_descriptors(scene: Scene) -> None:
    _, hard = resource.prlimit(scene.daemon.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(scene.daemon.process.pid, resource.RLIMIT_NOFILE, (64, hard))
    scene.lasts(2.5)
    resource.prlimit(scene.daemon.process.pid, resource.RLIMIT_NOFILE, (hard, hard))


def disk_full(scene: Scene) -> None:
    until(lambda: scene.total("history_up"), "the history works")
    filler = scene.history.parent / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    until(lambda: not scene.total("history_up"), "the history is down")
    filler.unlink()
    until(lambda: scene.total("history_up"), "it works again")


def history_broken(scene: Scene) -> None:
    until(lambda: scene.total("history_flows_written_total"), "flows are written")
    scene.restart(killed=False, meanwhile=lambda: scene.history.write_bytes(b"rubbish" * 5000))
    until(lambda: list(scene.history.parent.glob("history.sqlite.broken-*")), "it is set aside")
    until(lambda: scene.total("history_up"), "a new one begins")


DOWN = "bytes between the last scrape and the new start"
BRIEF = "closed before the next answer, or while there was no daemon"
BY_NAME = {"exclude": ["127.0.0.0/8", FLOODED]}
SMALL: Mapping[str, Any] = {"collect": {"max_flows": 500}}

ROWS = (
    Row("stopped", "SIGSTOP for 2 s", stopped),
    Row("control plane fails", "HTTP 503 to every call for 2.5 s", api({"kind": "error", "status": 503})),
    Row("control plane hangs", "no answer for 2.5 s", api({"kind": "hang"}), by_hand=True),
    Row("control plane is cut off", "nft drops packets to it for 2.5 s", cut_off),
    Row("malformed answers", "JSON that stops in the middle, for 2.5 s", api({"kind": "malformed"}), by_hand=True),
    Row("empty answers", "a list without entries for 2.5 s", api({"kind": "empty_list"}),
        nameless="the answer was no deployment", by_hand=True),
    Row("throttled", "Throttling.User to every call for 2.5 s", api({"kind": "throttle"}), by_hand=True),
    Row("clocks apart", "20 minutes, for 2.5 s", api({"kind": "clock", "seconds": 1200})),
    Row("port in use", "a second daemon with the same configuration", port_taken),
    Row("broken configuration", "an unfinished file and SIGHUP, then the old one and SIGHUP", broken_configuration),
    Row("few descriptors", "prlimit --nofile=64 for 2.5 s", few_descriptors),
    Row("table flushed", "conntrack -F: every entry ends; connections continue as new flows", flushed,
        loses="packets under way at that moment: the kernel counts them to entries that have ended"),
    Row("table zeroed", "conntrack -L -z", zeroed, alone=True,
        loses="bytes between the last full read (2 s) and the zeroing"),
    Row("accounting off", "nf_conntrack_acct=0 until the daemon reports it, then 1", uncounted, alone=True,
        loses="connections that the kernel did not count"),
    Row("events overrun", "a buffer of 64 KiB, 3,000 events while the daemon is stopped", overrun, alone=True,
        loses="connections whose end was among the dropped events",
        settings={"collect": BY_NAME | {"conntrack": {"receive_buffer": "64KiB", "resync": "2s"}}}),
    Row("flood", "6,000 unanswered entries of made-up clients, collect.max_flows: 500", flooded, alone=True,
        settings=SMALL, nameless="refused at first: the table was full"),
    Row("ended", "SIGTERM, then a new start", ended, loses=DOWN, nameless=BRIEF, alone=True, by_hand=True),
    Row("killed", "SIGKILL, then a new start", killed, loses=DOWN, nameless=BRIEF, alone=True),
    Row("disk full", "no room for the history on its file system, then room again", disk_full, alone=True,
        settings={"history": {"retain": "1h"}}),
    Row("history broken", "the file is overwritten between SIGTERM and start", history_broken, loses=DOWN, alone=True,
        nameless=BRIEF, settings={"history": {"retain": "1h"}}),
)  # fmt: skip
"""In the order in which those that are not ``alone`` happen to one daemon."""

_LIFE, _WEB, _RECORD = "tests/kernel/test_life.py", "tests/serve/server/test_web.py", "tests/recording/test_recorder.py"
ELSEWHERE = (
    CoveredElsewhere("signals at random moments", "SIGHUP and SIGTERM at any moment, also during start and full reads",
              f"{_LIFE}::test_signals_at_random_moments"),
    CoveredElsewhere("reloads without end", "many SIGHUPs, each with changed settings",
              f"{_LIFE}::test_reloads_leave_nothing_behind"),
    CoveredElsewhere("source lost", "no free descriptor, so the source cannot be opened for a while",
              f"{_LIFE}::test_a_source_that_fails_is_reopened"),
    CoveredElsewhere("permission missing", "started without CAP_NET_ADMIN; the daemon says so and exits",
              f"{_LIFE}::test_a_missing_capability_is_named"),
    CoveredElsewhere("stderr blocked or closed", "a full pipe without a reader, or no stderr",
              f"{_LIFE}::test_a_blocked_stderr_does_not_block_the_daemon"),
    CoveredElsewhere("disk full while recording", "the recording ends; its content so far is complete",
              f"{_RECORD}::test_a_limit_of_the_file_system_ends_the_recording_only"),
    CoveredElsewhere("certificates rotate or are broken", "files of http.tls and http.users change at run time",
              f"{_WEB}::test_certificates_and_users_rotate_while_it_runs"),
    CoveredElsewhere("slow, endless and broken requests", "clients that never finish, never read, or send garbage",
              "tests/serve/server/test_protocol.py::test_who_never_finishes_is_cut"),
)  # fmt: skip
