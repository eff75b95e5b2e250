"""Small data files of an Iceberg table -> fewer, larger ones with the same rows, proved before the one commit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import stamina
from pyiceberg.exceptions import ValidationException
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan, _dataframe_to_data_files
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask, Table
from sqlalchemy.exc import OperationalError

from pipeline.errors import CommitConflictError, StoreError, TransientError
from pipeline.store.positions import PROPERTY
from pipeline.store.tables_iceberg import IcebergTables, name_conflicts, read_positions
from pipeline.store.tidied import Compaction

_BUNDLE_BYTES = 64 * 2**20  # compressed; what one step holds in memory is some ten times that
_ATTEMPTS = 5

Fingerprint = tuple[int, int]


def compact_table(
    tables: IcebergTables, name: str, *, small_bytes: int, most_small: int, dry_run: bool = False
) -> Compaction:
    """Merge the small files of every partition that has too many of them, in one commit.

    Rows, partitions and source positions stay as they are. Each merged file is read back and its rows compared with
    those of the files it replaces (count, and a sum of row hashes that no order changes) before anything is committed.
    Snapshots that are kept still read their own files. Files with row deletes on them are left alone.

    Args:
        tables: the store.
        name: which table.
        small_bytes: a file below this size is small.
        most_small: a partition may have so many small files.
        dry_run: only count.

    Raises:
        StoreError: what was written does not hold the same rows, or the files were replaced meanwhile; the table is
            as it was.
        TransientError: catalogue or disk did not answer; the table is as it was.
    """
    table = tables.raw(name)
    tasks = list(table.scan().plan_files())
    sizes = [task.file.file_size_in_bytes for task in tasks]
    bundles = list(_choose_bundles(tasks, small_bytes, most_small))
    old = [file for bundle in bundles for file in bundle]
    new: list[DataFile] = []
    try:
        for bundle in [] if dry_run else bundles:
            new += _merge(table, name, bundle)
        if new:
            _commit(tables, name, old, new)
    except (OSError, OperationalError) as error:
        raise TransientError(f"table {name}: cannot compact: {error}") from error
    written = sum(file.file_size_in_bytes for file in new)
    return Compaction(
        table=name,
        files_before=len(tasks),
        files_after=len(tasks) - len(old) + (len(bundles) if dry_run else len(new)),
        rows=sum(file.record_count for file in old),
        bytes_before=sum(sizes),
        bytes_after=sum(sizes) - (sum(f.file_size_in_bytes for f in old) - written if new else 0),
        dry_run=dry_run,
    )


def fingerprint(rows: pa.Table) -> Fingerprint:
    """Number of rows, and the sum of a 64-bit hash of each: equal for equal rows in any order."""
    plain = pa.table([_without_maps(column) for column in rows.columns], names=rows.column_names)
    with duckdb.connect() as connection:
        connection.register("plain", plain)
        found = connection.execute("SELECT count(*), coalesce(sum(hash(plain)::HUGEINT), 0) FROM plain").fetchone()
    assert found is not None  # noqa: S101 - an aggregate has one row
    return int(found[0]), int(found[1])


def _choose_bundles(tasks: Sequence[FileScanTask], small_bytes: int, most_small: int) -> Iterator[list[DataFile]]:
    """Files to merge with each other: of one partition, and not more than fit in memory."""
    partitions: dict[tuple[Any, ...], list[DataFile]] = {}
    for task in tasks:
        if task.file.file_size_in_bytes < small_bytes and not task.delete_files:
            partitions.setdefault((task.file.spec_id, task.file.partition), []).append(task.file)
    for files in partitions.values():
        if len(files) <= most_small:
            continue
        bundle: list[DataFile] = []
        for file in files:
            if bundle and sum(f.file_size_in_bytes for f in bundle) + file.file_size_in_bytes > _BUNDLE_BYTES:
                yield from [bundle] if len(bundle) > 1 else []
                bundle = []
            bundle.append(file)
        if len(bundle) > 1:
            yield bundle


def _merge(table: Table, name: str, bundle: Sequence[DataFile]) -> list[DataFile]:
    rows = _read(table, bundle)
    before = fingerprint(rows)
    if before[0] != sum(file.record_count for file in bundle):
        raise StoreError(f"table {name}: {before[0]} rows read where its manifests count others; run `oddframe verify`")
    written = list(_dataframe_to_data_files(table.metadata, rows, table.io))
    del rows
    for file in written:
        # Known to manifests only; reading a file before it is in one has to be told.
        file.spec_id = table.spec().spec_id
    if fingerprint(_read(table, written)) != before:
        raise StoreError(f"table {name}: merged files do not hold the rows of the {len(bundle)} they would replace")
    return written


def _read(table: Table, files: Sequence[DataFile]) -> pa.Table:
    scan = ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue())
    return scan.to_table([FileScanTask(file) for file in files])


def _commit(tables: IcebergTables, name: str, old: Sequence[DataFile], new: Sequence[DataFile]) -> None:
    # Merged files that no commit takes up are left to the orphan sweep: whether a failed commit failed is not certain.
    for attempt in stamina.retry_context(on=CommitConflictError, attempts=_ATTEMPTS, timeout=60):
        with attempt:
            # From the metadata that is committed against: the commit is refused if another writer's came in between.
            table = tables.raw(name)
            stated = {PROPERTY: read_positions(table).to_property()}
            try:
                with (
                    name_conflicts(name),
                    table.transaction() as transaction,
                    transaction.update_snapshot(snapshot_properties=stated).overwrite() as change,
                ):
                    for file in old:
                        change.delete_data_file(file)
                    for file in new:
                        change.append_data_file(file)
            except ValidationException as error:
                raise StoreError(f"table {name}: its files were replaced meanwhile; nothing was compacted") from error


def _without_maps(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Maps as lists of pairs: DuckDB refuses a map that holds a key twice, and headers may."""
    kind = column.type
    if not pa.types.is_map(kind):
        return column
    pair = pa.struct([pa.field("key", kind.key_type, nullable=False), pa.field("value", kind.item_type)])
    return column.cast(pa.list_(pair))
