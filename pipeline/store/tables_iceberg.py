"""Iceberg tables through pyiceberg: appends with source positions, scans, deletes.

One committer per table and process. A commit that another writer beat is tried again with jitter on the refreshed
table; its positions are merged with what the other one committed.

`deliveries` is committed last and says which positions are done with. The other tables take these in as well: they have
no row of most messages, and a hole for each would be repeated in every snapshot there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import stamina
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.table import Table
from sqlalchemy.exc import IntegrityError, OperationalError

from pipeline.errors import CommitConflictError, StoreError, TransientError
from pipeline.ports import SourcePosition
from pipeline.store.append_iceberg import append_lightly, to_arrow
from pipeline.store.filters_iceberg import any_of
from pipeline.store.newcomers import REWRITE, Newcomers, key_of
from pipeline.store.positions import PROPERTY, PositionSet
from pipeline.store.schema import DELIVERIES, NAMESPACE, TABLES

_PATIENCE_SECONDS = 60.0
# A commit takes a tenth of a second: who lost a race comes back about as soon.
_WAIT_SECONDS, _LONGEST_WAIT_SECONDS, _JITTER_SECONDS = 0.05, 0.5, 0.1
_TABLE_PROPERTIES = {
    # Its own retry would repeat the positions read before another writer's commit and so lose that writer's.
    "commit.retry.num-retries": "0",
    # No path with a header's text in it: an instrument of 300 letters makes no directory.
    "write.object-storage.enabled": "true",
    "write.object-storage.partitioned-paths": "false",
    # Each commit writes the list of all of them again.
    "commit.manifest-merge.enabled": "true",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    "write.parquet.compression-codec": "zstd",
}


class IcebergTables:
    """The tables of `schema.TABLES` in one catalogue."""

    def __init__(self, catalog: Catalog, namespace: str = NAMESPACE) -> None:
        self._catalog = catalog
        self._namespace = namespace
        self._tables: dict[str, Table] = {}
        self._arrow: dict[str, pa.Schema] = {}
        self._newcomers = Newcomers()

    def create_missing(self) -> None:
        """Create the namespace and every table that is not there."""
        # Two processes on a fresh home both find nothing there: the one that came second looks again.
        for attempt in stamina.retry_context(on=(IntegrityError, TableAlreadyExistsError), attempts=10, timeout=30):
            with attempt:
                self._catalog.create_namespace_if_not_exists(self._namespace)
                for definition in TABLES:
                    place = f"{self._namespace}.{definition.name}"
                    # Asked first: trying to create a table that is there leaves a metadata file that nobody names.
                    if not self._catalog.table_exists(place):
                        self._catalog.create_table(
                            place,
                            definition.schema,
                            partition_spec=definition.partition_spec,
                            properties=_TABLE_PROPERTIES,
                        )

    def append(
        self, table: str, rows: Sequence[Mapping[str, Any]], positions: Sequence[SourcePosition] = ()
    ) -> int | None:
        """Commit rows and the positions they came from in one snapshot.

        Returns:
            The snapshot id; None where there was neither a row nor a position.

        Raises:
            CommitConflictError: other writers won for a minute.
            TransientError: the catalogue or the disk did not answer.
            StoreError: the rows do not fit the table.
        """
        if not rows and not positions:
            return None
        self._commit(table, rows, positions, ())
        return self.snapshot_id(table)

    def append_new(
        self,
        table: str,
        rows: Sequence[Mapping[str, Any]],
        positions: Sequence[SourcePosition],
        unique: Sequence[str],
    ) -> list[Mapping[str, Any]]:
        """Commit the rows that no other writer added meanwhile; see `TableStore.append_new`.

        Raises:
            CommitConflictError: as `append`, like the others.
            TransientError: see there.
            StoreError: see there.
        """
        return self._commit(table, rows, positions, unique) if rows else []

    def scan(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        *,
        where: Mapping[str, Sequence[Any]] | None = None,
        as_of: int | None = None,
    ) -> pa.Table:
        """Rows as Arrow; see `TableStore.scan`."""
        current = self._load(table)
        with name_faults(table):
            return current.scan(
                row_filter=any_of(where),
                selected_fields=tuple(columns) if columns else ("*",),
                snapshot_id=as_of,
            ).to_arrow()

    def positions(self, table: str) -> PositionSet:
        """Positions the table holds, from the newest snapshot that states them."""
        return read_positions(self._load(table))

    def snapshot_id(self, table: str) -> int | None:
        """Id of the newest snapshot, None while the table is empty."""
        snapshot = self._load(table).current_snapshot()
        return snapshot.snapshot_id if snapshot else None

    def delete(self, table: str, where: Mapping[str, Sequence[Any]]) -> int:
        """Remove the rows that match; positions stay held."""
        found = int(self.scan(table, [next(iter(where))], where=where).num_rows)
        if found:
            current = self._load(table)
            with name_conflicts(table):
                current.delete(any_of(where), snapshot_properties=_carry_on(current))
        return found

    def rewrite(self, table: str, where: Mapping[str, Sequence[Any]], data: pa.Table) -> None:
        """Replace the rows that match by others, in one commit: what compaction and repair need."""
        current = self._load(table)
        # Never tried again: the data may have been read before the other writer's commit.
        with name_conflicts(table):
            current.overwrite(
                data.cast(self._arrow_schema(table)),
                overwrite_filter=any_of(where),
                snapshot_properties=_carry_on(current),
            )

    def compare_schema(self) -> list[str]:
        """Columns that a table lacks or holds under another type, one sentence each; empty where all is as defined."""
        problems: list[str] = []
        for definition in TABLES:
            held = {f.name: f.field_type for f in self._load(definition.name).schema().fields}
            for field in definition.schema.fields:
                if field.name not in held:
                    problems.append(f"table {definition.name} lacks column {field.name}")
                elif str(held[field.name]) != str(field.field_type) and field.field_type.is_primitive:
                    problems.append(f"column {definition.name}.{field.name} is {held[field.name]}")
        return problems

    def raw(self, table: str) -> Table:
        """The pyiceberg table, refreshed: for maintenance, which speaks of snapshots and files."""
        return self._load(table)

    def close(self) -> None:
        """Release the catalogue's connections."""
        self._tables.clear()
        self._catalog.close()

    def _commit(
        self,
        table: str,
        rows: Sequence[Mapping[str, Any]],
        positions: Sequence[SourcePosition],
        unique: Sequence[str],
    ) -> list[Mapping[str, Any]]:
        """Append, on the very metadata that was looked at; returns the rows left out."""
        # Asked first: it refreshes the table, which must not happen between looking and committing.
        schema = self._arrow_schema(table)
        left_out: list[Mapping[str, Any]] = []
        # What this process saw last is most often the newest; a commit on anything older is refused.
        current = self._tables[table]
        for attempt in retry_commits(_PATIENCE_SECONDS):
            with attempt:
                if attempt.num > 1:
                    current = self._load(table)
                with name_faults(table):
                    there = self._newcomers.find(table, current, rows, unique) if unique else set()
                fresh = [row for row in rows if not there or key_of(row, unique) not in there]
                left_out = [row for row in rows if there and key_of(row, unique) in there]
                if rows and not fresh:
                    break
                data = to_arrow(table, fresh, schema)
                held = self._fill_holes(read_positions(current).add(positions))
                base = current.metadata.current_snapshot_id
                with name_conflicts(table):
                    current = append_lightly(current, data, {PROPERTY: held.to_property()})
                self._tables[table] = current
                self._newcomers.note_own(table, current, base)
        return left_out

    def _fill_holes(self, held: PositionSet) -> PositionSet:
        done = self._tables.get(DELIVERIES.name)
        return held.fill(read_positions(done)) if done is not None else held

    def _load(self, table: str) -> Table:
        try:
            known = self._tables.get(table)
            if known is None:
                known = self._tables[table] = self._catalog.load_table(f"{self._namespace}.{table}")
                self._newcomers.begin(table, known)
                return known
            return known.refresh()
        except NoSuchTableError as error:
            raise StoreError(f"there is no table {table}; run `oddframe doctor`") from error
        except OperationalError as error:
            raise TransientError(f"the catalogue does not answer: {error}") from error

    def _arrow_schema(self, table: str) -> pa.Schema:
        if table not in self._arrow:
            self._arrow[table] = self._load(table).schema().as_arrow()
        return self._arrow[table]


def retry_commits(seconds: float) -> Iterable[stamina.Attempt]:
    """Attempts at a commit for as long as another writer's comes first: many and short ones, with jitter.

    Args:
        seconds: none begins later than this; the conflict is raised then.
    """
    return stamina.retry_context(
        CommitConflictError,
        attempts=None,
        timeout=seconds,
        wait_initial=_WAIT_SECONDS,
        wait_max=_LONGEST_WAIT_SECONDS,
        wait_jitter=_JITTER_SECONDS,
    )


@contextmanager
def name_faults(table: str) -> Iterator[None]:
    """Say of a table whose files or catalogue did not answer that it is so.

    Raises:
        TransientError: no answer.
    """
    try:
        yield
    except (OSError, OperationalError) as error:
        raise TransientError(f"table {table}: cannot read: {error}") from error


@contextmanager
def name_conflicts(table: str) -> Iterator[None]:
    """Tell a commit that another writer beat from a catalogue or disk that did not answer.

    Raises:
        CommitConflictError: another writer committed first; nothing was committed here.
        TransientError: no answer.
    """
    try:
        yield
    except CommitFailedException as error:
        raise CommitConflictError(f"table {table}: another writer committed first ({error})") from error
    except (OSError, OperationalError) as error:
        raise TransientError(f"table {table}: cannot commit: {error}") from error


def _carry_on(table: Table) -> dict[str, str]:
    """Properties of a commit that brings no new rows."""
    return {PROPERTY: read_positions(table).to_property(), REWRITE: "yes"}


def read_positions(table: Table) -> PositionSet:
    """Positions as the table's loaded metadata states them; a commit of that same metadata may carry them on."""
    snapshot = table.current_snapshot()
    while snapshot is not None:
        summary = snapshot.summary
        text = summary.additional_properties.get(PROPERTY) if summary else None
        if text is not None:
            return PositionSet.from_property(text)
        # A commit made by another tool (Presto, a repair by hand) says nothing of positions: its parent still does.
        snapshot = table.snapshot_by_id(snapshot.parent_snapshot_id) if snapshot.parent_snapshot_id else None
    return PositionSet()
