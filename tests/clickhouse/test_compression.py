"""Both compressions are read by the engine, and each says what it is."""

from __future__ import annotations

import zlib

import pytest
import zstandard

from flowmap.clickhouse.compression import compress
from tests.clickhouse.stand_in import StandIn

ROWS = b'{"key": "w/ns/id", "name": "orders"}\n' * 50


@pytest.mark.parametrize(("zstd", "encoding"), [(True, "zstd"), (False, "gzip")])
def test_the_engine_reads_it(stand_in: StandIn, zstd: bool, encoding: str) -> None:
    body = compress(ROWS, prefer_zstd=zstd)
    assert body.encoding == encoding and len(body.data) < len(ROWS)
    whole = zstandard.decompress(body.data) if zstd else zlib.decompress(body.data, zlib.MAX_WBITS | 16)
    assert whole == ROWS
    query = {"query": "INSERT INTO deployment_names_1 (key, name) FORMAT JSONEachRow"}
    stand_in.answer(query, body.data, encoding)
    assert stand_in.engine.rows("SELECT key, name FROM deployments") == [["w/ns/id", "orders"]]


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    assert compress(ROWS).encoding == "gzip"
