"""`sql`, `verify`, `archive` and `doctor`: ask, prove, tidy, examine."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.app import COMMON, EXIT_DIFFERENCE, Common
from pipeline.cli.output import print_answer, print_json, print_lines, print_table, remark, show, show_progress
from pipeline.cli.ranges import Days, FromZero
from pipeline.errors import UsageError
from pipeline.parts import load_queries, open_sql
from pipeline.run.doctor import examine
from pipeline.settings import load_settings
from pipeline.wiring import archive_home, find_home, list_probes, open_lake


def sql(
    statement: str | None = None,
    *,
    query: str | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = (),
    limit: FromZero | None = None,
    list_: Annotated[bool, Parameter(name="--list", negative="")] = False,
    common: Common = COMMON,
) -> int:
    """Ask a question in Presto's SQL; tables and views as `oddframe sql "show tables"` lists them.

    Parameters
    ----------
    statement
        One SELECT; `-` reads it from standard input.
    query
        Run a named query of `sql/queries` instead.
    set_
        A parameter of the query, as name=value; may be repeated.
    limit
        At most this many rows.
    list_
        List the named queries with their parameters.
    """
    from pipeline.store.sql_rows import row_to_json  # noqa: PLC0415 - only this command reads SQL rows

    if list_:
        return _list_queries(common)
    if (statement is None) == (query is None):
        raise UsageError("give one statement, or --query NAME (`oddframe sql --list` shows them)")
    given = _read_assignments(set_)
    engine, catalog = open_sql(find_home(load_settings(common.home)))
    if query is not None:
        text, parameters = catalog.bind(query, given)
    else:
        text, parameters = sys.stdin.read() if statement == "-" else str(statement), dict(given)
    result = engine.query(text, parameters, limit=limit)
    rows = [row_to_json(result.columns, row) for row in result.rows]
    if common.json:
        for row in rows:
            print_json(row)
    else:
        print_table(rows, list(rows[0]) if rows else [c.name for c in result.columns])
    if result.truncated:
        remark(f"only the first {limit} rows are shown")
    return 0


def verify(*, repair: Annotated[bool, Parameter(negative="")] = False, common: Common = COMMON) -> int:
    """Prove that source, tables, vectors and originals agree; exit code 1 if they do not.

    Parameters
    ----------
    repair
        Mend what can be mended, then verify again.
    """
    from pipeline.run.repair import repair_lake  # noqa: PLC0415 - repairing loads the decoder
    from pipeline.run.verify import count_wrong, verify_lake  # noqa: PLC0415

    with open_lake(find_home(load_settings(common.home))) as lake:
        checks = verify_lake(lake)
        if repair and count_wrong(checks):
            checks = repair_lake(lake, checks)
    lines = [check.to_json() for check in checks]
    print_lines(lines, as_json=common.json, columns=("check", "ok", "expected", "found", "examples", "repair"))
    wrong = count_wrong(checks)
    if wrong and not common.json:
        advice = "" if repair else "; `oddframe verify --repair` mends what can be mended"
        remark(f"{wrong} of {len(checks)} checks found differences{advice}")
    return EXIT_DIFFERENCE if wrong else 0


def archive(
    *,
    older_than_days: Days | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    common: Common = COMMON,
) -> int:
    """Move old originals to the archive, merge small table files, forget old snapshots, remove orphaned files.

    Every copy is proved by its checksum before anything is deleted; exit code 1 if one is not sound: it is named and
    left where it is. Stop it whenever you like and run it again.

    Parameters
    ----------
    older_than_days
        Move originals ingested before this many days ago; by default as set.
    dry_run
        Say what would be done and change nothing.
    """
    settings = find_home(load_settings(common.home))
    if older_than_days is not None:
        chosen = settings.archive.model_copy(update={"after_days": older_than_days})
        settings = settings.model_copy(update={"archive": chosen})
    with show_progress("archive", None) as advance:
        steps = archive_home(settings, dry_run=dry_run, on_progress=lambda step, _done, _total: advance(step))
    lines = [step.to_json() for step in steps]
    code = EXIT_DIFFERENCE if any(line.get("problems") for line in lines) else 0
    if common.json:
        for line in lines:
            print_json(line)
        return code
    for line in lines:
        words = ", ".join(
            f"{key} {show(value)}" for key, value in line.items() if key != "step" and value not in ([], "")
        )
        print_answer(str(line["step"]), words)
    return code


def doctor(*, common: Common = COMMON) -> int:
    """Look at the machine and every store, and say what to do about what is wrong; exit code 1 if anything is."""
    settings = load_settings(common.home)
    findings = examine(settings.home, list_probes(settings))
    lines = [finding.to_json() for finding in findings]
    print_lines(lines, as_json=common.json, columns=("check", "ok", "detail", "advice"))
    return 0 if all(finding.ok for finding in findings) else EXIT_DIFFERENCE


def _list_queries(common: Common) -> int:
    lines = [
        {"query": name, "title": file.title, "parameters": ", ".join(p.name for p in file.parameters)}
        for name, file in sorted(load_queries().queries.items())
    ]
    print_lines(lines, as_json=common.json, columns=("query", "title", "parameters"))
    return 0


def _read_assignments(texts: tuple[str, ...]) -> dict[str, str]:
    given: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise UsageError(f"--set {text!r}: write it as name=value")
        given[name.strip()] = value
    return given
