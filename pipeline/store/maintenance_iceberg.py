"""Housekeeping of the Iceberg tables: merge small files, forget old snapshots, remove what no snapshot names."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from posixpath import normpath

from pyarrow import fs
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from pipeline.errors import StoreError, TransientError
from pipeline.store.compaction_iceberg import compact_table
from pipeline.store.positions import PROPERTY
from pipeline.store.schema import REFERENCE_MEMBERS, TABLES
from pipeline.store.tables_iceberg import IcebergTables, name_conflicts
from pipeline.store.tidied import Compaction, Expiry, Sweep

_SMALL_BYTES = 32 * 2**20
_MOST_SMALL = 8
# Verdicts name snapshots of these tables: a replay must find the set as it was.
_EVERY_SNAPSHOT_KEPT = frozenset({REFERENCE_MEMBERS.name})


class IcebergMaintenance:
    """What pyiceberg leaves to others. Safe to stop at any moment and to run again."""

    def __init__(self, tables: IcebergTables) -> None:
        self._tables = tables

    def names(self) -> tuple[str, ...]:
        """Every table there is, in the order of the schema."""
        return tuple(definition.name for definition in TABLES)

    def compact(
        self, table: str, *, small_bytes: int = _SMALL_BYTES, most_small: int = _MOST_SMALL, dry_run: bool = False
    ) -> Compaction:
        """Merge small files; see `compact_table`. Tables that keep every snapshot would only grow: they are left alone.

        Raises:
            StoreError: the merged files do not hold the same rows; the table is as it was.
            TransientError: catalogue or disk did not answer; the table is as it was.
        """
        if table in _EVERY_SNAPSHOT_KEPT:
            most_small = 2**31
        return compact_table(self._tables, table, small_bytes=small_bytes, most_small=most_small, dry_run=dry_run)

    def expire(self, table: str, older_than: datetime, *, dry_run: bool = False) -> Expiry:
        """Forget snapshots made before a moment (naive UTC).

        Never the current one, one a branch or tag names, those needed to find the newest source positions, nor any of
        `reference_members`. Files stay until the orphan sweep.

        Raises:
            TransientError: another writer committed first, or the catalogue did not answer.
        """
        current = self._tables.raw(table)
        limit = int(older_than.replace(tzinfo=UTC).timestamp() * 1000)
        everything = current.snapshots()
        kept = self._protect(table, current)
        old = [s.snapshot_id for s in everything if s.timestamp_ms < limit and s.snapshot_id not in kept]
        if old and not dry_run:
            with name_conflicts(table):
                current.maintenance.expire_snapshots().by_ids(old).commit()
        return Expiry(table, len(old), len(everything) - len(old), dry_run)

    def remove_orphans(self, table: str, older_than: datetime, *, dry_run: bool = False) -> Sweep:
        """Remove files below the table's location that none of its snapshots names and that a moment has passed over.

        The age is what protects files that a writer has written and not yet committed.

        Args:
            table: which.
            older_than: files changed after this (naive UTC) are never touched.
            dry_run: only list.

        Raises:
            StoreError: the table names files that are not where they should be; nothing was removed.
            TransientError: the files cannot be listed or removed.
        """
        place, files = _list_files(self._tables.raw(table))
        # Metadata after the listing: what was committed in between is in both or in neither.
        current = self._tables.raw(table)
        named = {_path_of(location) for location in _list_named(current)}
        missing = named - files.keys()
        if missing:
            raise StoreError(
                f"table {table} names {len(missing)} files that are not there, e.g. {min(missing)}; nothing was removed"
            )
        named |= {_path_of(entry.metadata_file) for entry in current.metadata.metadata_log}
        orphans = sorted(path for path, info in files.items() if path not in named and _is_older(info, older_than))
        for path in [] if dry_run else orphans:
            try:
                place.delete_file(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise TransientError(f"cannot remove {path}: {error}") from error
        return Sweep(table, tuple(orphans), sum(files[path].size or 0 for path in orphans), dry_run)

    def _protect(self, table: str, current: Table) -> set[int]:
        if table in _EVERY_SNAPSHOT_KEPT:
            return {snapshot.snapshot_id for snapshot in current.snapshots()}
        kept = {reference.snapshot_id for reference in current.metadata.refs.values()}
        # A commit by another tool states no positions; its parents are followed back to one that does.
        for snapshot in _list_ancestors(current):
            kept.add(snapshot.snapshot_id)
            if snapshot.summary is not None and PROPERTY in snapshot.summary.additional_properties:
                break
        return kept


def _list_ancestors(table: Table) -> Iterator[Snapshot]:
    snapshot = table.current_snapshot()
    while snapshot is not None:
        yield snapshot
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent is not None else None


def _list_files(table: Table) -> tuple[fs.FileSystem, dict[str, fs.FileInfo]]:
    if not isinstance(table.io, PyArrowFileIO):
        raise StoreError(f"the files of {table.name()} cannot be listed through {type(table.io).__name__}")
    scheme, host, path = PyArrowFileIO.parse_location(table.location())
    place = table.io.fs_by_scheme(scheme, host)
    try:
        found = place.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True))
    except OSError as error:
        raise TransientError(f"cannot list {table.location()}: {error}") from error
    return place, {normpath(info.path): info for info in found if info.type == fs.FileType.File}


def _list_named(table: Table) -> Iterator[str]:
    """Every file that the table's metadata and its snapshots need."""
    yield table.metadata_location
    yield from (statistics.statistics_path for statistics in table.metadata.statistics)
    yield from (statistics.statistics_path for statistics in table.metadata.partition_statistics)
    seen: set[str] = set()
    for snapshot in table.snapshots():
        yield snapshot.manifest_list
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path not in seen:
                seen.add(manifest.manifest_path)
                yield manifest.manifest_path
                yield from (entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io))


def _path_of(location: str) -> str:
    return normpath(PyArrowFileIO.parse_location(location)[2])


def _is_older(info: fs.FileInfo, moment: datetime) -> bool:
    return info.mtime is not None and info.mtime < moment.replace(tzinfo=UTC)
