"""Housekeeping of the Iceberg tables: merge small files, forget old snapshots, remove what no snapshot names.

Every change is one commit on metadata just read, tried again from a fresh read where another writer came first: running
writers and readers need not stop.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from itertools import pairwise
from posixpath import normpath
from typing import TypeVar

import stamina
from pyarrow import fs
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AssertTableUUID, RemoveSnapshotsUpdate

from pipeline.errors import CommitConflictError, StoreError, TransientError, UsageError
from pipeline.store.compaction_iceberg import compact_table
from pipeline.store.positions import PROPERTY
from pipeline.store.schema import REFERENCE_MEMBERS, TABLES, VERDICTS
from pipeline.store.tables_iceberg import IcebergTables, name_conflicts
from pipeline.store.tidied import Compaction, Expiry, Pin, Surplus, Sweep

_SMALL_BYTES = 32 * 2**20
_MOST_SMALL = 8
_ATTEMPTS = 10

_Done = TypeVar("_Done")


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
        """Merge small files; see `compact_table`.

        Not those of `reference_members`: a verdict's id depends on the snapshot of the references, and the same
        references must not get another one.

        Raises:
            StoreError: the merged files do not hold the same rows.
            TransientError: catalogue or disk did not answer.
        """
        if table == REFERENCE_MEMBERS.name:
            most_small = sys.maxsize
        return compact_table(self._tables, table, small_bytes=small_bytes, most_small=most_small, dry_run=dry_run)

    def expire(
        self, table: str, older_than: datetime, *, surplus: Surplus | None = None, dry_run: bool = False
    ) -> Expiry:
        """Forget snapshots that were replaced by newer ones before a moment, and those that are too many.

        Never the current one, one a branch or tag names, those needed to find the newest source positions, nor one of
        `reference_members` that a verdict names. Files stay until the orphan sweep.

        Args:
            table: which.
            older_than: naive UTC.
            surplus: how many stay of those that are younger; None: all of them.
            dry_run: only count.

        Raises:
            CommitConflictError: other writers won ten times in a row.
            TransientError: the catalogue did not answer.
        """

        def forget(current: Table) -> Expiry:
            everything = current.snapshots()
            old = _find_replaced(current, everything, older_than)
            if surplus is not None:
                newest_first = sorted(everything, key=_number_of, reverse=True)
                old |= _find_replaced(current, newest_first[surplus.most :], surplus.settled)
            old -= self._protect(table, current)
            if old and not dry_run:
                # Through the catalogue: pyiceberg's own call copies all metadata once for each snapshot.
                with name_conflicts(table):
                    current.catalog.commit_table(
                        current,
                        (AssertTableUUID(uuid=current.metadata.table_uuid),),
                        (RemoveSnapshotsUpdate(snapshot_ids=sorted(old)),),
                    )
            return Expiry(table, len(old), len(everything) - len(old), _list_tags(current), dry_run)

        return self._change(table, forget)

    def pin(self, table: str, snapshot_id: int, name: str) -> Pin:
        """Keep a snapshot under a name, whatever its age; a second time is no fault.

        Raises:
            UsageError: there is no such table or snapshot, or the name stands for another snapshot of the table.
            CommitConflictError: other writers won ten times in a row.
            TransientError: the catalogue did not answer.
        """
        if table not in self.names():
            raise UsageError(f"there is no table {table!r}; there are {', '.join(self.names())}")

        def keep(current: Table) -> Pin:
            known = current.metadata.refs.get(name)
            if known is not None and known.snapshot_id != snapshot_id:
                raise UsageError(
                    f"table {table}: {name!r} stands for snapshot {known.snapshot_id}; choose another name"
                )
            if current.snapshot_by_id(snapshot_id) is None:
                raise UsageError(f"table {table} has no snapshot {snapshot_id} (any more)")
            if known is None:
                with name_conflicts(table):
                    current.manage_snapshots().create_tag(snapshot_id, name).commit()
            return Pin(table, snapshot_id, name)

        return self._change(table, keep)

    def unpin(self, name: str) -> list[Pin]:
        """Let snapshots kept under a name grow old again, in every table that has it.

        Raises:
            UsageError: no table has a tag of that name.
            CommitConflictError: other writers won ten times in a row.
            TransientError: the catalogue did not answer.
        """

        def release(current: Table) -> int:
            known = current.metadata.refs[name]
            with name_conflicts(current.name()[-1]):
                current.manage_snapshots().remove_tag(name).commit()
            return int(known.snapshot_id)

        holders = [table for table in self.names() if name in _list_tags(self._tables.raw(table))]
        if not holders:
            held = sorted({tag for table in self.names() for tag in _list_tags(self._tables.raw(table))})
            raise UsageError(f"no snapshot is pinned as {name!r}; pinned are: {', '.join(held) or 'none'}")
        return [Pin(table, self._change(table, release), name) for table in holders]

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
        old = {path for path, info in files.items() if _is_older(info, older_than)}
        orphans = sorted(self._find_orphans(table, place, files.keys(), old))
        for path in [] if dry_run else orphans:
            try:
                place.delete_file(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise TransientError(f"cannot remove {path}: {error}") from error
        return Sweep(table, tuple(orphans), sum(files[path].size or 0 for path in orphans), dry_run)

    def _find_orphans(self, table: str, place: fs.FileSystem, listed: Collection[str], old: set[str]) -> set[str]:
        """Those of the old files that the table does not need; metadata is read after the listing.

        So a file that a commit made in between is not among the listed ones.
        """
        for _ in range(_ATTEMPTS):
            current = self._tables.raw(table)
            read_from = current.metadata_location
            replaced = {_path_of(entry.metadata_file) for entry in current.metadata.metadata_log}
            left = old - replaced - {_checksum_of(path) for path in replaced}
            unlisted: set[str] = set()
            try:
                for path in map(_path_of, _list_named(current)):
                    left -= {path, _checksum_of(path)}
                    unlisted |= {path}.difference(listed)
                    if not left:
                        # Nothing is removed, whatever else is named: no need to read on.
                        return left
                looked_for = place.get_file_info(sorted(unlisted))
                missing = [info.path for info in looked_for if info.type != fs.FileType.File]
            except FileNotFoundError as error:
                missing = [str(error)]
            except OSError as error:
                raise TransientError(f"cannot read the metadata of table {table}: {error}") from error
            if not missing:
                return left
            # Another process may have expired and swept what this metadata names; if so, it is not the newest any more.
            if self._tables.raw(table).metadata_location == read_from:
                raise StoreError(
                    f"table {table} names {len(missing)} files that are not there, e.g. {missing[0]}; "
                    "nothing was removed"
                )
        raise TransientError(f"table {table} changes faster than its files can be listed; try again later")

    def _protect(self, table: str, current: Table) -> set[int]:
        kept = {reference.snapshot_id for reference in current.metadata.refs.values()}
        # A commit by another tool states no positions; its parents are followed back to one that does.
        for snapshot in _list_ancestors(current):
            kept.add(snapshot.snapshot_id)
            if snapshot.summary is not None and PROPERTY in snapshot.summary.additional_properties:
                break
        if table == REFERENCE_MEMBERS.name:
            # A replay must find the references as they were.
            named = self._tables.scan(VERDICTS.name, ["reference_snapshot_id"]).column("reference_snapshot_id")
            kept |= set(named.unique().to_pylist())
        return kept

    def _change(self, table: str, change: Callable[[Table], _Done]) -> _Done:
        """Do it to the table as it is now, and again from the start where another writer's commit came in between."""
        for attempt in stamina.retry_context(on=CommitConflictError, attempts=_ATTEMPTS, timeout=60, wait_max=1.0):
            with attempt:
                return change(self._tables.raw(table))
        raise AssertionError("a retry ends in an answer or an error")


def _find_replaced(table: Table, among: Collection[Snapshot], before: datetime) -> set[int]:
    """Ids of those that ceased to be the current one before a moment."""
    limit = int(before.replace(tzinfo=UTC).timestamp() * 1000)
    # The current one and those of branches were not replaced: their own age counts.
    replaced = {older.snapshot_id: newer.timestamp_ms for older, newer in pairwise(table.history())}
    return {s.snapshot_id for s in among if replaced.get(s.snapshot_id, s.timestamp_ms) < limit}


def _number_of(snapshot: Snapshot) -> int:
    return snapshot.sequence_number or 0


def _list_tags(table: Table) -> tuple[str, ...]:
    references = table.metadata.refs.items()
    return tuple(sorted(name for name, kept in references if kept.snapshot_ref_type == SnapshotRefType.TAG))


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
    """Every file that the table's metadata and its snapshots need; those of the newest snapshot before older ones."""
    yield table.metadata_location
    yield from (statistics.statistics_path for statistics in table.metadata.statistics)
    yield from (statistics.statistics_path for statistics in table.metadata.partition_statistics)
    seen: set[str] = set()
    newest_first = sorted(table.snapshots(), key=_number_of, reverse=True)
    yield from (snapshot.manifest_list for snapshot in newest_first)
    for snapshot in newest_first:
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path not in seen:
                seen.add(manifest.manifest_path)
                yield manifest.manifest_path
                yield from (entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io))


def _path_of(location: str) -> str:
    return normpath(PyArrowFileIO.parse_location(location)[2])


def _checksum_of(path: str) -> str:
    """The file that Hadoop's local file system, which some catalogues write through, keeps beside each of its own."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.crc"


def _is_older(info: fs.FileInfo, moment: datetime) -> bool:
    return info.mtime is not None and info.mtime < moment.replace(tzinfo=UTC)
