"""What every SQL engine does alike: parse, list, describe, cut; only the answer to a query is the engine's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from types import MappingProxyType

from sqlglot import exp

from pipeline.errors import UsageError
from pipeline.store.schema import TABLES, TableDefinition
from pipeline.store.sql_catalog import SqlCatalog, read_comments
from pipeline.store.sql_history import AsOf, TableHistory, TableSnapshot
from pipeline.store.sql_parameters import Value, check_free_values
from pipeline.store.sql_rows import SqlColumn, SqlResult, SqlStream
from pipeline.store.sql_statement import DescribeTable, ShowTables, parse_statement, suggest
from pipeline.store.sql_types import name_type

DIVISION_BY_ZERO = "division by zero: write nullif(divisor, 0) to get null instead"
_NO_PARAMETERS: Mapping[str, Value] = MappingProxyType({})


class SqlEngine(ABC):
    """Answers one reading statement at a time."""

    def __init__(
        self,
        catalog: SqlCatalog,
        tables: Sequence[TableDefinition] = TABLES,
        *,
        history: TableHistory | None = None,
        seconds: float = 60.0,
    ) -> None:
        """Nothing is read before the first question.

        Args:
            catalog: the views that statements may use.
            tables: the tables there are.
            history: their snapshots; without them only the tables as they are can be asked.
            seconds: a statement is stopped after this long, the reading of its rows included.
        """
        self._catalog = catalog
        self._history = history
        self._seconds = seconds
        self._schema = {
            table.name: {field.name: name_type(field.field_type) for field in table.schema.fields} for table in tables
        }

    def query(
        self,
        text: str,
        parameters: Mapping[str, Value] = _NO_PARAMETERS,
        limit: int | None = None,
        as_of: AsOf | None = None,
    ) -> SqlResult:
        """Answer a statement in Presto dialect.

        Args:
            text: SELECT, WITH, VALUES, SHOW TABLES or DESCRIBE, with `:name` parameters.
            parameters: a value for each.
            limit: rows to return at most.
            as_of: read the tables as they were then; see `TableHistory.find_snapshots`.

        Raises:
            UsageError: the statement does not only read, is wrong, or took too much time or memory.
            TransientError: the engine or the tables did not answer.
        """
        with self.stream(text, parameters, as_of) as answer:
            rows = list(answer.rows if limit is None else islice(answer.rows, limit + 1))
        truncated = limit is not None and len(rows) > limit
        return SqlResult(answer.columns, rows[:limit] if truncated else rows, truncated)

    @contextmanager
    def stream(
        self, text: str, parameters: Mapping[str, Value] = _NO_PARAMETERS, as_of: AsOf | None = None
    ) -> Iterator[SqlStream]:
        """Answer as `query` does, with rows that are fetched as they are read; leaving the block stops the statement.

        Raises:
            UsageError: as `query`, also while rows are read.
            TransientError: likewise.
        """
        statement = parse_statement(text)
        if isinstance(statement, ShowTables):
            names = sorted({*self._schema, *self._catalog.views})
            yield SqlStream((SqlColumn("Table", "varchar"),), iter([(name,) for name in names]))
        elif isinstance(statement, DescribeTable):
            columns = tuple(SqlColumn(title, "varchar") for title in ("Column", "Type", "Extra", "Comment"))
            yield SqlStream(columns, self._describe(statement.name))
        else:
            with self._open(statement, check_free_values(parameters), as_of) as answer:
                yield answer

    def list_snapshots(self) -> list[TableSnapshot]:
        """What `as_of` may name, the newest first.

        Raises:
            UsageError: the tables keep no snapshots.
        """
        return self._get_history().list_snapshots()

    @abstractmethod
    def _open(
        self, statement: exp.Query, values: Mapping[str, Value], as_of: AsOf | None
    ) -> AbstractContextManager[SqlStream]:
        """Start a query and hold what it needs until its rows are read."""

    @abstractmethod
    def _find_columns(self, statement: exp.Query) -> Sequence[SqlColumn]:
        """Columns of a query's answer, at the cost of no row."""

    def _describe(self, name: str) -> Iterator[tuple[str, ...]]:
        if name in self._schema:
            file = self._catalog.schema.get(name)
            comments = read_comments(file) if file else {}
            return iter([(column, kind, "", comments.get(column, "")) for column, kind in self._schema[name].items()])
        if name not in self._catalog.views:
            known = {*self._schema, *self._catalog.views}
            raise UsageError(f"there is no table or view {name[:60]}{suggest(name, known)}")
        return iter([(column.name, column.type, "", "") for column in self._find_columns(exp.select("*").from_(name))])

    def _find_snapshots(self, as_of: AsOf | None, tables: Iterable[str]) -> dict[str, int | None]:
        """Per table the snapshot to read, None where it was empty; a table that is not named is read as it is."""
        return {} if as_of is None else self._get_history().find_snapshots(as_of, tables)

    def _get_history(self) -> TableHistory:
        if self._history is None:
            raise UsageError("these tables keep no snapshots: ask without a snapshot or time")
        return self._history

    def _say_stopped(self) -> str:
        return f"the statement was stopped after {self._seconds:g} s: narrow it, or allow it more time"
