"""The sandbox's gateway: one thing wrong at a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from flowmap.control.alibaba.api.signing import EMPTY_SHA256, canonical_query, sign_acs3
from flowmap.sandbox.verify import ACCESS_KEY_ID, ACCESS_KEY_SECRET, Refused, SignedRequest, Verifier

NOW = 1_767_225_600.0

Headers = dict[str, str]


def headers(nonce: str = "n", *, at: float = NOW) -> Headers:
    return {
        "host": "127.0.0.1:1",
        "accept": "application/json",
        "workspace": "w",
        "x-acs-action": "ListJobs",
        "x-acs-version": "2022-07-18",
        "x-acs-date": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "x-acs-signature-nonce": nonce,
        "x-acs-content-sha256": EMPTY_SHA256,
    }


def signed(
    given: Headers,
    *,
    query: str = "a=1",
    names: list[str] | None = None,
    key: str = ACCESS_KEY_ID,
    secret: str = ACCESS_KEY_SECRET,
) -> SignedRequest:
    signature = sign_acs3(
        method="GET",
        path="/p",
        query=query,
        headers=given.items(),
        signed_headers=[name for name in given if name != "accept"] if names is None else names,
        payload_sha256=given.get("x-acs-content-sha256", ""),
        access_key_id=key,
        access_key_secret=secret,
    )
    return SignedRequest("GET", "/p", query, (*given.items(), ("authorization", signature.authorization)))


def check(request: SignedRequest, *, now: float = NOW) -> str | None:
    refused = Verifier().check(request, now=now)
    assert refused is None or isinstance(refused, Refused)
    return refused.code if refused else None


def without(name: str) -> Headers:
    given = headers()
    del given[name]
    return given


def changed(request: SignedRequest, **fields: object) -> SignedRequest:
    values = {"method": request.method, "path": request.path, "query": request.query, "body": request.body}
    return SignedRequest(header_list=request.header_list, **{**values, **fields})  # type: ignore[arg-type]


def test_a_good_request_passes() -> None:
    assert check(signed(headers())) is None
    assert check(signed(headers(), names=list(headers()))) is None
    assert check(signed(headers(), query="")) is None


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: SignedRequest("GET", "/p", "", tuple(headers().items())), "IncompleteSignature"),
        (lambda: signed(without("x-acs-date")), "MissingXAcsDate"),
        (lambda: signed(without("x-acs-signature-nonce")), "MissingXAcsSignatureNonce"),
        (lambda: signed(without("x-acs-action")), "MissingXAcsAction"),
        (lambda: signed(without("host")), "IncompleteSignature"),
        (lambda: signed({**headers(), "x-acs-date": "today"}), "InvalidTimeStamp.Format"),
        (lambda: signed(headers(at=NOW - 901)), "InvalidTimeStamp.Expired"),
        (lambda: signed(headers(at=NOW + 901)), "InvalidTimeStamp.Expired"),
        (lambda: signed(headers(), key="other"), "InvalidAccessKeyId.NotFound"),
        (lambda: signed(headers(), secret="other"), "SignatureDoesNotMatch"),
        (lambda: signed(headers(), names=["host", "x-acs-date"]), "IncompleteSignature"),
        (lambda: signed({**headers(), "x-acs-content-sha256": "0" * 64}), "InvalidContentSha256"),
        (lambda: signed({**headers(), "x-acs-security-token": "t"}), "InvalidSecurityToken.MismatchWithAccessKey"),
        (lambda: changed(signed(headers()), path="/q"), "SignatureDoesNotMatch"),
        (lambda: changed(signed(headers()), query="a=2"), "SignatureDoesNotMatch"),
        (lambda: changed(signed(headers()), query=""), "SignatureDoesNotMatch"),
        (lambda: changed(signed(headers()), query="a=1&a=1"), "InvalidParameter"),
        (lambda: changed(signed(headers()), method="POST"), "SignatureDoesNotMatch"),
        (lambda: changed(signed(headers()), body=b"x"), "InvalidContentSha256"),
    ],
)
def test_one_thing_wrong(make: Callable[[], SignedRequest], code: str) -> None:
    assert check(make()) == code


def test_the_workspace_is_part_of_what_is_signed() -> None:
    request = signed(headers())
    moved = tuple((name, "v" if name == "workspace" else value) for name, value in request.header_list)
    assert check(SignedRequest("GET", "/p", "a=1", moved)) == "SignatureDoesNotMatch"


def test_a_query_may_be_encoded_in_any_way() -> None:
    request = signed(headers(), query=canonical_query({"v": "a b,c*~"}))
    assert check(request) is None
    assert check(changed(request, query="v=a+b,c*~")) is None


def test_a_nonce_serves_once_and_the_memory_is_bounded() -> None:
    verifier = Verifier(nonces=3)
    request = signed(headers("0"))
    assert verifier.check(request, now=NOW) is None
    refused = verifier.check(request, now=NOW)
    assert refused is not None and refused.code == "SignatureNonceUsed"
    for nonce in "123":
        assert verifier.check(signed(headers(nonce)), now=NOW) is None
    assert verifier.check(request, now=NOW) is None  # forgotten: three newer ones are remembered


def test_a_request_with_a_wrong_signature_uses_up_no_nonce() -> None:
    verifier = Verifier()
    assert verifier.check(signed(headers(), secret="x"), now=NOW) is not None
    assert verifier.check(signed(headers()), now=NOW) is None
