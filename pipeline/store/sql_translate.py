"""Presto's meaning on DuckDB: where the two give different answers to the same words, the tree is rewritten.

sqlglot knows the spellings. What it leaves different is set right here, by the types of the operands: integer
division, rounding casts, whole elapsed units in date_diff, percentiles, unnested rows, texts of times. Where no
rewriting gives Presto's answer the statement is refused, so that a wrong number never comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.errors import ErrorLevel, OptimizeError, SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.pushdown_projections import pushdown_projections
from sqlglot.optimizer.qualify import qualify
from sqlglot.schema import MappingSchema

from pipeline.errors import UsageError
from pipeline.store.sql_checks import check_casts, check_columns, check_comparisons, check_functions
from pipeline.store.sql_functions import rewrite_functions
from pipeline.store.sql_statement import BAD_ARGUMENTS, DIALECT, PARSER_FAULTS, TOO_DEEP, suggest

Columns = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Translated:
    """A statement for DuckDB.

    Attributes:
        text: DuckDB SQL with `$name` parameters.
        columns: per table it reads, the columns it needs.
    """

    text: str
    columns: Mapping[str, tuple[str, ...]]


def translate(statement: exp.Query, schema: Columns) -> Translated:
    """Translate one query whose views are expanded and whose parameters have types.

    Args:
        statement: a query in Presto dialect.
        schema: Presto type of every column of every table.

    Raises:
        UsageError: it names an unknown column or function, or means something DuckDB cannot answer alike.
    """
    try:
        tree = _qualify(_name_outputs(statement.copy()), schema)
        check_functions(tree)
        check_casts(tree)
        _type_unnested(tree)
        tree = annotate_types(tree, schema=_known(schema), dialect=DIALECT)
        check_columns(tree, [column for table in schema.values() for column in table])
        check_comparisons(tree)
        columns = _find_columns(tree, schema)
        rewrite_functions(tree)
        text = tree.sql("duckdb", identify=True, comments=False, unsupported_level=ErrorLevel.RAISE)
    except SqlglotError as error:
        raise UsageError(_explain(str(error), schema)) from None
    except RecursionError:
        raise UsageError(TOO_DEEP) from None
    except PARSER_FAULTS as error:
        raise UsageError(BAD_ARGUMENTS) from error
    return Translated(text, columns)


def suggest_column(name: str, schema: Columns) -> str:
    """The tail of a message that names the column probably meant."""
    return suggest(name, (column for columns in schema.values() for column in columns))


def _known(schema: Columns) -> MappingSchema:
    return MappingSchema({table: dict(columns) for table, columns in schema.items()}, dialect=DIALECT)


def _qualify(tree: exp.Query, schema: Columns) -> exp.Query:
    for literal in list(tree.find_all(exp.Literal)):
        # Presto reads 0.5 as a decimal and 5e-1 as a double; sqlglot types both as doubles.
        if not literal.is_string and "." in literal.name and "e" not in literal.name.lower():
            whole, _, fraction = literal.name.partition(".")
            digits = len(whole.lstrip("0")) + len(fraction)
            literal.replace(exp.cast(literal.copy(), f"DECIMAL({max(digits, 1)}, {len(fraction)})"))
    known = _known(schema)
    # Presto resolves no aliases of the SELECT list in WHERE or GROUP BY, so none is expanded here.
    qualified = qualify(tree, dialect=DIALECT, schema=known, expand_alias_refs=False, validate_qualify_columns=False)
    # It fails on a star over a source without column names: every column is scanned then, the answer is the same.
    with suppress(OptimizeError):
        qualified = pushdown_projections(qualified)
    return annotate_types(qualified, schema=known, dialect=DIALECT)


def _name_outputs(tree: exp.Query) -> exp.Query:
    """Mark what has no name in Presto, which numbers such columns by their place once every star is written out."""
    first: exp.Expr = tree
    while isinstance(first, (exp.SetOperation, exp.Subquery)):
        first = first.this
    if isinstance(first, exp.Select):
        named = (exp.Alias, exp.Column, exp.Star)
        first.set(
            "expressions",
            [
                part if isinstance(part, named) else exp.alias_(part, f"_col_{i}", quoted=True)
                for i, part in enumerate(first.expressions)
            ],
        )
    return tree


def _type_unnested(tree: exp.Expr) -> None:
    """Give the columns of an unnested map or array of rows their types, which sqlglot does not follow."""
    for unnest in list(tree.find_all(exp.Unnest)):
        select, alias = unnest.find_ancestor(exp.Select), unnest.args.get("alias")
        if select is None or not isinstance(alias, exp.TableAlias):
            continue
        kinds = [kind for array in unnest.expressions for kind in unnested_types(array)]
        types = {column.name: kind for column, kind in zip(alias.columns, kinds, strict=False)}
        if isinstance(unnest.args.get("offset"), exp.Identifier):
            types[unnest.args["offset"].name] = exp.DataType.build("BIGINT")
        for column in list(select.find_all(exp.Column)):
            kind = types.get(column.name) if column.table == alias.name else None
            if kind is not None and not kind.is_type(exp.DType.UNKNOWN, exp.DType.NULL):
                column.replace(exp.cast(column.copy(), kind.copy()))


def unnested_types(array: exp.Expr) -> list[exp.DataType]:
    """Types of the columns that UNNEST makes of one array or map: one, two, or one per field of a row."""
    unknown = exp.DataType.build("unknown")
    kind = array.type
    if kind is None or not kind.expressions:
        return [unknown]
    if kind.is_type(exp.DType.MAP):
        return list(kind.expressions)
    element = kind.expressions[0]
    if isinstance(element, exp.DataType) and element.is_type(exp.DType.STRUCT):
        return [field.args.get("kind") or unknown for field in element.expressions]
    return [element]


def _find_columns(tree: exp.Expr, schema: Columns) -> dict[str, tuple[str, ...]]:
    """Columns to scan, per table: a few too many where an alias is used twice, never one too few."""
    aliases: dict[str, set[str]] = {}
    for table in tree.find_all(exp.Table):
        if table.name in schema:
            aliases.setdefault(table.alias_or_name, set()).add(table.name)
    used: dict[str, set[str]] = {table: set() for tables in aliases.values() for table in tables}
    for column in tree.find_all(exp.Column):
        for name in aliases.get(column.table, set()) if column.table else used:
            used[name].add(column.name)
    everything = any(not isinstance(star.parent, exp.Count) for star in tree.find_all(exp.Star))
    return {table: _in_order(schema[table], names, everything) for table, names in used.items()}


def _in_order(columns: Iterable[str], names: set[str], everything: bool) -> tuple[str, ...]:
    known = tuple(columns)
    # count(*) needs rows and no column; a scan of nothing would lose their number.
    return tuple(name for name in known if everything or name in names) or known[:1]


def _explain(message: str, schema: Columns) -> str:
    line = " ".join(message.split())
    name = line.rsplit(":", 1)[-1].strip(" '\".")
    if line.startswith("Unknown column"):
        return f"there is no column {name}{suggest_column(name, schema)}"
    if line.startswith("Unknown table"):
        return f"there is no table or alias {name}{suggest(name, schema)}"
    return f"{line[:200]}: this does not mean the same on every engine"
