"""The OpenAPI document."""

from __future__ import annotations

import json

from flowmap.export.exposition import Exposition
from flowmap.export.selfmetrics import SelfMetrics
from flowmap.serve.api.app import build_app
from tests.support.fake_backend import FakeBackend
from tests.support.http_api import ask, fields


def test_openapi_describes_every_route() -> None:
    document = ask("/openapi.json").json()
    app = build_app(FakeBackend(), Exposition(SelfMetrics("test")))
    assert set(document["paths"]) == {route.path for route in app.routes}  # type: ignore[attr-defined]
    schemas = document["components"]["schemas"]
    references = [part.split('"')[0] for part in json.dumps(document).split('"#/components/schemas/')[1:]]
    assert references and set(references) <= set(schemas)
    assert set(schemas["Flow"]["properties"]) >= {"transmitBytes", "startedAt", "orientation"}
    names = [parameter["name"] for parameter in document["paths"]["/api/v1/flows"]["get"]["parameters"]]
    filters = ["deployment", "peer", "client", "state", "protocol", "container", "unit", "netns"]
    assert names == [*filters, "limit", "cursor", "from", "to"]


def test_openapi_describes_parameters_as_they_are_read() -> None:
    paths = ask("/openapi.json").json()["paths"]
    listed = {one["name"]: one for one in paths["/api/v1/attribution"]["get"]["parameters"]}
    assert [name for name, one in listed.items() if one["required"]] == ["srcIp", "dstIp"]
    assert listed["protocol"]["schema"] == {"type": "string", "default": "tcp"}
    assert listed["explain"]["schema"] == {"type": "string", "enum": ["1", "true", "0", "false"], "default": "0"}
    assert listed["srcPort"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 65535}
    (first, *_) = paths["/api/v1/deployments/{deploymentId}/peers"]["get"]["parameters"]
    assert (first["name"], first["in"], first["required"]) == ("deploymentId", "path", True)


def test_a_parameter_of_the_path_is_none_of_the_query() -> None:
    assert fields(ask("/api/v1/deployments/id-1?deploymentId=id-2")) == ["deploymentId"]
