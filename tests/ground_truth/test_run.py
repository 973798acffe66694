"""Short runs on a real kernel. ``python -m tests.ground_truth`` makes long ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.ground_truth.run import carry_out
from tests.ground_truth.schedule import make_plan
from tests.ground_truth.truth import QUICK
from tests.ground_truth.verdict import explain
from tests.ground_truth.world import Holders, World
from tests.support.netns import needs_root

pytestmark = [pytest.mark.kernel, needs_root]


# Of all modes, those with code of their own in the daemon: each takes some 15 s.
@pytest.mark.parametrize(("mode", "duration"), [("none", 7), ("api", 7), ("overrun", 7), ("dataflow", 5), ("udp", 5)])
def test_no_wrong_name_and_no_byte_lost(mode: str, duration: float, tmp_path: Path) -> None:
    outcome = carry_out(make_plan(3, duration=duration, mode=mode, clients=14, rate=1.5), QUICK, directory=tmp_path)
    verdict = outcome.verdict
    assert verdict.flows > 20 and verdict.right > 10, "a run in which things happen"
    evidence = [explain(wrong, outcome.record.changes) for wrong in verdict.wrong]
    # So few flows that one late answer of a busy machine counts for much; the long runs demand 99.5 %.
    assert not outcome.failures(share=80.0), (evidence, verdict.missed, tmp_path)


class SwappedOwners(World):
    """Tells of each deployment that it has the addresses of the next one."""

    def catalog(self, holders: Holders) -> dict[str, Any]:
        names = sorted(self.deployments)
        following: Mapping[str, str] = dict(zip(names, names[1:] + names[:1], strict=True))
        moved = {address: ([following[one] for one in has], gone) for address, (has, gone) in holders.items()}
        return super().catalog({address: (tuple(has), gone) for address, (has, gone) in moved.items()})


def test_a_control_plane_that_lies_is_found_out() -> None:
    outcome = carry_out(make_plan(3, duration=3, mode="none", clients=14, rate=1.5), QUICK, world=SwappedOwners)
    assert outcome.verdict.wrong
    assert any("misattributed" in failure for failure in outcome.failures(share=0.0))
