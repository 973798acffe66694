"""What a replay decides depends on its packets, not on how the file is cut into pieces while it is read."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from flowmap.catalog_file.catalog import CatalogFile
from flowmap.catalog_file.matching import Index
from flowmap.cli import command
from flowmap.config import Config
from flowmap.replay import capture_file, capture_steps
from flowmap.replay.capture import CaptureReplay
from flowmap.replay.capture_file import CaptureFile
from flowmap.replay.capture_owners import catalog_changes, from_catalog, with_catalog
from tests.support.capture_files import Row, pcap
from tests.support.packets import ACK, FIN, RST, SYN
from tests.support.timed_rows import EPOCH, tcp, udp

Gap = Callable[[random.Random], float]

GAPS: dict[str, Gap] = {
    "dense": lambda rng: rng.choice([0.0, 0.0, 0.001, 0.003]),
    "bursts": lambda rng: rng.choice([0.0, 0.001, 0.002, 0.3]),
    "sparse": lambda rng: rng.choice([0.0, 0.05, 0.11, 0.2, 1.0]),
    "quiet": lambda rng: rng.choice([0.5, 9.0, 11.0, 31.0, 121.0, 700.0]),
}


FRAMES = {"quiet": 40}
"""By the name of the gap; else 400. A catalog is asked every 2 s of the capture, whether packets come or not."""


def frames(rng: random.Random, gap: str, udp_share: float = 0.3) -> Iterator[Row]:
    """Connections that begin, end, and fall silent, some of them again and again on the same endpoints."""
    time = 0.0
    for _ in range(FRAMES.get(gap, 400)):
        time += GAPS[gap](rng)
        client = rng.randrange(40_000, 40_012)
        ends = (client, 80) if rng.random() < 0.6 else (80, client)
        if rng.random() < udp_share:
            yield udp(time, *((client, 53) if ends[1] == 80 else (53, client)), ip=1 + client % 4)
        else:
            yield tcp(time, *ends, rng.choice([SYN, SYN | ACK, ACK, ACK, ACK, FIN | ACK, RST]))


def changing(seconds: float) -> CatalogFile:
    """Addresses that change hands while the capture runs."""
    middle, later = EPOCH + seconds / 3, EPOCH + seconds / 2
    entries = [
        {"id": "d-1", "name": "one", "addresses": [{"ip": "10.0.0.1", "until": middle}], "reads": ["10.1.0.1:80"]},
        {"id": "d-2", "name": "two", "addresses": [{"ip": "10.0.0.1", "since": later}], "reads": ["10.1.0.1:80"]},
        {"id": "d-3", "name": "three", "addresses": ["10.0.0.2", "10.0.0.3"], "reads": ["10.1.0.1"]},
    ]
    return CatalogFile.model_validate({"workspace": "w", "deployments": entries})


class Flows(Counter[str]):
    """Flows in any order, as lines."""

    def __xor__(self, other: Flows) -> Counter[str]:
        return (self - other) + (other - self)


def replayed(capsys: pytest.CaptureFixture[str], *words: str, without: tuple[str, ...] = ()) -> Flows:
    """The flows of a replay, ``without`` some of their facts."""
    assert command.main(["replay", *words, "-o", "json"]) == 0
    flows = json.loads(capsys.readouterr().out)["flows"]
    return Flows(json.dumps({name: flow[name] for name in flow if name not in without}) for flow in flows)


@pytest.mark.parametrize("owners", ["nobody", "catalog"])
@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("seed", range(2))
def test_pieces_change_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, owners: str, gap: str, seed: int
) -> None:
    # Where owners change, how much of UDP is confirmed depends on when it is asked about, and that on the pieces.
    rows = list(frames(random.Random(seed), gap, udp_share=0.3 if owners == "nobody" else 0.0))
    path, catalog = tmp_path / "made.pcap", tmp_path / "catalog.json"
    path.write_bytes(pcap(rows, link_type=101))
    catalog.write_text(changing((rows[-1].time - rows[0].time) / 1e9).model_dump_json(by_alias=True))
    words = [str(path), *(["--catalog", str(catalog)] if owners == "catalog" else [])]
    whole = replayed(capsys, *words)
    somebody = owners == "catalog" and gap != "dense"  # there, all is over in a second
    assert any('"attributed"' in flow for flow in whole) is somebody
    for piece in (100, 1000, 5000):
        with mock.patch.object(capture_file, "PIECE", piece), mock.patch.object(capture_steps, "POOL", 1):
            different = whole ^ replayed(capsys, *words)
        assert not different, sorted(different.elements())[:4]


@pytest.mark.parametrize("gap", GAPS)
def test_the_same_bytes_and_ends_whether_somebody_is_asked_or_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, gap: str
) -> None:
    """Without questions much more is done at a time."""
    rows = list(frames(random.Random(7), gap))
    path, catalog = tmp_path / "made.pcap", tmp_path / "catalog.json"
    path.write_bytes(pcap(rows, link_type=101))
    catalog.write_text(json.dumps({"workspace": "w", "deployments": []}))
    asked = replayed(capsys, str(path), "--catalog", str(catalog), without=("state", "deployments"))
    different = asked ^ replayed(capsys, str(path), without=("state", "deployments"))
    assert not different, sorted(different.elements())[:4]


@pytest.mark.parametrize("gap", GAPS)
def test_as_many_questions_in_pieces(tmp_path: Path, gap: str) -> None:
    rows = list(frames(random.Random(3), gap))
    path, catalog = tmp_path / "made.pcap", changing(100.0)
    path.write_bytes(pcap(rows, link_type=101))
    calls = []
    for piece in (1 << 22, 700):
        config = with_catalog(Config(), catalog)
        with (
            mock.patch.object(capture_file, "PIECE", piece),
            mock.patch.object(capture_steps, "POOL", min(piece, capture_steps.POOL)),
            CaptureFile(path) as file,
        ):
            asked: list[tuple[object, float]] = []
            answerer = from_catalog(Index(catalog), grace=config.attribute.grace)

            def noting(question, now, asked=asked, answerer=answerer):  # type: ignore[no-untyped-def]
                asked.append((question, now))
                return answerer(question, now)

            changes = catalog_changes(catalog, grace=config.attribute.grace)
            replay = CaptureReplay(file, config, noting, origin="catalog", changes=changes)
            list(replay.run())
            assert replay.snapshot().conserved()
            calls.append(asked)
    assert calls[0] == calls[1]
    assert calls[0]
