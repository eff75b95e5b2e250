"""Files and time before and after `maintain`, of a table that 2,000 small commits were made to on the embedded profile.

Snapshots are expired every hundred commits while the table is made, as a nightly run would: pyiceberg copies the list
of all of them several times in each commit.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bench.machine import describe_machine
from pipeline.clock import now_utc
from pipeline.parts import open_tables
from pipeline.ports import SourcePosition
from pipeline.settings import load_settings
from pipeline.store.maintenance_iceberg import IcebergMaintenance
from pipeline.store.tables_iceberg import IcebergTables

COMMITS, ROWS, DAYS = 2_000, 4, 5
BETWEEN_EXPIRIES = 100


def measure() -> dict[str, Any]:
    """Seconds of each step and of reading one column before and after, and the files on disk."""
    with tempfile.TemporaryDirectory() as folder:
        tables = open_tables(load_settings(Path(folder)))
        maintenance, tomorrow = IcebergMaintenance(tables), now_utc() + timedelta(days=1)
        for number in range(COMMITS):
            _commit(tables, number)
            if number % BETWEEN_EXPIRIES == 0:
                maintenance.expire("frames", tomorrow)
        found: dict[str, Any] = {"machine": describe_machine(), "commits": COMMITS, "files_before": _count(folder)}
        found["read_before_s"] = _time(lambda: tables.scan("frames", ["frame_id"]))
        found["compact_s"] = _time(lambda: maintenance.compact("frames"))
        found["expire_s"] = _time(lambda: maintenance.expire("frames", tomorrow))
        found["orphans_s"] = _time(lambda: maintenance.remove_orphans("frames", tomorrow))
        found["read_after_s"] = _time(lambda: tables.scan("frames", ["frame_id"]))
        found |= {"files_after": _count(folder), "rows": tables.scan("frames", ["frame_id"]).num_rows}
        tables.close()
    return {**found, "read_speedup": found["read_before_s"] / found["read_after_s"]}


def _commit(tables: IcebergTables, number: int) -> None:
    night = datetime(2026, 3, 1) + timedelta(days=number % DAYS)  # noqa: DTZ001 - as the tables have times
    ids = range(number * ROWS, (number + 1) * ROWS)
    rows = [{"frame_id": f"{i:064x}", "name": f"{i}.fits", "obs_time": night, "instrument": "camera"} for i in ids]
    tables.append("frames", rows, [SourcePosition("spool:/night", i) for i in ids])


def _count(folder: str) -> int:
    return sum(path.is_file() for path in (Path(folder) / "warehouse" / "oddframe" / "frames").rglob("*"))


def _time(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
