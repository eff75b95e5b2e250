"""Answers of a statement: named, typed columns and rows, the same for every engine."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import singledispatch
from typing import Any


@dataclass(frozen=True, slots=True)
class SqlColumn:
    """A column of an answer: its name and its Presto type, such as `array(bigint)`."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class SqlResult:
    """An answer.

    Attributes:
        columns: in the order of the statement.
        rows: one tuple a row; times are naive UTC datetimes.
        truncated: True when a limit left rows out.
    """

    columns: tuple[SqlColumn, ...]
    rows: Sequence[tuple[Any, ...]]
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class SqlStream:
    """An answer whose rows are fetched as they are read.

    Attributes:
        columns: in the order of the statement.
        rows: one tuple a row, as in `SqlResult`; to be read once.
    """

    columns: tuple[SqlColumn, ...]
    rows: Iterator[tuple[Any, ...]]


def row_to_json(columns: Sequence[SqlColumn], row: Sequence[object]) -> dict[str, object]:
    """A row as a JSON object, column name -> value.

    Times are UTC text with milliseconds and `Z`, dates ISO text; NaN and infinities, which JSON lacks, are null.
    A second column of the same name gets `_2` behind it, and so on, so that nothing is lost.
    """
    values: dict[str, object] = {}
    for column, value in zip(columns, row, strict=True):
        name, count = column.name, 2
        while name in values:
            name, count = f"{column.name}_{count}", count + 1
        values[name] = to_json(value)
    return values


@singledispatch
def to_json(value: object) -> object:
    """One value as JSON knows it; lists, structs and maps by their parts; bytes are base64."""
    return None if value is None else str(value)


@to_json.register(bool)
@to_json.register(int)
@to_json.register(str)
def _keep(value: object) -> object:
    return value


@to_json.register(float)
@to_json.register(Decimal)
def _to_number(value: float | Decimal) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


@to_json.register
def _to_time(value: datetime) -> str:
    moment = value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="milliseconds") + "Z"


@to_json.register
def _to_day(value: date) -> str:
    return value.isoformat()


@to_json.register
def _to_base64(value: bytes) -> str:
    return b64encode(value).decode("ascii")


@to_json.register(list)
@to_json.register(tuple)
def _to_list(value: Sequence[object]) -> list[object]:
    return [to_json(part) for part in value]


@to_json.register(dict)
def _to_object(value: Mapping[object, object]) -> dict[str, object]:
    return {str(to_json(key)): to_json(part) for key, part in value.items()}
