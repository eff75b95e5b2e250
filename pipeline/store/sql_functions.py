"""Functions and operators whose answers differ between Presto and DuckDB, rewritten one by one."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from pipeline.errors import UsageError
from pipeline.store.sql_statement import DIALECT

_MAX_PAD = 10_000
_REALS = (exp.DType.DOUBLE, exp.DType.FLOAT)
_INTEGERS = tuple(exp.DataType.INTEGER_TYPES)
_TIMES = (exp.DType.DATE, exp.DType.TIMESTAMP)

# The macros stand on every connection; a user cannot call them, since only known Presto functions pass.
MACROS = (
    "CREATE MACRO oddframe_distinct(a) AS list_filter(a, lambda part, i: list_position(a, part) = i)",
    """CREATE MACRO oddframe_position(a, part) AS
        CASE WHEN a IS NOT NULL AND part IS NOT NULL THEN CAST(coalesce(list_position(a, part), 0) AS BIGINT) END""",
    """CREATE MACRO oddframe_slice(a, first, size) AS list_slice(a,
        CASE WHEN first < 0 THEN len(a) + first + 1 ELSE first END,
        CASE WHEN first < 0 THEN len(a) + first + 1 ELSE first END + size - 1)""",
    """CREATE MACRO oddframe_scalar(document, path) AS
        CASE WHEN json_type(document, path) NOT IN ('OBJECT', 'ARRAY') THEN document ->> path END""",
)

_Rewrite = Callable[[exp.Expr], exp.Expr]


def rewrite_functions(tree: exp.Expr) -> None:
    """Rewrite a typed tree in place, inner parts before the outer ones that hold them.

    Raises:
        UsageError: a part has no equal on DuckDB.
    """
    found = [node for node in tree.walk(bfs=True) if type(node) in _REWRITES]
    for node in reversed(found):
        new = _REWRITES[type(node)](node)
        if new is not node:
            node.replace(new)


def _call(name: str, *arguments: exp.Expr | None) -> exp.Anonymous:
    given = [argument.copy() for argument in arguments if argument is not None]
    if len(given) < len(arguments):
        raise UsageError(f"{name.lower().removeprefix('oddframe_')}: an argument is missing")
    return exp.Anonymous(this=name, expressions=given)


def _is(node: exp.Expr | None, *types: exp.DType) -> bool:
    return node is not None and node.type is not None and node.type.this in types


def _divide(node: exp.Expr) -> exp.Expr:
    left, right = node.this, node.expression
    if _is(left, *_INTEGERS) and _is(right, *_INTEGERS):
        return exp.IntDiv(this=left.copy(), expression=right.copy()) if isinstance(node, exp.Div) else node
    if _is(left, *_REALS) or _is(right, *_REALS) or isinstance(node, exp.Mod):
        return node
    text = node.sql(DIALECT)[:60]
    if _is(left, exp.DType.DECIMAL) or _is(right, exp.DType.DECIMAL):
        raise UsageError(f"{text} divides decimals, which Presto rounds: write 1e0 for 1.0, or cast to double")
    if _is(left, exp.DType.INTERVAL) or _is(left, exp.DType.NULL) or _is(right, exp.DType.NULL):
        return node
    raise UsageError(f"{text}: the types are not known here; cast both sides to double or bigint")


def _cast(node: exp.Expr) -> exp.Expr:
    # DuckDB rounds halves to the even number, Presto away from zero.
    if _is(node.this, *_REALS) and node.args["to"].this in _INTEGERS:
        node.set("this", exp.Round(this=node.this.copy()))
    elif _is(node.this, exp.DType.TIMESTAMP) and node.args["to"].is_type(*exp.DataType.TEXT_TYPES):
        return _call("STRFTIME", node.this, exp.Literal.string("%Y-%m-%d %H:%M:%S.%g"))
    return node


def _date_diff(node: exp.Expr) -> exp.Expr:
    # Presto counts whole units gone by, as DuckDB's date_sub does; its date_diff counts borders crossed.
    unit = exp.Literal.string(node.text("unit").lower() or "day")
    return _call("DATE_SUB", unit, node.expression, node.this)


def _move(node: exp.Expr) -> exp.Expr:
    if _is(node.this, *_TIMES) and _is(node.expression, *_TIMES):
        raise UsageError(f"{node.sql(DIALECT)[:60]} makes an interval: write date_diff with a unit")
    return _keep_date(node)


def _keep_date(node: exp.Expr) -> exp.Expr:
    # DuckDB makes a timestamp of a date that is moved or truncated.
    by_interval = not isinstance(node, (exp.Add, exp.Sub)) or _is(node.expression, exp.DType.INTERVAL)
    if by_interval and _is(node.this, exp.DType.DATE):
        return exp.Cast(this=node.copy(), to=exp.DataType.build("DATE"))
    return node


def _sum(node: exp.Expr) -> exp.Expr:
    # DuckDB sums integers in 128 bits; Presto answers with a bigint.
    if not _is(node.this, *_INTEGERS) or isinstance(node.parent, (exp.Filter, exp.Window)):
        return node
    return exp.Cast(this=node.copy(), to=exp.DataType.build("BIGINT"))


def _percentile(node: exp.Expr) -> exp.Expr:
    if node.args.get("weight") or node.args.get("accuracy"):
        raise UsageError("approx_percentile with a weight or accuracy is refused: give a column and a share")
    wanted = node.args["quantile"]
    if isinstance(wanted, exp.Array):
        shares: exp.Expr = exp.Array(expressions=[_share(part) for part in wanted.expressions])
    else:
        shares = _share(wanted)
    return _call("QUANTILE_DISC", node.this, shares)


def _share(quantile: exp.Expr) -> exp.Expr:
    # Presto takes the value at index floor(q * n), DuckDB at ceil(q * n) - 1: they differ where q * n is whole, and
    # there alone does this small step matter.
    double = exp.DataType.build("DOUBLE")
    step = exp.Add(this=exp.cast(quantile.copy(), double), expression=exp.Literal.number("1e-12"))
    return exp.Least(this=step, expressions=[exp.Literal.number("1e0")])


def _count_distinct(node: exp.Expr) -> exp.Expr:
    return exp.Count(this=exp.Distinct(expressions=[node.this.copy()]))


def _count_if(node: exp.Expr) -> exp.Expr:
    # Over nothing but nulls DuckDB answers null, Presto 0.
    met = exp.Case(ifs=[exp.If(this=node.this.copy(), true=exp.Literal.number(1))])
    return exp.Count(this=met)


def _extreme(node: exp.Expr) -> exp.Expr:
    if node.args.get("count"):
        raise UsageError("max_by and min_by with a count are refused: rank with row_number() instead")
    # DuckDB's own skips rows whose first argument is null; Presto does not.
    name = "ARG_MAX_NULL" if isinstance(node, exp.ArgMax) else "ARG_MIN_NULL"
    return _call(name, node.this, node.expression)


def _cardinality(node: exp.Expr) -> exp.Expr:
    if not _is(node.this, exp.DType.MAP):
        return node
    return exp.Cast(this=_call("CARDINALITY", node.this), to=exp.DataType.build("BIGINT"))


def _from_unixtime(node: exp.Expr) -> exp.Expr:
    return exp.Cast(this=node.copy(), to=exp.DataType.build("TIMESTAMP"))


def _regexp_extract(node: exp.Expr) -> exp.Expr:
    # Without a match Presto says null, DuckDB an empty text.
    matches = exp.RegexpLike(this=node.this.copy(), expression=node.expression.copy())
    return exp.Case(ifs=[exp.If(this=matches, true=node.copy())])


def _split_part(node: exp.Expr) -> exp.Expr:
    parts = exp.ArraySize(this=exp.Split(this=node.this.copy(), expression=node.args["delimiter"].copy()))
    enough = exp.LTE(this=node.args["part_index"].copy(), expression=parts)
    return exp.Case(ifs=[exp.If(this=enough, true=node.copy())])


def _pad(node: exp.Expr) -> exp.Expr:
    length = node.expression
    # The engine's memory limit does not see one huge text.
    if not (isinstance(length, exp.Literal) and length.is_int and int(length.name) <= _MAX_PAD):
        raise UsageError(f"lpad and rpad take a written length of at most {_MAX_PAD}")
    return node


def _unnest(node: exp.Expr) -> exp.Expr:
    if not isinstance(node.parent, (exp.From, exp.Join)):
        return node
    parts: list[exp.Expr] = []
    for array in node.expressions:
        if _is(array, exp.DType.MAP):
            parts += [_call("UNNEST", _call("MAP_KEYS", array)), _call("UNNEST", _call("MAP_VALUES", array))]
        elif array.type is not None and any(part.is_type(exp.DType.STRUCT) for part in array.type.expressions):
            depth = exp.PropertyEQ(this=exp.to_identifier("max_depth"), expression=exp.Literal.number(2))
            parts.append(_call("UNNEST", array, depth))
        else:
            parts.append(_call("UNNEST", array))
    if node.args.get("offset"):
        parts.append(_call("UNNEST", _call("RANGE", exp.Literal.number(1), _longest(node.expressions))))
    # Two columns of one SELECT are unnested side by side and padded with nulls, as Presto does.
    alias = node.args["alias"].copy()
    if isinstance(node.args.get("offset"), exp.Identifier):
        alias.append("columns", node.args["offset"].copy())
    return exp.Subquery(this=exp.Select(expressions=parts), alias=alias)


def _longest(arrays: list[exp.Expr]) -> exp.Expr:
    sizes = [
        _call("COALESCE", _call("CARDINALITY" if _is(array, exp.DType.MAP) else "LEN", array), exp.Literal.number(0))
        for array in arrays
    ]
    longest = _call("GREATEST", *sizes) if len(sizes) > 1 else sizes[0]
    return exp.cast(exp.Add(this=longest, expression=exp.Literal.number(1)), "BIGINT")


def _named(node: exp.Expr) -> exp.Expr:
    rewrite = _NAMED.get(node.name.lower())
    return rewrite(node) if rewrite else node


def _constant(text: str) -> _Rewrite:
    return lambda _: exp.cast(exp.Literal.string(text), "DOUBLE")


def _renamed(name: str) -> _Rewrite:
    return lambda node: _call(name, *node.expressions)


def _match(compare: type[exp.Binary], *, negate: bool) -> _Rewrite:
    def rewrite(node: exp.Expr) -> exp.Expr:
        array, test = node.expressions
        if negate:
            test = exp.Lambda(this=exp.not_(exp.paren(test.this.copy())), expressions=test.expressions)
        met = exp.ArraySize(this=exp.ArrayFilter(this=array.copy(), expression=test.copy()))
        return exp.paren(compare(this=met, expression=exp.Literal.number(0)))

    return rewrite


def _millisecond(node: exp.Expr) -> exp.Expr:
    # DuckDB counts the seconds in.
    return exp.Mod(this=_call("MILLISECOND", *node.expressions), expression=exp.Literal.number(1000))


def _extract(node: exp.Expr) -> exp.Expr:
    # Presto's week ends on Sunday, the 7th day; DuckDB's dow starts with it as day 0.
    if node.name.upper() in {"DOW", "DAY_OF_WEEK"}:
        node.set("this", exp.var("ISODOW"))
    return node


def _reverse(node: exp.Expr) -> exp.Expr:
    return _call("LIST_REVERSE", node.this) if _is(node.this, exp.DType.ARRAY) else node


def _sign(node: exp.Expr) -> exp.Expr:
    return exp.Cast(this=node.copy(), to=exp.DataType.build("DOUBLE")) if _is(node.this, *_REALS) else node


def _macro(name: str, *arguments: str) -> _Rewrite:
    return lambda node: _call(name, *(node.args.get(argument) for argument in arguments))


_NAMED: dict[str, _Rewrite] = {
    "nan": _constant("nan"),
    "infinity": _constant("inf"),
    "e": _constant("2.718281828459045"),
    "is_finite": _renamed("ISFINITE"),
    "is_infinite": _renamed("ISINF"),
    "every": _renamed("BOOL_AND"),
    "any_match": _match(exp.GT, negate=False),
    "none_match": _match(exp.EQ, negate=False),
    "all_match": _match(exp.EQ, negate=True),
    "millisecond": _millisecond,
}
_REWRITES: dict[type[exp.Expr], _Rewrite] = {
    exp.Div: _divide,
    exp.Mod: _divide,
    exp.Cast: _cast,
    exp.TryCast: _cast,
    exp.DateDiff: _date_diff,
    exp.DateAdd: _keep_date,
    exp.DateSub: _keep_date,
    exp.Add: _keep_date,
    exp.Sub: _move,
    exp.DateTrunc: _keep_date,
    exp.TimestampTrunc: _keep_date,
    exp.Sum: _sum,
    exp.ApproxQuantile: _percentile,
    exp.ApproxDistinct: _count_distinct,
    exp.CountIf: _count_if,
    exp.ArgMax: _extreme,
    exp.ArgMin: _extreme,
    exp.ArraySize: _cardinality,
    exp.UnixToTime: _from_unixtime,
    exp.Extract: _extract,
    exp.Reverse: _reverse,
    exp.Sign: _sign,
    exp.ArrayDistinct: _macro("oddframe_distinct", "this"),
    exp.ArrayPosition: _macro("oddframe_position", "this", "expression"),
    exp.ArraySlice: _macro("oddframe_slice", "this", "start", "end"),
    exp.JSONExtractScalar: _macro("oddframe_scalar", "this", "expression"),
    exp.RegexpExtract: _regexp_extract,
    exp.SplitPart: _split_part,
    exp.Pad: _pad,
    exp.Unnest: _unnest,
    exp.Anonymous: _named,
}
