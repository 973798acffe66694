"""What is said of a metric family: the form of :mod:`flowmap.export.definitions`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MetricType = Literal["counter", "gauge", "histogram", "info"]
Room = Literal["deployment", "shared", "unattributed", "page", "self"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family."""

    name: str
    """As in the text format: counters end in ``_total``, info metrics in ``_info``."""
    type: MetricType
    help: str
    labels: tuple[str, ...] = ()
    room: Room = "page"
    """Who writes it: the ledger's columns by kind, the snapshot (``page``), or prometheus-client (``self``)."""
    column: str = ""
    """Column of the ledger it shows, where it shows one."""

    @property
    def family(self) -> str:
        """The OpenMetrics family name: without ``_total`` or ``_info``."""
        suffix = {"counter": "_total", "info": "_info"}.get(self.type, "")
        return self.name.removesuffix(suffix)

    @property
    def unit(self) -> str:
        """Base unit, if the family's name ends in one."""
        last = self.family.rpartition("_")[2]
        return last if last in ("bytes", "seconds") else ""
