"""What other writers added to a table since this process first looked at it: only their files are read, and once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import pyarrow as pa
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.manifest import ManifestContent, ManifestEntryStatus
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Snapshot

from pipeline.store.filters_iceberg import any_of
from pipeline.store.known import Marks

REWRITE = "oddframe.rewrite"
"""Property of a snapshot that brought no new rows: files were merged or rows removed."""

Key = tuple[object, ...]


class Newcomers:
    """Rows that others added, known by a mark of their keys, one set a table; a table has one kind of key."""

    def __init__(self) -> None:
        self._reached: dict[str, int | None] = {}
        self._own: dict[str, set[int]] = {}
        self._marks: dict[str, Marks] = {}

    def begin(self, name: str, table: Table) -> None:
        """From this snapshot on others are watched; what was there before is looked up by who wants to know."""
        self._reached.setdefault(name, table.metadata.current_snapshot_id)

    def note_own(self, name: str, table: Table, base: int | None) -> None:
        """A commit of this process was made on the snapshot `base`.

        Not the newest by then, perhaps: a catalogue answers with what it holds, and others may have gone on already.
        """
        ours = [s.snapshot_id for s in table.metadata.snapshots if s.parent_snapshot_id == base]
        if len(ours) == 1:
            self._own.setdefault(name, set()).update(ours)

    def find(self, name: str, table: Table, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> set[Key]:
        """Keys of those rows that others added up to the newest snapshot that `table` knows.

        Args:
            name: of the table.
            table: with the metadata that the next commit will be based on.
            rows: to be committed.
            columns: what makes the key.
        """
        marks = self._marks.setdefault(name, Marks())
        reached, current = self._reached.get(name), table.metadata.current_snapshot_id
        if current != reached:
            for read in self._read_since(name, table, reached, columns):
                for key in _list_keys(read, columns):
                    marks.add(_mark(key))
            self._reached[name] = current
            self._own.pop(name, None)
        suspects = [key for row in rows if _mark(key := key_of(row, columns)) in marks]
        # A mark is short: the table itself has the last word on what it says is there.
        return _look_up(table, suspects, columns) if suspects else set()

    def _read_since(self, name: str, table: Table, reached: int | None, columns: Sequence[str]) -> Iterator[pa.Table]:
        own, files = self._own.get(name, set()), []
        for snapshot in _walk_back(table, reached):
            if snapshot is None:
                # The snapshots in between were expired: anything may be new.
                yield table.scan(selected_fields=tuple(columns)).to_arrow()
                return
            if snapshot.snapshot_id not in own and not _is_rewrite(snapshot):
                files += _list_added(table, snapshot)
        if files:
            schema = table.schema().select(*columns)
            yield ArrowScan(table.metadata, table.io, schema, AlwaysTrue()).to_table(files)


def key_of(row: Mapping[str, Any], columns: Sequence[str]) -> Key:
    """The values that make a row's key."""
    return tuple(row.get(column) for column in columns)


def _mark(key: Key) -> int:
    return int.from_bytes(blake2b("\x1f".join(map(str, key)).encode(), digest_size=8).digest())


def _list_keys(rows: pa.Table, columns: Sequence[str]) -> Iterable[Key]:
    return zip(*(rows.column(column).to_pylist() for column in columns), strict=True)


def _look_up(table: Table, keys: Sequence[Key], columns: Sequence[str]) -> set[Key]:
    wanted = {column: sorted(set(values)) for column, values in zip(columns, zip(*keys, strict=True), strict=True)}
    found = table.scan(row_filter=any_of(wanted), selected_fields=tuple(columns)).to_arrow()
    return set(_list_keys(found, columns)).intersection(keys)


def _walk_back(table: Table, reached: int | None) -> Iterator[Snapshot | None]:
    """Snapshots from the newest back to the one after `reached`; None where the chain is broken."""
    at = table.metadata.current_snapshot_id
    while at != reached and at is not None:
        snapshot = table.snapshot_by_id(at)
        yield snapshot
        if snapshot is None:
            return
        at = snapshot.parent_snapshot_id
        # Snapshots are numbered from 1 within a table: one that follows others and names none has lost them.
        if at is None and (snapshot.sequence_number or 0) > 1:
            yield None
            return
    if at != reached:
        yield None


def _is_rewrite(snapshot: Snapshot) -> bool:
    return snapshot.summary is not None and REWRITE in snapshot.summary.additional_properties


def _list_added(table: Table, snapshot: Snapshot) -> list[FileScanTask]:
    return [
        FileScanTask(entry.data_file)
        for manifest in snapshot.manifests(table.io)
        if manifest.content == ManifestContent.DATA and manifest.added_snapshot_id == snapshot.snapshot_id
        for entry in manifest.fetch_manifest_entry(table.io)
        if entry.status == ManifestEntryStatus.ADDED
    ]
