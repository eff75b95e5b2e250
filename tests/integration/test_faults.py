"""The faults of `python -m tests.faults`, each brought about once; the whole harness takes half an hour."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.scenarios import SCENARIOS
from tests.faults.stage import Stage, open_stage
from tests.faults.world import Damage
from tests.stack import require_stack

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    require_stack()
    # One that is its own: the others go on using the services of the shared one.
    with open_stage() as opened:
        yield opened


# What kills at steps, replays, and takes workers away is in `test_topic` and here once for all.
@pytest.mark.parametrize(("name", "rounds"), [("services", 1), ("connections", 1), ("disk", 1), ("workers", 2)])
def test_nothing_is_lost_or_doubled(stage, name, rounds):
    tallies = list(SCENARIOS[name](stage, rounds))
    assert {tally.fault: tally.damage for tally in tallies} == {tally.fault: Damage(0, 0, 0) for tally in tallies}
    assert all(seconds < 180 for tally in tallies for seconds in tally.seconds)
    assert name == "disk" or sum(tally.tried for tally in tallies) >= rounds
