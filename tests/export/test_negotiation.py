"""Accept and Accept-Encoding, as Prometheus sends them, and malformed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowmap.export.negotiation import Format, accepts_gzip, choose_format

ACCEPT_ROWS = [
    (None, Format.TEXT),
    ("", Format.TEXT),
    ("*/*", Format.TEXT),
    ("text/html,application/xhtml+xml,*/*;q=0.8", Format.TEXT),
    # Prometheus 2.42
    (
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
        "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        Format.OPENMETRICS,
    ),
    # Prometheus 3
    (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
        "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
        "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        Format.OPENMETRICS,
    ),
    ("application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Format.TEXT),
    ("application/openmetrics-text", Format.OPENMETRICS),
    ('Application/OpenMetrics-Text; Version="1.0.0"', Format.OPENMETRICS),
    ("application/openmetrics-text;version=2.0.0", Format.TEXT),
    ("application/openmetrics-text;q=0", Format.TEXT),
    ("application/openmetrics-text;q=0.1,text/plain;q=0.2", Format.TEXT),
    ("text/plain,application/openmetrics-text", Format.TEXT),
    ("application/openmetrics-text;q=nan", Format.TEXT),
    ("application/openmetrics-text;q=2", Format.TEXT),
    ("application/openmetrics-text;version", Format.OPENMETRICS),
    (",;=,;;q", Format.TEXT),
]


@pytest.mark.parametrize(("accept", "form"), ACCEPT_ROWS)
def test_choose_format(accept: str | None, form: Format) -> None:
    assert choose_format(accept) is form


ENCODING_ROWS = [
    (None, False),
    ("", False),
    ("gzip", True),
    ("deflate, GZIP;q=0.5", True),
    ("gzip;q=0", False),
    ("gzip;q=0.000, *", False),
    ("*", True),
    ("*;q=0", False),
    ("identity", False),
    ("x-gzip", True),
    ("gzip;q=high", False),
    ("gzipped", False),
]


@pytest.mark.parametrize(("header", "taken"), ENCODING_ROWS)
def test_accepts_gzip(header: str | None, taken: bool) -> None:
    assert accepts_gzip(header) is taken


@given(st.text() | st.text('aplictonxemrs/;=,q.01*" -'))
def test_any_header_is_answered(header: str) -> None:
    assert choose_format(header) in Format
    assert accepts_gzip(header) in (True, False)
