"""What the status and the body of a reply mean."""

from __future__ import annotations

import pytest

from flowmap.control.flink.replies import json_of
from flowmap.errors import AuthError, ControlError, ProtocolError, Transient


def test_json() -> None:
    assert json_of(200, b'{"jobs": []}', "jm") == {"jobs": []}


@pytest.mark.parametrize(
    ("status", "body", "error", "text"),
    [
        (401, b"", AuthError, "jm refused the request with HTTP 401"),
        (403, b"", AuthError, "jm refused the request with HTTP 403"),
        (503, b"", Transient, "jm answered HTTP 503"),
        (404, b"", ProtocolError, "jm answered HTTP 404"),
        (302, b"", ProtocolError, "jm answered HTTP 302"),
        (200, b"<html>", ProtocolError, "jm: the answer is not JSON"),
    ],
)
def test_errors(status: int, body: bytes, error: type[ControlError], text: str) -> None:
    with pytest.raises(error, match=text):
        json_of(status, body, "jm")
