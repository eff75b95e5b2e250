"""Maintenance beside processes that write, and killed in the middle: no row lost, none doubled, none come back."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.clock import now_utc
from pipeline.errors import CommitConflictError
from pipeline.ports import SourcePosition
from pipeline.run.maintain import MaintainPlan, run_maintain
from pipeline.stack.layout import Layout
from pipeline.store import compaction_iceberg, maintenance_iceberg
from pipeline.store.maintenance_iceberg import IcebergMaintenance
from pipeline.store.tables_iceberg import IcebergTables
from pipeline.wiring import maintain_home
from tests import children
from tests.contract.rest_catalog import lend_namespace, open_shared
from tests.fakes.vectors import MemoryVectors
from tests.lake_tools import add_references, ingest, lake_at, make_settings, plan_field, rows, write_plans, wrong
from tests.stack import require_stack
from tests.table_tools import count_data_files, drop_database, fill, frame, lend_tables, list_files, read_rows

WRITERS = 2
LEAST_SECONDS, MOST_SECONDS, LEAST_ROUNDS = 20.0, 120.0, 4
# What reading and committing may take here: nothing younger is forgotten or swept, as in `run_maintain`.
GRACE = 12.0
PAUSE = 0.3
REFERENCES, FRAMES = 6, 24


@pytest.fixture
def namespace() -> Iterator[str]:
    with lend_namespace(require_stack()) as lent:
        yield lent


def write_and_delete(stack: Layout, namespace: str, writer: int, folder: Path) -> None:
    """Commit a row at a time until told to stop, and take every fifth away again."""
    tables = open_shared(stack, namespace)
    number = 0
    while not (folder / "stop").exists():
        row, begun = writer * 10_000 + number, time.monotonic()
        tables.append("frames", [frame(row)], [SourcePosition(f"p{writer}", number)])
        if number % 5 == 4:
            delete_surely(tables, row - 2)
        number += 1
        # As a batch that fills, which takes longer than to commit it: writers without a pause leave no other a chance.
        time.sleep(max(PAUSE, 2 * (time.monotonic() - begun)))
    (folder / f"{writer}").write_text(str(number))


def delete_surely(tables: IcebergTables, row: int) -> None:
    while True:
        try:
            assert tables.delete("frames", {"frame_id": [f"{row:064x}"]}) == 1
        except CommitConflictError:
            time.sleep(0.05)
        else:
            return


def test_no_row_is_lost_doubled_or_brought_back_beside_writers(namespace, tmp_path):
    stack = require_stack()
    tables = open_shared(stack, namespace)
    maintenance = IcebergMaintenance(tables)
    writers = [children.start(write_and_delete, stack, namespace, number, tmp_path) for number in range(WRITERS)]
    begun, totals = time.monotonic(), Counter[str]()

    def goes_on() -> bool:
        spent = time.monotonic() - begun
        had = min(totals[key] for key in ("merged", "expired", "swept"))
        # A round may take a minute on a machine that is busy: what one replaced is forgotten and swept by later ones.
        return spent < LEAST_SECONDS or (had == 0 and (spent < MOST_SECONDS or totals["rounds"] < LEAST_ROUNDS))

    try:
        while goes_on():
            totals["rounds"] += 1
            before = now_utc() - timedelta(seconds=GRACE)
            done = maintenance.compact("frames", most_small=2)
            totals["merged"] += done.files_before - done.files_after
            totals["expired"] += maintenance.expire("frames", before).expired
            totals["swept"] += len(maintenance.remove_orphans("frames", before).files)
    finally:
        (tmp_path / "stop").touch()
        codes = [children.finish(writer) for writer in writers]
    assert codes == [0] * WRITERS
    assert min(totals[key] for key in ("merged", "expired", "swept")) > 0, totals
    expected, positions = list[str](), 0
    for writer in range(WRITERS):
        count = int((tmp_path / f"{writer}").read_text())
        expected += [f"{writer * 10_000 + n:064x}" for n in range(count) if n % 5 != 2 or n + 2 >= count]
        positions += count
        held = tables.positions("frames")
        assert all(held.holds(SourcePosition(f"p{writer}", n)) for n in range(count))
    assert sorted(tables.scan("frames", ["frame_id"]).column("frame_id").to_pylist()) == expected
    assert tables.positions("frames").count() == positions
    tables.close()


def ingest_slowly(home: Path, sections: dict[str, Any], paths: list[Path]) -> None:
    with lake_at(home, **sections) as lake:
        for first in range(0, len(paths), 4):
            ingest(lake, paths[first : first + 4], batch=2)
            # Rounds of maintenance take seconds: some must fall between two commits.
            time.sleep(2)


def test_a_night_is_ingested_into_the_shared_stores_while_they_are_tidied(namespace, tmp_path):
    stack = require_stack()
    home, sections = tmp_path / "home", {
        "profile": "full",
        "stores": {"namespace": namespace},
        "stack": {"first_port": stack.first_port, "data": stack.data},
        "maintain": {"small_files": 1, "vector_seconds": 0},
    }  # fmt: skip
    plans = plan_field(REFERENCES, FRAMES)
    try:
        with lake_at(home, **sections) as lake:
            add_references(lake, write_plans(plans[:REFERENCES], tmp_path / "references"))
        night = write_plans(plans[REFERENCES:], tmp_path / "night")
        worker = children.start(ingest_slowly, home, sections, night)
        merged = rounds = 0
        while rounds < 2 or (rounds < 60 and not (merged and is_over(home, sections))):
            steps = [step.to_json() for step in maintain_home(make_settings(home, **sections))]
            merged += sum(s["files_before"] - s["files_after"] for s in steps if s["step"] == "compact")
            assert {s["state"] for s in steps if s["step"] == "vectors"} <= {"done", "unfinished"}
            rounds += 1
        assert children.finish(worker) == 0
        assert merged > 0
        with lake_at(home, **sections) as lake:
            assert wrong(lake) == {}
            assert len(rows(lake, "deliveries")) == len(rows(lake, "frames")) == REFERENCES + FRAMES
            assert len(rows(lake, "verdicts")) == FRAMES
    finally:
        drop_database(f"http://127.0.0.1:{stack.port('milvus')}", namespace)


def is_over(home: Path, sections: dict[str, Any]) -> bool:
    tables = open_shared(require_stack(), sections["stores"]["namespace"])
    done = tables.scan("deliveries", ["name"]).num_rows == REFERENCES + FRAMES
    tables.close()
    return done


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_before(owner: Any, name: str, calls: int = 1) -> None:
    """Kill this process when a function is called for the nth time."""
    real, left = getattr(owner, name), [calls]

    def count(*given: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            die()
        return real(*given, **named)

    setattr(owner, name, count)


def die_after(owner: Any, name: str) -> None:
    """Kill this process when a function has done its work."""
    real = getattr(owner, name)
    setattr(owner, name, lambda *given, **named: die(real(*given, **named)))


def arm(step: str) -> None:
    match step:
        case "merged":
            die_before(compaction_iceberg, "_commit")
        case "written":
            die_before(IcebergTables, "raw", 3)
        case "committed":
            die_after(compaction_iceberg, "_replace")
        case "expired":
            die_after(IcebergMaintenance, "expire")
        case "half swept":
            listed = maintenance_iceberg._list_files

            def list_mortal(table: Any) -> Any:
                place, files = listed(table)
                return Mortal(place), files

            maintenance_iceberg._list_files = list_mortal


class Mortal:
    """A file system that takes its process with it at the fourth removal."""

    def __init__(self, place: Any) -> None:
        self._place, self._left = place, 4

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place, name)

    def delete_file(self, path: str) -> None:
        self._left -= 1
        if self._left == 0:
            die()
        self._place.delete_file(path)


def tidy_and_die(place: Path, step: str) -> None:
    with lend_tables("sqlite", place) as open_tables:
        tables = open_tables()
        arm(step)
        tidy(tables)


def tidy(tables: IcebergTables) -> list[Any]:
    """Everything, two hours from now: whatever there is, is old."""
    plan = MaintainPlan(2**20, 2, snapshots_days=0, most_snapshots=1, orphan_hours=1, vector_seconds=1)
    later = now_utc() + timedelta(hours=2)
    return [s.to_json() for s in run_maintain(IcebergMaintenance(tables), MemoryVectors, plan, now=later)]


@pytest.mark.parametrize("step", ["merged", "written", "committed", "expired", "half swept"])
def test_killed_anywhere_everything_reads_and_the_next_run_finishes(tmp_path, step):
    with lend_tables("sqlite", tmp_path) as open_tables:
        tables = open_tables()
        fill(tables, "frames", 8)
        before = read_rows(tables)
        assert children.run(tidy_and_die, tmp_path, step) == -signal.SIGKILL
        assert read_rows(open_tables()) == before
        tidy(open_tables())
        fresh = open_tables()
        assert read_rows(fresh) == before
        assert fresh.positions("frames").count() == 8
        assert count_data_files(fresh) == 2
        assert len([path for path in list_files(fresh) if path.suffix == ".parquet"]) == 2, "nothing is left about"
        assert len(fresh.raw("frames").snapshots()) == 1
