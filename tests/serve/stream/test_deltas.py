"""Deltas of the map: applied one after the other they give each map."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from flowmap.model.traffic_map import Figures, MapDeployment, MapLink, MapPeer, TrafficMap
from flowmap.serve.api.map import TrafficMap as Answer
from flowmap.serve.stream.deltas import MapDeltas
from tests.support.fake_backend import MAP

LINKS = st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.integers(0, 2), max_size=8)


def made(links: dict[tuple[int, int], int]) -> TrafficMap:
    left, right = sorted({one for one, _ in links}), sorted({one for _, one in links})
    return replace(
        MAP,
        deployments=tuple(
            MapDeployment(f"d{one}", "deployment", "n", "", (), {}, Figures(sum(links.values()))) for one in left
        ),
        peers=tuple(MapPeer(f"p{one}", "n", "tcp", Figures()) for one in right),
        links=tuple(MapLink(f"d{one}", f"p{other}", Figures(count)) for (one, other), count in links.items()),
    )


@given(st.lists(LINKS, min_size=1, max_size=6))
def test_a_reader_that_applies_every_delta_has_the_map(maps: list[dict[tuple[int, int], int]]) -> None:
    deltas = MapDeltas()
    known: tuple[dict[str, object], dict[str, object], dict[tuple[str, str], object]] = ({}, {}, {})
    for number, links in enumerate(maps):
        event = deltas.next(made(links))
        expected = Answer.of(made(links))
        known[0].update({one.id: one for one in event.deployments})
        known[1].update({one.id: one for one in event.peers})
        known[2].update({(one.deployment, one.peer): one for one in event.links})
        for gone in event.gone_links:
            del known[2][gone]
        assert event.whole is (number == 0)
        assert [known[0][key] for key in event.deployment_ids] == expected.deployments
        assert [known[1][key] for key in event.peer_ids] == expected.peers
        assert sorted(known[2]) == sorted((one.deployment, one.peer) for one in expected.links)
        assert all(known[2][one.deployment, one.peer] == one for one in expected.links)
    again = deltas.next(made(maps[-1]))
    assert (again.deployments, again.peers, again.links, again.gone_links) == ([], [], [], [])
