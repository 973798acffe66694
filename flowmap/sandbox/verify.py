"""Verifies signatures and headers of requests. Pure, except for the memory of used nonces.

The signature is computed again from the received request: the raw path, the decoded and encoded query, and the headers
in ``SignedHeaders``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

from flowmap.control.alibaba.api.signing import ACS3, canonical_query, sign_acs3, sign_hmac_sha1
from flowmap.control.http.retry import parse_date

CLOCK_TOLERANCE = 900.0
"""Largest difference between the date of a request and the server's clock, in seconds."""

NONCES = 100_000
"""Remembered nonces. The oldest are removed first."""

ACCESS_KEY_ID = "sandbox-access-key"
ACCESS_KEY_SECRET = "sandbox-secret"
"""The default key pair of the sandbox. It is valid nowhere else."""

REQUIRED = ("x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256")

_AUTHORIZATION = re.compile(
    rf"{ACS3} Credential=(?P<key>[^,]*),SignedHeaders=(?P<names>[^,]*),Signature=(?P<signature>[0-9a-f]*)"
)


class AccessKey(NamedTuple):
    """The secret of an access key. ``token``: of a temporary key."""

    secret: str
    token: str | None = None


Keys = Mapping[str, AccessKey]

DEFAULT_KEYS: Keys = {ACCESS_KEY_ID: AccessKey(ACCESS_KEY_SECRET)}


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as received."""

    method: str
    path: str
    """In its encoded form."""
    query: str
    """In its encoded form."""
    header_list: tuple[tuple[str, str], ...]
    """Names in lower case, in order of arrival."""
    body: bytes = b""

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.header_list)

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """Decoded query parameters, in order."""
        return parse_qsl(self.query, keep_blank_values=True)


class Refused(NamedTuple):
    """A refusal by the gateway."""

    status: int
    code: str
    message: str


class Verifier:
    """Checks requests against known keys and remembers used nonces."""

    def __init__(self, keys: Keys = DEFAULT_KEYS, *, nonces: int = NONCES) -> None:
        self._keys = keys
        self._nonces: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._limit = nonces

    def check(self, request: SignedRequest, *, now: float) -> Refused | None:
        """The refusal of a request, or None. ``now``: the server's clock in epoch seconds."""
        headers = request.headers
        for name in REQUIRED:
            if not headers.get(name):
                return Refused(400, f"Missing{name.title().replace('-', '')}", f"header {name} is mandatory")
        found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
        if found is None:
            return Refused(400, "IncompleteSignature", "Authorization is not one of ACS3-HMAC-SHA256")
        signed = tuple(found["names"].split(";"))
        steps: tuple[Callable[[], Refused | None], ...] = (
            lambda: _check_date(headers["x-acs-date"], now),
            lambda: self._check_key(found["key"], headers),
            lambda: _check_signed_names(headers, signed),
            lambda: _check_content(headers["x-acs-content-sha256"], request.body),
            lambda: self._check_signature(request, found["key"], signed, found["signature"]),
            lambda: self._use_nonce(found["key"], headers["x-acs-signature-nonce"], now),
        )
        for step in steps:
            if (refused := step()) is not None:
                return refused
        return None

    def check_legacy(self, request: SignedRequest, *, now: float) -> Refused | None:
        """The same for the legacy gateway: HMAC-SHA1 over the raw path, a ``Date`` header and no nonce."""
        headers = request.headers
        for name in ("x-acs-action", "x-acs-version", "date"):
            if not headers.get(name):
                return Refused(400, f"Missing{name.title().replace('-', '')}", f"header {name} is mandatory")
        key_id, _, given = headers.get("authorization", "").removeprefix("acs ").partition(":")
        if headers.get("x-acs-signature-method") != "HMAC-SHA1" or not given:
            return Refused(400, "IncompleteSignature", "Authorization is not one of HMAC-SHA1")
        date = parse_date(headers["date"])
        if date is None:
            return Refused(400, "InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted.")
        if abs(date - now) > CLOCK_TOLERANCE:
            return Refused(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")
        refused = self._check_key(key_id, headers)
        if refused is not None:
            return refused
        expected = sign_hmac_sha1(
            method=request.method,
            path=unquote(request.path),
            query=dict(request.parameters),
            headers=headers,
            access_key_id=key_id,
            access_key_secret=self._keys[key_id].secret,
        )
        if hmac.compare_digest(expected.authorization.rpartition(":")[2].encode(), given.encode()):
            return None
        text = expected.string_to_sign.replace("\n", "\\n")
        return Refused(400, "SignatureDoesNotMatch", f"server string to sign is: {text}")

    def _check_key(self, key_id: str, headers: Mapping[str, str]) -> Refused | None:
        key = self._keys.get(key_id)
        if key is None:
            return Refused(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
        token = headers.get("x-acs-security-token")
        if key.token is not None and not token:
            return Refused(400, "MissingSecurityToken", "SecurityToken is mandatory for this action.")
        if (token or None) != key.token:
            return Refused(400, "InvalidSecurityToken.MismatchWithAccessKey", "Specified SecurityToken does not match.")
        return None

    def _check_signature(
        self, request: SignedRequest, key_id: str, signed: tuple[str, ...], given: str
    ) -> Refused | None:
        try:
            parameters = dict(request.parameters)
            query = canonical_query(parameters)
        except (UnicodeError, ValueError):
            return Refused(400, "InvalidParameter", "the query is not UTF-8")
        if len(parameters) != len(request.parameters):
            return Refused(400, "InvalidParameter", "a query parameter is given twice")
        expected = sign_acs3(
            method=request.method,
            path=request.path,
            query=query,
            headers=request.header_list,
            signed_headers=signed,
            payload_sha256=request.headers["x-acs-content-sha256"],
            access_key_id=key_id,
            access_key_secret=self._keys[key_id].secret,
        )
        if hmac.compare_digest(expected.authorization.rpartition("=")[2], given):
            return None
        text = expected.string_to_sign.replace("\n", "\\n")
        return Refused(400, "SignatureDoesNotMatch", f"server string to sign is: {text}")

    def _use_nonce(self, key_id: str, nonce: str, now: float) -> Refused | None:
        used = self._nonces.get((key_id, nonce))
        if used is not None and now - used < 2 * CLOCK_TOLERANCE:
            return Refused(400, "SignatureNonceUsed", "Specified signature nonce was used already.")
        self._nonces[key_id, nonce] = now
        if len(self._nonces) > self._limit:
            self._nonces.popitem(last=False)
        return None


def _check_date(text: str, now: float) -> Refused | None:
    try:
        date = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return Refused(400, "InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted.")
    if abs(date - now) > CLOCK_TOLERANCE:
        return Refused(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")
    return None


def _check_signed_names(headers: Mapping[str, str], signed: tuple[str, ...]) -> Refused | None:
    must = {"host", *(name for name in headers if name.startswith("x-acs-"))}
    missing = sorted(must - set(signed)) + sorted(set(signed) - set(headers))
    if missing:
        return Refused(400, "IncompleteSignature", f"not signed, or signed and not sent: {', '.join(missing)}")
    return None


def _check_content(given: str, body: bytes) -> Refused | None:
    if given != hashlib.sha256(body).hexdigest():
        return Refused(400, "InvalidContentSha256", "x-acs-content-sha256 is not that of the body")
    return None
