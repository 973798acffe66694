"""Network namespaces: what they are called."""

from __future__ import annotations

import pytest

from flowmap.model.namespace import NetworkNamespace

BLUE, NAMELESS = NetworkNamespace(4026532001, "blue"), NetworkNamespace(4026532002)


@pytest.mark.parametrize(
    ("namespace", "text", "called"),
    [
        (BLUE, "blue", True),
        (BLUE, "4026532001", True),
        (BLUE, "net:[4026532001]", True),
        (BLUE, "blu", False),
        (BLUE, "", False),
        (NAMELESS, "4026532002", True),
        (NAMELESS, "None", False),
    ],
)
def test_names_and_inodes(namespace: NetworkNamespace, text: str, called: bool) -> None:
    assert namespace.is_called(text) is called


def test_a_namespace_without_a_name_is_shown_as_the_kernel_shows_it() -> None:
    assert [str(BLUE), str(NAMELESS)] == ["blue", "net:[4026532002]"]
