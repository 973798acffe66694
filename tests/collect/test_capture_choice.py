"""When packets are the source, and what a filter needs."""

from __future__ import annotations

import pytest

from flowmap.collect import choice, pcap_filter
from flowmap.collect.capture import CaptureSource
from flowmap.collect.sockets import SocketsSource
from flowmap.config import Collect
from flowmap.errors import ConfigError, SourceError


def refuse(_: object) -> None:
    raise SourceError("no socket table here")


@pytest.mark.parametrize(("interfaces", "kind"), [(["lo"], CaptureSource), ([], SocketsSource)])
def test_auto_takes_packets_last_and_only_where_interfaces_are_named(
    monkeypatch: pytest.MonkeyPatch, interfaces: list[str], kind: type
) -> None:
    monkeypatch.setattr(choice, "tracks", lambda: False)
    monkeypatch.setattr(SocketsSource, "open", refuse)
    chosen = choice.choose_source(Collect.model_validate({"capture": {"interfaces": interfaces}}))
    assert isinstance(chosen.source, kind)
    assert ("no socket table here" in chosen.why) == bool(interfaces)


def test_auto_prefers_the_socket_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "tracks", lambda: False)
    chosen = choice.choose_source(Collect.model_validate({"capture": {"interfaces": ["lo"]}}))
    assert isinstance(chosen.source, SocketsSource)


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
def test_what_is_captured(settings: dict[str, object], listened_on: tuple[str, ...], kept: int) -> None:
    capture = Collect.model_validate({"capture": settings}).capture
    assert (capture.listened_on, capture.kept) == (listened_on, kept)


def test_a_filter_without_libpcap(monkeypatch: pytest.MonkeyPatch) -> None:
    import scapy.arch.common

    def missing(*_: object, **__: object) -> None:
        raise ImportError("libpcap is not available")

    monkeypatch.setattr(scapy.arch.common, "compile_filter", missing)
    with pytest.raises(ConfigError, match="needs libpcap"):
        pcap_filter.compile_filter("tcp")


def test_a_bad_filter_is_the_configuration_s_fault() -> None:
    settings = Collect.model_validate({"source": "capture", "capture": {"filter": "tcp nonsense"}})
    with pytest.raises(ConfigError, match=r"collect\.capture\.filter: libpcap does not understand 'tcp nonsense'"):
        choice.choose_source(settings)
