"""Functions and operators whose answers differ between Presto and DuckDB, rewritten one by one."""

from __future__ import annotations

import re

from sqlglot import exp

from pipeline.errors import UsageError
from pipeline.store.sql_arrays import ARRAYS, ARRAYS_NAMED
from pipeline.store.sql_nodes import INTEGERS, NUMBERS, REALS, Rewrite, call, is_type, macro, renamed
from pipeline.store.sql_statement import DIALECT

_MAX_PAD = 10_000
_TIMES = (exp.DType.DATE, exp.DType.TIMESTAMP)


def rewrite_functions(tree: exp.Expr) -> None:
    """Rewrite a typed tree in place, inner parts before the outer ones that hold them.

    Raises:
        UsageError: a part has no equal on DuckDB.
    """
    found = [node for node in tree.walk(bfs=True) if type(node) in _REWRITES]
    for node in reversed(found):
        new = _REWRITES[type(node)](node)
        if new is not node:
            # What holds it may be rewritten by its type.
            new.type = new.type or node.type
            node.replace(new)


def _divide(node: exp.Expr) -> exp.Expr:
    left, right = node.this, node.expression
    if is_type(left, *INTEGERS) and is_type(right, *INTEGERS):
        return exp.IntDiv(this=left.copy(), expression=right.copy()) if isinstance(node, exp.Div) else node
    if is_type(left, *REALS) or is_type(right, *REALS) or isinstance(node, exp.Mod):
        return node
    text = node.sql(DIALECT)[:60]
    if is_type(left, exp.DType.DECIMAL) or is_type(right, exp.DType.DECIMAL):
        raise UsageError(f"{text} divides decimals, which Presto rounds: write 1e0 for 1.0, or cast to double")
    if is_type(left, exp.DType.INTERVAL) or is_type(left, exp.DType.NULL) or is_type(right, exp.DType.NULL):
        return node
    raise UsageError(f"{text}: the types are not known here; cast both sides to double or bigint")


def _cast(node: exp.Expr) -> exp.Expr:
    wanted = node.args["to"]
    # DuckDB rounds halves to the even number, Presto away from zero.
    if is_type(node.this, *REALS) and wanted.this in INTEGERS:
        node.set("this", exp.Round(this=node.this.copy()))
    if wanted.is_type(exp.DType.TIMESTAMP) and is_type(node.this, *exp.DataType.TEXT_TYPES):
        return call("DATE_TRUNC", exp.Literal.string("millisecond"), node)
    if not wanted.is_type(*exp.DataType.TEXT_TYPES):
        return node
    text = node
    if is_type(node.this, exp.DType.TIMESTAMP):
        text = call("STRFTIME", node.this, exp.Literal.string("%Y-%m-%d %H:%M:%S.%g"))
    elif is_type(node.this, *REALS):
        text = call("oddframe_text", node.this)
    return exp.Left(this=text.copy(), expression=wanted.expressions[0].this.copy()) if wanted.expressions else text


def _date_diff(node: exp.Expr) -> exp.Expr:
    # Presto counts whole units gone by, as DuckDB's date_sub does; its date_diff counts borders crossed.
    unit = exp.Literal.string(node.text("unit").lower() or "day")
    return call("DATE_SUB", unit, node.expression, node.this)


def _move(node: exp.Expr) -> exp.Expr:
    if is_type(node.this, *_TIMES) and is_type(node.expression, *_TIMES):
        raise UsageError(f"{node.sql(DIALECT)[:60]} makes an interval: write date_diff with a unit")
    return _keep_date(node)


def _keep_date(node: exp.Expr) -> exp.Expr:
    # DuckDB makes a timestamp of a date that is moved or truncated.
    by_interval = not isinstance(node, (exp.Add, exp.Sub)) or is_type(node.expression, exp.DType.INTERVAL)
    if by_interval and is_type(node.this, exp.DType.DATE):
        return exp.Cast(this=node.copy(), to=exp.DataType.build("DATE"))
    return node


def _sum(node: exp.Expr) -> exp.Expr:
    # DuckDB sums integers in 128 bits; Presto answers with a bigint.
    if not is_type(node.this, *INTEGERS) or isinstance(node.parent, (exp.Filter, exp.Window)):
        return node
    return exp.Cast(this=node.copy(), to=exp.DataType.build("BIGINT"))


def _correlate(node: exp.Expr) -> exp.Expr:
    # Of one row, or of equal values, DuckDB says NaN and Presto null.
    if isinstance(node.parent, (exp.Filter, exp.Window)):
        return node
    return call("NULLIF", node, exp.cast(exp.Literal.string("nan"), "DOUBLE"))


def _percentile(node: exp.Expr) -> exp.Expr:
    if node.args.get("weight") or node.args.get("accuracy"):
        raise UsageError("approx_percentile with a weight or accuracy is refused: give a column and a share")
    wanted = node.args["quantile"]
    if isinstance(wanted, exp.Array):
        shares: exp.Expr = exp.Array(expressions=[_share(part) for part in wanted.expressions])
    else:
        shares = _share(wanted)
    return call("QUANTILE_DISC", node.this, shares)


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
    return call(name, node.this, node.expression)


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


def _named(node: exp.Expr) -> exp.Expr:
    rewrite = _NAMED.get(node.name.lower())
    return rewrite(node) if rewrite else node


def _constant(text: str) -> Rewrite:
    return lambda _: exp.cast(exp.Literal.string(text), "DOUBLE")


def _millisecond(node: exp.Expr) -> exp.Expr:
    # DuckDB counts the seconds in.
    return exp.Mod(this=call("MILLISECOND", *node.expressions), expression=exp.Literal.number(1000))


def _extract(node: exp.Expr) -> exp.Expr:
    # Presto's week ends on Sunday, the 7th day; DuckDB's dow starts with it as day 0.
    if node.name.upper() in {"DOW", "DAY_OF_WEEK"}:
        node.set("this", exp.var("ISODOW"))
    return node


def _sign(node: exp.Expr) -> exp.Expr:
    kind = node.this.type
    return exp.Cast(this=node.copy(), to=kind.copy()) if kind is not None and is_type(node.this, *NUMBERS) else node


def _bits(node: exp.Expr) -> exp.Expr:
    return type(node)(this=exp.cast(node.this.copy(), "BIGINT"), expression=exp.cast(node.expression.copy(), "BIGINT"))


def _round(node: exp.Expr) -> exp.Expr:
    # Presto leaves whole numbers as they are, also where tens are asked for.
    return node.this if is_type(node.this, *INTEGERS) else node


def _substring(node: exp.Expr) -> exp.Expr:
    size = node.args.get("length")
    return call("oddframe_part", node.this, node.args["start"], exp.null() if size is None else size)


def _regexp_replace(node: exp.Expr) -> exp.Expr:
    new = node.args.get("replacement")
    if new is None:
        return node
    if not new.is_string or "\\" in new.name or "${" in new.name:
        raise UsageError("regexp_replace takes a written replacement, with groups as $1 and no backslash")
    node.set("replacement", exp.Literal.string(re.sub(r"\$(\d)", r"\\\1", new.name)))
    return node


def _average(node: exp.Expr) -> exp.Expr:
    if is_type(node.this, exp.DType.DECIMAL):
        raise UsageError(f"{node.sql(DIALECT)[:60]} averages decimals, which Presto rounds: cast to double")
    return node


_NAMED: dict[str, Rewrite] = {
    **ARRAYS_NAMED,
    "nan": _constant("nan"),
    "infinity": _constant("inf"),
    "e": _constant("2.718281828459045"),
    "is_finite": renamed("ISFINITE"),
    "is_infinite": renamed("ISINF"),
    "every": renamed("BOOL_AND"),
    "millisecond": _millisecond,
}
_REWRITES: dict[type[exp.Expr], Rewrite] = {
    **ARRAYS,
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
    exp.Avg: _average,
    exp.Corr: _correlate,
    exp.RegrSlope: _correlate,
    exp.Round: _round,
    exp.BitwiseAnd: _bits,
    exp.BitwiseOr: _bits,
    exp.BitwiseXor: _bits,
    exp.Substring: _substring,
    exp.RegexpReplace: _regexp_replace,
    exp.ApproxQuantile: _percentile,
    exp.ApproxDistinct: _count_distinct,
    exp.CountIf: _count_if,
    exp.ArgMax: _extreme,
    exp.ArgMin: _extreme,
    exp.UnixToTime: _from_unixtime,
    exp.Extract: _extract,
    exp.Sign: _sign,
    exp.JSONExtractScalar: macro("oddframe_scalar", "this", "expression"),
    exp.RegexpExtract: _regexp_extract,
    exp.SplitPart: _split_part,
    exp.Pad: _pad,
    exp.Anonymous: _named,
}
