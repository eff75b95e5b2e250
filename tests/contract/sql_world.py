"""Two nights of two cameras, small enough to answer every question about them by hand.

Night 10: f1, f2, f3 of camA and f5 of camB. Night 11: f4 of camA, f6 and f7 of camB. f8 has no time and so no night.
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any

import pyarrow as pa

from pipeline.store.catalog_sqlite import open_sqlite_catalog
from pipeline.store.schema import TABLES
from pipeline.store.sql_catalog import SqlCatalog, find_sql_directory
from pipeline.store.sql_duckdb import DuckDbSql
from pipeline.store.sql_engine import SqlEngine
from pipeline.store.sql_history import AsOf, TableHistory
from pipeline.store.sql_parameters import Value
from pipeline.store.sql_presto import PrestoSql
from pipeline.store.sql_presto_client import PrestoServer
from pipeline.store.sql_rows import SqlResult
from pipeline.store.tables_iceberg import IcebergTables
from tests.contract.rest_catalog import lend_namespace, open_shared
from tests.stack import require_stack

CATALOG = SqlCatalog.load(find_sql_directory())
ENGINES = ("duckdb", "presto")
NOTHING: Mapping[str, Value] = {}

N10, N11 = date(2024, 1, 10), date(2024, 1, 11)


def at(day: int, hour: int = 0, minute: int = 0, second: int = 0, micro: int = 0) -> datetime:
    return datetime(2024, 1, day, hour, minute, second, micro)  # noqa: DTZ001  # tables hold plain UTC


def frame(
    frame_id: str, night: date | None, instrument: str, filter_band: str | None, **columns: Any
) -> dict[str, Any]:
    return {"frame_id": frame_id, "night": night, "instrument": instrument, "filter": filter_band, **columns}


FRAMES = [
    frame(
        "f1", N10, "camA", "r", name="a1", obs_time=at(10, 20), exposure_s=30.0, ra=10.0, dec=20.0, zone=7,
        zones=[7], background=100.0, noise=10.0, fwhm_px=2.0, stars=50, valid_fraction=1.0, object="M1",
        header={"OBSERVER": "ann", "AIRMASS": "1.1"}, ingested_at=at(10, 21),
    ),
    frame(
        "f2", N10, "camA", "r", name="a2", obs_time=at(10, 21), exposure_s=30.0, ra=10.1, dec=20.0, zone=7,
        zones=[7, 8], background=110.0, noise=11.0, fwhm_px=2.25, stars=51, valid_fraction=0.5, object="M1",
        header={"OBSERVER": "ann"}, ingested_at=at(10, 22),
    ),
    frame(
        "f3", N10, "camA", "r", name="a3", obs_time=at(10, 22, micro=123_999), exposure_s=60.0, ra=10.0, dec=20.5,
        zone=7, zones=[7], background=120.0, noise=12.0, fwhm_px=2.5, object="M1", header={"OBSERVER": "bob"},
        ingested_at=at(10, 23), telescope="T1", archive_uri="file:a3",
    ),
    frame(
        "f4", N11, "camA", "r", name="a4", obs_time=at(11, 20), exposure_s=30.0, ra=10.0, dec=20.0, zone=7,
        zones=[7], background=130.0, noise=13.0, fwhm_px=3.0, object="M1", header={}, ingested_at=at(11, 21),
    ),
    frame(
        "f5", N10, "camB", "g", name="b5", obs_time=at(10, 23), exposure_s=120.0, ra=0.25, dec=-5.0, zone=9,
        zones=[9], background=50.0, noise=5.0, fwhm_px=None, header=None, ingested_at=at(11, 0),
    ),
    frame(
        "f6", N11, "camB", "g", name="b6", obs_time=at(11, 22), exposure_s=120.0, ra=359.75, dec=-5.0, zone=9,
        zones=[9, 8], background=60.0, noise=6.0, fwhm_px=4.0, header={"OBSERVER": "ann"}, ingested_at=at(11, 23),
    ),
    frame(
        "f7", N11, "camB", "g", name="b7", obs_time=at(11, 23), exposure_s=5.0, ra=180.0, dec=90.0, zone=1,
        zones=None, background=70.0, noise=7.0, fwhm_px=5.0, header={"OBSERVER": "ann"}, ingested_at=at(12, 0),
    ),
    frame("f8", None, "camA", None, name="a8", exposure_s=None, notes=["no DATE-OBS"], ingested_at=at(12, 1)),
]  # fmt: skip


def near(frame_id: str, name: str, distance: float) -> dict[str, Any]:
    return {"frame_id": frame_id, "name": name, "distance": distance}


def verdict(verdict_id: str, frame_id: str, status: str, judged_at: datetime, **columns: Any) -> dict[str, Any]:
    about = next(row for row in FRAMES if row["frame_id"] == frame_id)
    shared = {key: about.get(key) for key in ("name", "obs_time", "night", "instrument", "filter", "zone")}
    keys = {"verdict_id": verdict_id, "frame_id": frame_id, "status": status, "judged_at": judged_at}
    return {**shared, **keys, "embedding": "pixels", "embedding_version": "1", "reference_set": "main", **columns}


VERDICTS = [
    verdict(
        "v1", "f3", "anomaly", at(11, 1, micro=500_000), distance=0.75, p_value=0.002, sigma=6.0, threshold=0.5,
        neighbours=[near("f1", "a1", 0.75), near("f2", "a2", 1.0)], references_in_cell=2, code_version="1",
    ),
    verdict(
        "v2", "f3", "normal", at(12, 1), distance=0.25, p_value=0.375, sigma=1.0, threshold=0.5,
        neighbours=[near("f2", "a2", 0.25)], references_in_cell=1, code_version="2", models={"pixels": "3"},
    ),
    verdict(
        "v3", "f4", "anomaly", at(12, 2), distance=1.0, p_value=0.001, sigma=7.5, threshold=0.5, tier="high",
        neighbours=[near("f2", "a2", 1.0), near("f1", "a1", 1.5)], references_in_cell=2, extrapolated=False,
    ),
    verdict(
        "v4", "f4", "anomaly", at(12, 2), distance=1.25, p_value=0.0005, sigma=9.0, threshold=0.625, tier="high",
        neighbours=[near("f1", "a1", 1.25)], references_in_cell=1, embedding="residual", extrapolated=True,
    ),
    verdict("v5", "f5", "no_reference", at(11, 2), neighbours=[], references_in_cell=0),
    verdict("v6", "f6", "no_reference", at(12, 3), neighbours=[], references_in_cell=2),
    # Empty, not null: pyiceberg writes a null list of structs as an empty one.
    verdict("v7", "f7", "not_searched", at(12, 4), neighbours=[], reason="exposure too short"),
]  # fmt: skip


def detection(verdict_id: str, frame_id: str, kind: str, sigma: float) -> dict[str, Any]:
    return {"verdict_id": verdict_id, "frame_id": frame_id, "kind": kind, "sigma": sigma, "x": 1.0, "y": 2.0}


DETECTIONS = [
    detection("v1", "f3", "trail", 6.0),  # of a verdict that a newer one replaced
    detection("v3", "f4", "point", 7.5),
    detection("v3", "f4", "point", 5.0),
    detection("v4", "f4", "trail", 9.0),
]


def delivery(partition: str, offset: int, frame_id: str, outcome: str, received_at: datetime, **columns: Any) -> Any:
    place = {"source_partition": partition, "source_offset": offset, "frame_id": frame_id, "outcome": outcome}
    return {
        **place,
        "received_at": received_at,
        "purpose": "ingest",
        "bytes": 100,
        "name": f"{frame_id}.fits",
        **columns,
    }


DELIVERIES = [
    delivery("p0", 0, "f1", "new", at(10, 21), purpose="reference"),
    delivery("p0", 1, "f2", "new", at(10, 22), purpose="reference"),
    delivery("p0", 2, "f3", "new", at(10, 23), bytes=200),
    delivery("p0", 3, "f1", "duplicate", at(10, 23, 30), name="again.fits"),
    delivery("p0", 4, "f5", "new", at(11, 0)),
    delivery("p1", 0, "f5", "duplicate", at(11, 0, 0, 10)),
    delivery("p1", 1, "f5", "duplicate", at(11, 0, 1, 5, 999_000)),
    delivery("p0", 5, "f7", "quarantined", at(11, 23)),
    delivery("p0", 6, "f4", "new", at(11, 21)),
    delivery("p0", 7, "f6", "new", at(11, 23)),
    delivery("p0", 8, "f7", "new", at(12, 0)),
    delivery("p0", 9, "f8", "new", at(12, 1)),
    delivery("p0", 10, "bad1", "quarantined", at(11, 5), bytes=None),
    delivery("p0", 11, "bad2", "quarantined", at(12, 5)),
]


def jail(frame_id: str, event: str, code: str, moment: datetime) -> dict[str, Any]:
    return {"frame_id": frame_id, "event": event, "code": code, "at": moment, "name": f"{frame_id}.fits",
            "reason": f"{code} of {frame_id}"}  # fmt: skip


QUARANTINE = [
    jail("f7", "quarantined", "time_limit", at(11, 23)),
    jail("f7", "redriven", "time_limit", at(11, 23, 59, 59)),
    jail("bad1", "quarantined", "truncated", at(11, 5)),
    jail("bad1", "redriven", "truncated", at(11, 7, 30)),
    jail("bad2", "quarantined", "truncated", at(12, 5)),
]


def member(frame_id: str, name: str, embedding: str, action: str, moment: datetime) -> dict[str, Any]:
    return {"reference_set": "main", "frame_id": frame_id, "name": name, "embedding": f"{embedding}@1",
            "action": action, "at": moment, "by": "bob" if moment == at(11, 13) else "ann",
            "why": f"{action} it"}  # fmt: skip


REFERENCE_MEMBERS = [
    member("f1", "a1", "pixels", "add", at(10, 21)),
    member("f1", "a1", "residual", "add", at(10, 21)),
    member("f2", "a2", "pixels", "add", at(10, 22)),
    member("f1", "a1", "pixels", "remove", at(11, 12)),
    member("f2", "a2", "pixels", "remove", at(11, 12)),
    member("f2", "a2", "pixels", "add", at(11, 13)),
    member("f5", "b5", "pixels", "add", at(11, 14)),
    member("f5", "b5", "pixels", "remove", at(11, 14)),  # at the same instant: doubtful, so out
]

EVALUATIONS = [
    {"at": at(12, 6), "protocol": "paired", "folder": "ztf", "spec": "tiles", "kind": "asteroid", "metric": "roc_auc",
     "value": 0.99, "low": 0.97, "high": 1.0, "n_objects": 79, "note": "", "code_version": "0.1.0"},
    {"at": at(12, 6), "protocol": "series", "folder": "field", "spec": "pixels", "kind": "point",
     "metric": "snr_at_half", "value": None, "low": None, "high": None, "n_objects": 31, "note": "above 20",
     "code_version": "0.1.0"},
]  # fmt: skip

MODELS = [
    {"model": "aa" * 32, "kind": "residual", "version": "1-9", "event": "learnt", "at": at(11, 1),
     "reference_set": "main", "reference_snapshot_id": 7, "instrument": "cam", "filter": "r", "exposure_s": 60.0,
     "ra": 10.5, "dec": -3.25, "radius_deg": 0.2, "members": ["f1", "f2"], "registered": ["f1"], "odd": ["f2"],
     "left_out": [], "anchor": [("CTYPE1", "RA---TAN")], "to_stack": [1.0, 0.0, 0.5, 0.0, 1.0, -0.5],
     "metrics": [("stars", "12")], "bytes": 1234, "uri": "sha256:aa", "code_version": "0.1.0"},
    {"model": "aa" * 32, "kind": "residual", "version": "1-9", "event": "retired", "at": at(12, 1),
     "reference_set": "main"},
]  # fmt: skip

SENSITIVITY = [
    {"night": date(2024, 1, 10), "at": at(12, 7), "reference_set": "main", "instrument": "cam", "filter": "r",
     "ra": 10.5, "dec": -3.25, "model": "aa" * 32, "kind": "point", "snr": 7.0, "flux": 510.25, "trials": 10,
     "found": 8, "located": 7, "recall": 0.8, "recall_low": 0.49, "recall_high": 0.94, "snr_50": 6.1, "snr_90": None,
     "budget": 0.01, "code_version": "0.1.0"},
]  # fmt: skip

ROWS: dict[str, list[dict[str, Any]]] = {
    "frames": FRAMES,
    "deliveries": DELIVERIES,
    "quarantine": QUARANTINE,
    "verdicts": VERDICTS,
    "detections": DETECTIONS,
    "reference_members": REFERENCE_MEMBERS,
    "models": MODELS,
    "sensitivity": SENSITIVITY,
    "evaluations": EVALUATIONS,
}


def make_tables() -> dict[str, pa.Table]:
    """The rows as Arrow tables with the columns and types of the Iceberg schema."""
    tables = {}
    for table in TABLES:
        schema = pa.schema([field.with_nullable(True) for field in table.schema.as_arrow()])
        rows = [{name: row.get(name) for name in schema.names} for row in ROWS[table.name]]
        for row in rows:
            assert row.keys() <= set(schema.names)
        tables[table.name] = pa.Table.from_pylist(rows, schema=schema)
    return tables


class RecordingScan:
    """A scan of these tables that remembers what it was asked for."""

    def __init__(self) -> None:
        self.tables = make_tables()
        self.asked: list[tuple[str, tuple[str, ...] | None, int | None]] = []

    def __call__(self, table: str, columns: tuple[str, ...] | None, as_of: int | None) -> pa.Table:
        self.asked.append((table, columns, as_of))
        rows = self.tables[table]
        return rows.select(list(columns)) if columns else rows


def open_engine(kind: str, **limits: Any) -> SqlEngine:
    """An engine over these rows; Presto needs the local stack, and skips the test where there is none."""
    if kind == "duckdb":
        return DuckDbSql(RecordingScan(), CATALOG, **limits)
    return PrestoSql(open_world(), CATALOG, seconds=limits.get("seconds", 60.0))


def embed(tables: IcebergTables) -> DuckDbSql:
    """The embedded engine over Iceberg tables and their snapshots."""

    def scan(table: str, columns: tuple[str, ...] | None, as_of: int | None) -> pa.Table:
        return tables.scan(table, columns, as_of=as_of)

    return DuckDbSql(scan, CATALOG, history=TableHistory(tables.raw))


@cache
def open_world() -> PrestoServer:
    """These rows in Iceberg tables that Presto reads; they go with the process."""
    stack = require_stack()
    tables, namespace = _lend_tables()
    fill(tables)
    tables.close()
    return PrestoServer("127.0.0.1", stack.port("presto"), schema=namespace)


def fill(tables: IcebergTables) -> int:
    """Write these rows; the snapshot that all of them are there at."""
    return [tables.append(name, rows) for name, rows in ROWS.items()][-1] or 0


@dataclass(frozen=True)
class Asked:
    """An engine and the moment it is asked about."""

    engine: SqlEngine
    as_of: AsOf | None = None

    def query(self, text: str, parameters: Mapping[str, Value] = NOTHING, limit: int | None = None) -> SqlResult:
        return self.engine.query(text, parameters, limit, self.as_of)


@cache
def open_then(kind: str) -> Asked:
    """An engine asked about a moment at which there were these rows alone; every one was written again since."""
    tables, namespace = _lend_home() if kind == "duckdb" else _lend_tables()
    snapshot = fill(tables)
    # Snapshots are told apart by milliseconds.
    sleep(0.02)
    fill(tables)
    if kind == "duckdb":
        return Asked(embed(tables), snapshot)
    server = PrestoServer("127.0.0.1", require_stack().port("presto"), schema=namespace)
    return Asked(PrestoSql(server, CATALOG, history=TableHistory(tables.raw)), snapshot)


def _lend_tables() -> tuple[IcebergTables, str]:
    """Tables of the local stack and their namespace, which go with the process."""
    stack, held = require_stack(), ExitStack()
    atexit.register(held.close)
    namespace = held.enter_context(lend_namespace(stack))
    return open_shared(stack, namespace), namespace


def _lend_home() -> tuple[IcebergTables, str]:
    """Tables in a directory that goes with the process."""
    held = ExitStack()
    atexit.register(held.close)
    home = Path(held.enter_context(TemporaryDirectory()))
    tables = IcebergTables(open_sqlite_catalog(home / "catalog.db", home / "warehouse"))
    tables.create_missing()
    return tables, ""
