"""The JSON in an HTTP reply of a JobManager or of the Kubernetes API, or the error that the status means."""

from __future__ import annotations

import json

from flowmap.errors import AuthError, ProtocolError, Transient


def json_of(status: int, body: bytes, where: str) -> object:
    """The decoded body. ``where``: the server that answered, for errors.

    AuthError for 401 and 403, Transient for 5xx, ProtocolError for any other status than 200 and for bad JSON.
    """
    if status in (401, 403):
        raise AuthError(f"{where} refused the request with HTTP {status}", status=status)
    if status >= 500:
        raise Transient(f"{where} answered HTTP {status}", status=status, reason="server")
    if status != 200:
        raise ProtocolError(f"{where} answered HTTP {status}", status=status)
    try:
        answer: object = json.loads(body)
    except ValueError as error:
        raise ProtocolError(f"{where}: the answer is not JSON", reason="malformed") from error
    return answer
