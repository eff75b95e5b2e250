"""Parameters of statements: declared with a type, checked by it, and put into the tree as typed nodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import TypeVar

from sqlglot import exp

from pipeline.errors import UsageError
from pipeline.store.sql_statement import suggest

Value = str | int | float | bool | date | datetime | None
Tree = TypeVar("Tree", bound=exp.Expr)

_MAX_TEXT = 65_536
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class SqlParameter:
    """A declared parameter.

    Attributes:
        name: what stands after the colon.
        type: date, timestamp, double, bigint, varchar or boolean.
        required: False when a default is declared.
        default: the typed default; None stands for null.
    """

    name: str
    type: str
    required: bool
    default: Value = None


def coerce(type_name: str, value: object) -> Value:
    """Turn a value, or its text, into the Python value of a parameter type.

    Args:
        type_name: date, timestamp, double, bigint, varchar or boolean.
        value: a value of that type or text that spells one; None stays None.

    Returns:
        date, naive UTC datetime, float, int, str, bool or None.

    Raises:
        UsageError: the value is not of the type.
    """
    if value is None:
        return None
    try:
        return COERCIONS[type_name](value)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{str(value)[:40]!r} is not a {type_name}: {_EXAMPLES[type_name]}") from None


def check_values(declared: tuple[SqlParameter, ...], given: Mapping[str, object]) -> dict[str, Value]:
    """The typed value of every declared parameter, defaults filled in.

    Raises:
        UsageError: one is missing, unknown or not of its type.
    """
    names = [parameter.name for parameter in declared]
    for name in given:
        if name not in names:
            raise UsageError(f"there is no parameter {name}{suggest(name, names)}")
    values: dict[str, Value] = {}
    for parameter in declared:
        if parameter.required and parameter.name not in given:
            raise UsageError(f"parameter {parameter.name} ({parameter.type}) needs a value")
        try:
            values[parameter.name] = coerce(parameter.type, given.get(parameter.name, parameter.default))
        except UsageError as error:
            raise UsageError(f"parameter {parameter.name}: {error}") from None
    return values


def names_in(tree: exp.Expr) -> frozenset[str]:
    """Names of the `:name` parameters of a tree."""
    return frozenset(node.name for node in tree.find_all(exp.Placeholder))


def check_free_values(given: Mapping[str, object]) -> dict[str, Value]:
    """The values of a statement that declares no types: each by its Python type, times cut to milliseconds.

    Raises:
        UsageError: one is of a type that no engine binds, or out of its range.
    """
    return {name: _check_value(name, value) for name, value in given.items()}


def type_placeholders(tree: Tree, values: Mapping[str, Value]) -> Tree:
    """A copy whose placeholders carry the type of their value, for an engine that binds them itself."""
    return _replace(tree, values, lambda node, value: exp.cast(node.copy(), _engine_type(value)))


def with_literals(tree: Tree, values: Mapping[str, Value]) -> Tree:
    """A copy whose placeholders are typed literal nodes, for an engine that binds nothing (or only in a header).

    The text of a value never meets the text of the statement: the generator quotes it from the tree.
    """
    return _replace(tree, values, lambda _, value: _literal(value))


def _replace(tree: Tree, values: Mapping[str, Value], make: Callable[[exp.Expr, Value], exp.Expr]) -> Tree:
    names = names_in(tree)
    for name in sorted(names - values.keys()):
        raise UsageError(f"parameter :{name} has no value{suggest(name, values)}")
    for name in sorted(values.keys() - names):
        raise UsageError(f"the statement has no parameter :{name}{suggest(name, names)}")
    bound, checked = tree.copy(), check_free_values(values)
    for node in list(bound.find_all(exp.Placeholder)):
        value = checked[node.name]
        node.replace(exp.null() if value is None else make(node, value))
    return bound


def _check_value(name: str, value: object) -> Value:
    for kind, type_name in _TYPES:
        if isinstance(value, kind):
            return coerce(type_name, value)
    if value is None:
        return None
    raise UsageError(f"parameter :{name} cannot be a {type(value).__name__}: give text, a number, a time or a boolean")


def _engine_type(value: Value) -> str:
    return next(type_name for kind, type_name in _TYPES if isinstance(value, kind)).upper()


def _literal(value: Value) -> exp.Expr:
    match value:
        case bool():
            return exp.Boolean(this=value)
        case str():
            return exp.Literal.string(value)
        case datetime():
            return exp.cast(exp.Literal.string(value.isoformat(" ", "milliseconds")), "TIMESTAMP")
        case date():
            return exp.cast(exp.Literal.string(value.isoformat()), "DATE")
        case _:
            return exp.cast(exp.Literal.string(repr(value)), _engine_type(value))


def _to_date(value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str):
        return date.fromisoformat(value.strip())
    raise TypeError


def _to_timestamp(value: object) -> datetime:
    moment = value
    if isinstance(value, str):
        moment = datetime.fromisoformat(value.strip())
    elif isinstance(value, date) and not isinstance(value, datetime):
        moment = datetime.combine(value, time.min)
    if not isinstance(moment, datetime):
        raise TypeError
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    # Presto keeps milliseconds: a finer bound would compare differently on the two engines.
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _to_double(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _to_bigint(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TypeError
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError
    return number


def _to_varchar(value: object) -> str:
    if not isinstance(value, str) or "\x00" in value or len(value) > _MAX_TEXT:
        raise ValueError
    value.encode()
    return value


def _to_boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    found = _BOOLEANS.get(value.strip().lower()) if isinstance(value, str) else None
    if found is None:
        raise ValueError
    return found


COERCIONS: Mapping[str, Callable[[object], Value]] = {
    "date": _to_date,
    "timestamp": _to_timestamp,
    "double": _to_double,
    "bigint": _to_bigint,
    "varchar": _to_varchar,
    "boolean": _to_boolean,
}
_EXAMPLES = {
    "date": "write 2024-01-31",
    "timestamp": "write 2024-01-31T20:15:00",
    "double": "write a finite number such as 0.05",
    "bigint": "write a whole number",
    "varchar": f"give text without NUL, at most {_MAX_TEXT} characters",
    "boolean": "write true or false",
}
# bool is an int and datetime is a date, so the narrower stands first.
_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (int, "bigint"),
    (float, "double"),
    (datetime, "timestamp"),
    (date, "date"),
    (str, "varchar"),
)
