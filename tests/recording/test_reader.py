"""Recordings of earlier versions: each still replays to the same owners and bytes, whatever settings came since."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pytest

from flowmap.config import Config
from flowmap.engine.commands import Configure
from flowmap.errors import DecodeError
from flowmap.flows.columns import IGNORED
from flowmap.flows.index.hash_index import Rows
from flowmap.recording.codec import to_json
from flowmap.recording.container import ChunkKind
from flowmap.recording.file import FORMAT, RecordingFile
from flowmap.recording.reader import RecordingReader
from flowmap.recording.settings import kept_settings
from flowmap.replay.dry_run import DryRun
from flowmap.replay.recording import Replay
from tests.support import commands as operations
from tests.support.commands import SOURCE
from tests.support.recordings import replayed

STORED = Path(__file__).parent.parent / "data" / "recording"


def outcome(path: Path) -> dict[str, Any]:
    """All that a replay of a stored recording comes to, as comparable values."""
    flows: list[list[Any]] = []

    def add(rows: Rows) -> None:
        for row in rows[replay.accounting.table.columns.series[rows] != IGNORED].tolist():
            flow = replay.queries.flow(row)
            names = [info.owner.name for info in flow.deployments]
            flows.append(
                [str(flow.client), str(flow.server), flow.state.value, names, flow.transmit_bytes, flow.receive_bytes]
            )

    with RecordingReader(path) as reader:
        replay = Replay(reader, leaving=add)
        for _ in replay.run():
            pass
    add(replay.accounting.table.live())
    snapshot = replay.snapshot()
    assert snapshot.conserved()
    series = {
        f"{'+'.join(owner.name for owner in key.owners) or key.reason} {key.peer}": list(
            astuple(snapshot.series_table.traffic(row))
        )
        for row, key in enumerate(snapshot.series_table.keys)
        if key is not None
    }
    return {
        "ended": reader.ended,
        "findings": replay.findings(),
        "answers": replay.answers,
        "records": replay.records,
        "ignored": snapshot.ignored_bytes,
        "series": series,
        "flows": sorted(flows),
    }


@pytest.mark.parametrize("name", ["orders", "reload"])
def test_a_stored_recording_replays_to_its_outcome(name: str) -> None:
    found, stored = outcome(STORED / f"{name}.recording"), json.loads((STORED / f"{name}.json").read_text())
    # Later versions ask other questions at other times; the answers there are still lead to the same.
    assert all("questions to ask" in finding for finding in found.pop("findings"))
    assert found == {key: value for key, value in stored.items() if key != "findings"}


def test_one_of_the_stored_recordings_has_a_reload() -> None:
    with RecordingReader(STORED / "reload.recording") as reader:
        (reload,) = [entry for entry in reader.entries() if isinstance(entry, Configure)]
        before = reader.begin.config
    assert (before.attribute.confirm, reload.config.attribute.confirm) == ("strict", "fast")
    assert (before.export.peers, reload.config.export.peers) == ({}, {"kafka": ("10.77.1.10:9092",)})


def written(path: Path, **facts: Any) -> Path:
    """A recording without entries, with other facts in its beginning."""
    file = RecordingFile(path, max_size=1 << 20)
    usual = {"format": FORMAT, "flowmap": "9.1", "startedAt": 1.0, "epoch": 0.0, "source": SOURCE}
    file.begin(usual | {"settings": kept_settings(operations.config())} | facts)
    file.end({"reason": "stopped", "at": 2.0})
    return path


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (1, None),
        (FORMAT, None),
        (FORMAT + 1, f"format {FORMAT + 1} is newer than {FORMAT}, .*; replay it with flowmap 9.1, which wrote it"),
        (0, "the format of its entries is missing"),
        (None, "the format of its entries is missing"),
        ("2", "the format of its entries is missing"),
    ],
)
def test_formats_up_to_this_one_are_read(form: object, said: str | None, tmp_path: Path) -> None:
    path = written(tmp_path / "x", format=form)
    if said is None:
        assert replayed(path).findings() == []
    else:
        with pytest.raises(DecodeError, match=said):
            replayed(path)


def test_a_setting_that_a_recording_lacks_has_its_default(tmp_path: Path) -> None:
    kept: Any = kept_settings(operations.config())
    del kept["attribute"]["grace"], kept["export"]
    replay = replayed(written(tmp_path / "x", settings=kept))
    assert replay.findings() == []
    assert replay.accounting.attribution.settings.grace == 2.0
    assert replay.accounting.attribution.settings.positive_ttl == 20.0, "those it has apply"


def test_settings_of_a_later_flowmap_are_named_and_left_out(tmp_path: Path) -> None:
    kept: Any = kept_settings(operations.config())
    kept["attribute"]["patience"], kept["collect"]["conntrack"]["zones"], kept["rooms"] = "3s", [1], {"a": 1}
    replay = replayed(written(tmp_path / "x", settings=kept))
    (finding,) = replay.findings()
    assert finding.startswith("ignored settings that this flowmap does not know: ")
    assert set(finding.partition(": ")[2].split(", ")) == {"attribute.patience", "collect.conntrack.zones", "rooms"}
    assert replay.accounting.attribution.settings.positive_ttl == 20.0


def test_settings_that_cannot_be_used_are_refused_by_name(tmp_path: Path) -> None:
    kept: Any = kept_settings(operations.config())
    kept["attribute"]["grace"], kept["attribute"]["patience"] = "soon", "3s"
    with pytest.raises(DecodeError, match=r"the settings of the recording cannot be used: attribute\.grace: "):
        replayed(written(tmp_path / "x", settings=kept))


def test_an_entry_that_is_no_json_is_refused(tmp_path: Path) -> None:
    file = RecordingFile(tmp_path / "x", max_size=1 << 20)
    file.begin({"format": FORMAT, "flowmap": "9.1", "startedAt": 1.0, "epoch": 0.0, "source": SOURCE, "settings": {}})
    stream = bytes((17, 3, 0, 0, 0)) + b"{[]"
    file.append(ChunkKind.OPERATIONS, len(stream).to_bytes(4, "little") + stream)
    file.end(to_json({"reason": "stopped"}).decode())
    with pytest.raises(DecodeError, match="the settings of a reload cannot be read"):
        replayed(tmp_path / "x")


GIVEN = Config.model_validate({"collect": {"exclude": ["127.0.0.0/8"]}})


@pytest.mark.parametrize(("config", "flows"), [(None, 28), (GIVEN, 37)], ids=["recorded", "given"])
def test_a_dry_run_follows_the_reloads_of_a_recording(config: Config | None, flows: int) -> None:
    run = DryRun(STORED / "reload.recording", config)
    for _ in run.run():
        pass
    assert run.cost().flows == flows, "the reload leaves out nine connections to port 9093"
