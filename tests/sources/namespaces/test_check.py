"""What ``flowmap check`` says about other network namespaces; a test plays the opener."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from flowmap.config.models import CollectConfig
from flowmap.opener.protocol import VERSION, Refused, Report, Welcome
from flowmap.sources.namespaces.check import finding
from tests.sources.namespaces.test_client import OPENED, Opener, netlink

REPORT = Report(found=3, opened=3, over_limit=0, failed=0, hidden=0, missing=(), cause="")


def settings(path: Path) -> CollectConfig:
    return CollectConfig(namespaces="all", opener=str(path))


@pytest.mark.parametrize(
    ("report", "level", "words", "remedy"),
    [
        (REPORT, "ok", "3 other network namespaces can be read; there is room for ", ""),
        (
            Report(9, 3, 6, 0, 0, (), ""),
            "degraded",
            "3 of 9 other network namespaces can be read: 6 are over the limit (raise LimitNOFILE)",
            "raise LimitNOFILE of flowmap",
        ),
        (
            Report(2, 1, 0, 1, 0, (), "/run/netns/blue cannot be entered: Operation not permitted"),
            "degraded",
            "1 of 2 other network namespaces can be read: 1 cannot be entered: /run/netns/blue",
            "give flowmap opener CAP_SYS_ADMIN and CAP_SYS_PTRACE, and the host's pid namespace",
        ),
        (
            Report(0, 0, 0, 0, 0, ("blue",), ""),
            "degraded",
            "0 of 0 other network namespaces can be read: not found: blue",
            "correct collect.namespaces",
        ),
        (
            Refused(VERSION, "user 7 is not allowed; see flowmap opener --allow"),
            "degraded",
            "other network namespaces are not read: ",
            "",
        ),
    ],
)
def test_findings(tmp_path: Path, report: Report | Refused, level: str, words: str, remedy: str) -> None:
    opener = Opener(tmp_path / "opener.sock")

    def serve() -> None:
        opener.accept()
        if isinstance(report, Report):
            opener.send(Welcome(VERSION))
            opener.send(OPENED, *netlink())
        opener.send(report)

    thread = threading.Thread(target=serve)
    thread.start()
    found = finding(settings(opener.path))
    thread.join()
    opener.close()
    assert (found.name, found.level, found.remedy) == ("sockets.namespaces", level, remedy)
    assert found.message.startswith(words)


def test_a_socket_that_flowmap_may_not_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("flowmap.sources.namespaces.client.socket.socket.connect", refused)
    found = finding(settings(tmp_path / "opener.sock"))
    assert found.message.endswith("opener.sock: Permission denied")
    assert found.remedy == "let the user of flowmap write to this socket and enter its directory"


def test_without_an_opener(tmp_path: Path) -> None:
    found = finding(settings(tmp_path / "absent.sock"))
    assert found.level == "degraded"
    assert found.message == (
        f"other network namespaces are not read: {tmp_path}/absent.sock: No such file or directory"
    )
