"""Years of results in a lake before it is measured: rows, snapshots and vectors of frames that never were."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.parts import open_tables, open_vectors
from pipeline.ports import SourcePosition, VectorEntity, VectorSpec
from pipeline.settings import Settings
from pipeline.store.append_iceberg import without_history
from pipeline.store.positions import PROPERTY
from pipeline.store.tables_iceberg import IcebergTables

_SNAPSHOTS_PER_COMMIT = 50
_VECTORS_PER_CALL = 2_000
_BEGIN = datetime(2020, 1, 1)  # noqa: DTZ001 - naive UTC, as the tables have it


def preload(settings: Settings, frames: int, snapshots: int) -> None:
    """So many frames with their deliveries, verdicts and vectors, in so many snapshots of each table."""
    tables = open_tables(settings)
    for table in ("frames", "verdicts", "deliveries"):
        _append_all(tables, table, frames, snapshots)
    tables.close()
    vectors, spec = open_vectors(settings), VectorSpec("pixels", "1-32x32", 1024)
    generator = np.random.default_rng(1)
    for numbers in _group(range(frames), _VECTORS_PER_CALL):
        drawn = generator.random((len(numbers), spec.dimension), dtype=np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        vectors.upsert(
            spec,
            [VectorEntity(_id(n), v, "elsewhere", "r", 1, 30.0, _BEGIN) for n, v in zip(numbers, drawn, strict=True)],
        )
    vectors.flush()
    vectors.close()


def _append_all(tables: IcebergTables, table: str, frames: int, snapshots: int) -> None:
    schema = tables.raw(table).schema().as_arrow()
    held, each = tables.positions(table), frames // snapshots
    for commit in _group(_group(range(frames), each), _SNAPSHOTS_PER_COMMIT):
        with without_history(tables.raw(table)).transaction() as transaction:
            for numbers in commit:
                held = held.add(SourcePosition("spool:/history", n) for n in numbers)
                data = pa.Table.from_pylist([_ROWS[table](n) for n in numbers], schema=schema)
                transaction.append(data, snapshot_properties={PROPERTY: held.to_property()})


def _group(things: Sequence[Any], size: int) -> list[Any]:
    return [things[i : i + size] for i in range(0, len(things), size)]


def _id(number: int) -> str:
    return hashlib.sha256(f"history {number}".encode()).hexdigest()


def _frame(number: int) -> dict[str, Any]:
    moment = _BEGIN + timedelta(days=number // 500)
    return {
        "frame_id": _id(number), "name": f"h{number}.fits", "obs_time": moment, "night": moment.date(),
        "instrument": "elsewhere", "filter": "r", "exposure_s": 30.0, "zone": 1, "zones": [1], "header": [],
        "notes": [],
        "width": 512, "height": 512, "bytes": 526_000, "source_partition": "spool:/history", "source_offset": number,
        "ingested_at": moment,
    }  # fmt: skip


def _verdict(number: int) -> dict[str, Any]:
    moment = _BEGIN + timedelta(days=number // 500)
    return {
        "verdict_id": _id(-1 - number), "frame_id": _id(number), "name": f"h{number}.fits", "status": "normal",
        "night": moment.date(), "embedding": "pixels", "embedding_version": "1-32x32", "judged_at": moment,
        "reason": "in line with its references",
    }  # fmt: skip


def _delivery(number: int) -> dict[str, Any]:
    return {
        "source_partition": "spool:/history", "source_offset": number, "name": f"h{number}.fits",
        "frame_id": _id(number), "outcome": "new", "purpose": "ingest", "bytes": 526_000, "received_at": _BEGIN,
    }  # fmt: skip


_ROWS = {"frames": _frame, "verdicts": _verdict, "deliveries": _delivery}
