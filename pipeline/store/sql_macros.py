"""Presto's functions that DuckDB lacks or defines otherwise, as macros that stand on every connection.

A user cannot call them: only names that Presto knows pass the checks.
"""

from __future__ import annotations

FAILURE = "oddframe: "
"""What the message of a failed macro begins with, inside the engine's own."""

MACROS = (
    # Not error(), which TRY does not take. The value makes it depend on the row, or it would fail when it is planned.
    f"""CREATE MACRO oddframe_fail(message, value) AS
        CAST('{FAILURE}' || message || left(CAST(value AS VARCHAR), 0) AS BIGINT)""",
    "CREATE MACRO oddframe_distinct(a) AS list_filter(a, lambda part, i: list_position(a, part) = i)",
    """CREATE MACRO oddframe_position(a, part) AS
        CASE WHEN a IS NOT NULL AND part IS NOT NULL THEN CAST(coalesce(list_position(a, part), 0) AS BIGINT) END""",
    """CREATE MACRO oddframe_element(a, i) AS
        a[CASE WHEN i <> 0 THEN i WHEN i = 0 THEN oddframe_fail('array indices start at 1', i) END]""",
    """CREATE MACRO oddframe_subscript(a, i) AS
        a[CASE WHEN i BETWEEN 1 AND len(a) THEN i WHEN a IS NOT NULL AND i IS NOT NULL THEN
            oddframe_fail('an array subscript is out of bounds: element_at gives null instead', i) END]""",
    """CREATE MACRO oddframe_key(m, k) AS
        map_values(m)[CASE WHEN map_contains(m, k) THEN list_position(map_keys(m), k) WHEN k IS NOT NULL THEN
            oddframe_fail('a key is not present in a map: element_at gives null instead', k) END]""",
    """CREATE MACRO oddframe_slice(a, first, size) AS list_slice(a,
        CASE WHEN first < 0 THEN len(a) + first + 1 ELSE first END,
        CASE WHEN first < 0 THEN len(a) + first + 1 ELSE first END + size - 1)""",
    "CREATE MACRO oddframe_json(document) AS CASE WHEN json_valid(document) THEN document END",
    """CREATE MACRO oddframe_scalar(document, path) AS CASE WHEN json_type(oddframe_json(document), path)
        NOT IN ('OBJECT', 'ARRAY') THEN oddframe_json(document) ->> path END""",
    # A null that is not looked at leaves open whether the rest holds.
    """CREATE MACRO oddframe_any(met) AS CASE WHEN list_contains(met, true) THEN true
        WHEN list_count(met) = len(met) THEN false END""",
    """CREATE MACRO oddframe_all(met) AS CASE WHEN list_contains(met, false) THEN false
        WHEN list_count(met) = len(met) THEN true END""",
    """CREATE MACRO oddframe_contains(a, part) AS CASE WHEN list_contains(a, part) THEN true
        WHEN list_count(a) = len(a) AND part IS NOT NULL THEN false END""",
    "CREATE MACRO oddframe_largest(a) AS CASE WHEN list_count(a) = len(a) THEN list_max(a) END",
    "CREATE MACRO oddframe_smallest(a) AS CASE WHEN list_count(a) = len(a) THEN list_min(a) END",
    """CREATE MACRO oddframe_entries(m) AS
        list_transform(map_entries(m), lambda pair: struct_pack(_0 := pair.key, _1 := pair.value))""",
    """CREATE MACRO oddframe_part(part, first, size) AS CASE WHEN first = 0 OR -first > length(part) THEN ''
        WHEN size IS NULL THEN substr(part, first) ELSE substr(part, first, size) END""",
    # Outside of these bounds Presto writes an exponent, in another way than DuckDB.
    """CREATE MACRO oddframe_text(x) AS CASE
        WHEN x = 0 OR abs(x) >= 1e-3 AND abs(x) < 1e7 THEN CAST(x AS VARCHAR)
        WHEN isnan(x) THEN 'NaN' WHEN isinf(x) THEN if(x > 0, 'Infinity', '-Infinity') WHEN x IS NOT NULL THEN
        CAST(oddframe_fail('a number so large or small has an exponent as text: cast it to decimal(38, 10) first', x)
        AS VARCHAR) END""",
)
