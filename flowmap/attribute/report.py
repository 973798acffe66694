"""The attribution part of the status answer."""

from __future__ import annotations

from flowmap.attribute.attribution import Attribution
from flowmap.attribute.questions import READINGS
from flowmap.model.status import AttributionReport, ShapeReport

DATA_FLOW = (
    "the control plane names deployments for service endpoints but none for any client: it seems to read src and dst "
    "as what a job reads from and writes to. If only deployments use these endpoints, set attribute.semantics to "
    "dataflow"
)


def attribution_report(attribution: Attribution) -> AttributionReport:
    """The report as of the last decision turn; times are monotonic seconds."""
    shape_stats, now = attribution.shape_stats, attribution.now
    reading = READINGS[attribution.settings.semantics]
    shapes = (*reading.of_client, *reading.of_service, *reading.narrowing)
    return AttributionReport(
        tuple(
            ShapeReport(
                shape,
                attribution.asked[shape],
                shape_stats.answered[shape],
                shape_stats.named[shape],
                shape_stats.never_names(shape, now=now),
            )
            for shape in shapes
        ),
        attribution.contradictions.latest(),
        len(attribution.narrowing),
        attribution.narrowing.waiting,
        DATA_FLOW if shape_stats.suggests_dataflow(now=now) else None,
        attribution.pending_for(),
    )
