"""Snapshots forgotten or kept, orphaned files, pins, and all of maintenance in its order, in either catalogue."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.clock import now_utc
from pipeline.errors import StoreError, UsageError
from pipeline.ports import SourcePosition, VectorEntity, VectorSpec
from pipeline.run.maintain import STEPS, MaintainPlan, run_maintain
from pipeline.store import maintenance_iceberg
from pipeline.store.maintenance_iceberg import IcebergMaintenance
from pipeline.store.schema import TABLES
from pipeline.store.tidied import Expiry, Pin, Surplus, Sweep
from tests.fakes.vectors import MemoryVectors
from tests.table_tools import START, fill, list_files, read_rows

LONG_AGO = datetime(2000, 1, 1)  # noqa: DTZ001 - the tables keep naive UTC
SPEC = VectorSpec("pixels", "1", 2)


class Unclosed(MemoryVectors):
    """Vectors that outlive being closed."""

    def __init__(self, vectors: MemoryVectors) -> None:
        self.__dict__ = vectors.__dict__

    def close(self) -> None:
        pass


def tomorrow() -> datetime:
    return now_utc() + timedelta(days=1)


def test_expiry_keeps_the_current_snapshot_and_what_was_current_lately(tables):
    fill(tables, "frames", 5)
    maintenance = IcebergMaintenance(tables)
    assert maintenance.expire("frames", LONG_AGO).expired == 0
    dry = maintenance.expire("frames", tomorrow(), dry_run=True)
    assert (dry.expired, dry.kept, len(tables.raw("frames").snapshots())) == (4, 1, 5)
    replaced = [s.timestamp_ms for s in tables.raw("frames").snapshots()][3]
    moment = datetime.fromtimestamp(replaced / 1000, UTC).replace(tzinfo=None)
    early = maintenance.expire("frames", moment)
    assert (early.expired, early.kept) == (2, 3), "the third was current until the fourth came"
    done = maintenance.expire("frames", tomorrow())
    assert (done.expired, done.kept) == (2, 1)
    assert tables.scan("frames").num_rows == 5
    assert tables.positions("frames").count() == 5
    assert maintenance.expire("detections", tomorrow()).to_json()["kept"] == 0


def test_snapshots_that_are_too_many_go_once_nobody_reads_them_any_more(tables):
    fill(tables, "frames", 6)
    maintenance, (oldest, *others) = IcebergMaintenance(tables), tables.raw("frames").snapshots()
    maintenance.pin("frames", oldest.snapshot_id, "first light")
    assert maintenance.expire("frames", LONG_AGO, surplus=Surplus(3, LONG_AGO)).expired == 0, "replaced a moment ago"
    assert maintenance.expire("frames", LONG_AGO, surplus=Surplus(6, tomorrow())).expired == 0, "as many as may be"
    done = maintenance.expire("frames", LONG_AGO, surplus=Surplus(3, tomorrow()))
    assert (done.expired, done.kept, done.pinned) == (2, 4, ("first light",))
    left = {snapshot.snapshot_id for snapshot in tables.raw("frames").snapshots()}
    assert left == {oldest.snapshot_id, *(snapshot.snapshot_id for snapshot in others[-3:])}
    assert tables.positions("frames").count() == 6


def test_expiry_keeps_the_references_that_a_verdict_names(opened, tables):
    for number in range(5):
        tables.append("reference_members", [{"reference_set": "default", "frame_id": str(number)}])
    ids = [snapshot.snapshot_id for snapshot in tables.raw("reference_members").snapshots()]
    for number, snapshot in enumerate((ids[1], ids[3], None)):
        verdict = {"verdict_id": f"v{number}", "frame_id": "f", "judged_at": START, "reference_snapshot_id": snapshot}
        tables.append("verdicts", [verdict])
    maintenance = IcebergMaintenance(tables)
    assert (maintenance.expire("reference_members", tomorrow()).expired) == 2
    maintenance.remove_orphans("reference_members", tomorrow())
    fresh = opened()
    members = {i: fresh.scan("reference_members", as_of=i).num_rows for i in (ids[1], ids[3], ids[4])}
    assert members == {ids[1]: 2, ids[3]: 4, ids[4]: 5}
    tables.delete("verdicts", {"verdict_id": ["v1"]})
    assert (maintenance.expire("reference_members", tomorrow()).expired) == 1
    left = {snapshot.snapshot_id for snapshot in tables.raw("reference_members").snapshots()}
    assert left == {ids[1], ids[4]}


def test_expiry_keeps_what_leads_to_the_newest_positions(tables):
    tables.append("deliveries", [{"source_partition": "p", "source_offset": 0}], [SourcePosition("p", 0)])
    tables.append("deliveries", [{"source_partition": "p", "source_offset": 1}], [SourcePosition("p", 1)])
    table = tables.raw("deliveries")
    foreign = pa.Table.from_pylist([{"source_partition": "x", "source_offset": 9}], schema=table.schema().as_arrow())
    table.append(foreign)
    table.append(foreign)
    done = IcebergMaintenance(tables).expire("deliveries", tomorrow())
    assert (done.expired, done.kept) == (1, 3)
    assert tables.positions("deliveries").count() == 2


def test_orphans_respect_age_and_dry_run(opened, tables):
    fill(tables, "frames", 10)
    first = tables.raw("frames").snapshots()[3].snapshot_id
    maintenance = IcebergMaintenance(tables)
    soon, rows = now_utc() + timedelta(hours=1), read_rows(tables)
    before = list_files(tables)
    assert maintenance.remove_orphans("frames", soon, dry_run=True).files == (), "all of it is in use"
    assert read_rows(tables, as_of=first)
    data = next(path for path in before if path.suffix == ".parquet").parent
    stray = data / "00000-0-stray.parquet"
    stray.write_bytes(b"left by a killed writer")
    maintenance.compact("frames", most_small=2)
    maintenance.expire("frames", soon)
    assert maintenance.remove_orphans("frames", now_utc() - timedelta(hours=1)).files == ()
    dry = maintenance.remove_orphans("frames", soon, dry_run=True)
    assert str(stray) in dry.files
    assert stray.exists()
    done = maintenance.remove_orphans("frames", soon)
    assert set(done.files) >= set(dry.files)
    assert done.bytes == dry.bytes
    assert not stray.exists()
    assert list_files(tables).isdisjoint(Path(path) for path in done.files)
    assert len([path for path in done.files if path.endswith(".parquet")]) == 11
    assert read_rows(tables) == rows
    assert tables.positions("frames").count() == 10
    assert maintenance.remove_orphans("frames", soon).files == ()
    assert read_rows(opened()) == rows


def test_nothing_of_a_table_in_use_is_removed(tables):
    fill(tables, "frames", 4)
    before = list_files(tables)
    IcebergMaintenance(tables).remove_orphans("frames", now_utc() + timedelta(hours=1))
    gone = before - list_files(tables)
    assert gone == set()
    for snapshot in tables.raw("frames").snapshots():
        tables.scan("frames", as_of=snapshot.snapshot_id)


def test_one_old_file_among_young_ones_is_an_orphan(opened, tables):
    fill(tables, "frames", 1)
    data = next(path for path in list_files(tables) if path.suffix == ".parquet").parent
    old, young = data / "old.parquet", data / "young.parquet"
    for file in (old, young):
        file.write_bytes(b"x")
    yesterday = time.time() - 2 * 86400
    os.utime(old, (yesterday, yesterday))
    done = IcebergMaintenance(tables).remove_orphans("frames", now_utc() - timedelta(days=1))
    assert done.files == (str(old),)
    assert young.exists()


def test_nothing_is_swept_from_a_table_whose_own_files_are_missing(tables, tmp_path):
    fill(tables, "frames", 2)
    data = sorted(path for path in list_files(tables) if path.suffix == ".parquet")
    data[0].rename(tmp_path / "misplaced.parquet")
    stray = data[1].with_name("stray.parquet")
    stray.write_bytes(b"x")
    with pytest.raises(StoreError, match="not there"):
        IcebergMaintenance(tables).remove_orphans("frames", now_utc() + timedelta(hours=1))
    assert stray.exists()


def test_files_that_a_commit_makes_while_they_are_listed_are_no_loss_and_no_orphans(opened, tables, monkeypatch):
    """The listing is older than the metadata: what is named and not listed is looked at again."""
    fill(tables, "frames", 3)
    other = opened()
    listed = maintenance_iceberg._list_files

    def list_and_be_beaten(table: Any) -> Any:
        found = listed(table)
        fill(other, "frames", 1, start=50)
        return found

    monkeypatch.setattr(maintenance_iceberg, "_list_files", list_and_be_beaten)
    IcebergMaintenance(tables).remove_orphans("frames", tomorrow())
    assert tables.scan("frames").num_rows == 4


def test_a_pinned_snapshot_is_kept_and_let_go(opened, tables):
    fill(tables, "frames", 6)
    ids = [snapshot.snapshot_id for snapshot in tables.raw("frames").snapshots()]
    maintenance = IcebergMaintenance(tables)
    assert maintenance.pin("frames", ids[2], "paper-1") == Pin("frames", ids[2], "paper-1")
    maintenance.pin("frames", ids[2], "paper-1")
    with pytest.raises(UsageError, match=f"stands for snapshot {ids[2]}"):
        maintenance.pin("frames", ids[3], "paper-1")
    with pytest.raises(UsageError, match="has no snapshot 5"):
        maintenance.pin("frames", 5, "other")
    with pytest.raises(UsageError, match="no table 'nothing'"):
        maintenance.pin("nothing", 5, "other")
    done = IcebergMaintenance(opened()).expire("frames", tomorrow())
    assert (done.expired, done.kept, done.pinned) == (4, 2, ("paper-1",))
    maintenance.compact("frames", most_small=1)
    maintenance.expire("frames", tomorrow())
    maintenance.remove_orphans("frames", tomorrow())
    fresh = opened()
    assert fresh.scan("frames", as_of=ids[2]).num_rows == 3
    with pytest.raises(UsageError, match=r"no snapshot is pinned as 'main'; pinned are: paper-1"):
        maintenance.unpin("main")
    assert maintenance.unpin("paper-1") == [Pin("frames", ids[2], "paper-1")]
    assert maintenance.expire("frames", tomorrow()).pinned == ()
    assert len(opened().raw("frames").snapshots()) == 1
    with pytest.raises(UsageError, match="pinned are: none"):
        maintenance.unpin("paper-1")


def test_a_change_that_another_writer_beat_is_made_again(opened, tables, monkeypatch):
    fill(tables, "frames", 3)
    other, beaten = opened(), []
    protect = IcebergMaintenance._protect

    def be_beaten_and_protect(self: IcebergMaintenance, table: str, current: Any) -> set[int]:
        kept = protect(self, table, current)
        if not beaten:
            beaten.append(table)
            fill(other, "frames", 1, start=50)
        return kept

    monkeypatch.setattr(IcebergMaintenance, "_protect", be_beaten_and_protect)
    IcebergMaintenance(tables).expire("frames", tomorrow())
    assert beaten
    assert tables.scan("frames").num_rows == 4
    assert tables.positions("frames").count() == 4


def test_everything_in_order_and_a_second_time_nothing(tables):
    fill(tables, "frames", 10)
    rows = read_rows(tables)
    plan = MaintainPlan(2**20, 2, snapshots_days=7, most_snapshots=100, orphan_hours=24, vector_seconds=1)
    far = now_utc() + timedelta(days=60)
    vectors = MemoryVectors()
    vectors.upsert(SPEC, [VectorEntity("f", np.ones(2, dtype=np.float32), None, None, None, None, None)])
    told: list[str] = []

    def go(**how: Any) -> list[dict[str, Any]]:
        maintenance = IcebergMaintenance(tables)
        return [s.to_json() for s in run_maintain(maintenance, lambda: Unclosed(vectors), plan, now=far, **how)]

    dry = go(dry_run=True)
    assert (read_rows(tables), len(tables.raw("frames").snapshots())) == (rows, 10)
    lines = go(on_progress=lambda step, _done, _total: told.append(step))
    steps = [step for step in STEPS if step != "vectors" for _ in TABLES]
    assert [line["step"] for line in lines] == [*steps, "vectors"]
    assert [line["step"] for line in dry] == [line["step"] for line in lines]
    assert [line["dry_run"] for line in (dry[0], dry[-1], lines[0], lines[-1])] == [True, True, False, False]
    assert list(dict.fromkeys(told)) == list(STEPS)
    frames = {line["step"]: line for line in lines if line.get("table", "frames") == "frames"}
    assert (frames["compact"]["files_before"], frames["compact"]["files_after"]) == (10, 2)
    assert frames["expire"]["expired"] == 10
    assert frames["orphans"]["files"] > 10
    assert (frames["vectors"]["collection"], frames["vectors"]["state"]) == (SPEC.key, "automatic")
    assert read_rows(tables) == rows
    assert tables.positions("frames").count() == 10
    assert all(not line.get("rows") and not line.get("expired") for line in go())


def test_snapshots_are_kept_as_long_as_the_files_of_a_commit_in_progress(tables):
    """A reader may have begun in one of them: none is taken from under it, whatever is asked for."""
    fill(tables, "frames", 10)
    plan = MaintainPlan(2**20, 2, snapshots_days=0, most_snapshots=1, orphan_hours=1, vector_seconds=1)
    steps = list(run_maintain(IcebergMaintenance(tables), MemoryVectors, plan, now=now_utc()))
    assert sum(step.expired for step in steps if isinstance(step, Expiry)) == 0
    assert len(tables.raw("frames").snapshots()) == 11
    assert sum(len(step.files) for step in steps if isinstance(step, Sweep)) == 0
