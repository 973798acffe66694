"""Turns a reply with another status than 200 into an error, by who must act. Pure.

Two shapes of error body are documented: the gateway's (``Code``, ``Message``, ``RequestId``, also in lower camel
case and as XML) and the business one (``success: false``, ``errorCode``, ``errorMessage``). Proxies add a third:
HTML, of which only the status is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from flowmap.control.http.json_tree import read_tree
from flowmap.control.http.retry import positive
from flowmap.control.http.text import plain_text
from flowmap.control.http.transport_api import HttpReply
from flowmap.errors import AuthError, BusinessError, ControlError, ProtocolError, Throttled, Transient

AUTH_CODES = (
    "Forbidden",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidSecurityToken",
    "InvalidTimeStamp",
    "MissingSecurityToken",
    "NoPermission",
    "SignatureDoesNotMatch",
)
"""Prefixes of codes for wrong keys, clock or permissions. Their HTTP status varies."""

NEW_KEYS_DO_NOT_HELP = ("Forbidden", "NoPermission", "InvalidTimeStamp")

CLOCK_CODE = "InvalidTimeStamp.Expired"
"""The request's date and the server's clock differ by more than 15 minutes."""

_XML_FIELD = re.compile(rb"<(Code|Message|RequestId)>([^<]{0,1000})</")


class Refusal(NamedTuple):
    """The contents of an error body; None for what it lacks."""

    code: str | None = None
    message: str | None = None
    request_id: str | None = None


def read_refusal(reply: HttpReply) -> Refusal:
    """Read an error body of a documented shape; all fields are None for another one."""
    if "xml" in reply.headers.get("content-type", ""):
        found = {name.decode(): value.decode(errors="replace") for name, value in _XML_FIELD.findall(reply.body)}
    else:
        try:
            found = read_tree(reply.body)
        except ValueError:
            found = {}
    if not isinstance(found, dict):
        found = {}
    return Refusal(
        code=_first(found, "Code", "code", "errorCode"),
        message=_first(found, "Message", "message", "errorMessage"),
        request_id=_first(found, "RequestId", "requestId") or plain_text(reply.headers.get("x-acs-request-id")),
    )


def refusal_error(reply: HttpReply, *, hint: float | None) -> ControlError:
    """The error of a reply whose status is not 200. ``hint``: seconds after which the server allows a retry."""
    if 300 <= reply.status < 400:
        target = urlsplit(reply.headers.get("location", "")).hostname or "nowhere"
        return ProtocolError(f"redirects are refused (HTTP {reply.status} to {target[:100]})", status=reply.status)
    refusal = read_refusal(reply)
    if reply.status < 300:
        return ProtocolError(
            f"HTTP {reply.status} is not an answer of this API",
            status=reply.status,
            request_id=refusal.request_id,
            reason="malformed",
        )
    kind, reason = _kind(reply, refusal.code or "")
    what = refusal.code or f"no error code in {len(reply.body)} bytes"
    return kind(
        f"HTTP {reply.status}: {what}" + (f": {refusal.message}" if refusal.message else ""),
        code=refusal.code,
        request_id=refusal.request_id,
        status=reply.status,
        retry_after=hint,
        reason=reason,
    )


def _kind(reply: HttpReply, code: str) -> tuple[type[ControlError], str | None]:
    # The vendor's SDK takes the header for throttling, with any status and code.
    if reply.status == 429 or code.startswith("Throttling") or positive(reply.headers.get("x-acs-retry-after")):
        return Throttled, None
    if code == "SignatureNonceUsed" or reply.status == 408:
        return Transient, None
    if reply.status in (401, 403) or code.startswith(AUTH_CODES):
        return AuthError, None
    if reply.status >= 500:
        return Transient, "server"
    return (BusinessError, None) if code else (ProtocolError, None)


def _first(found: Mapping[str, object], *names: str) -> str | None:
    return next((text for name in names if (text := plain_text(found.get(name))) is not None), None)
