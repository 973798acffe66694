"""Which cgroups count."""

from __future__ import annotations

import pytest

from flowmap.sources.workloads.selection import Selection

KUBEPODS = ("/kubepods.slice", "/kubepods")
ROWS = [
    # include, exclude, path, left out
    ((), (), "/a", False),
    (KUBEPODS, (), "/kubepods.slice/kubepods-pod1.slice/x.scope", False),
    (KUBEPODS, (), "/kubepods.slice", False),
    (KUBEPODS, (), "/kubepods.slices", True),
    (KUBEPODS, (), "/system.slice/kubepods", True),
    (KUBEPODS, (), "/", True),
    (KUBEPODS, (), None, False),
    (("/",), (), "/a/b", False),
    (("/system.slice/docker-*.scope",), (), "/system.slice/docker-1.scope/inner", False),
    (("/system.slice/docker-*.scope",), (), "/system.slice/docker-1/2.scope", True),
    ((), ("/system.slice",), "/system.slice/ssh.service", True),
    ((), ("/system.slice",), "/user.slice", False),
    ((), ("/system.slice",), None, False),
    (("/system.slice",), ("/system.slice/ssh.service",), "/system.slice/ssh.service", True),
    (("/system.slice",), ("/system.slice/ssh.service",), "/system.slice/kafka.service", False),
]


@pytest.mark.parametrize(("include", "exclude", "path", "left_out"), ROWS)
def test_leaves_out(include: tuple[str, ...], exclude: tuple[str, ...], path: str | None, left_out: bool) -> None:
    assert Selection(include, exclude).leaves_out(path) is left_out
