"""Signatures against vectors made by the vendor's own code (tests/data/api/README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.control.alibaba.api import signing

VECTORS = json.loads((Path(__file__).parents[3] / "data/api/signing-vectors.json").read_text())


def by_name(vector: dict[str, Any]) -> str:
    return str(vector["name"])


def sign_vector(vector: dict[str, Any], signed: list[str]) -> signing.Signature:
    return signing.sign_acs3(
        method=vector["method"],
        path=vector["path"],
        query=signing.canonical_query(vector["query"]),
        headers=vector["headers_in"].items(),
        signed_headers=signed,
        payload_sha256=vector["payload_sha256"],
        access_key_id=vector["access_key_id"],
        access_key_secret=vector["access_key_secret"],
    )


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=by_name)
def test_acs3_vector(vector: dict[str, Any]) -> None:
    assert signing.canonical_query(vector["query"]) == vector["canonical_query"]
    signature = sign_vector(vector, list(vector["headers_in"]))
    assert signature.canonical_request == vector["canonical_request"]
    assert signature.string_to_sign == vector["string_to_sign"]
    assert signature.authorization == vector["authorization"]


def test_every_vector_is_there() -> None:
    assert (len(VECTORS["vectors"]), len(VECTORS["legacy_vectors"])) == (16, 4)


def test_the_default_set_is_the_one_of_its_vector() -> None:
    vector = next(v for v in VECTORS["vectors"] if v["name"] == "workspace-signed-minimal")
    extra = {**vector, "headers_in": {**vector["headers_in"], "accept": "application/json", "user-agent": "any"}}
    signed = signing.default_signed_headers(extra["headers_in"])
    assert ";".join(sorted(signed)) == vector["signed_headers"]
    assert sign_vector(extra, list(signed)).authorization == vector["authorization"]


@pytest.mark.parametrize("vector", VECTORS["legacy_vectors"], ids=by_name)
def test_legacy_vector(vector: dict[str, Any]) -> None:
    path = vector["path_pattern"]
    for name, value in vector["path_params"].items():
        path = path.replace(f"[{name}]", value)
    signature = signing.sign_hmac_sha1(
        method=vector["method"],
        path=path,
        query=vector["query"],
        headers=vector["headers_in"],
        access_key_id=vector["access_key_id"],
        access_key_secret=vector["access_key_secret"],
    )
    assert signature.string_to_sign == vector["string_to_sign"]
    assert signature.authorization == vector["authorization"]


def test_a_name_given_twice_is_signed_sorted_and_joined() -> None:
    signature = signing.sign_acs3(
        method="GET",
        path="/",
        query="",
        headers=[("X-Acs-B", " 2 "), ("x-acs-b", "1"), ("x-acs-a", "")],
        signed_headers=["x-acs-b", "x-acs-a"],
        payload_sha256=signing.EMPTY_SHA256,
        access_key_id="id",
        access_key_secret="secret",
    )
    assert "\nx-acs-a:\nx-acs-b:1,2\n\nx-acs-a;x-acs-b\n" in signature.canonical_request


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        (" ", "%20"),
        ("+", "%2B"),
        ("*", "%2A"),
        ("~", "~"),
        ("%", "%25"),
        (":", "%3A"),
        (",;", "%2C%3B"),
        ("'()!", "%27%28%29%21"),
        ("/", "%2F"),
        ("é中", "%C3%A9%E4%B8%AD"),
    ],
)
def test_encode(text: str, encoded: str) -> None:
    assert signing.encode(text) == encoded


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_canonical_query_keeps_every_pair(query: dict[str, str]) -> None:
    text = signing.canonical_query(query)
    assert dict(parse_qsl(text, keep_blank_values=True)) == query
    assert text.isascii()
