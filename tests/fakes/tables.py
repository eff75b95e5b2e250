"""Tables in memory: append-only snapshots with positions, for tests of what stands on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import StoreError
from pipeline.ports import SourcePosition
from pipeline.store.positions import PositionSet
from pipeline.store.schema import TABLES


class MemoryTables:
    """Every commit keeps a whole copy: small tables only."""

    def __init__(self) -> None:
        self._schemas = {t.name: t.schema.as_arrow() for t in TABLES}
        self._snapshots: dict[str, list[tuple[pa.Table, PositionSet]]] = {t.name: [] for t in TABLES}

    def append(
        self, table: str, rows: Sequence[Mapping[str, Any]], positions: Sequence[SourcePosition] = ()
    ) -> int | None:
        if not rows and not positions:
            return None
        schema = self._schema(table)
        for row in rows:
            if stray := row.keys() - set(schema.names):
                raise StoreError(f"a row does not fit table {table}: it has no column {min(stray)}")
            if any(not field.nullable and row.get(field.name) is None for field in schema):
                raise StoreError(f"a row does not fit table {table}: a required column is null")
        try:
            data = pa.Table.from_pylist(list(rows), schema=schema)
        except (pa.ArrowException, OverflowError) as error:
            raise StoreError(f"a row does not fit table {table}: {error}") from error
        held, known = self._newest(table)
        return self._commit(table, pa.concat_tables([held, data]), known.add(positions))

    def append_new(
        self,
        table: str,
        rows: Sequence[Mapping[str, Any]],
        positions: Sequence[SourcePosition],
        unique: Sequence[str],  # noqa: ARG002 - nobody else writes to this memory
    ) -> list[Mapping[str, Any]]:
        if rows:
            self.append(table, rows, positions)
        return []

    def scan(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        *,
        where: Mapping[str, Sequence[Any]] | None = None,
        as_of: int | None = None,
    ) -> pa.Table:
        self._schema(table)
        data = self._newest(table)[0] if as_of is None else self._snapshots[table][as_of - 1][0]
        found = data.filter(self._mask(data, where or {}))
        return found.select(list(columns)) if columns else found

    def positions(self, table: str) -> PositionSet:
        return self._newest(table)[1]

    def snapshot_id(self, table: str) -> int | None:
        return len(self._snapshots[table]) or None

    def delete(self, table: str, where: Mapping[str, Sequence[Any]]) -> int:
        data, known = self._newest(table)
        keep = pc.invert(self._mask(data, where))
        gone = data.num_rows - data.filter(keep).num_rows
        if gone:
            self._commit(table, data.filter(keep), known)
        return gone

    def rewrite(self, table: str, where: Mapping[str, Sequence[Any]], data: pa.Table) -> None:
        held, known = self._newest(table)
        kept = held.filter(pc.invert(self._mask(held, where)))
        self._commit(table, pa.concat_tables([kept, data.cast(self._schema(table))]), known)

    def _commit(self, table: str, data: pa.Table, positions: PositionSet) -> int:
        self._snapshots[table].append((data, positions))
        return len(self._snapshots[table])

    def _newest(self, table: str) -> tuple[pa.Table, PositionSet]:
        schema = self._schema(table)
        return self._snapshots[table][-1] if self._snapshots[table] else (schema.empty_table(), PositionSet())

    def _schema(self, table: str) -> pa.Schema:
        if table not in self._schemas:
            raise StoreError(f"there is no table {table}")
        return self._schemas[table]

    def _mask(self, data: pa.Table, where: Mapping[str, Sequence[Any]]) -> pa.ChunkedArray:
        masks = [
            pc.is_in(data.column(name), pa.array(list(values), data.schema.field(name).type))
            for name, values in where.items()
        ]
        everything = pa.chunked_array([pa.array([True] * data.num_rows, pa.bool_())])
        for mask in masks:
            everything = pc.and_(everything, pc.fill_null(mask, fill_value=False))
        return everything
