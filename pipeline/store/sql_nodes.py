"""Small parts of trees that rewritings are made of."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from pipeline.errors import UsageError

Rewrite = Callable[[exp.Expr], exp.Expr]
REALS = (exp.DType.DOUBLE, exp.DType.FLOAT)
INTEGERS = tuple(exp.DataType.INTEGER_TYPES)
NUMBERS = (*REALS, *INTEGERS)


def call(name: str, *arguments: exp.Expr | None) -> exp.Anonymous:
    """A call of a DuckDB function or macro with copies of these arguments.

    Raises:
        UsageError: one of them is missing.
    """
    given = [argument.copy() for argument in arguments if argument is not None]
    if len(given) < len(arguments):
        raise UsageError(f"{name.lower().removeprefix('oddframe_')}: an argument is missing")
    return exp.Anonymous(this=name, expressions=given)


def is_type(node: exp.Expr | None, *types: exp.DType) -> bool:
    """Whether a node's type is known and one of these."""
    return node is not None and node.type is not None and node.type.this in types


def macro(name: str, *arguments: str) -> Rewrite:
    """A rewriting into a call with these arguments of the node, in this order."""
    return lambda node: call(name, *(node.args.get(argument) for argument in arguments))


def renamed(name: str) -> Rewrite:
    """A rewriting of a function known by name alone into another one."""
    return lambda node: call(name, *node.expressions)
