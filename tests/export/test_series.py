"""Labels of each kind of series, and the part of a key that they show."""

from __future__ import annotations

import pytest

from flowmap.errors import ConfigError
from flowmap.export.series import KINDS, OTHER, SeriesKey, SeriesLabels, last_resort
from flowmap.model.deployment import Owner

A, B = Owner("w", "ns", "id-a", "a"), Owner("w", "ns2", "id-b", "b")
DEPLOYMENT = SeriesKey("deployment", (A,), "", "p:1", "tcp")
SHARED = SeriesKey("shared", (A, B), "", "p:1", "tcp")
UNATTRIBUTED = SeriesKey("unattributed", (), "unknown", "p:1", "tcp")
HELD = DEPLOYMENT._replace(container="c", unit="u.service")

ALL = ("namespace", "workspace", "deployment_id", "deployment", "peer", "protocol")

TEXTS = [
    (("deployment", "namespace"), DEPLOYMENT, '{deployment="a",namespace="ns"} '),
    ((), DEPLOYMENT, " "),
    (("workspace", "peer"), DEPLOYMENT, '{workspace="w",peer="p:1"} '),
    (("workspace",), SHARED, '{namespace="ns,ns2",deployment_ids="id-a,id-b",deployments="a,b",workspace="w"} '),
    (("protocol",), UNATTRIBUTED, '{reason="unknown",protocol="tcp"} '),
    (("unit", "peer"), HELD, '{unit="u.service",peer="p:1"} '),
    (("unit", "container"), UNATTRIBUTED, '{reason="unknown",container="",unit=""} '),
]


@pytest.mark.parametrize(("labels", "key", "text"), TEXTS)
def test_text(labels: tuple[str, ...], key: SeriesKey, text: str) -> None:
    assert SeriesLabels(labels).text(key) == text


VISIBLE = [
    (ALL, DEPLOYMENT, DEPLOYMENT),
    (ALL, HELD, DEPLOYMENT),
    ((*ALL, "container", "unit"), HELD, HELD),
    (("namespace", "protocol"), DEPLOYMENT, SeriesKey("deployment", (Owner("", "ns", "", ""),), "", "", "tcp")),
    ((), SHARED, SeriesKey("shared", (A._replace(workspace=""), B._replace(workspace="")), "", "", "")),
    ((), UNATTRIBUTED, SeriesKey("unattributed", (), "unknown", "", "")),
]


@pytest.mark.parametrize(("labels", "key", "visible"), VISIBLE)
def test_visible(labels: tuple[str, ...], key: SeriesKey, visible: SeriesKey) -> None:
    assert SeriesLabels(labels).visible(key) == visible


@pytest.mark.parametrize("labels", [("job",), ("peer", "peer")])
def test_invalid_labels(labels: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="export.labels"):
        SeriesLabels(labels)


@pytest.mark.parametrize("kind", KINDS)
def test_last_resort_has_no_owner(kind: str) -> None:
    key = last_resort(kind)  # type: ignore[arg-type]
    assert (key.owners, key.peer, key.protocol) == ((), OTHER, OTHER)
