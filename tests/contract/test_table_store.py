"""What every table store must do: Iceberg on a SQLite and on a shared REST catalogue, and the fake that tests use."""
# ruff: noqa: DTZ001 - times are naive UTC throughout, as the tables have them

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pytest
import requests
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table
from sqlalchemy.exc import OperationalError

from pipeline.errors import CommitConflictError, StoreError, TransientError
from pipeline.ports import SourcePosition, TableStore
from pipeline.stack.layout import Layout
from pipeline.store import catalog_rest, newcomers, tables_iceberg
from pipeline.store.catalog_rest import open_rest_catalog
from pipeline.store.catalog_sqlite import open_sqlite_catalog
from pipeline.store.maintenance_iceberg import IcebergMaintenance
from pipeline.store.schema import TABLES
from pipeline.store.tables_iceberg import IcebergTables, name_conflicts
from tests import children
from tests.contract.rest_catalog import lend_namespace, open_shared
from tests.fakes.tables import MemoryTables
from tests.stack import require_stack


def open_iceberg(home: Path) -> IcebergTables:
    tables = IcebergTables(open_sqlite_catalog(home / "catalog.db", home / "warehouse"))
    tables.create_missing()
    return tables


@pytest.fixture
def sqlite(tmp_path) -> Iterator[IcebergTables]:
    opened = open_iceberg(tmp_path / "a home with späces")
    yield opened
    opened.close()


@pytest.fixture
def rest() -> Iterator[IcebergTables]:
    stack = require_stack()
    with lend_namespace(stack) as namespace:
        opened = open_shared(stack, namespace)
        yield opened
        opened.close()


@pytest.fixture(params=["sqlite", "rest"])
def iceberg(request) -> IcebergTables:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["memory", "sqlite", "rest"])
def tables(request) -> TableStore:
    return MemoryTables() if request.param == "memory" else request.getfixturevalue(request.param)


def place_of(offset: int, partition: str = "spool:/night") -> SourcePosition:
    return SourcePosition(partition, offset)


def delivery(offset: int, partition: str = "spool:/night", **columns) -> dict:
    return {"source_partition": partition, "source_offset": offset, "frame_id": f"f{offset}", **columns}


def offsets(tables: TableStore, **scan) -> list[int]:
    return sorted(tables.scan("deliveries", **scan).column("source_offset").to_pylist())


def test_rows_come_back_as_they_were_written(tables):
    row = {
        "frame_id": "f1", "name": "a 'night' \"é\" 🔭\n.fits", "obs_time": datetime(1955, 3, 1, 2, 3, 4, 567890),
        "night": date(1955, 2, 28), "instrument": "../cam/\x00 %2F", "exposure_s": 0.1, "zone": 2**40,
        "zones": [3, 1, 2], "header": [("B", "2"), ("A", None)], "notes": [], "width": 7,
    }  # fmt: skip
    snapshot = tables.append("frames", [row], [place_of(3)])
    (found,) = tables.scan("frames").to_pylist()
    assert {key: found[key] for key in row} == row
    assert found["ra"] is None
    assert tables.snapshot_id("frames") == snapshot


def test_every_table_is_there_and_empty(tables):
    for definition in TABLES:
        assert tables.scan(definition.name).num_rows == 0
        assert tables.snapshot_id(definition.name) is None
        assert tables.scan(definition.name).column_names == [f.name for f in definition.schema.fields]


def test_nothing_to_write_writes_nothing(tables):
    assert tables.append("frames", []) is None
    assert tables.delete("frames", {"frame_id": ["f1"]}) == 0
    assert tables.snapshot_id("frames") is None


def test_positions_add_up_and_are_those_of_one_table_alone(tables):
    tables.append("deliveries", [delivery(0), delivery(1)], [place_of(0), place_of(1)])
    tables.append("deliveries", [delivery(5)], [place_of(5)])
    tables.append("deliveries", [], [place_of(7, "spool:/other")])
    held = tables.positions("deliveries")
    assert [n for n in range(9) if held.holds(place_of(n))] == [0, 1, 5]
    assert [n for n in range(9) if held.holds(place_of(n, "spool:/other"))] == [7]
    assert not tables.positions("frames").holds(place_of(0))


def test_positions_outlive_deleting_and_rewriting(tables):
    tables.append("deliveries", [delivery(n) for n in range(4)], [place_of(n) for n in range(4)])
    assert tables.delete("deliveries", {"source_offset": [0, 1, 99]}) == 2
    tables.rewrite("deliveries", {"source_offset": [2]}, tables.scan("deliveries", where={"source_offset": [2]}))
    tables.rewrite("deliveries", {}, tables.scan("deliveries"))
    assert offsets(tables) == [2, 3]
    held = tables.positions("deliveries")
    assert [n for n in range(9) if held.holds(place_of(n))] == [0, 1, 2, 3]
    assert tables.delete("deliveries", {"source_offset": [2, 3]}) == 2
    assert tables.positions("deliveries").holds(place_of(2))


def test_a_rewrite_replaces_what_matches_and_leaves_the_rest(tables):
    tables.append("deliveries", [delivery(n, name="old") for n in range(3)])
    changed = pa.Table.from_pylist(
        [delivery(1, name="new")], schema=tables.scan("deliveries", where={"source_offset": [1]}).schema
    )
    tables.rewrite("deliveries", {"source_offset": [1]}, changed)
    rows = sorted(tables.scan("deliveries", ["source_offset", "name"]).to_pylist(), key=lambda r: r["source_offset"])
    assert [(r["source_offset"], r["name"]) for r in rows] == [(0, "old"), (1, "new"), (2, "old")]


def test_a_scan_finds_the_rows_whose_columns_have_these_values(tables):
    rows = [delivery(n, name=f"n{n % 3}", outcome="new" if n % 2 else "duplicate") for n in range(12)]
    tables.append("deliveries", rows)
    assert offsets(tables, where={"name": ["n1"], "outcome": ["new"]}) == [1, 7]
    assert offsets(tables, where={"name": ["n1", "n2", "n1"]}) == [1, 2, 4, 5, 7, 8, 10, 11]
    assert offsets(tables, where={"name": []}) == []
    assert offsets(tables, where={"name": ["nobody"]}) == []
    assert tables.scan("deliveries", ["name", "source_offset"], where={"source_offset": [3]}).to_pylist() == [
        {"name": "n0", "source_offset": 3}
    ]


def test_a_scan_takes_dates_thousands_of_values_and_hostile_text(tables):
    night = date(2024, 1, 2)
    hostile = ["' or 1=1 --", '"', "%", "\\", "é", "a\x00b", "", "null"]
    tables.append("verdicts", [{"verdict_id": f"v{i}", "frame_id": t, "night": night} for i, t in enumerate(hostile)])
    tables.append("verdicts", [{"verdict_id": "w", "frame_id": "w", "night": date(2024, 1, 3)}])
    assert tables.scan("verdicts", where={"night": [night]}).num_rows == len(hostile)
    for text in hostile:
        assert tables.scan("verdicts", ["frame_id"], where={"frame_id": [text]}).to_pylist() == [{"frame_id": text}]
    many = [f"x{i}" for i in range(5000)]
    assert tables.scan("verdicts", where={"frame_id": [*many, "w"]}).column("verdict_id").to_pylist() == ["w"]


UNIQUE = ("source_partition", "source_offset")


def join(iceberg: IcebergTables) -> IcebergTables:
    """Another writer's view of the same tables."""
    joined = IcebergTables(iceberg._catalog, iceberg._namespace)
    joined.create_missing()
    # A process looks at a table before it writes to it.
    joined.positions("deliveries")
    return joined


def test_new_rows_are_appended_with_their_positions(tables):
    assert tables.append_new("deliveries", [delivery(0), delivery(1)], [place_of(0), place_of(1)], UNIQUE) == []
    assert offsets(tables) == [0, 1]
    assert tables.positions("deliveries").holds(place_of(1))
    assert tables.append_new("deliveries", [], [place_of(2)], UNIQUE) == []


def test_what_another_writer_added_meanwhile_is_left_out(iceberg):
    other = join(iceberg)
    iceberg.append_new("deliveries", [delivery(0), delivery(1)], [place_of(0), place_of(1)], UNIQUE)
    left_out = other.append_new("deliveries", [delivery(n) for n in (1, 2)], [place_of(1), place_of(2)], UNIQUE)
    assert [row["source_offset"] for row in left_out] == [1]
    left_out = iceberg.append_new("deliveries", [delivery(n) for n in (2, 3)], [place_of(2), place_of(3)], UNIQUE)
    assert [row["source_offset"] for row in left_out] == [2]
    before = iceberg.snapshot_id("deliveries")
    assert len(other.append_new("deliveries", [delivery(0), delivery(3)], [place_of(0)], UNIQUE)) == 2
    assert iceberg.snapshot_id("deliveries") == before
    assert offsets(iceberg) == [0, 1, 2, 3]
    assert [n for n in range(6) if other.positions("deliveries").holds(place_of(n))] == [0, 1, 2, 3]


def test_merged_files_bring_no_newcomers_and_lost_snapshots_hide_none(iceberg):
    other = join(iceberg)
    for n in range(4):
        iceberg.append_new("deliveries", [delivery(n)], [place_of(n)], UNIQUE)
    maintenance = IcebergMaintenance(iceberg)
    maintenance.compact("deliveries")
    maintenance.expire("deliveries", datetime(2100, 1, 1))
    assert len(iceberg.raw("deliveries").metadata.snapshots) < 4
    left_out = other.append_new("deliveries", [delivery(n) for n in (2, 9)], [place_of(9)], UNIQUE)
    assert [row["source_offset"] for row in left_out] == [2]
    assert offsets(iceberg) == [0, 1, 2, 3, 9]


def test_a_writer_that_was_beaten_looks_again_before_it_commits(iceberg, monkeypatch):
    other, beaten = join(iceberg), []
    load = other._load

    def load_late(table: str):
        current = load(table)
        if not beaten:
            beaten.append(table)
            iceberg.append_new("deliveries", [delivery(5)], [place_of(5)], UNIQUE)
        return current

    monkeypatch.setattr(other, "_load", load_late)
    left_out = other.append_new("deliveries", [delivery(5), delivery(6)], [place_of(5), place_of(6)], UNIQUE)
    assert beaten
    assert [row["source_offset"] for row in left_out] == [5]
    assert offsets(iceberg) == [5, 6]


def test_what_another_writer_commits_before_our_commit_is_answered_is_not_taken_for_ours(iceberg, monkeypatch):
    other, append = join(iceberg), tables_iceberg.append_lightly

    def append_and_be_followed(*given: Any) -> Table:
        monkeypatch.undo()
        done = append(*given)
        other.append_new("deliveries", [delivery(1)], [place_of(1)], UNIQUE)
        return done.refresh()

    monkeypatch.setattr(tables_iceberg, "append_lightly", append_and_be_followed)
    iceberg.append_new("deliveries", [delivery(0)], [place_of(0)], UNIQUE)
    left_out = iceberg.append_new("deliveries", [delivery(n) for n in (1, 2)], [place_of(n) for n in (1, 2)], UNIQUE)
    assert [row["source_offset"] for row in left_out] == [1]
    assert offsets(iceberg) == [0, 1, 2]


def test_a_mark_that_two_keys_share_leaves_no_row_out(iceberg, monkeypatch):
    other = join(iceberg)
    monkeypatch.setattr(newcomers, "_mark", lambda _key: 7)
    iceberg.append_new("deliveries", [delivery(0)], [place_of(0)], UNIQUE)
    assert other.append_new("deliveries", [delivery(1)], [place_of(1)], UNIQUE) == []
    assert offsets(iceberg) == [0, 1]


def test_a_table_with_rows_of_few_messages_keeps_its_positions_in_few_ranges(iceberg):
    for offset in range(0, 40, 2):
        iceberg.append_new("deliveries", [delivery(offset)], [place_of(offset), place_of(offset + 1)], UNIQUE)
        if offset % 8 == 4:
            row = {
                "frame_id": f"f{offset}",
                "name": "a",
                "ingested_at": datetime(2026, 1, 1),
            }
            iceberg.append_new("frames", [row], [place_of(offset + 2)], ["frame_id"])
    held = iceberg.positions("frames")
    assert held.to_property() == '{"spool:/night": "0-38"}'
    assert not held.holds(place_of(39))


def test_files_that_cannot_be_read_now_are_worth_another_try(sqlite):
    sqlite.append("deliveries", [delivery(0)])
    for path in Path(sqlite.raw("deliveries").location().removeprefix("file://")).rglob("*.parquet"):
        path.unlink()
    with pytest.raises(TransientError, match="table deliveries: cannot read"):
        sqlite.scan("deliveries")


def test_an_old_snapshot_shows_the_table_as_it_was(tables):
    first = tables.append("deliveries", [delivery(0)])
    second = tables.append("deliveries", [delivery(1)])
    tables.delete("deliveries", {"source_offset": [0]})
    assert (offsets(tables, as_of=first), offsets(tables, as_of=second), offsets(tables)) == ([0], [0, 1], [1])
    assert offsets(tables, as_of=second, where={"source_offset": [0]}) == [0]


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("frames", {"frame_id": "f1", "exposure_s": "sixty"}),
        ("frames", {"frame_id": None}),
        ("frames", {"name": "no id"}),
        ("frames", {"frame_id": "f1", "width": 2**40}),
        ("frames", {"frame_id": "f1", "zone": 2**70}),
        ("frames", {"frame_id": "f1", "zones": "7"}),
        ("frames", {"frame_id": "f1", "obs_time": "yesterday"}),
        ("frames", {"frame_id": 7}),
        ("frames", {"frame_id": "f1", "no_such_column": 1}),
        ("verdicts", {"verdict_id": "v", "frame_id": "f", "neighbours": [{"frame_id": 1, "distance": "near"}]}),
        ("no_such_table", {"frame_id": "f1"}),
    ],
)
def test_a_row_that_does_not_fit_is_refused_and_nothing_is_committed(tables, table, row):
    good = {"frame_id": "f0", "verdict_id": "v0"} if table == "verdicts" else {"frame_id": "f0"}
    with pytest.raises(StoreError):
        tables.append(table, [good, row], [place_of(0)])
    if table != "no_such_table":
        assert tables.snapshot_id(table) is None
        assert not tables.positions(table).holds(place_of(0))


def test_reading_a_table_that_is_not_there_is_told(tables):
    with pytest.raises(StoreError, match="no_such_table"):
        tables.scan("no_such_table")


def test_iceberg_positions_outlive_commits_of_others_and_expiry(iceberg):
    iceberg.append("deliveries", [delivery(0)], [place_of(0)])
    raw = iceberg.raw("deliveries")
    data = pa.Table.from_pylist([delivery(50)], schema=raw.schema().as_arrow())
    raw.append(data)
    assert iceberg.positions("deliveries").holds(place_of(0))
    iceberg.append("deliveries", [delivery(1)], [place_of(1)])
    iceberg.raw("deliveries").delete("source_offset = 50")
    assert IcebergMaintenance(iceberg).expire("deliveries", datetime(2100, 1, 1)).expired > 0
    held = iceberg.positions("deliveries")
    assert [n for n in range(9) if held.holds(place_of(n))] == [0, 1]
    assert offsets(iceberg) == [0, 1]


def test_iceberg_stays_inside_its_home_and_opens_again(tmp_path):
    home = tmp_path / "my höme #1 100%"
    first = open_iceberg(home)
    first.append("deliveries", [delivery(0)], [place_of(0)])
    first.close()
    again = open_iceberg(home)
    assert offsets(again) == [0]
    assert again.positions("deliveries").holds(place_of(0))
    assert again.compare_schema() == []
    again.close()
    assert [path.name for path in tmp_path.iterdir()] == [home.name]


def test_iceberg_compares_its_schema_with_what_is_defined(iceberg):
    with iceberg.raw("frames").update_schema() as update:
        update.delete_column("notes")
    assert iceberg.compare_schema() == ["table frames lacks column notes"]


def test_a_catalogue_that_another_process_makes_at_the_same_moment_is_opened(tmp_path, monkeypatch):
    create = SqlCatalog.create_tables

    def create_twice(catalog: SqlCatalog) -> None:
        monkeypatch.undo()
        create(catalog)
        # As if the look whether they are there had been before.
        raise OperationalError("create table", {}, sqlite3.OperationalError("table iceberg_tables already exists"))

    monkeypatch.setattr(SqlCatalog, "create_tables", create_twice)
    tables = open_iceberg(tmp_path)
    tables.append("deliveries", [delivery(0)])
    assert offsets(tables) == [0]
    tables.close()


def write_many(place: Path | tuple[Layout, str], writer: int, commits: int) -> None:
    tables = open_shared(*place) if isinstance(place, tuple) else open_iceberg(place)
    partition = f"spool:/{writer}"
    for number in range(commits):
        tables.append("deliveries", [delivery(number, partition)], [place_of(number, partition)])
    tables.close()


@pytest.mark.parametrize("kind", ["sqlite", "rest"])
def test_three_processes_that_write_at_once_lose_nothing(kind, tmp_path):
    with ExitStack() as held:
        shared = (require_stack(),) if kind == "rest" else ()
        place = (*shared, held.enter_context(lend_namespace(*shared))) if shared else tmp_path
        # There is nothing yet: creating the tables is part of the race.
        writers = [children.start(write_many, place, number, 6) for number in range(3)]
        assert [children.finish(writer) for writer in writers] == [0, 0, 0]
        tables = open_shared(*place) if shared else open_iceberg(tmp_path)
        rows = tables.scan("deliveries", ["source_partition", "source_offset"]).to_pylist()
        written = sorted((row["source_partition"], row["source_offset"]) for row in rows)
        assert written == [(f"spool:/{writer}", number) for writer in range(3) for number in range(6)]
        positions = tables.positions("deliveries")
        assert all(positions.holds(place_of(number, partition)) for partition, number in written)
        assert positions.count() == 18
        tables.close()


def test_a_commit_that_another_beat_is_a_conflict_and_nothing_is_written(iceberg):
    iceberg.append("deliveries", [delivery(0)])
    stale = iceberg.raw("deliveries")
    behind = stale.catalog.load_table(stale.name())
    iceberg.append("deliveries", [delivery(1)])
    data = pa.Table.from_pylist([delivery(2)], schema=behind.schema().as_arrow())
    with (
        pytest.raises(CommitConflictError, match="table deliveries: another writer committed first"),
        name_conflicts("deliveries"),
    ):
        behind.append(data)
    assert offsets(iceberg) == [0, 1]


class Failing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(500)

    def log_message(self, *_) -> None:
        pass


def test_a_shared_catalogue_that_does_not_answer_is_told_in_one_line(monkeypatch):
    with pytest.raises(TransientError, match=r"no Iceberg catalogue answers at http://127\.0\.0\.1:1: .* refused$"):
        open_rest_catalog("http://127.0.0.1:1", "file:///nowhere")
    monkeypatch.setattr(catalog_rest, "_SECONDS", 0.3)
    silent = socket.create_server(("127.0.0.1", 0))
    with pytest.raises(TransientError, match=r"no answer in time$"):
        open_rest_catalog(f"http://127.0.0.1:{silent.getsockname()[1]}", "file:///nowhere")
    silent.close()
    with HTTPServer(("127.0.0.1", 0), Failing) as failing:
        Thread(target=failing.handle_request, daemon=True).start()
        with pytest.raises(TransientError, match="failed: ") as caught:
            open_rest_catalog(f"http://127.0.0.1:{failing.server_port}", "file:///nowhere")
    assert "\n" not in str(caught.value)


def test_a_shared_catalogue_that_went_away_is_a_fault_that_passes(rest):
    rest.append("deliveries", [delivery(0)])
    data = rest.scan("deliveries")
    rest._catalog.uri = "http://127.0.0.1:1"
    for use in (
        lambda: rest.scan("deliveries"), lambda: rest.append("deliveries", [delivery(1)]), rest.create_missing,
        lambda: rest.snapshot_id("frames"), lambda: rest.delete("deliveries", {"source_offset": [0]}),
        lambda: rest.rewrite("deliveries", {}, data),
    ):  # fmt: skip
        with pytest.raises(TransientError, match=r"no Iceberg catalogue answers at http://127\.0\.0\.1:1") as caught:
            use()
        assert "\n" not in str(caught.value)


def test_a_commit_of_unknown_outcome_is_never_repeated_by_itself(rest, monkeypatch):
    """The server commits and its answer is lost: told as a fault that passes, and the row is there once."""
    post = requests.Session.post

    def lose(session, url, *given, **named):
        answer = post(session, url, *given, **named)
        if "/tables/deliveries" in url and not url.endswith("/metrics"):
            raise requests.ConnectionError("the answer is lost")
        return answer

    monkeypatch.setattr(requests.Session, "post", lose)
    with pytest.raises(TransientError, match="the answer is lost"):
        rest.append("deliveries", [delivery(0)], [place_of(0)])
    monkeypatch.undo()
    assert offsets(rest) == [0]
    assert rest.positions("deliveries").holds(place_of(0))
