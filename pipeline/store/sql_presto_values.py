"""Presto's answers, which arrive as JSON, as the Python values and type names that every engine gives."""

from __future__ import annotations

import struct
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from pipeline.errors import StoreError
from pipeline.store.sql_rows import SqlColumn

_Decode = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class PrestoType:
    """A type of an answer.

    Attributes:
        name: as every engine writes it, such as `array(bigint)`: texts have no length.
        decode: the Python value of a JSON value that is not null.
    """

    name: str
    decode: _Decode

    def read(self, value: Any) -> Any:
        """The Python value of a JSON value."""
        return None if value is None else self.decode(value)


def read_columns(described: Sequence[Mapping[str, Any]]) -> tuple[tuple[SqlColumn, ...], tuple[PrestoType, ...]]:
    """Columns of an answer and how to read the values of each, from what the server says of them."""
    types = tuple(read_type(column["typeSignature"]) for column in described)
    # Presto keeps the case a statement happens to use; names do not depend on it.
    names = [str(column["name"]).lower() for column in described]
    return tuple(SqlColumn(name, kind.name) for name, kind in zip(names, types, strict=True)), types


def read_rows(types: Sequence[PrestoType], rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Rows of Python values.

    Raises:
        StoreError: a value is none of its type that Python knows, such as a date after the year 9999.
    """
    try:
        return [tuple(kind.read(value) for kind, value in zip(types, row, strict=True)) for row in rows]
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise StoreError(f"Presto answered with a value that cannot be read: {str(error)[:200]}") from error


def read_type(signature: Mapping[str, Any]) -> PrestoType:
    """A type from its signature in the protocol."""
    raw = str(signature["rawType"])
    parts = [read_type(part) for part in signature.get("typeArguments", ())]
    arguments = [argument.get("value") for argument in signature.get("arguments", ())]
    match raw:
        case "array":
            return PrestoType(f"array({parts[0].name})", lambda values: [parts[0].read(value) for value in values])
        case "map":
            return _map_of(*parts)
        case "row":
            return _row_of([(argument.get("fieldName") or {}).get("name") for argument in arguments], parts)
        case "decimal":
            return PrestoType(f"decimal({arguments[0]},{arguments[1]})", Decimal)
    return PrestoType(raw, _DECODERS.get(raw, _keep))


def _map_of(key: PrestoType, value: PrestoType) -> PrestoType:
    read_key = _KEYS.get(key.name, key.read)
    return PrestoType(
        f"map({key.name}, {value.name})",
        lambda pairs: {read_key(name): value.read(part) for name, part in pairs.items()},
    )


def _row_of(given: Sequence[str | None], parts: Sequence[PrestoType]) -> PrestoType:
    # Named by place where the statement names nothing, as DuckDB does.
    names = [name or f"_{place}" for place, name in enumerate(given)]
    shown = ", ".join(f"{name} {part.name}" for name, part in zip(names, parts, strict=True))
    return PrestoType(
        f"row({shown})",
        lambda values: {name: part.read(value) for name, part, value in zip(names, parts, values, strict=True)},
    )


def _keep(value: Any) -> Any:
    return value


def _to_real(value: Any) -> float:
    # DuckDB hands the nearest 32-bit number on; Presto writes its shortest text.
    (number,) = struct.unpack("<f", struct.pack("<f", float(value)))
    return float(number)


def _to_zoned(text: str) -> datetime:
    moment, _, zone = text.rpartition(" ")
    if zone[:1] in "+-":
        return datetime.fromisoformat(moment + zone).astimezone(UTC)
    return datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def _to_timedelta(text: str) -> timedelta:
    days, _, clock = text.removeprefix("-").partition(" ")
    hours, minutes, seconds = clock.split(":")
    length = timedelta(days=int(days), hours=int(hours), minutes=int(minutes), seconds=float(seconds))
    return -length if text.startswith("-") else length


_DECODERS: Mapping[str, _Decode] = {
    "double": float,  # NaN and infinities come as text
    "real": _to_real,
    "date": date.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "timestamp with time zone": _to_zoned,
    "time": time.fromisoformat,
    "interval day to second": _to_timedelta,
    "varbinary": b64decode,
    "uuid": UUID,
}
# Keys of a JSON object are text, whatever the map's are.
_KEYS: Mapping[str, _Decode] = {
    "boolean": lambda text: text == "true",
    **dict.fromkeys(("tinyint", "smallint", "integer", "bigint"), int),
}
