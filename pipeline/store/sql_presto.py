"""Presto SQL on Presto: checked as for the embedded tables, so that both refuse the same, then sent as it is meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from pipeline.errors import UsageError
from pipeline.store.schema import TABLES, TableDefinition
from pipeline.store.sql_catalog import SqlCatalog
from pipeline.store.sql_engine import SqlEngine
from pipeline.store.sql_history import AsOf, TableHistory
from pipeline.store.sql_parameters import Value, with_literals
from pipeline.store.sql_presto_client import PrestoAnswer, PrestoServer, run_statement
from pipeline.store.sql_presto_values import PrestoType, read_columns, read_rows
from pipeline.store.sql_rows import SqlColumn, SqlStream
from pipeline.store.sql_statement import DIALECT, TOO_DEEP
from pipeline.store.sql_translate import translate


class PrestoSql(SqlEngine):
    """Answers statements on a Presto server; any number of threads may ask."""

    def __init__(
        self,
        server: PrestoServer,
        catalog: SqlCatalog,
        tables: Sequence[TableDefinition] = TABLES,
        *,
        history: TableHistory | None = None,
        seconds: float = 60.0,
    ) -> None:
        """Nothing is asked before the first question.

        Args:
            server: the coordinator.
            catalog: as for `SqlEngine`, like `tables`, `history` and `seconds`.
            tables: see there.
            history: see there; of the catalogue that the server reads.
            seconds: see there.
        """
        super().__init__(catalog, tables, history=history, seconds=seconds)
        self._server = server

    @contextmanager
    def _open(self, statement: exp.Query, values: Mapping[str, Value], as_of: AsOf | None) -> Iterator[SqlStream]:
        # Values become literals in the tree: bound ones would travel in an HTTP header, which is short and logged.
        expanded = self._catalog.expand(with_literals(statement, values), self._schema)
        # What the embedded tables cannot answer alike is refused here, too; the translation itself is not needed.
        used = translate(expanded, self._schema).columns
        text = _render(_choose_snapshots(expanded, self._find_snapshots(as_of, used)))
        with run_statement(self._server, text, self._seconds, self._say_stopped()) as answer:
            columns, types = read_columns(answer.columns)
            yield SqlStream(columns, _read_all(answer, types))

    def _find_columns(self, statement: exp.Query) -> Sequence[SqlColumn]:
        with self._open(exp.select("*").from_(statement.subquery("described")).limit(0), {}, None) as answer:
            return answer.columns


def _choose_snapshots(tree: exp.Query, snapshots: Mapping[str, int | None]) -> exp.Query:
    """Write into the tree, in place, which snapshot of each table is meant."""
    for table in list(tree.find_all(exp.Table)):
        if table.name not in snapshots:
            continue
        snapshot = snapshots[table.name]
        if snapshot is None:
            # It was empty then: there is no snapshot to name.
            nothing = exp.select("*").from_(table.name).where("false")
            table.replace(nothing.subquery(table.alias_or_name))
        else:
            number = exp.Literal.number(snapshot)
            table.set("version", exp.Version(this="VERSION", kind="AS OF", expression=number))
    return tree


def _render(tree: exp.Query) -> str:
    try:
        return tree.sql(DIALECT, comments=False, unsupported_level=ErrorLevel.RAISE)
    except SqlglotError as error:
        raise UsageError(f"{' '.join(str(error).split())[:200]}: this cannot be asked of Presto") from None
    except RecursionError:
        raise UsageError(TOO_DEEP) from None


def _read_all(answer: PrestoAnswer, types: Sequence[PrestoType]) -> Iterator[tuple[Any, ...]]:
    for page in answer.pages():
        yield from read_rows(types, page)
