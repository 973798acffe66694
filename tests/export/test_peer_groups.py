"""Which addresses of host names and files get which name."""

from __future__ import annotations

from flowmap.export import peer_groups
from flowmap.export.peer_groups import KEEP, KnownTargets, PeerConflict, naming

A, B = ("10.0.0.1", 9092), ("10.0.0.2", 9092)


def known(**found: list[tuple[str, int | None]]) -> KnownTargets:
    made = KnownTargets()
    for entry, targets in found.items():
        made.found(entry.replace("__", ":"), targets, now=0.0)
    return made


def test_a_group_of_endpoints_is_one_peer() -> None:
    configured = {"orders": ("kafka", "10.0.0.9:9092", "file_sd:f")}
    made = naming(configured, known(kafka=[A, B], file_sd__f=[("2001:db8::1", 9092)]))
    assert made.named == {"orders": ("10.0.0.9:9092", "10.0.0.1:9092", "10.0.0.2:9092", "[2001:db8::1]:9092")}
    assert (made.conflicts, made.left_out) == ((), 0)


def test_what_is_not_known_yet_has_no_pattern() -> None:
    assert naming({"orders": ("kafka",)}, KnownTargets()).named == {"orders": ()}


def test_precedence() -> None:
    # written down, then host names, then files; among equals the first
    configured = {"files": ("file_sd:f",), "one": ("a",), "two": ("b",), "written": ("10.0.0.0/24:1",)}
    targets = known(a=[A, ("10.0.0.7", 1)], b=[A, B], file_sd__f=[B])
    made = naming(configured, targets)
    assert made.named == {
        "files": (),
        "one": ("10.0.0.1:9092",),
        "two": ("10.0.0.2:9092",),
        "written": ("10.0.0.0/24:1",),
    }
    assert made.conflicts == (
        PeerConflict("10.0.0.7:1", "written", "one"),
        PeerConflict("10.0.0.1:9092", "one", "two"),
        PeerConflict("10.0.0.2:9092", "two", "files"),
    )


def test_the_same_endpoint_twice_in_one_peer_is_no_conflict() -> None:
    made = naming({"orders": ("a", "b", "10.0.0.1:9092")}, known(a=[A], b=[A]))
    assert (made.named, made.conflicts) == ({"orders": ("10.0.0.1:9092",)}, ())


def test_an_address_keeps_its_name_for_a_while() -> None:
    targets = known(a=[A])
    targets.found("a", [B], now=KEEP)
    assert targets.of("a") == [A, B]
    targets.found("a", [B], now=KEEP + 1)
    assert targets.of("a") == [B]
    assert targets.of("other") == []


def test_addresses_are_bounded() -> None:
    many = [(f"10.1.{n // 250}.{n % 250}", None) for n in range(peer_groups.MOST_ADDRESSES + 3)]
    made = naming({"a": ("a",)}, known(a=list(many)))
    assert (len(made.named["a"]), made.left_out) == (peer_groups.MOST_ADDRESSES, 3)
