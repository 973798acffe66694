"""Names of members, and when a member reports that it has started."""

from __future__ import annotations

from flowmap.fleet.naming import PREDECESSOR, Notices, new_name


def place(name: str) -> str:
    return name.rpartition("/")[0]


def test_two_starts_have_two_names_of_one_place() -> None:
    one, other = new_name("host", 9090, b"\2" * 6), new_name("host", 9090, b"\2" * 6)
    assert one != other and place(one) == place(other) and one.startswith("host:9090/")


def test_clones_and_namespaces_are_other_places() -> None:
    assert place(new_name("host", 1, b"\2" * 6)) != place(new_name("host", 1, b"\4" * 6))
    assert place(new_name("host", 1, b"\2" * 6)) != place(new_name("host", 2, b"\2" * 6))
    assert place(new_name("host", 1, None)) != place(new_name("host", 1, None))


def test_the_start_is_reported_once_and_late() -> None:
    notices = Notices()
    assert notices.next(0.0) == ""
    notices.delivered("", 0.0)
    assert notices.next(PREDECESSOR - 1) == ""
    notices.lost_reply = True
    assert notices.next(PREDECESSOR) == "lost"
    notices.jumped = True
    assert notices.next(PREDECESSOR) == "jump"
    notices.delivered("jump", PREDECESSOR)
    notices.jumped = False
    assert notices.next(PREDECESSOR) == "start 25.000"
    assert notices.next(PREDECESSOR + 1) == "start 26.000", "until the server has it"
    notices.delivered("start 26.000", PREDECESSOR + 1)
    assert notices.next(PREDECESSOR + 2) == ""
