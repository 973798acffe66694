"""Runs the Dockerfile's build stage and its commands without a container engine: ``python -m tests.dockerfile``.

What COPY brings is copied (as .dockerignore lets it), RUN steps run in a shell with /opt/flowmap moved into a temporary
directory, and the image's entry point and health check are started as they stand there. What it cannot show: the base
image, layers, users, and capabilities.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PLACE = "/opt/flowmap"


class Step(NamedTuple):
    """One instruction."""

    word: str
    rest: str


def steps() -> list[list[Step]]:
    """The instructions of every stage."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (ROOT / "Dockerfile").read_text())
    stages: list[list[Step]] = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            if word == "FROM":
                stages.append([])
            stages[-1].append(Step(word, rest.strip()))
    return stages


def allowed(name: str) -> bool:
    """Whether .dockerignore, which leaves out everything but what it names, lets a file of the top through."""
    lines = (ROOT / ".dockerignore").read_text().split()
    return lines[0] == "*" and f"!{name}" in lines


def build(work: Path) -> Path:
    """Run the build stage in ``work``; where /opt/flowmap is."""
    source, target, tools = work / "src", work / "opt", work / "tools"
    source.mkdir()
    tools.mkdir()
    (tools / "python").symlink_to(sys.executable)  # the base image calls it so; Debian does not
    environ = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}"}
    for step in steps()[0]:
        if step.word == "COPY":
            *names, _ = step.rest.split()
            for name in names:
                assert allowed(name), f".dockerignore leaves {name} out"
                _copy(ROOT / name, source / name)
        elif step.word == "RUN":
            script = step.rest.replace(PLACE, str(target))
            subprocess.run(["sh", "-euc", script], cwd=source, env=environ, check=True, stdout=sys.stderr)
    return target


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def commands() -> Iterator[tuple[str, list[str]]]:
    """What the image starts, by the instruction that says it."""
    for step in steps()[-1]:
        if step.word in ("ENTRYPOINT", "CMD"):
            yield step.word, json.loads(step.rest)
        elif step.word == "HEALTHCHECK":
            yield step.word, json.loads(step.rest.partition(" CMD ")[2])


def main() -> int:
    """Build, then see that what the image starts is there and says what it should."""
    said = dict(commands())
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        target = build(work)
        environ = os.environ | {"PATH": f"{target}/bin:{os.environ['PATH']}", "PYTHONPATH": ""}
        entry = shutil.which(said["ENTRYPOINT"][0], path=f"{target}/bin")
        assert entry, "the entry point is not in the image"
        subprocess.run([entry, "--version"], check=True, env=environ, cwd=work)
        for arguments, status, words in (
            (said["CMD"], 78, "flowmap.yaml"),  # nothing is mounted: one line, and the status of a bad configuration
            (said["HEALTHCHECK"][1:], 78, "flowmap.yaml"),
        ):
            done = subprocess.run([entry, *arguments], capture_output=True, text=True, env=environ, cwd=work)
            assert done.returncode == status and words in done.stderr, (arguments, done.returncode, done.stderr)
        assert shutil.which(said["HEALTHCHECK"][0], path=f"{target}/bin"), "the health check is not in the image"
    sys.stdout.write("the Dockerfile's steps work\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
