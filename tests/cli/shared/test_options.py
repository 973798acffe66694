"""What users type as ends, protocols and times."""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext

import pytest

from flowmap.cli.shared import options
from flowmap.cli.shared.options import EndpointArgument
from flowmap.errors import QueryError

ENDS = [
    ("10.0.0.1", EndpointArgument("10.0.0.1", None)),
    ("10.0.0.1:9092", EndpointArgument("10.0.0.1", 9092)),
    ("2001:db8::1", EndpointArgument("2001:db8::1", None)),
    ("[2001:db8::1]", EndpointArgument("2001:db8::1", None)),
    ("[2001:DB8::1]:443", EndpointArgument("2001:db8::1", 443)),
    ("::ffff:10.0.0.1", EndpointArgument("10.0.0.1", None)),
    ("[::ffff:10.0.0.1]:1", EndpointArgument("10.0.0.1", 1)),
    ("", None),
    ("host", None),
    ("10.0.0.1:", None),
    ("10.0.0.1:0", None),
    ("10.0.0.1:65536", None),
    ("10.0.0.1:x", None),
    ("10.0.0.1:²", None),
    ("[2001:db8::1", None),
    ("[2001:db8::1]443", None),
    ("[2001:db8::1]:", None),
    ("[10.0.0.1", None),
    ("fe80::1%eth0", None),
    ("10.0.0", None),
]


@pytest.mark.parametrize(("text", "end"), ENDS)
def test_end(text: str, end: EndpointArgument | None) -> None:
    if end is None:
        with pytest.raises(argparse.ArgumentTypeError):
            options.endpoint(text)
    else:
        assert options.endpoint(text) == end
        assert options.endpoint(str(end)) == end


PROTOCOLS = [("tcp", "tcp"), ("TCP", "tcp"), ("6", "tcp"), ("200", "200"), ("256", None), ("x", None), ("", None)]


@pytest.mark.parametrize(("text", "name"), PROTOCOLS)
def test_protocol(text: str, name: str | None) -> None:
    if name is None:
        with pytest.raises(argparse.ArgumentTypeError):
            options.protocol(text)
    else:
        assert options.protocol(text) == name


MOMENTS = [
    ("2026-11-21T20:16:07Z", 1795292167.0),
    ("2026-11-21T21:16:07.5+01:00", 1795292167.5),
    ("1795292167", 1795292167.0),
    ("1795292167.25", 1795292167.25),
    ("yesterday", None),
    ("", None),
    ("2026-13-01", None),
]


@pytest.mark.parametrize(("text", "seconds"), MOMENTS)
def test_moment(text: str, seconds: float | None) -> None:
    for read, example in ((options.moment, "2h for two hours ago"), (options.instant, "as seconds since the epoch")):
        if seconds is None:
            with pytest.raises(argparse.ArgumentTypeError, match=f"is not a time; write it like .*Z, or {example}"):
                read(text)
        else:
            assert read(text) == seconds


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "253402300800"])
def test_a_time_that_no_connection_has(text: str) -> None:
    for read in (options.moment, options.instant):
        with pytest.raises(argparse.ArgumentTypeError, match="is not between 1970 and 9999"):
            read(text)


PERIODS = [
    (None, None, ""),
    (100.0, None, ""),
    (100.0, 100.0, ""),
    (None, 4e9, ""),
    (4e9, 5e9, ""),
    (100.0, 99.0, "--since is after --until"),
    (4e9, None, "--since is in the future"),
]


@pytest.mark.parametrize(("since", "until", "problem"), PERIODS)
def test_a_period_ends_after_it_begins(since: float | None, until: float | None, problem: str) -> None:
    with pytest.raises(QueryError, match=problem) if problem else nullcontext():
        options.check_period(since, until)


@pytest.mark.parametrize(("text", "ago"), [("2h", 7200), ("1h30m", 5400), ("0s", 0), ("7d", 604800)])
def test_a_moment_can_be_so_long_ago(text: str, ago: float) -> None:
    assert abs(time.time() - ago - options.moment(text)) < 60
    with pytest.raises(argparse.ArgumentTypeError, match="is not a time"):
        options.instant(text)


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "1.5", "²"])
def test_positive_refuses(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        options.positive(text)


LABELS = [
    ("team=orders", ("team", ("orders",))),
    ("team=orders,billing", ("team", ("orders", "billing"))),
    ("a=b=c", ("a", ("b=c",))),
    ("team", None),
    ("=a", None),
    ("team=", None),
    ("team=a,", None),
]


@pytest.mark.parametrize(("text", "expected"), LABELS)
def test_label(text: str, expected: tuple[str, tuple[str, ...]] | None) -> None:
    if expected is not None:
        assert options.label(text) == expected
        return
    with pytest.raises(argparse.ArgumentTypeError):
        options.label(text)
