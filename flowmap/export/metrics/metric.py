"""The description of a metric family, as :mod:`flowmap.export.metrics.definitions` uses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MetricType = Literal["counter", "gauge", "histogram", "info"]
Origin = Literal["deployment", "shared", "unattributed", "internal", "page", "self"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family."""

    name: str
    """As in the text format: counters end in ``_total``, info metrics in ``_info``."""
    type: MetricType
    help: str
    labels: tuple[str, ...] = ()
    origin: Origin = "page"
    """Source of its samples: a kind of traffic series, the snapshot (``page``) or prometheus-client (``self``)."""
    column: str = ""
    """Column of the series table with its values, for kinds of traffic series."""

    @property
    def family(self) -> str:
        """The OpenMetrics family name: without ``_total`` or ``_info``."""
        suffix = {"counter": "_total", "info": "_info"}.get(self.type, "")
        return self.name.removesuffix(suffix)

    @property
    def unit(self) -> str:
        """Base unit at the end of the family's name, else empty."""
        last = self.family.rpartition("_")[2]
        return last if last in ("bytes", "seconds") else ""
