"""Every endpoint of the API, as it is declared."""

from __future__ import annotations

import pytest

from flowmap.serve.api.endpoints import ENDPOINTS
from tests.support.http_api import ask


def test_answers_fit_their_schema() -> None:
    document = ask("/openapi.json").json()
    for path in ("/api/v1/peers", "/api/v1/status", "/api/v1/deployments/id-1", "/api/v1/flows", "/api/v1/map"):
        template = path.replace("id-1", "{deploymentId}")
        content = document["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]
        schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
        assert set(schema["required"]) == set(schema["properties"]) == set(ask(path).json())


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/api/v1/status", []),
        ("/api/v1/peers", []),
        ("/api/v1/attribution", ["srcIp", "srcPort", "dstIp", "dstPort", "protocol", "at", "netns", "explain"]),
        ("/api/v1/deployments/{deploymentId}", []),
        ("/api/v1/deployments/{deploymentId}/peers", ["from", "to"]),
    ],
)
def test_parameters_of_an_endpoint(path: str, names: list[str]) -> None:
    (endpoint,) = [one for one in ENDPOINTS if one.path == path]
    assert endpoint.names() == names


def test_paths_are_distinct_and_have_a_summary() -> None:
    assert len({endpoint.path for endpoint in ENDPOINTS}) == len(ENDPOINTS)
    assert all(endpoint.summary and not endpoint.summary.endswith(".") for endpoint in ENDPOINTS)
