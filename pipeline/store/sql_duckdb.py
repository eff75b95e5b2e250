"""Presto SQL on the embedded tables: sqlglot translates, DuckDB answers over Arrow scans of Iceberg."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Timer
from time import monotonic
from types import MappingProxyType
from typing import Any, Protocol

import duckdb
import pyarrow as pa
from sqlglot import exp

from pipeline.errors import StoreError, UsageError
from pipeline.store.schema import TABLES, TableDefinition
from pipeline.store.sql_catalog import SqlCatalog, read_comments
from pipeline.store.sql_functions import MACROS
from pipeline.store.sql_parameters import Value, check_free_values, type_placeholders
from pipeline.store.sql_rows import SqlColumn, SqlResult
from pipeline.store.sql_statement import (
    TOO_DEEP,
    DescribeTable,
    ShowTables,
    parse_statement,
    suggest,
)
from pipeline.store.sql_translate import Translated, suggest_column, translate
from pipeline.store.sql_types import name_duckdb_type, name_type

_NO_PARAMETERS: Mapping[str, Value] = MappingProxyType({})
_UNNAMED = re.compile(r"_col_\d+")
_MISSING_COLUMN = re.compile(r"(?:Referenced column|a column named) \"(\w+)\"")


class Scan(Protocol):
    """Reads a table: all its columns or some, now or as it was."""

    def __call__(self, table: str, columns: tuple[str, ...] | None, as_of: int | None) -> pa.Table:
        """Rows of a table with these columns."""
        ...


class DuckDbSql:
    """Answers one reading statement at a time, each on a fresh engine that can reach nothing but the rows scanned."""

    def __init__(
        self,
        scan: Scan,
        catalog: SqlCatalog,
        tables: Sequence[TableDefinition] = TABLES,
        *,
        seconds: float = 60.0,
        memory_mb: int = 1024,
        threads: int = 2,
    ) -> None:
        """Nothing is read before the first question.

        Args:
            scan: reads the tables.
            catalog: the views that statements may use.
            tables: the tables there are.
            seconds: a statement is stopped after this long; a scan under way is finished first.
            memory_mb: what the engine may use beside the scanned rows, in MiB.
            threads: of the engine.
        """
        self._scan = scan
        self._catalog = catalog
        self._schema = {
            table.name: {field.name: name_type(field.field_type) for field in table.schema.fields} for table in tables
        }
        self._seconds = seconds
        self._memory_mb = memory_mb
        self._threads = threads

    def query(
        self,
        text: str,
        parameters: Mapping[str, Value] = _NO_PARAMETERS,
        limit: int | None = None,
        as_of: int | None = None,
    ) -> SqlResult:
        """Answer a statement in Presto dialect.

        Args:
            text: SELECT, WITH, VALUES, SHOW TABLES or DESCRIBE, with `:name` parameters.
            parameters: a value for each.
            limit: rows to return at most.
            as_of: handed to the scan of every table unchanged.

        Raises:
            UsageError: the statement does not only read, is wrong, or took too much time or memory.
        """
        statement = parse_statement(text)
        if isinstance(statement, ShowTables):
            names = sorted({*self._schema, *self._catalog.views})
            return _cut((SqlColumn("Table", "varchar"),), [(name,) for name in names], limit)
        if isinstance(statement, DescribeTable):
            return self._describe(statement.name, limit)
        return self._answer(statement, parameters, limit, as_of)

    def _answer(
        self, statement: exp.Query, parameters: Mapping[str, Value], limit: int | None, as_of: int | None
    ) -> SqlResult:
        values = check_free_values(parameters)
        typed = type_placeholders(statement, values)
        translated = translate(self._catalog.expand(typed, self._schema), self._schema)
        end = monotonic() + self._seconds
        tables = {
            name: _to_milliseconds(self._scan(name, columns, as_of)) for name, columns in translated.columns.items()
        }
        with self._open(tables) as connection, self._explain_errors(translated):
            bound = {name: value for name, value in values.items() if value is not None}
            return _run(connection, translated.text, bound, limit, end - monotonic())

    def _describe(self, name: str, limit: int | None) -> SqlResult:
        columns = tuple(SqlColumn(title, "varchar") for title in ("Column", "Type", "Extra", "Comment"))
        if name in self._schema:
            file = self._catalog.schema.get(name)
            comments = read_comments(file) if file else {}
            rows = [(column, kind, "", comments.get(column, "")) for column, kind in self._schema[name].items()]
            return _cut(columns, rows, limit)
        if name not in self._catalog.views:
            raise UsageError(
                f"there is no table or view {name[:60]}{suggest(name, {*self._schema, *self._catalog.views})}"
            )
        translated = translate(self._catalog.expand(exp.select("*").from_(name), self._schema), self._schema)
        empty = {table: self._empty(table, used) for table, used in translated.columns.items()}
        with self._open(empty) as connection:
            answer = _run(connection, translated.text, {}, 0, self._seconds)
        return _cut(columns, [(column.name, column.type, "", "") for column in answer.columns], limit)

    def _empty(self, table: str, columns: tuple[str, ...]) -> pa.Table:
        return _to_milliseconds(self._scan(table, columns, None).slice(0, 0))

    @contextmanager
    def _open(self, tables: Mapping[str, pa.Table]) -> Iterator[duckdb.DuckDBPyConnection]:
        connection = duckdb.connect(
            ":memory:",
            config={
                "enable_external_access": "false",
                "autoload_known_extensions": "false",
                "autoinstall_known_extensions": "false",
                "allow_community_extensions": "false",
                "python_enable_replacements": "false",
                "memory_limit": f"{self._memory_mb}MiB",
                "threads": str(self._threads),
                "temp_directory": "",
            },
        )
        try:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET error_on_division_by_zero = true")
            connection.execute("SET default_null_order = 'nulls_last'")
            for macro in MACROS:
                connection.execute(macro)
            for name, rows in tables.items():
                connection.register(name, rows)
            # Last, because nothing can be set after it.
            connection.execute("SET lock_configuration = true")
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _explain_errors(self, translated: Translated) -> Iterator[None]:
        try:
            yield
        except duckdb.InterruptException:
            raise UsageError(
                f"the statement was stopped after {self._seconds:g} s: narrow it, or allow it more time"
            ) from None
        except duckdb.OutOfMemoryException:
            raise UsageError(
                f"the statement needs more than {self._memory_mb} MiB: narrow it, or allow it more memory"
            ) from None
        except (duckdb.InternalException, duckdb.FatalException) as error:
            raise StoreError(f"the SQL engine failed: {_first_line(error)}") from error
        except duckdb.Error as error:
            raise UsageError(self._say(error, translated)) from None

    def _say(self, error: duckdb.Error, translated: Translated) -> str:
        line = _first_line(error)
        if line.startswith("Division by zero"):
            return "division by zero: write nullif(divisor, 0) to get null instead"
        if line.startswith("Max expression depth"):
            return TOO_DEEP
        found = _MISSING_COLUMN.search(line)
        if isinstance(error, duckdb.BinderException) and found:
            used = {table: self._schema[table] for table in translated.columns}
            return f"there is no column {found.group(1)}{suggest_column(found.group(1), used)}"
        return line


def _run(
    connection: duckdb.DuckDBPyConnection,
    text: str,
    parameters: Mapping[str, Value],
    limit: int | None,
    seconds: float,
) -> SqlResult:
    timer = Timer(max(seconds, 0.0), connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        cursor = connection.execute(text, dict(parameters))
        described = enumerate(cursor.description or ())
        columns = tuple(SqlColumn(_name_column(i, name), name_duckdb_type(kind)) for i, (name, kind, *_) in described)
        rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit + 1)
    finally:
        timer.cancel()
    return _cut(columns, rows, limit)


def _name_column(place: int, name: str) -> str:
    return f"_col{place}" if _UNNAMED.fullmatch(name) else name


def _cut(columns: tuple[SqlColumn, ...], rows: Sequence[tuple[Any, ...]], limit: int | None) -> SqlResult:
    if limit is None or len(rows) <= limit:
        return SqlResult(columns, rows)
    return SqlResult(columns, rows[:limit], truncated=True)


def _to_milliseconds(rows: pa.Table) -> pa.Table:
    """Drop what lies below a millisecond, which Presto never shows and so never compares."""
    for index, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            coarse = rows.column(index).cast(pa.timestamp("ms"), safe=False).cast(pa.timestamp("us"))
            rows = rows.set_column(index, field.name, coarse)
    return rows


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return re.sub(r"^\w[\w ]* Error: ", "", text)[:300]
