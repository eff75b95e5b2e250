"""What Presto would refuse, or answer otherwise than DuckDB with no rewriting to help: refused before it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlglot import exp

from pipeline.errors import UsageError
from pipeline.store.sql_statement import DIALECT, suggest

# Presto functions that sqlglot passes on by name: answered alike by DuckDB, or rewritten in sql_functions.
_NAMED = frozenset(
    {
        "all_match", "any_match", "e", "every", "geometric_mean", "histogram", "infinity", "is_finite", "is_infinite",
        "json_array_length", "map_concat", "map_entries", "map_values", "millisecond", "nan", "none_match",
    }
)  # fmt: skip
# Suggested for a misspelt name; sqlglot's own list holds hundreds that other dialects alone know.
_COMMON = _NAMED | {
    "abs", "approx_distinct", "approx_percentile", "array_agg", "array_distinct", "array_join", "array_sort", "avg",
    "cardinality", "ceil", "coalesce", "concat", "contains", "corr", "count", "count_if", "date_add", "date_diff",
    "date_format", "date_parse", "date_trunc", "day_of_week", "element_at", "filter", "floor", "from_unixtime",
    "greatest", "hour", "is_nan", "json_extract_scalar", "lag", "lead", "least", "length", "lower", "map_keys", "max",
    "max_by", "min", "min_by", "minute", "month", "nullif", "power", "rank", "regexp_extract", "regexp_like",
    "regexp_replace", "replace", "round", "row_number", "sequence", "slice", "split", "split_part", "sqrt", "stddev",
    "strpos", "substr", "sum", "to_unixtime", "transform", "trim", "truncate", "try", "upper", "variance", "year",
}  # fmt: skip
_REFUSED: Mapping[type[exp.Expr], str] = {
    exp.ReadCSV: "read_csv is refused: read from tables and views",
    exp.ReadParquet: "read_parquet is refused: read from tables and views",
    exp.Columns: "columns() is refused: name the columns",
    exp.Comprehension: "a list comprehension is refused: write transform or filter",
    exp.CurrentUser: "current_user is refused: every statement runs under the name that the settings give",
    exp.AtTimeZone: "AT TIME ZONE is refused: every time here is UTC",
    exp.Translate: "there is no function translate here; did you mean replace?",
    exp.ConcatWs: "there is no function concat_ws here; did you mean array_join?",
    exp.Format: "there is no function format here; did you mean date_format?",
    exp.Repeat: "repeat is refused: it makes an array on Presto and text here",
    exp.ArrayUniqueAgg: "set_agg is refused: its order differs between engines; write array_agg(DISTINCT x ORDER BY x)",
    exp.Skewness: "skewness is refused: the engines define it differently",
    exp.Typeof: "typeof is refused: the engines name types differently; see DESCRIBE",
}
_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Between, exp.In)
_TEXT = exp.DataType.TEXT_TYPES
_NOT_TEXT = exp.DataType.NUMERIC_TYPES | exp.DataType.TEMPORAL_TYPES


def check_functions(tree: exp.Expr) -> None:
    """Refuse what is no Presto function known to mean the same here.

    Raises:
        UsageError: names the function and, where there is one, a near name.
    """
    for node in tree.walk():
        if type(node) in _REFUSED:
            raise UsageError(_REFUSED[type(node)])
        if isinstance(node, exp.Anonymous) and node.name.lower() not in _NAMED:
            raise UsageError(f"there is no function {node.name.lower()[:60]} here{suggest(node.name, _COMMON)}")
        if isinstance(node, exp.Split) and node.args.get("limit"):
            raise UsageError("split with a limit is refused: the embedded tables cannot answer it alike")
        # sqlglot reads log2 and log10 as this; Presto 0.287 has no other log, and later ones disagree on its order.
        if isinstance(node, exp.Log) and node.expression and node.this.name not in {"2", "10"}:
            raise UsageError("log is refused: write log2, log10, or ln(x) / ln(base)")


def check_columns(tree: exp.Expr, columns: Iterable[str]) -> None:
    """Refuse a column that nothing in a qualified tree defines; only ORDER BY may name a column of the answer.

    Raises:
        UsageError: names the column and, where there is one, a near name.
    """
    for column in tree.find_all(exp.Column):
        if not column.table and not isinstance(column.this, exp.Star) and not _is_output(column):
            raise UsageError(f"there is no column {column.name}{suggest(column.name, columns)}")


def check_comparisons(tree: exp.Expr) -> None:
    """Refuse to compare text with a number or a time, which DuckDB would cast and Presto does not.

    Raises:
        UsageError: shows the comparison.
    """
    for node in tree.find_all(*_COMPARISONS):
        parts = [node.this, *(part for key in ("expression", "low", "high") if (part := node.args.get(key)))]
        parts += node.expressions if isinstance(node, exp.In) else []
        kinds = {part.type.this for part in parts if part.type is not None}
        if kinds & _TEXT and kinds & _NOT_TEXT:
            shown = node.sql(DIALECT, comments=False)[:80]
            raise UsageError(f"{shown} compares text with what is none: write DATE '...', TIMESTAMP '...' or a cast")


def check_casts(tree: exp.Expr) -> None:
    """Refuse a type that DuckDB does not have.

    Raises:
        UsageError: names it.
    """
    for kind in tree.find_all(exp.DataType):
        if kind.is_type(exp.DType.CHAR, exp.DType.NCHAR):
            raise UsageError("char is refused: the embedded tables do not pad; write varchar")


def _is_output(column: exp.Column) -> bool:
    order = column.find_ancestor(exp.Order, exp.Window, exp.Query)
    if not isinstance(order, exp.Order) or not isinstance(order.parent, exp.Query):
        return False
    return column.name in order.parent.named_selects
