"""Endpoints: what is accepted, and what goes into the Host header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.control.http.endpoint import endpoint_of_region, is_loopback, parse_endpoint
from flowmap.errors import ConfigError

GOOD = [
    ("https://ververica.cn-hangzhou.aliyuncs.com", "https", "ververica.cn-hangzhou.aliyuncs.com"),
    ("https://host/", "https", "host"),
    ("https://host:443", "https", "host"),
    ("https://host:8443", "https", "host:8443"),
    ("HTTPS://Host:8443", "https", "host:8443"),
    ("http://127.0.0.1:80", "http", "127.0.0.1"),
    ("http://127.8.9.1:8080", "http", "127.8.9.1:8080"),
    ("http://localhost:1", "http", "localhost:1"),
    ("http://[::1]:1", "http", "[::1]:1"),
    ("https://[2001:db8::1]", "https", "[2001:db8::1]"),
]

BAD = [
    "",
    "host",
    "host:443",
    "ftp://host",
    "//host",
    "http://host",
    "http://10.0.0.1",
    "http://127.0.0.1.evil.example",
    "http://localhost.evil.example",
    "https://",
    "https://:443",
    "https://host:0",
    "https://host:65536",
    "https://host:x",
    "https://user@host",
    "https://user:pw@host",
    "https://host/path",
    "https://host?x=1",
    "https://host#x",
    "https://ho st",
    "https://host\n",
    "https://h\u00f6st",
    "https://[::1",
    "https://[zz]",
]


@pytest.mark.parametrize(("text", "scheme", "authority"), GOOD)
def test_good(text: str, scheme: str, authority: str) -> None:
    endpoint = parse_endpoint(text)
    assert endpoint == (scheme, authority)
    assert parse_endpoint(endpoint.url) == endpoint


@pytest.mark.parametrize("text", BAD)
def test_bad(text: str) -> None:
    with pytest.raises(ConfigError, match="endpoint"):
        parse_endpoint(text)


@given(st.text())
def test_any_text(text: str) -> None:
    for made in (text, f"https://{text}", f"http://127.0.0.1{text}"):
        try:
            endpoint = parse_endpoint(made)
        except ConfigError:
            continue
        assert endpoint.url.isascii() and endpoint.url.isprintable()
        assert (
            endpoint.scheme == "https"
            or is_loopback(endpoint.authority.rpartition(":")[0] or endpoint.authority)
            or (is_loopback(endpoint.authority.strip("[]")))
        )


def test_regions() -> None:
    assert endpoint_of_region("cn-hangzhou").url == "https://ververica.cn-hangzhou.aliyuncs.com"
    for region in ("", "CN", "cn_hangzhou", "cn-", "a.b", "a/b", "x@evil"):
        with pytest.raises(ConfigError, match="region"):
            endpoint_of_region(region)
