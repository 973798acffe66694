"""When packets are the source, and what a filter needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowmap.config import CollectConfig
from flowmap.errors import ConfigError, SourceError
from flowmap.sources import choice
from flowmap.sources.capture import filter as pcap_filter
from flowmap.sources.capture.source import CaptureSource
from flowmap.sources.conntrack import check as conntrack_check
from flowmap.sources.conntrack.source import ConntrackSource
from flowmap.sources.sockets.source import SocketsSource
from flowmap.system.proc import Unknown


def refuse(_: object) -> None:
    raise SourceError("no socket table here", remedy="another kernel")


@pytest.mark.parametrize(("interfaces", "kind"), [(["lo"], CaptureSource), ([], SocketsSource)])
def test_auto_captures_only_configured_interfaces(
    monkeypatch: pytest.MonkeyPatch, interfaces: list[str], kind: type
) -> None:
    monkeypatch.setattr(choice, "tracks", lambda _: False)
    monkeypatch.setattr(SocketsSource, "open", refuse)
    chosen = choice.choose_source(CollectConfig.model_validate({"capture": {"interfaces": interfaces}}))
    assert isinstance(chosen.source, kind)
    assert ("no socket table here (another kernel)" in chosen.why) == bool(interfaces)


def test_auto_prefers_the_socket_table_to_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "tracks", lambda _: False)
    chosen = choice.choose_source(CollectConfig.model_validate({"capture": {"interfaces": ["lo"]}}))
    assert isinstance(chosen.source, SocketsSource)
    assert chosen.why.endswith("interfaces is not used: set collect.source: capture to capture packets")


def test_reason_includes_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "tracks", lambda _: True)
    monkeypatch.setattr(ConntrackSource, "open", refuse)
    why = "the kernel tracks connections, but its table cannot be read: no socket table here (another kernel)"
    assert choice.choose(CollectConfig()) == ("sockets", why, True)


HIDDEN = "/proc/sys is hidden"


@pytest.mark.parametrize(
    ("tracked", "kind", "words"),
    [
        (True, "conntrack", "the kernel tracks connections here"),
        (False, "sockets", "the kernel tracks no connections here"),
        (Unknown(HIDDEN), "sockets", f"unknown whether the kernel tracks connections here: {HIDDEN}"),
    ],
)
def test_unknown_tracking_is_reported_as_unknown(
    tracked: bool | Unknown, kind: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "tracks", lambda _: tracked)
    monkeypatch.setattr(ConntrackSource, "open", lambda _: None)
    monkeypatch.setattr(conntrack_check, "read_settings", lambda: conntrack_check.ConntrackSysctls(1))
    chosen = choice.choose(CollectConfig())
    assert chosen.kind == kind and chosen.why.startswith(words)


@pytest.mark.parametrize(
    ("entries", "later", "known"), [(5, 5, True), (0, 1, True), (0, 0, False), (0, Unknown("x"), None)]
)
def test_empty_table_needs_a_datagram(
    entries: int, later: int | Unknown, known: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[int | Unknown] = [entries, later]
    monkeypatch.setattr(conntrack_check, "read_entries", lambda: answers.pop(0))
    assert choice.tracks() == (Unknown("x") if known is None else known)


COUNTING: list[tuple[int | None, bool, bool, str, str]] = [
    # nf_conntrack_acct, enable_accounting, may be written; what is taken, and words of why
    (1, False, False, "conntrack", "the kernel tracks connections here"),
    (None, False, False, "sockets", "unknown whether it counts their bytes: /proc/sys is hidden; set collect."),
    (0, True, True, "conntrack", "the kernel tracks connections here"),
    (
        0,
        False,
        True,
        "sockets",
        "(nf_conntrack_acct is 0); sysctl -w net.netfilter.nf_conntrack_acct=1, or set collect.",
    ),
    (0, True, False, "sockets", "(nf_conntrack_acct is 0) and cannot be enabled: No such file or directory"),
]


@pytest.mark.parametrize(("accounting", "enable", "writable", "kind", "words"), COUNTING)
def test_conntrack_without_byte_counters(
    accounting: int | None,
    enable: bool,
    writable: bool,
    kind: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if writable:
        (tmp_path / "nf_conntrack_acct").write_text("0")
    attempt = conntrack_check.try_accounting
    monkeypatch.setattr(choice, "tracks", lambda _: True)
    monkeypatch.setattr(ConntrackSource, "open", lambda _: None)
    monkeypatch.setattr(
        conntrack_check, "read_settings", lambda: conntrack_check.ConntrackSysctls(accounting, cause=HIDDEN)
    )
    monkeypatch.setattr(choice, "counts_bytes", lambda _: None)
    monkeypatch.setattr(conntrack_check, "try_accounting", lambda: attempt(tmp_path))
    chosen = choice.choose(CollectConfig.model_validate({"conntrack": {"enable_accounting": enable}}))
    assert (chosen.kind, chosen.costs) == (kind, kind == "sockets")
    assert words in chosen.why
    assert not writable or (tmp_path / "nf_conntrack_acct").read_text() == "0", "looking changes nothing"


@pytest.mark.parametrize(
    ("settings", "listened_on", "kept"),
    [
        ({}, (), 128),
        ({"interfaces": ["a", "b"]}, ("a", "b"), 128),
        ({"interfaces": ["a", "any"]}, (), 128),
        ({"tunnels": "inner"}, (), 256),
        ({"tunnels": "inner", "snap": 400}, (), 400),
        ({"tunnels": "outer", "snap": 64}, (), 64),
    ],
)
def test_capture_settings(settings: dict[str, object], listened_on: tuple[str, ...], kept: int) -> None:
    capture = CollectConfig.model_validate({"capture": settings}).capture
    assert (capture.listened_on, capture.kept) == (listened_on, kept)


def test_filter_without_libpcap(monkeypatch: pytest.MonkeyPatch) -> None:
    import scapy.arch.common

    def missing(*_: object, **__: object) -> None:
        raise ImportError("libpcap is not available")

    monkeypatch.setattr(scapy.arch.common, "compile_filter", missing)
    with pytest.raises(ConfigError, match="needs libpcap"):
        pcap_filter.compile_filter("tcp")


def test_bad_filter_is_a_configuration_error() -> None:
    settings = CollectConfig.model_validate({"source": "capture", "capture": {"filter": "tcp nonsense"}})
    with pytest.raises(ConfigError, match=r"collect\.capture\.filter: libpcap rejects 'tcp nonsense'"):
        choice.choose_source(settings)
