"""flowmap packages."""

from __future__ import annotations

from tests.support.shell import Shell


def test_legacy_jobs_of_a_package(shell: Shell) -> None:
    settings = {"blink": {"enabled": True, "endpoint": shell.sandbox.url}, "workspace": None}
    assert shell.table("packages", "legacy", "x.jar", settings=settings) == [
        ["PROJECT", "JOB", "ID", "TYPE", "ENGINE", "PACKAGES"],
        ["legacy", "old", "b1", "FLINK_STREAM", "blink-3.4.4", "log4j-core-2.14.jar,", "x.jar"],
    ]
    answer = shell.json("packages", "legacy", "log4j-core-2.14.jar", settings=settings)
    assert [job["JobId"] for job in answer["jobs"]] == ["b1"]
    assert answer["complete"] is True
    assert shell.run("packages", "a/b", "x.jar", settings=settings) == 1
    assert shell.err.startswith("flowmap: PROJECT: 'a/b' is not a name")


def test_the_legacy_product_is_off_unless_configured(shell: Shell) -> None:
    assert shell.run("packages", "legacy", "x.jar") == 78
    assert shell.err == (
        "flowmap: control_plane.blink.enabled: the legacy API is not enabled; set it to true "
        "and set control_plane.region\n"
    )
    assert shell.asked() == {}
