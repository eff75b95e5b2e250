"""Merging small files: the same rows and positions afterwards, whoever else writes, in either catalogue."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from pipeline.errors import StoreError
from pipeline.ports import SourcePosition
from pipeline.store import compaction_iceberg
from pipeline.store.compaction_iceberg import REWRITE, fingerprint
from pipeline.store.maintenance_iceberg import IcebergMaintenance
from pipeline.store.positions import PROPERTY
from tests.table_tools import START, count_data_files, fill, frame, read_rows


def test_compaction_keeps_rows_positions_and_older_snapshots(opened, tables):
    fill(tables, "frames", 8)
    for number in range(8, 12):
        tables.append("frames", [frame(number, obs_time=None, instrument=None)], [SourcePosition("b", number)])
    rows, positions, snapshot = read_rows(tables), tables.positions("frames"), tables.snapshot_id("frames")
    plan = IcebergMaintenance(tables).compact("frames", most_small=2, dry_run=True)
    assert tables.snapshot_id("frames") == snapshot
    done = IcebergMaintenance(tables).compact("frames", most_small=2)
    assert (plan.files_before, plan.files_after, plan.rows) == (12, 3, 12)
    assert (done.files_before, done.files_after, done.rows) == (12, 3, 12)
    assert count_data_files(tables) == 3
    assert done.bytes_after < done.bytes_before
    assert read_rows(tables) == rows
    assert tables.positions("frames") == positions
    assert positions.holds(SourcePosition("b", 11))
    assert read_rows(tables, as_of=snapshot) == rows, "an older snapshot reads its own files"
    assert tables.snapshot_id("frames") != snapshot
    summary = tables.raw("frames").current_snapshot().summary
    assert summary["total-records"] == "12"
    again = IcebergMaintenance(tables).compact("frames", most_small=2)
    assert (again.rows, again.files_after) == (0, 3)
    wanted = {"instrument": ["cam/1 ?"], "frame_id": [f"{1:064x}", f"{2:064x}"]}
    assert tables.scan("frames", ["frame_id"], where=wanted).num_rows == 1
    assert read_rows(opened()) == rows


def test_unpartitioned_and_nested_tables_are_compacted(tables):
    neighbours = [{"frame_id": "r", "name": None, "distance": 0.5}, None]
    for number in range(12):
        position = [SourcePosition("p", number)]
        tables.append("deliveries", [{"source_partition": "p", "source_offset": number}], position)
        verdict = {"verdict_id": str(number), "frame_id": "f", "judged_at": START, "neighbours": neighbours}
        tables.append("verdicts", [{**verdict, "models": [("m", "1")]}], position)
    before = {name: read_rows(tables, name) for name in ("deliveries", "verdicts")}
    for name, rows in before.items():
        assert IcebergMaintenance(tables).compact(name).files_after == 1
        assert read_rows(tables, name) == rows
        assert tables.positions(name).count() == 12


def test_few_or_large_files_are_left_alone(tables):
    fill(tables, "frames", 16)
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
    assert count_data_files(tables, "reference_members") == 12


def test_memory_is_bounded_by_bundles(tables, monkeypatch):
    fill(tables, "frames", 8, instrument="one", obs_time=START)
    size = max(task.file.file_size_in_bytes for task in tables.raw("frames").scan().plan_files())
    monkeypatch.setattr(compaction_iceberg, "_BUNDLE_BYTES", 2 * size)
    rows = read_rows(tables)
    assert IcebergMaintenance(tables).compact("frames", most_small=2).files_after == 4
    assert read_rows(tables) == rows


def test_compaction_that_would_change_a_row_is_not_committed(tables, monkeypatch):
    fill(tables, "frames", 6)
    rows, snapshot = read_rows(tables), tables.snapshot_id("frames")
    write = compaction_iceberg._dataframe_to_data_files

    def write_badly(metadata: Any, data: pa.Table, io: Any) -> Any:
        name = data.schema.get_field_index("name")
        return write(
            metadata, data.set_column(name, data.schema.field(name), data.column(name).take([0] * len(data))), io
        )

    monkeypatch.setattr(compaction_iceberg, "_dataframe_to_data_files", write_badly)
    with pytest.raises(StoreError, match="do not hold the rows"):
        IcebergMaintenance(tables).compact("frames", most_small=2)
    assert read_rows(tables) == rows
    assert tables.snapshot_id("frames") == snapshot


def test_a_commit_by_another_writer_during_compaction_keeps_both(opened, tables, monkeypatch):
    fill(tables, "frames", 6)
    other = opened()
    read = compaction_iceberg.read_positions
    attempts = 0

    def read_and_be_beaten(table: Any) -> Any:
        nonlocal attempts
        held = read(table)
        attempts += 1
        if attempts == 1:
            fill(other, "frames", 1, start=500)
        return held

    monkeypatch.setattr(compaction_iceberg, "read_positions", read_and_be_beaten)
    IcebergMaintenance(tables).compact("frames", most_small=2)
    assert attempts == 2
    assert tables.scan("frames").num_rows == 7
    assert tables.positions("frames").count() == 7
    assert count_data_files(tables) == 3


def test_compaction_leaves_a_partition_whose_files_were_replaced_and_merges_the_others(opened, tables, monkeypatch):
    fill(tables, "frames", 8)
    other = opened()
    merge = compaction_iceberg._merge

    def merge_and_be_beaten(*of: Any) -> Any:
        merged = merge(*of)
        other.delete("frames", {"frame_id": [f"{3:064x}"]})
        return merged

    monkeypatch.setattr(compaction_iceberg, "_merge", merge_and_be_beaten)
    done = IcebergMaintenance(tables).compact("frames", most_small=2)
    assert (done.files_before, done.files_after, done.left, done.rows) == (8, 5, 4, 4)
    assert tables.scan("frames").num_rows == 7
    assert f"{3:064x}" not in tables.scan("frames").column("frame_id").to_pylist(), "a deleted row stays deleted"
    assert count_data_files(tables) == 4, "one merged, three left"
    monkeypatch.undo()
    assert IcebergMaintenance(tables).compact("frames", most_small=2).files_after == 2


def test_compaction_that_always_comes_second_leaves_everything_and_says_so(opened, tables, monkeypatch):
    fill(tables, "frames", 6)
    other, beaten = opened(), []
    replace = compaction_iceberg._replace
    monkeypatch.setattr(compaction_iceberg, "_PATIENCE_SECONDS", 1.0)

    def be_beaten_and_replace(table: Any, *of: Any) -> None:
        fill(other, "frames", 1, start=100 + len(beaten))
        beaten.append(table)
        replace(table, *of)

    monkeypatch.setattr(compaction_iceberg, "_replace", be_beaten_and_replace)
    done = IcebergMaintenance(tables).compact("frames", most_small=2)
    assert (done.left, done.rows, done.files_after) == (6, 0, 6)
    assert len(beaten) > 1
    count = 6 + len(beaten)
    assert (tables.scan("frames").num_rows, tables.positions("frames").count()) == (count, count)


def test_what_is_merged_for_long_is_committed_in_between(tables, monkeypatch):
    fill(tables, "frames", 8)
    before = len(tables.raw("frames").snapshots())
    rows = read_rows(tables)
    monkeypatch.setattr(compaction_iceberg, "_GROUP_SECONDS", -1.0)
    done = IcebergMaintenance(tables).compact("frames", most_small=2)
    assert (done.files_after, done.left) == (2, 0)
    assert len(tables.raw("frames").snapshots()) == before + 2, "a commit a partition"
    assert read_rows(tables) == rows
    assert tables.positions("frames").count() == 8


def test_a_merged_snapshot_says_that_it_brought_no_rows(tables):
    fill(tables, "frames", 6)
    assert REWRITE not in tables.raw("frames").current_snapshot().summary.additional_properties
    IcebergMaintenance(tables).compact("frames", most_small=2)
    assert tables.raw("frames").current_snapshot().summary.additional_properties[REWRITE] == "yes"


def test_a_stale_commit_is_refused_so_that_no_position_is_lost(opened, tables):
    other = opened()
    other.append("deliveries", [{"source_partition": "p", "source_offset": 0}], [SourcePosition("p", 0)])
    stale = tables.raw("deliveries")
    row = {"source_partition": "p", "source_offset": 1}
    data = pa.Table.from_pylist([row], schema=stale.schema().as_arrow())
    other.append("deliveries", [row], [SourcePosition("p", 1)])
    with pytest.raises(Exception, match=r"has changed|updated by another"):
        stale.append(data, snapshot_properties={PROPERTY: "{}"})
    assert tables.positions("deliveries").holds(SourcePosition("p", 1))


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
