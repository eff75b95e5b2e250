"""Presto SQL on the embedded tables: sqlglot translates, DuckDB answers over Arrow scans of Iceberg."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from time import monotonic
from typing import Any, Protocol, TypeVar

import duckdb
import pyarrow as pa
from sqlglot import exp

from pipeline.errors import StoreError, UsageError
from pipeline.store.schema import TABLES, TableDefinition
from pipeline.store.sql_catalog import SqlCatalog
from pipeline.store.sql_engine import DIVISION_BY_ZERO, SqlEngine
from pipeline.store.sql_history import AsOf, TableHistory
from pipeline.store.sql_macros import FAILURE, MACROS
from pipeline.store.sql_parameters import Value, type_placeholders
from pipeline.store.sql_rows import SqlColumn, SqlStream
from pipeline.store.sql_statement import TOO_DEEP
from pipeline.store.sql_translate import Translated, suggest_column, translate
from pipeline.store.sql_types import name_duckdb_type

Answer = TypeVar("Answer")

_ROWS_AT_ONCE = 1000
_SECONDS_TO_STOP = 0.05
_UNNAMED = re.compile(r"_col_\d+")
_FAILED = re.compile(rf"'{FAILURE}(.*?)'")
_MISSING_COLUMN = re.compile(r"(?:Referenced column|a column named) \"(\w+)\"")


class Scan(Protocol):
    """Reads a table: all its columns or some, now or as it was."""

    def __call__(self, table: str, columns: tuple[str, ...] | None, as_of: int | None) -> pa.Table:
        """Rows of a table with these columns."""
        ...


class DuckDbSql(SqlEngine):
    """Answers each statement on a fresh engine that can reach nothing but the rows scanned."""

    def __init__(
        self,
        scan: Scan,
        catalog: SqlCatalog,
        tables: Sequence[TableDefinition] = TABLES,
        *,
        history: TableHistory | None = None,
        seconds: float = 60.0,
        memory_mb: int = 1024,
        threads: int = 2,
    ) -> None:
        """Nothing is read before the first question.

        Args:
            scan: reads the tables; a scan under way is finished before a statement is stopped.
            catalog: as for `SqlEngine`, like `tables`, `history` and `seconds`.
            tables: see there.
            history: see there.
            seconds: see there.
            memory_mb: what the engine may use beside the scanned rows, in MiB.
            threads: of the engine.
        """
        super().__init__(catalog, tables, history=history, seconds=seconds)
        self._scan = scan
        self._memory_mb = memory_mb
        self._threads = threads

    @contextmanager
    def _open(self, statement: exp.Query, values: Mapping[str, Value], as_of: AsOf | None) -> Iterator[SqlStream]:
        typed = type_placeholders(statement, values)
        translated = translate(self._catalog.expand(typed, self._schema), self._schema)
        end = monotonic() + self._seconds
        snapshots = self._find_snapshots(as_of, translated.columns)
        tables = {name: self._read(name, columns, snapshots) for name, columns in translated.columns.items()}
        bound = {name: value for name, value in values.items() if value is not None}
        with (
            self._explain_errors(translated),
            self._connect(tables) as connection,
            ThreadPoolExecutor(1) as beside,
        ):
            run = _Runner(connection, beside, end, self._say_stopped())
            run.call(lambda: connection.execute(translated.text, bound))
            yield SqlStream(_read_columns(connection), _read_rows(connection, run))

    def _find_columns(self, statement: exp.Query) -> Sequence[SqlColumn]:
        translated = translate(self._catalog.expand(statement, self._schema), self._schema)
        nothing: dict[str, int | None] = dict.fromkeys(translated.columns)
        empty = {table: self._read(table, used, nothing) for table, used in translated.columns.items()}
        with self._connect(empty) as connection:
            return _read_columns(connection.execute(translated.text))

    def _read(self, table: str, columns: tuple[str, ...], snapshots: Mapping[str, int | None]) -> pa.Table:
        rows = self._scan(table, columns, snapshots.get(table))
        was_empty = table in snapshots and snapshots[table] is None
        return _to_milliseconds(rows.slice(0, 0) if was_empty else rows)

    @contextmanager
    def _connect(self, tables: Mapping[str, pa.Table]) -> Iterator[duckdb.DuckDBPyConnection]:
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
            return DIVISION_BY_ZERO
        if failed := _FAILED.search(line):
            return failed.group(1)
        if line.startswith("Max expression depth"):
            return TOO_DEEP
        found = _MISSING_COLUMN.search(line)
        if isinstance(error, duckdb.BinderException) and found:
            used = {table: self._schema[table] for table in translated.columns}
            return f"there is no column {found.group(1)}{suggest_column(found.group(1), used)}"
        return line


class _Runner:
    """Makes the calls of one connection on a thread beside: inside a call the engine hears neither signal nor clock."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, beside: ThreadPoolExecutor, end: float, stopped: str
    ) -> None:
        """Nothing runs yet; `end` is on the monotonic clock, `stopped` is said of a call that is not done by then."""
        self._connection = connection
        self._beside = beside
        self._end = end
        self._stopped = stopped

    def call(self, ask: Callable[[], Answer]) -> Answer:
        """The answer of a call; whatever comes before it, an interrupt by the user too, stops the statement.

        Raises:
            UsageError: the time is over.
        """
        task = self._beside.submit(ask)
        try:
            return task.result(max(self._end - monotonic(), 0.0))
        except TimeoutError:
            raise UsageError(self._stopped) from None
        finally:
            # Again and again: a statement that is only just starting does not notice the first time.
            while not task.done():
                self._connection.interrupt()
                wait([task], _SECONDS_TO_STOP)


def _read_columns(cursor: duckdb.DuckDBPyConnection) -> tuple[SqlColumn, ...]:
    described = enumerate(cursor.description or ())
    return tuple(SqlColumn(_name_column(i, name), name_duckdb_type(kind)) for i, (name, kind, *_) in described)


def _read_rows(cursor: duckdb.DuckDBPyConnection, run: _Runner) -> Iterator[tuple[Any, ...]]:
    while rows := run.call(lambda: cursor.fetchmany(_ROWS_AT_ONCE)):
        yield from rows


def _name_column(place: int, name: str) -> str:
    return f"_col{place}" if _UNNAMED.fullmatch(name) else name


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
