"""Which rows of an Iceberg table are meant, as pyiceberg has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, In


def any_of(where: Mapping[str, Sequence[Any]] | None) -> BooleanExpression:
    """Rows whose columns have one of the values that are given for them; all of them where nothing is given."""
    if not where:
        return AlwaysTrue()
    tests: list[BooleanExpression] = [In(term=column, literals=list(values)) for column, values in where.items()]
    return reduce(And, tests)
