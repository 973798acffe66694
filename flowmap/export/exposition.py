"""Builds the page from a snapshot: text 0.0.4 (Prometheus) or OpenMetrics 1.0.

The labels of a traffic series are escaped once, when the series is opened. Building its lines only joins ready
strings, in C. prometheus-client would build an object and escape every label for every line.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from operator import add

import numpy as np
import numpy.typing as npt

from flowmap.export.families import Sample, small_families
from flowmap.export.labels import label_names
from flowmap.export.metrics.definitions import HEALTH, METRICS
from flowmap.export.metrics.metric import Metric
from flowmap.export.negotiation import Format
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.export.series import KINDS
from flowmap.export.snapshot import SeriesSnapshot, Snapshot

_TRAFFIC = tuple((kind, tuple(metric for metric in METRICS if metric.origin == kind)) for kind in KINDS)
_ROWS_A_CHUNK = 4096
"""Lines joined at a time: other threads run only between two chunks (about 1 ms)."""


class Exposition:
    """Builds pages; keeps what is the same for all of them."""

    def __init__(self, metrics: SelfMetrics, *, deployment_labels: Sequence[str] = ()) -> None:
        """``deployment_labels``: keys of deployment labels that become ``label_<key>`` of flowmap_deployment_info."""
        self.metrics = metrics
        self.set_deployment_labels(deployment_labels)

    def set_deployment_labels(self, keys: Sequence[str]) -> None:
        """Use other keys from the next page on."""
        self._label_names = label_names(keys, prefix="label_")

    def page(self, snapshot: Snapshot, form: Format) -> bytes:
        """The whole page in UTF-8. Families without a sample are left out."""
        own = self.metrics.openmetrics() if form is Format.OPENMETRICS else self.metrics.text()
        return b"".join([*self._chunks(snapshot, form), own.encode()])

    def traffic_page(self, snapshot: Snapshot, form: Format) -> bytes:
        """The page without the self-metrics."""
        return b"".join(self._chunks(snapshot, form))

    def _chunks(self, snapshot: Snapshot, form: Format) -> list[bytes]:
        # Encoded chunk by chunk: one name outside Latin-1 would otherwise double or quadruple the whole page.
        chunks = [chunk.encode() for chunk in _traffic(snapshot, form)]
        for metric, samples in small_families(snapshot, self._label_names):
            chunks.append(_family(metric, samples, form).encode())
        return chunks


def compress(page: bytes) -> bytes:
    """The page in gzip at level 1: higher levels take several times as long and save little on repetitive text."""
    return gzip.compress(page, compresslevel=1, mtime=0)


def _traffic(snapshot: Snapshot, form: Format) -> Iterator[str]:
    series_table = snapshot.series_table
    for kind, metrics in _TRAFFIC:
        rows = series_table.rows(kind)
        for metric in metrics:
            if metric.name not in HEALTH:
                yield from _column(metric, series_table, rows, form)
            elif snapshot.health:
                yield from _column(metric, series_table, _sampled(metric, series_table, rows), form)


def _sampled(metric: Metric, series_table: SeriesSnapshot, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Rows with a sample: a mean over open connections needs an open one."""
    if metric.column != "round_trip":
        return rows
    return rows[~np.isnan(series_table.round_trip[rows]) & (series_table.open_connections[rows] > 0)]


def _column(metric: Metric, series_table: SeriesSnapshot, rows: npt.NDArray[np.intp], form: Format) -> Iterator[str]:
    """One metric of all ``rows``: the header, then the lines in chunks."""
    if not len(rows):
        return
    yield _header(metric, form)
    values = getattr(series_table, metric.column)[rows].tolist()
    numbers = rows.tolist()
    between = "\n" + metric.name
    for start in range(0, len(numbers), _ROWS_A_CHUNK):
        end = start + _ROWS_A_CHUNK
        texts = map(series_table.texts.__getitem__, numbers[start:end])
        yield f"{metric.name}{between.join(map(add, texts, map(str, values[start:end])))}\n"


def _family(metric: Metric, samples: list[Sample], form: Format) -> str:
    """Header and lines of one metric; empty if it has no sample."""
    if not samples:
        return ""
    return _header(metric, form) + "".join([f"{metric.name}{text}{value}\n" for text, value in samples])


def _header(metric: Metric, form: Format) -> str:
    """HELP and TYPE; in OpenMetrics under the family's name, with its UNIT."""
    text = metric.help.replace("\\", "\\\\").replace("\n", "\\n")
    if form is Format.TEXT:
        kind = "gauge" if metric.type == "info" else metric.type
        return f"# HELP {metric.name} {text}\n# TYPE {metric.name} {kind}\n"
    name = metric.family
    unit = f"# UNIT {name} {metric.unit}\n" if metric.unit else ""
    text = text.replace('"', '\\"')
    return f"# HELP {name} {text}\n# TYPE {name} {metric.type}\n{unit}"
