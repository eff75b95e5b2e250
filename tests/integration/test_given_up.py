"""Messages that another reader takes over while their frames are worked on here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.errors import TransientError
from pipeline.ports import RawFrame, SourcePosition
from pipeline.run.batch import IngestRequest
from pipeline.run.ingest import Ingestor
from pipeline.run.lake import Lake
from pipeline.run.land import Landed
from tests.lake_tools import add_references, lake_at, plan_field, rows, write_plans, wrong

NOW = datetime(2026, 1, 1)  # noqa: DTZ001 - naive UTC, as the tables have it


@pytest.fixture
def night(tmp_path):
    plans = plan_field(6, 2)
    with lake_at(tmp_path / "home", stores={"namespace": "oddframe"}) as lake:
        add_references(lake, write_plans(plans[:6], tmp_path / "references"))
        yield lake, write_plans(plans[6:], tmp_path / "night")


def land(lake: Lake, path: Path, partition: int, offset: int) -> Landed:
    content = path.read_bytes()
    frame_id = sha256(content).hexdigest()
    position = SourcePosition(f"camera:{partition}", offset)
    raw = RawFrame(path.name, Path(path.name), position, frame_id, len(content), NOW)
    return Landed(raw.path, frame_id, raw.size, lake.originals.keep(frame_id, content), raw)


def keep_partition(number: int):
    def keep(positions: Sequence[SourcePosition]) -> set[SourcePosition]:
        return {position for position in positions if position.partition == f"camera:{number}"}

    return keep


def test_a_copy_whose_first_message_is_another_readers_now_is_read_anew(night):
    lake, (one, other) = night
    with Ingestor(lake, IngestRequest(record_duplicates=True)) as ingestor:
        first = ingestor.begin([land(lake, one, 0, 0), land(lake, other, 1, 0)])
        second = ingestor.begin([land(lake, one, 1, 1)])
        assert [r["name"] for r in ingestor.finish(first, keep_partition(1))] == [other.name]
        with pytest.raises(TransientError, match=f"brought the content of {one.name} first"):
            list(ingestor.finish(second, keep_partition(1)))
    # As a process that was started anew would.
    with Ingestor(lake, IngestRequest(record_duplicates=True)) as ingestor:
        (report,) = ingestor.finish(ingestor.begin([land(lake, one, 1, 1)]), keep_partition(1))
    assert report["status"] == "normal"
    places = {(r["source_partition"], r["source_offset"]): r["outcome"] for r in rows(lake, "deliveries")}
    assert places["camera:1", 1] == "new"
    assert {name for name in wrong(lake) if not name.startswith("deliveries")} == set()


def test_a_copy_in_the_same_batch_is_read_anew_as_well(night):
    lake, (one, other) = night
    with Ingestor(lake, IngestRequest(record_duplicates=True)) as ingestor:
        batch = ingestor.begin([land(lake, one, 0, 0), land(lake, one, 1, 0), land(lake, other, 1, 1)])
        with pytest.raises(TransientError, match="another reader took over"):
            list(ingestor.finish(batch, keep_partition(1)))
    assert len(rows(lake, "frames")) == 6
