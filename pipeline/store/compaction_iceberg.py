"""Small data files of an Iceberg table -> fewer, larger ones with the same rows, proved before they are committed.

Safe beside other writers: a commit is made on the newest metadata or not at all, and replaces only files that are live
in it and have no row deletes on them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan, _dataframe_to_data_files
from pyiceberg.manifest import DataFile
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Operation
from sqlalchemy.exc import OperationalError

from pipeline.errors import CommitConflictError, StoreError, TransientError
from pipeline.store.append_iceberg import without_history
from pipeline.store.newcomers import REWRITE
from pipeline.store.positions import PROPERTY, PositionSet
from pipeline.store.tables_iceberg import IcebergTables, name_conflicts, read_positions, retry_commits
from pipeline.store.tidied import Compaction

_BUNDLE_BYTES = 64 * 2**20  # compressed; what one step holds in memory is some ten times that
# Merged files wait no longer than this for their commit: an orphan sweep elsewhere must not take them for old.
_GROUP_SECONDS = 300.0
_PATIENCE_SECONDS = 120.0

Fingerprint = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Merger:
    """Files of one partition, and those that hold the same rows."""

    old: list[DataFile]
    new: list[DataFile]


def compact_table(
    tables: IcebergTables, name: str, *, small_bytes: int, most_small: int, dry_run: bool = False
) -> Compaction:
    """Merge the small files of every partition that has too many of them.

    Rows, partitions and source positions stay as they are. Each merged file is read back and its rows compared with
    those of the files it replaces (count, and a sum of row hashes that no order changes) before anything is committed.
    Snapshots that are kept still read their own files. Files with row deletes on them are left alone, as are those
    that another writer replaced in the meantime; where others keep committing first, the rest is left to the next run.

    Args:
        tables: the store.
        name: which table.
        small_bytes: a file below this size is small.
        most_small: a partition may have so many small files.
        dry_run: only count.

    Raises:
        StoreError: what was written does not hold the same rows; what was committed before stands.
        TransientError: catalogue or disk did not answer; what was committed before stands.
    """
    table = tables.raw(name)
    planned = table.metadata.current_snapshot_id
    tasks = list(table.scan().plan_files())
    bundles = list(_choose_bundles(tasks, small_bytes, most_small))
    done: list[_Merger] = []
    try:
        for group in _merge_in_groups(table, name, [] if dry_run else bundles):
            done += _commit(tables, name, group, planned)
    except (OSError, OperationalError) as error:
        raise TransientError(f"table {name}: cannot compact: {error}") from error
    replaced = [file for bundle in bundles for file in bundle] if dry_run else [f for one in done for f in one.old]
    new = [file for one in done for file in one.new]
    size = sum(task.file.file_size_in_bytes for task in tasks)
    return Compaction(
        table=name,
        files_before=len(tasks),
        files_after=len(tasks) - len(replaced) + (len(bundles) if dry_run else len(new)),
        rows=sum(file.record_count for file in replaced),
        bytes_before=size,
        bytes_after=size if dry_run else size - _measure(replaced) + _measure(new),
        left=0 if dry_run else sum(map(len, bundles)) - len(replaced),
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


def _merge_in_groups(table: Table, name: str, bundles: Sequence[list[DataFile]]) -> Iterator[list[_Merger]]:
    """What one commit takes up: as much as is merged within a few minutes."""
    group: list[_Merger] = []
    since = time.monotonic()
    for bundle in bundles:
        group.append(_Merger(bundle, _merge(table, name, bundle)))
        if time.monotonic() - since > _GROUP_SECONDS:
            yield group
            group, since = [], time.monotonic()
    if group:
        yield group


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


def _commit(tables: IcebergTables, name: str, group: Sequence[_Merger], planned: int | None) -> list[_Merger]:
    """Those of the group that were committed."""
    # Merged files that no commit takes up are left to the orphan sweep: whether a failed commit failed is not certain.
    try:
        for attempt in retry_commits(_PATIENCE_SECONDS):
            with attempt:
                table = tables.raw(name)
                standing = _find_standing(table, group, planned)
                if standing:
                    _replace(without_history(table), name, standing, read_positions(table))
                return standing
    except CommitConflictError:
        return []
    raise AssertionError("a retry ends in an answer or an error")


def _find_standing(table: Table, group: Sequence[_Merger], planned: int | None) -> list[_Merger]:
    """Those whose old files are all live in the newest snapshot and have no row deletes on them."""
    if _is_only_appended(table, planned):
        return list(group)
    live = {task.file.file_path for task in table.scan().plan_files() if not task.delete_files}
    return [one for one in group if all(file.file_path in live for file in one.old)]


def _is_only_appended(table: Table, since: int | None) -> bool:
    """Whether every commit after a snapshot added files and took none away: cheaper to see than every file."""
    snapshot = table.current_snapshot()
    while snapshot is not None and snapshot.snapshot_id != since:
        if snapshot.summary is None or snapshot.summary.operation != Operation.APPEND:
            return False
        snapshot = table.snapshot_by_id(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id else None
    return snapshot is not None


def _replace(table: Table, name: str, mergers: Sequence[_Merger], held: PositionSet) -> None:
    # Positions from the metadata that is committed against: refused if another writer's commit came in between.
    stated = {PROPERTY: held.to_property(), REWRITE: "yes"}
    with (
        name_conflicts(name),
        table.transaction() as transaction,
        transaction.update_snapshot(snapshot_properties=stated).overwrite() as change,
    ):
        for merger in mergers:
            for file in merger.old:
                change.delete_data_file(file)
            for file in merger.new:
                change.append_data_file(file)


def _measure(files: Sequence[DataFile]) -> int:
    return sum(file.file_size_in_bytes for file in files)


def _without_maps(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Maps as lists of pairs: DuckDB refuses a map that holds a key twice, and headers may."""
    kind = column.type
    if not pa.types.is_map(kind):
        return column
    pair = pa.struct([pa.field("key", kind.key_type, nullable=False), pa.field("value", kind.item_type)])
    return column.cast(pa.list_(pair))
