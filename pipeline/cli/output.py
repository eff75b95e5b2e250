"""What a person or a program sees: JSON lines or tables on stdout, progress and remarks on stderr."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

_SECONDS_BETWEEN_LINES = 10.0
_FILE_WIDTH = 180


class Advance(Protocol):
    """Told of each thing done."""

    def __call__(self, name: str) -> None:
        """One more is done: this one."""


def print_json(line: Mapping[str, Any]) -> None:
    """One JSON document on one line of stdout; times are ISO 8601 UTC, what is not a number is null."""
    sys.stdout.write(json.dumps(_plain(line), ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_lines(
    lines: Iterable[Mapping[str, Any]], *, as_json: bool, columns: Sequence[str], title: str = ""
) -> list[Mapping[str, Any]]:
    """Print lines as JSON as they come, or as one table at the end; returns them."""
    if as_json:
        kept = []
        for line in lines:
            print_json(line)
            kept.append(line)
        return kept
    rows = list(lines)
    print_table(rows, columns, title)
    return rows


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], title: str = "") -> None:
    """A table on stdout; text from frames is shown as text, never as markup."""
    table = Table(title=Text(title) if title else None, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(show(row.get(column))) for column in columns))
    console = Console()
    # A file or a pipe has no width of its own.
    Console(width=None if console.is_terminal else _FILE_WIDTH).print(table)


def show(value: Any) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, list):
        return ", ".join(show(v.get("name", v)) if isinstance(v, Mapping) else show(v) for v in value)
    # Names and headers come from anywhere: what would steer a terminal is shown, not sent.
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value))


def print_answer(key: str, text: str) -> None:
    """A labelled line on stdout; header text is data, so nothing in it is markup."""
    sys.stdout.write(f"{key:>22}  {text}\n")


def remark(text: str) -> None:
    """A line for people, on stderr."""
    Console(stderr=True, highlight=False).print(Text(text))


@contextmanager
def show_progress(title: str, total: int | None) -> Iterator[Advance]:
    """A bar on a terminal, else a plain line every ten seconds; both on stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _LinePrinter(title, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total)

        def advance(name: str) -> None:
            del name
            progress.advance(task)

        yield advance


class _LinePrinter:
    def __init__(self, title: str, total: int | None) -> None:
        self._title, self._total, self._done, self._last = title, total, 0, time.monotonic()

    def __call__(self, name: str) -> None:
        """Count, and say so now and then."""
        self._done += 1
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            of = f" of {self._total}" if self._total is not None else ""
            sys.stderr.write(f"{self._title}: {self._done}{of}, now {name}\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat() + "Z"
    if isinstance(value, date):
        return value.isoformat()
    return value
