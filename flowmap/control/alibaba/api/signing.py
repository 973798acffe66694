"""Request signatures, pure: ACS3-HMAC-SHA256 for the 2022-07-18 API, HMAC-SHA1 for the legacy Blink API.

Both follow the vendor's public signature documents and agree with vectors made by its own SDKs
(``tests/data/api/signing-vectors.json``). The caller puts time and nonce into the headers.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple
from urllib.parse import quote

ACS3 = "ACS3-HMAC-SHA256"
"""Name of the algorithm, first word of the ``Authorization`` header and first line of the string to sign."""

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
"""``x-acs-content-sha256`` of a request without a body."""


class Signature(NamedTuple):
    """A signature and the texts that were signed, which a server may quote when it rejects the signature."""

    canonical_request: str
    string_to_sign: str
    authorization: str
    """Value of the ``Authorization`` header."""


def encode(text: str) -> str:
    """Percent-encode ``text`` as both path segment and query value are signed (RFC 3986 unreserved kept)."""
    return quote(text, safe="-_.~")


def canonical_query(query: Mapping[str, str]) -> str:
    """The query as signed and sent: keys in byte order, an empty value keeps its ``=``."""
    return "&".join(f"{encode(key)}={encode(query[key])}" for key in sorted(query, key=str.encode))


def default_signed_headers(names: Iterable[str]) -> tuple[str, ...]:
    """Which of ``names`` flowmap signs: ``host``, ``workspace`` and every ``x-acs-*``.

    ``accept`` and ``user-agent`` are unsigned, so that a proxy that rewrites them does not break the signature.
    """
    lowered = (name.lower() for name in names)
    return tuple(name for name in lowered if name in ("host", "workspace") or name.startswith("x-acs-"))


def sign_acs3(
    *,
    method: str,
    path: str,
    query: str,
    headers: Iterable[tuple[str, str]],
    signed_headers: Collection[str],
    payload_sha256: str,
    access_key_id: str,
    access_key_secret: str,
) -> Signature:
    """Sign a request with ACS3-HMAC-SHA256.

    ``path`` is the encoded path as sent, ``query`` the canonical query, ``signed_headers`` the names (any case) out
    of ``headers`` that the signature covers. A name given twice is signed with its values sorted and joined by
    commas.
    """
    wanted = {name.lower() for name in signed_headers}
    values: dict[str, list[str]] = {}
    for name, value in headers:
        if name.lower() in wanted:
            values.setdefault(name.lower(), []).append(value.strip())
    lines = "".join(f"{name}:{','.join(sorted(values[name]))}\n" for name in sorted(values))
    names = ";".join(sorted(values))
    request = "\n".join((method, path or "/", query, lines, names, payload_sha256))
    text = f"{ACS3}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.new(access_key_secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return Signature(request, text, f"{ACS3} Credential={access_key_id},SignedHeaders={names},Signature={signature}")


def sign_hmac_sha1(
    *,
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    access_key_id: str,
    access_key_secret: str,
) -> Signature:
    """Sign a request of the legacy API (ROA style, HMAC-SHA1).

    Unlike ACS3 it signs ``path`` and ``query`` raw, not percent-encoded, and of the headers only ``Accept``,
    ``Content-MD5``, ``Content-Type``, ``Date`` and every ``x-acs-*``.
    """
    by_name = {name.lower(): value for name, value in headers.items()}
    fixed = (by_name.get(name, "") for name in ("accept", "content-md5", "content-type", "date"))
    vendor = "".join(f"{name}:{by_name[name]}\n" for name in sorted(by_name) if name.startswith("x-acs-"))
    values = "&".join(f"{key}={query[key]}" for key in sorted(query))
    resource = f"{path}?{values}" if values else path
    text = "\n".join((method, *fixed, vendor + resource))
    digest = hmac.new(access_key_secret.encode(), text.encode(), hashlib.sha1).digest()
    return Signature(text, text, f"acs {access_key_id}:{base64.b64encode(digest).decode()}")
