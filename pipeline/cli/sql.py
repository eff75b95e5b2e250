"""`sql`: ask of tables and views, now or as they were, row by row."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pipeline.cli.app import COMMON, Common
from pipeline.cli.output import print_json, print_lines, print_table, remark
from pipeline.cli.ranges import FromZero
from pipeline.errors import UsageError
from pipeline.parts import load_queries, open_sql
from pipeline.settings import load_settings
from pipeline.wiring import find_home

if TYPE_CHECKING:
    from pipeline.store.sql_rows import SqlStream

_OPTION = re.compile(r"--?\w[\w-]*(?:=.*)?")


def sql(
    statement: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    *,
    query: str | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = (),
    as_of: str | None = None,
    limit: FromZero | None = None,
    list_: Annotated[bool, Parameter(name="--list", negative="")] = False,
    snapshots: Annotated[bool, Parameter(negative="")] = False,
    common: Common = COMMON,
) -> int:
    """Ask a question in Presto's SQL; tables and views as `oddframe sql "show tables"` lists them.

    With --json every row is printed as it comes. An interrupt, or a reader that goes away, stops the statement.

    Parameters
    ----------
    statement
        One SELECT; `-` reads it from standard input.
    query
        Run a named query of `sql/queries` instead.
    set_
        A parameter of the query, as name=value; may be repeated.
    as_of
        See the tables as they were: a snapshot, or a time in UTC such as 2024-01-31T20:15:00.
    limit
        At most this many rows.
    list_
        List the named queries with their parameters.
    snapshots
        List the snapshots that --as-of may name, the newest first.
    """
    # A statement may begin with a comment, so what is no option arrives here.
    if statement is not None and _OPTION.fullmatch(statement):
        raise UsageError(f"there is no option {statement[:60]}; see `oddframe sql --help`")
    if [statement is not None, query is not None, list_, snapshots].count(True) != 1:
        raise UsageError("give one statement, or --query NAME (`oddframe sql --list` shows them)")
    if (list_ or snapshots) and (set_ or as_of is not None):
        raise UsageError("--set and --as-of go with a statement or --query")
    if list_:
        return _list_queries(common)
    if snapshots:
        return _list_snapshots(limit, common)
    with _open_answer(statement, query, _read_assignments(set_), as_of, home=common.home) as answer:
        if _print_rows(answer, limit, common):
            remark(f"only the first {limit} rows are shown")
    return 0


def _open_answer(
    statement: str | None, query: str | None, given: dict[str, str], as_of: str | None, *, home: Path | None
) -> AbstractContextManager[SqlStream]:
    from pipeline.store.sql_history import read_as_of  # noqa: PLC0415 - the catalogue's libraries load slowly

    moment = None if as_of is None else read_as_of(as_of)
    engine, catalog = open_sql(find_home(load_settings(home)))
    if query is not None:
        text, parameters = catalog.bind(query, given)
    else:
        text, parameters = _read_input() if statement == "-" else str(statement), dict(given)
    return engine.stream(text, parameters, moment)


def _print_rows(answer: SqlStream, limit: int | None, common: Common) -> bool:
    """Print at most `limit` rows; whether there are more."""
    from pipeline.store.sql_rows import row_to_json  # noqa: PLC0415 - only this command reads SQL rows

    rows: Iterator[dict[str, object]] = (row_to_json(answer.columns, row) for row in answer.rows)
    shown = rows if limit is None else islice(rows, limit)
    if common.json:
        for row in shown:
            print_json(row)
    else:
        kept = list(shown)
        print_table(kept, list(kept[0]) if kept else [column.name for column in answer.columns])
    return limit is not None and next(rows, None) is not None


def _list_queries(common: Common) -> int:
    lines = [
        {"query": name, "title": file.title, "parameters": ", ".join(p.name for p in file.parameters)}
        for name, file in sorted(load_queries().queries.items())
    ]
    print_lines(lines, as_json=common.json, columns=("query", "title", "parameters"))
    return 0


def _list_snapshots(limit: int | None, common: Common) -> int:
    from pipeline.store.sql_rows import to_json  # noqa: PLC0415 - as for the rows

    engine, _ = open_sql(find_home(load_settings(common.home)))
    found = engine.list_snapshots()
    lines = [
        {
            "table": one.table,
            # As text: many readers of JSON keep 53 bits of a number.
            "snapshot": str(one.snapshot_id),
            "at": to_json(one.at),
            "operation": one.operation,
            "rows": one.rows,
        }
        for one in found[:limit]
    ]
    print_lines(lines, as_json=common.json, columns=("table", "snapshot", "at", "operation", "rows"))
    if len(found) > len(lines):
        remark(f"only the first {limit} snapshots are shown")
    return 0


def _read_input() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        raise UsageError("the statement on standard input is not UTF-8") from None


def _read_assignments(texts: tuple[str, ...]) -> dict[str, str]:
    given: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise UsageError(f"--set {text!r}: write it as name=value")
        given[name.strip()] = value
    return given
