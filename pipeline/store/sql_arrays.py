"""Functions of arrays and maps whose answers differ between Presto and DuckDB, rewritten one by one."""

from __future__ import annotations

from sqlglot import exp

from pipeline.errors import UsageError
from pipeline.store.sql_nodes import INTEGERS, Rewrite, call, is_type, macro, renamed
from pipeline.store.sql_statement import DIALECT


def _cardinality(node: exp.Expr) -> exp.Expr:
    if not is_type(node.this, exp.DType.MAP):
        return node
    return exp.Cast(this=call("CARDINALITY", node.this), to=exp.DataType.build("BIGINT"))


def _subscript(node: exp.Expr) -> exp.Expr:
    holder, (index, *more) = node.this, node.expressions
    if more or isinstance(index, exp.Slice):
        raise UsageError("a slice of an array is written slice(array, start, length)")
    if is_type(holder, exp.DType.MAP):
        return (
            exp.Bracket(this=holder.copy(), expressions=[index.copy()])
            if node.args.get("safe")
            else call("oddframe_key", holder, index)
        )
    if not is_type(holder, exp.DType.ARRAY):
        raise UsageError(f"{node.sql(DIALECT)[:60]}: the type is not known here; cast it to an array or a map")
    return call("oddframe_element" if node.args.get("safe") else "oddframe_subscript", holder, index)


def _unnest(node: exp.Expr) -> exp.Expr:
    if not isinstance(node.parent, (exp.From, exp.Join)):
        return node
    parts: list[exp.Expr] = []
    for array in node.expressions:
        if is_type(array, exp.DType.MAP):
            parts += [call("UNNEST", call("MAP_KEYS", array)), call("UNNEST", call("MAP_VALUES", array))]
        elif array.type is not None and any(part.is_type(exp.DType.STRUCT) for part in array.type.expressions):
            depth = exp.PropertyEQ(this=exp.to_identifier("max_depth"), expression=exp.Literal.number(2))
            parts.append(call("UNNEST", array, depth))
        else:
            parts.append(call("UNNEST", array))
    if node.args.get("offset"):
        parts.append(call("UNNEST", call("RANGE", exp.Literal.number(1), _longest(node.expressions))))
    # Two columns of one SELECT are unnested side by side and padded with nulls, as Presto does.
    alias = node.args["alias"].copy()
    if isinstance(node.args.get("offset"), exp.Identifier):
        alias.append("columns", node.args["offset"].copy())
    return exp.Subquery(this=exp.Select(expressions=parts), alias=alias)


def _longest(arrays: list[exp.Expr]) -> exp.Expr:
    sizes = [
        call("COALESCE", call("CARDINALITY" if is_type(array, exp.DType.MAP) else "LEN", array), exp.Literal.number(0))
        for array in arrays
    ]
    longest = call("GREATEST", *sizes) if len(sizes) > 1 else sizes[0]
    return exp.cast(exp.Add(this=longest, expression=exp.Literal.number(1)), "BIGINT")


def _match(name: str) -> Rewrite:
    def rewrite(node: exp.Expr) -> exp.Expr:
        array, test = node.expressions
        return call(name, exp.Transform(this=array.copy(), expression=test.copy()))

    return rewrite


def _none_match(node: exp.Expr) -> exp.Expr:
    return exp.paren(exp.not_(_match("oddframe_any")(node)))


def _reverse(node: exp.Expr) -> exp.Expr:
    return call("LIST_REVERSE", node.this) if is_type(node.this, exp.DType.ARRAY) else node


def _sequence(node: exp.Expr) -> exp.Expr:
    if node.args.get("step") is None and is_type(node.args["start"], *INTEGERS):
        down = exp.GT(this=node.args["start"].copy(), expression=node.args["end"].copy())
        node.set("step", exp.If(this=down, true=exp.Literal.number(-1), false=exp.Literal.number(1)))
    return node


ARRAYS_NAMED: dict[str, Rewrite] = {
    "any_match": _match("oddframe_any"),
    "none_match": _none_match,
    "all_match": _match("oddframe_all"),
    "map_entries": renamed("oddframe_entries"),
}
ARRAYS: dict[type[exp.Expr], Rewrite] = {
    exp.GenerateSeries: _sequence,
    exp.ArrayContains: macro("oddframe_contains", "this", "expression"),
    exp.ArrayMax: macro("oddframe_largest", "this"),
    exp.ArrayMin: macro("oddframe_smallest", "this"),
    exp.Bracket: _subscript,
    exp.ArraySize: _cardinality,
    exp.Reverse: _reverse,
    exp.ArrayDistinct: macro("oddframe_distinct", "this"),
    exp.ArrayPosition: macro("oddframe_position", "this", "expression"),
    exp.ArraySlice: macro("oddframe_slice", "this", "start", "end"),
    exp.Unnest: _unnest,
}
