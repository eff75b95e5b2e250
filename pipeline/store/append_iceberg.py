"""Rows into an Iceberg table: as Arrow, in one snapshot, at a cost that does not grow with the table's history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyiceberg.table import Table

from pipeline.errors import StoreError


def append_lightly(table: Table, data: pa.Table, properties: Mapping[str, str]) -> Table:
    """Append in one snapshot, without carrying the history of the table along; returns the table as it is afterwards.

    The library copies every snapshot it knows of some twenty times a commit: with two thousand of them that takes
    seconds. A commit needs only the newest; the catalogue keeps the others.
    """
    light = without_history(table)
    light.append(data, snapshot_properties=dict(properties))
    return light


def without_history(table: Table) -> Table:
    """The table with its newest snapshots alone: enough to commit on."""
    metadata = table.metadata
    kept = {ref.snapshot_id for ref in metadata.refs.values()}
    snapshots = [snapshot for snapshot in metadata.snapshots if snapshot.snapshot_id in kept]
    short = metadata.model_copy(update={"snapshots": snapshots, "snapshot_log": [], "metadata_log": []})
    return Table(table.name(), short, table.metadata_location, table.io, table.catalog)


def to_arrow(table: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows as Arrow under the schema of a table.

    Raises:
        StoreError: a row does not fit: a column it does not have, a value of another kind, null where none may be.
    """
    # Arrow drops columns it does not know without a word.
    if stray := {key for row in rows for key in row}.difference(schema.names):
        raise StoreError(f"a row does not fit table {table}: it has no column {', '.join(sorted(stray))}")
    try:
        data = pa.Table.from_pylist(list(rows), schema=schema)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise StoreError(f"a row does not fit table {table}: {error}") from error
    for field in schema:
        if not field.nullable and data.column(field.name).null_count:
            raise StoreError(f"a row does not fit table {table}: its {field.name} is null")
    return data
