"""Parsers of text: durations, sizes, listening addresses, endpoints, interfaces."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.config import (
    Listen,
    load,
)
from flowmap.config.values import (
    format_duration,
    format_interface,
    format_size,
    parse_duration,
    parse_endpoint,
    parse_interface,
    parse_size,
)
from flowmap.errors import ConfigError
from tests.support.config_files import problems_of

DURATIONS = [
    ("30s", 30.0),
    ("10m", 600.0),
    ("1h30m", 5400.0),
    ("7d", 604800.0),
    ("1w", 604800.0),
    ("250ms", 0.25),
    ("1.5s", 1.5),
    ("0s", 0.0),
    ("15", 15.0),
    (15, 15.0),
    (0.5, 0.5),
    ("", None),
    ("s", None),
    ("10 m", None),
    ("-1s", None),
    (-1, None),
    ("10x", None),
    (True, None),
    (None, None),
    (float("nan"), None),
    (float("inf"), None),
    ("9999999d", None),
    ([], None),
]


@pytest.mark.parametrize(("value", "seconds"), DURATIONS)
def test_duration(value: object, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(ValueError, match="duration"):
            parse_duration(value)
    else:
        assert parse_duration(value) == seconds


@given(st.integers(0, 3650 * 86_400_000_000))
def test_every_duration_survives_being_written(microseconds: int) -> None:
    assert parse_duration(format_duration(microseconds / 1e6)) == pytest.approx(microseconds / 1e6, rel=1e-15)


SIZES = [
    ("64MiB", 64 << 20),
    ("1GiB", 1 << 30),
    ("10MB", 10_000_000),
    ("10mb", 10_000_000),
    ("1.5KiB", 1536),
    ("128B", 128),
    ("128", 128),
    (128, 128),
    ("1 GiB", 1 << 30),
    ("1.0001KiB", None),
    ("", None),
    ("MiB", None),
    ("1XB", None),
    (-1, None),
    (1.5, None),
    (True, None),
    (None, None),
]


@pytest.mark.parametrize(("value", "size"), SIZES)
def test_size(value: object, size: int | None) -> None:
    if size is None:
        with pytest.raises(ValueError, match="size"):
            parse_size(value)
    else:
        assert parse_size(value) == size


@given(st.integers(0, 1 << 60))
def test_every_size_survives_being_written(size: int) -> None:
    assert parse_size(format_size(size)) == size


LISTENS = [
    ("127.0.0.1:10817", Listen("127.0.0.1", 10817)),
    ("[::1]:0", Listen("::1", 0)),
    ("localhost:80", Listen("localhost", 80)),
    ("0.0.0.0:65535", Listen("0.0.0.0", 65535)),
    ("127.0.0.1", None),
    (":80", None),
    ("::1:80", None),
    ("[zz]:80", None),
    ("[1:2]:80", None),
    ("127.0.0.1:65536", None),
    ("127.0.0.1:-1", None),
    ("host name:80", None),
    (10817, None),
]


@pytest.mark.parametrize(("value", "listen"), LISTENS)
def test_listen(value: object, listen: Listen | None) -> None:
    if listen is None:
        with pytest.raises(ValueError, match="address"):
            Listen.parse(value)
    else:
        assert Listen.parse(value) == listen
        assert Listen.parse(str(listen)) == listen


ENDPOINTS = [
    ("https://ververica.cn-hangzhou.aliyuncs.com", None),
    ("https://host:8443/", None),
    ("http://127.0.0.1:1", None),
    ("http://127.77.0.1:1", None),
    ("http://[::1]:1", None),
    ("http://localhost:1", None),
    ("http://10.0.0.1", "accepted for loopback only"),
    ("http://localhost.example.com", "accepted for loopback only"),
    ("https://user:password@host", "must not contain a user or password"),
    ("https://user@host", "must not contain a user or password"),
    ("https://host/path", "has more than"),
    ("https://host?a=b", "has more than"),
    ("ftp://host", "is not https://host"),
    ("host", "is not https://host"),
    ("https://", "is not https://host"),
    ("https://host:99999", "not https"),
    ("https://host:0", "is not a port"),
    ("https://[::1", "not https"),
]


@pytest.mark.parametrize(("value", "problem"), ENDPOINTS)
def test_endpoint(value: str, problem: str | None) -> None:
    if problem is None:
        assert parse_endpoint(value) == value.rstrip("/")
    else:
        with pytest.raises(ValueError, match=problem):
            parse_endpoint(value)


INTERFACES: list[tuple[str, str | None]] = [
    # as written, and in the one form that is compared and shown; None: refused
    ("eth0", "eth0"),
    ("any", "any"),
    ("a.100", "a.100"),
    ("uplink:1", "uplink:1"),  # only an alternative name has a colon
    ("x" * 127, "x" * 127),
    ("ä" * 7, "ä" * 7),
    (r"odd\xff", r"odd\xff"),
    (r"odd\xFF\xc3\xa4", r"odd\xffä"),
    ("odd\udcff", r"odd\xff"),  # as Python gives a byte of the environment
    (r"back\slash", r"back\x5cslash"),
    ("bell\a", r"bell\x07"),
    ("turned\u202e", r"turned\xe2\x80\xae"),
    ("", None),
    ("x" * 128, None),
    ("ä" * 64, None),
    ("a/b", None),
    ("a b", None),
    (r"a\x20b", None),
    ("a\n", None),
    ("a\0", None),
    ("a\ud800", None),
]


@pytest.mark.parametrize(("name", "shown"), INTERFACES, ids=[ascii(name)[:20] for name, _ in INTERFACES])
def test_names_of_interfaces(tmp_path: Path, name: str, shown: str | None) -> None:
    text = json.dumps(["lo", name])
    environ = {"FLOWMAP__COLLECT__CAPTURE__INTERFACES": text}
    if shown is not None:
        assert load(None, environ).collect.capture.interfaces == ("lo", shown)
        assert parse_interface(shown) == shown
    else:
        with pytest.raises(ConfigError, match=r"collect\.capture\.interfaces"):
            load(None, environ)


def test_bad_interface_name(tmp_path: Path) -> None:
    assert problems_of(tmp_path, 'collect: {capture: {interfaces: [lo, "a b"]}}') == [
        "flowmap.yaml:1: collect.capture.interfaces.1: 'a b' is not an interface name: "
        "1 to 127 bytes, no / or white space"
    ]


@given(st.binary(min_size=1, max_size=15))
def test_two_names_of_interfaces_never_look_alike(name: bytes) -> None:
    shown = format_interface(name)
    assert shown.isprintable()
    raw = re.sub(rb"\\x(..)", lambda found: bytes.fromhex(found[1].decode()), shown.encode())
    assert raw == name


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("host", "host"),
        ("all", "all"),
        ("[blue, /run/netns/green, blue]", ("blue", "/run/netns/green")),
    ],
)
def test_network_namespaces(tmp_path: Path, text: str, value: object) -> None:
    file = tmp_path / "flowmap.yaml"
    file.write_text(f"collect: {{namespaces: {text}}}")
    assert load(str(file), {}).collect.namespaces == value


@pytest.mark.parametrize("text", ["[]", "some", "7", "[a/b]", '[""]', "[7]", "{a: b}", "null", '["/"]', '["a\\nb"]'])
def test_other_network_namespaces(tmp_path: Path, text: str) -> None:
    (problem,) = problems_of(tmp_path, f"collect: {{namespaces: {text}}}")
    assert problem.startswith("flowmap.yaml:1: collect.namespaces: ")
    assert problem.endswith("write host, all, or a list of names and paths, such as [blue, /run/netns/green]")


def test_network_namespaces_in_the_environment() -> None:
    for text, value in (("all", "all"), ('["blue"]', ("blue",))):
        assert load(None, {"FLOWMAP__COLLECT__NAMESPACES": text}).collect.namespaces == value
