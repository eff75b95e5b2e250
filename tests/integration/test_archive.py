from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.clock import now_utc
from pipeline.errors import StoreError
from pipeline.ports import SourcePosition
from pipeline.run.archive import ArchivePlan, archive_originals, run_archive, verify_checksums
from pipeline.store import compaction_iceberg
from pipeline.store.compaction_iceberg import fingerprint
from pipeline.store.maintenance_iceberg import IcebergMaintenance
from pipeline.store.originals import LocalOriginals, TieredOriginals
from pipeline.store.positions import PROPERTY
from pipeline.store.tables_iceberg import IcebergTables, open_sqlite_catalog

START = datetime(2026, 3, 1, 12, 0, 0)  # noqa: DTZ001 - the tables keep naive UTC
LATER = START + timedelta(days=365)
LONG_AGO = datetime(2000, 1, 1)  # noqa: DTZ001


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[IcebergTables]:
    opened = _open(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def originals(tmp_path: Path) -> TieredOriginals:
    return TieredOriginals(LocalOriginals(tmp_path / "hot"), LocalOriginals(tmp_path / "archive"))


def _open(home: Path) -> IcebergTables:
    tables = IcebergTables(open_sqlite_catalog(home / "catalog.db", home / "ware house"))
    tables.create_missing()
    return tables


def _frame(number: int, frame_id: str = "", **changes: Any) -> dict[str, Any]:
    return {
        "frame_id": frame_id or f"{number:064x}",
        "name": f"{number}.fits",
        "obs_time": START + timedelta(days=number % 2),
        "instrument": f"cam/{number % 2} ?",
        "header": [("A", str(number)), ("A", "twice"), ("B", None)],
        "zones": [number, None],
        "fwhm_px": float("nan") if number % 3 else None,
        "ingested_at": START + timedelta(hours=number),
        **changes,
    }


def _fill(tables: IcebergTables, table: str, commits: int, start: int = 0, **changes: Any) -> None:
    for number in range(start, start + commits):
        tables.append(table, [_frame(number, **changes)], [SourcePosition("spool:/night", number)])


def _rows(tables: IcebergTables, table: str = "frames", as_of: int | None = None) -> list[str]:
    return sorted(repr(row) for row in tables.scan(table, as_of=as_of).to_pylist())


def _keep(originals: TieredOriginals, tmp_path: Path, content: bytes) -> str:
    file = tmp_path / "delivered"
    file.write_bytes(content)
    return originals.put(file)[0]


def _warehouse(tmp_path: Path) -> set[Path]:
    return {path for path in (tmp_path / "ware house").rglob("*") if path.is_file()}


def _data_files(tables: IcebergTables, table: str) -> int:
    return len(list(tables.raw(table).scan().plan_files()))


# --- originals ------------------------------------------------------------------------------------------------------


def test_old_originals_move_and_young_ones_stay(tables, originals, tmp_path):
    old, young, odd, redriven = (_keep(originals, tmp_path, content) for content in (b"old", b"new", b"odd", b"again"))
    tables.append("frames", [_frame(0, old), _frame(1, young, ingested_at=LATER), _frame(2, redriven)])
    events = [{"frame_id": odd, "at": START}, {"frame_id": redriven, "at": LATER}]
    tables.append("quarantine", events)
    dry = archive_originals(tables, originals, START + timedelta(days=1), dry_run=True)
    assert (dry.moved, dry.bytes, set(originals.archive.ids())) == (2, 6, set())
    told: list[tuple[str, int, int]] = []
    done = archive_originals(
        tables, originals, START + timedelta(days=1), on_progress=lambda *progress: told.append(progress)
    )
    assert (done.moved, done.kept, done.problems) == (2, 2, ())
    assert set(originals.archive.ids()) == {old, odd}
    assert set(originals.hot.ids()) == {young, redriven}
    assert originals.locate(old).read_bytes() == b"old"
    assert told[-1] == ("originals", 2, 2)
    assert done.to_json()["moved"] == 2
    again = archive_originals(tables, originals, START + timedelta(days=1))
    assert (again.moved, again.problems) == (0, ())


def test_originals_that_no_table_names_are_left_alone(tables, originals, tmp_path):
    _keep(originals, tmp_path, b"landed and not committed yet")
    assert archive_originals(tables, originals, LATER).moved == 0
    assert len(list(originals.hot.ids())) == 1


@pytest.mark.parametrize("step", ["adopt", "remove", "fsync"])
def test_a_run_stopped_at_any_step_loses_nothing_and_can_be_repeated(tables, originals, tmp_path, monkeypatch, step):
    ids = [_keep(originals, tmp_path, f"frame {i}".encode()) for i in range(3)]
    tables.append("frames", [_frame(i, frame_id) for i, frame_id in enumerate(ids)])
    calls = 0

    def stop(*_: object) -> None:
        nonlocal calls
        calls += 1
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step == "fsync":
            patch.setattr(os, "fsync", stop)
        else:
            patch.setattr(originals.archive if step == "adopt" else originals.hot, step, stop)
        with pytest.raises(KeyboardInterrupt):
            archive_originals(tables, originals, LATER)
    assert calls == 1
    assert set(originals.hot.ids()) == set(ids), "nothing is deleted before its copy is proved"
    done = archive_originals(tables, originals, LATER)
    assert (done.moved, done.problems) == (3, ())
    assert set(originals.archive.ids()) == set(ids)
    assert not list(originals.hot.ids())
    assert not list((tmp_path / "archive").rglob("*.part")), "half-written copies of the killed run are gone"


def test_a_copy_is_proved_before_the_original_goes(tables, originals, tmp_path, monkeypatch):
    frame_id = _keep(originals, tmp_path, b"good bytes")
    tables.append("frames", [_frame(0, frame_id)])
    write = LocalOriginals._write

    def write_badly(self: LocalOriginals, place: Path, payload: bytes, **how: Any) -> None:
        write(self, place, payload[:-1], **how)

    monkeypatch.setattr(LocalOriginals, "_write", write_badly)
    done = archive_originals(tables, originals, LATER)
    assert done.moved == 0
    assert "does not hash" in done.problems[0]
    assert originals.hot.is_intact(frame_id)


def test_a_corrupt_hot_copy_is_reported_and_stays(tables, originals, tmp_path):
    bad, good = _keep(originals, tmp_path, b"soon rotten"), _keep(originals, tmp_path, b"sound")
    tables.append("frames", [_frame(0, bad), _frame(1, good)])
    originals.hot.locate(bad).write_bytes(b"rotten")
    done = archive_originals(tables, originals, LATER)
    assert (done.moved, len(done.problems)) == (1, 1)
    assert bad in done.problems[0]
    assert originals.hot.locate(bad).read_bytes() == b"rotten"
    assert set(originals.archive.ids()) == {good}
    assert done.to_json()["problems"] == 1


def test_checksums_of_the_archive(originals, tmp_path):
    ids = [_keep(originals, tmp_path, f"{i}".encode()) for i in range(12)]
    for frame_id in ids:
        originals.archive.adopt(frame_id, originals.hot.locate(frame_id))
    originals.archive.locate(ids[3]).write_bytes(b"bit rot")
    everything = verify_checksums(originals.archive, now=START)
    assert (everything.checked, everything.total, len(everything.problems)) == (12, 12, 1)
    assert ids[3] in everything.problems[0]
    assert everything.to_json()["problems"] == 1
    found = [
        len(verify_checksums(originals.archive, sample=3, now=START + timedelta(days=d)).problems) for d in range(40)
    ]
    assert 0 < sum(found) < 40, "every day another sample"
    assert verify_checksums(originals.archive, sample=3, now=START).checked == 3


# --- compaction -----------------------------------------------------------------------------------------------------


def test_compaction_keeps_rows_positions_and_older_snapshots(tables, tmp_path):
    _fill(tables, "frames", 20)
    for number in range(20, 32):
        tables.append("frames", [_frame(number, obs_time=None, instrument=None)], [SourcePosition("b", number)])
    rows, positions, snapshot = _rows(tables), tables.positions("frames"), tables.snapshot_id("frames")
    plan = IcebergMaintenance(tables).compact("frames", dry_run=True)
    assert tables.snapshot_id("frames") == snapshot
    done = IcebergMaintenance(tables).compact("frames")
    assert (plan.files_before, plan.files_after, plan.rows) == (32, 3, 32)
    assert (done.files_before, done.files_after, done.rows) == (32, 3, 32)
    assert _data_files(tables, "frames") == 3
    assert done.bytes_after < done.bytes_before
    assert _rows(tables) == rows
    assert tables.positions("frames") == positions
    assert positions.holds(SourcePosition("b", 31))
    assert _rows(tables, as_of=snapshot) == rows, "an older snapshot reads its own files"
    assert tables.snapshot_id("frames") != snapshot
    summary = tables.raw("frames").current_snapshot().summary
    assert summary["total-records"] == "32"
    again = IcebergMaintenance(tables).compact("frames")
    assert (again.rows, again.files_after) == (0, 3)
    wanted = {"instrument": ["cam/1 ?"], "frame_id": [f"{1:064x}", f"{2:064x}"]}
    assert tables.scan("frames", ["frame_id"], where=wanted).num_rows == 1
    fresh = _open(tmp_path)
    assert _rows(fresh) == rows
    fresh.close()


def test_unpartitioned_and_nested_tables_are_compacted(tables):
    neighbours = [{"frame_id": "r", "name": None, "distance": 0.5}, None]
    for number in range(12):
        position = [SourcePosition("p", number)]
        tables.append("deliveries", [{"source_partition": "p", "source_offset": number}], position)
        verdict = {"verdict_id": str(number), "frame_id": "f", "judged_at": START, "neighbours": neighbours}
        tables.append("verdicts", [{**verdict, "models": [("m", "1")]}], position)
    before = {name: _rows(tables, name) for name in ("deliveries", "verdicts")}
    for name, rows in before.items():
        assert IcebergMaintenance(tables).compact(name).files_after == 1
        assert _rows(tables, name) == rows
        assert tables.positions(name).count() == 12


def test_few_or_large_files_are_left_alone(tables):
    _fill(tables, "frames", 16)
    maintenance = IcebergMaintenance(tables)
    snapshot = tables.snapshot_id("frames")
    assert maintenance.compact("frames").rows == 0, "eight in a partition are few"
    assert maintenance.compact("frames", small_bytes=10, most_small=1).rows == 0
    assert maintenance.compact("verdicts").files_before == 0
    assert tables.snapshot_id("frames") == snapshot


def test_reference_members_are_never_compacted(tables):
    for number in range(12):
        tables.append("reference_members", [{"reference_set": "default", "frame_id": str(number)}])
    assert IcebergMaintenance(tables).compact("reference_members").rows == 0
    assert _data_files(tables, "reference_members") == 12


def test_memory_is_bounded_by_bundles(tables, monkeypatch):
    _fill(tables, "frames", 24, instrument="one", obs_time=START)
    size = max(task.file.file_size_in_bytes for task in tables.raw("frames").scan().plan_files())
    monkeypatch.setattr(compaction_iceberg, "_BUNDLE_BYTES", 6 * size)
    rows = _rows(tables)
    assert IcebergMaintenance(tables).compact("frames").files_after == 4
    assert _rows(tables) == rows


def test_compaction_that_would_change_a_row_is_not_committed(tables, monkeypatch):
    _fill(tables, "frames", 20)
    rows, snapshot = _rows(tables), tables.snapshot_id("frames")
    write = compaction_iceberg._dataframe_to_data_files

    def write_badly(metadata: Any, data: pa.Table, io: Any) -> Any:
        name = data.schema.get_field_index("name")
        return write(
            metadata, data.set_column(name, data.schema.field(name), data.column(name).take([0] * len(data))), io
        )

    monkeypatch.setattr(compaction_iceberg, "_dataframe_to_data_files", write_badly)
    with pytest.raises(StoreError, match="do not hold the rows"):
        IcebergMaintenance(tables).compact("frames")
    assert _rows(tables) == rows
    assert tables.snapshot_id("frames") == snapshot


def test_a_commit_by_another_writer_during_compaction_keeps_both(tables, tmp_path, monkeypatch):
    _fill(tables, "frames", 20)
    other = _open(tmp_path)
    read = compaction_iceberg.read_positions
    attempts = 0

    def read_and_be_beaten(table: Any) -> Any:
        nonlocal attempts
        held = read(table)
        attempts += 1
        if attempts == 1:
            _fill(other, "frames", 1, start=500)
        return held

    monkeypatch.setattr(compaction_iceberg, "read_positions", read_and_be_beaten)
    IcebergMaintenance(tables).compact("frames")
    assert attempts == 2
    assert tables.scan("frames").num_rows == 21
    assert tables.positions("frames").count() == 21
    assert _data_files(tables, "frames") == 3
    other.close()


def test_compaction_gives_way_to_a_writer_that_replaced_its_files(tables, tmp_path, monkeypatch):
    _fill(tables, "frames", 20)
    other = _open(tmp_path)
    merge = compaction_iceberg._merge

    def merge_and_be_beaten(*of: Any) -> Any:
        merged = merge(*of)
        other.delete("frames", {"frame_id": [f"{3:064x}"]})
        return merged

    monkeypatch.setattr(compaction_iceberg, "_merge", merge_and_be_beaten)
    with pytest.raises(StoreError, match="meanwhile"):
        IcebergMaintenance(tables).compact("frames")
    assert tables.scan("frames").num_rows == 19
    other.close()


def test_a_stale_commit_is_refused_so_that_no_position_is_lost(tables, tmp_path):
    other = _open(tmp_path)
    other.append("deliveries", [{"source_partition": "p", "source_offset": 0}], [SourcePosition("p", 0)])
    stale = tables.raw("deliveries")
    row = {"source_partition": "p", "source_offset": 1}
    data = pa.Table.from_pylist([row], schema=stale.schema().as_arrow())
    other.append("deliveries", [row], [SourcePosition("p", 1)])
    with pytest.raises(Exception, match=r"has changed|updated by another"):
        stale.append(data, snapshot_properties={PROPERTY: "{}"})
    assert tables.positions("deliveries").holds(SourcePosition("p", 1))
    other.close()


def test_fingerprint_ignores_order_and_sees_every_change():
    kind = pa.map_(pa.string(), pa.string())
    values = [[("a", "1"), ("a", "2")], None, [("b", None)]]
    rows = pa.table({"m": pa.array(values, kind), "x": [1.5, float("nan"), None], "l": [[{"a": 1}], [], None]})
    assert fingerprint(rows) == fingerprint(rows.take([2, 0, 1]))
    assert fingerprint(rows) != fingerprint(rows.take([2, 0, 0]))
    assert fingerprint(rows) != fingerprint(rows.take([2, 0]))
    changed = rows.set_column(0, "m", pa.array([[("a", "1"), ("a", "3")], None, [("b", None)]], kind))
    assert fingerprint(rows) != fingerprint(changed)
    assert fingerprint(rows.slice(0, 0)) == (0, 0)


# --- snapshots and orphans ------------------------------------------------------------------------------------------


def test_expiry_keeps_the_current_snapshot_and_those_of_the_references(tables):
    _fill(tables, "frames", 5)
    for number in range(3):
        tables.append("reference_members", [{"reference_set": "default", "frame_id": str(number)}])
    tomorrow = now_utc() + timedelta(days=1)
    maintenance = IcebergMaintenance(tables)
    assert maintenance.expire("frames", LONG_AGO).expired == 0
    dry = maintenance.expire("frames", tomorrow, dry_run=True)
    assert (dry.expired, dry.kept, len(tables.raw("frames").snapshots())) == (4, 1, 5)
    done = maintenance.expire("frames", tomorrow)
    assert (done.expired, done.kept) == (4, 1)
    assert tables.scan("frames").num_rows == 5
    assert tables.positions("frames").count() == 5
    assert maintenance.expire("reference_members", tomorrow).expired == 0
    first = tables.raw("reference_members").snapshots()[0].snapshot_id
    assert tables.scan("reference_members", as_of=first).num_rows == 1
    assert maintenance.expire("detections", tomorrow).to_json()["kept"] == 0


def test_expiry_keeps_what_leads_to_the_newest_positions(tables):
    tables.append("deliveries", [{"source_partition": "p", "source_offset": 0}], [SourcePosition("p", 0)])
    tables.append("deliveries", [{"source_partition": "p", "source_offset": 1}], [SourcePosition("p", 1)])
    table = tables.raw("deliveries")
    foreign = pa.Table.from_pylist([{"source_partition": "x", "source_offset": 9}], schema=table.schema().as_arrow())
    table.append(foreign)
    table.append(foreign)
    done = IcebergMaintenance(tables).expire("deliveries", now_utc() + timedelta(days=1))
    assert (done.expired, done.kept) == (1, 3)
    assert tables.positions("deliveries").count() == 2


def test_orphans_respect_age_and_dry_run(tables, tmp_path):
    _fill(tables, "frames", 20)
    first = tables.raw("frames").snapshots()[3].snapshot_id
    maintenance = IcebergMaintenance(tables)
    soon, rows = now_utc() + timedelta(hours=1), _rows(tables)
    before = _warehouse(tmp_path)
    clean = maintenance.remove_orphans("frames", soon, dry_run=True)
    assert _rows(tables, as_of=first)
    data = next(path for path in before if path.suffix == ".parquet").parent
    stray = data / "00000-0-stray.parquet"
    stray.write_bytes(b"left by a killed writer")
    maintenance.compact("frames")
    maintenance.expire("frames", soon)
    assert maintenance.remove_orphans("frames", now_utc() - timedelta(hours=1)).files == ()
    dry = maintenance.remove_orphans("frames", soon, dry_run=True)
    assert str(stray) in dry.files
    assert stray.exists()
    done = maintenance.remove_orphans("frames", soon)
    assert set(done.files) >= set(dry.files) >= set(clean.files)
    assert done.bytes == dry.bytes
    assert not stray.exists()
    assert _warehouse(tmp_path).isdisjoint(Path(path) for path in done.files)
    assert len([path for path in done.files if path.endswith(".parquet")]) == 21
    assert _rows(tables) == rows
    assert tables.positions("frames").count() == 20
    assert maintenance.remove_orphans("frames", soon).files == ()
    fresh = _open(tmp_path)
    assert _rows(fresh) == rows
    fresh.close()


def test_a_table_in_use_has_no_orphans_but_replaced_metadata(tables, tmp_path):
    _fill(tables, "frames", 4)
    before = _warehouse(tmp_path)
    IcebergMaintenance(tables).remove_orphans("frames", now_utc() + timedelta(hours=1))
    gone = before - _warehouse(tmp_path)
    assert gone == set()
    for snapshot in tables.raw("frames").snapshots():
        tables.scan("frames", as_of=snapshot.snapshot_id)


def test_one_old_file_among_young_ones_is_an_orphan(tables, tmp_path):
    _fill(tables, "frames", 1)
    data = next(path for path in _warehouse(tmp_path) if path.suffix == ".parquet").parent
    old, young = data / "old.parquet", data / "young.parquet"
    for file in (old, young):
        file.write_bytes(b"x")
    yesterday = time.time() - 2 * 86400
    os.utime(old, (yesterday, yesterday))
    done = IcebergMaintenance(tables).remove_orphans("frames", now_utc() - timedelta(days=1))
    assert done.files == (str(old),)
    assert young.exists()


def test_nothing_is_swept_from_a_table_whose_own_files_are_missing(tables, tmp_path):
    _fill(tables, "frames", 2)
    data = sorted(path for path in _warehouse(tmp_path) if path.suffix == ".parquet")
    data[0].rename(tmp_path / "misplaced.parquet")
    stray = data[1].with_name("stray.parquet")
    stray.write_bytes(b"x")
    with pytest.raises(StoreError, match="not there"):
        IcebergMaintenance(tables).remove_orphans("frames", now_utc() + timedelta(hours=1))
    assert stray.exists()


# --- all of it ------------------------------------------------------------------------------------------------------


def test_run_archive_does_everything_in_order_and_again_nothing(tables, originals, tmp_path):
    ids = [_keep(originals, tmp_path, f"frame {i}".encode()) for i in range(20)]
    for number, frame_id in enumerate(ids):
        tables.append("frames", [_frame(number, frame_id)], [SourcePosition("p", number)])
    rows = _rows(tables)
    plan = ArchivePlan(originals_days=30, snapshots_days=7, orphan_hours=24)
    far = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=60)
    maintenance = IcebergMaintenance(tables)
    dry = run_archive(tables, originals, maintenance, plan, now=far, dry_run=True)
    assert len(set(originals.hot.ids())) == 20
    told: list[str] = []
    steps = run_archive(
        tables, originals, maintenance, plan, now=far, on_progress=lambda step, _done, _total: told.append(step)
    )
    lines = [step.to_json() for step in steps]
    kinds = [line["step"] for line in lines]
    assert kinds == [line.to_json()["step"] for line in dry]
    assert kinds == ["originals", *["compact"] * 6, *["expire"] * 6, *["orphans"] * 6]
    assert list(dict.fromkeys(told)) == ["originals", "compact", "expire", "orphans"]
    frames = {line["step"]: line for line in lines if line.get("table", "frames") == "frames"}
    assert frames["originals"]["moved"] == 20
    assert (frames["compact"]["files_before"], frames["compact"]["files_after"]) == (20, 2)
    assert frames["expire"]["expired"] == 20
    assert frames["orphans"]["files"] > 20
    assert _rows(tables) == rows
    assert tables.positions("frames").count() == 20
    assert all(hashlib.sha256(originals.locate(i).read_bytes()).hexdigest() == i for i in ids)
    again = [step.to_json() for step in run_archive(tables, originals, maintenance, plan, now=far)]
    assert again[0]["moved"] == 0
    assert all(not line.get("rows") and not line.get("expired") for line in again)
