from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from pipeline.errors import StoreError, UsageError
from pipeline.store.schema import TABLES, TableDefinition
from pipeline.store.sql_catalog import SqlCatalog, find_sql_directory, read_comments
from pipeline.store.sql_parameters import check_values, coerce, names_in, type_placeholders, with_literals
from pipeline.store.sql_rows import SqlColumn, row_to_json
from pipeline.store.sql_statement import parse_query
from pipeline.store.sql_types import name_type

CATALOG = SqlCatalog.load(find_sql_directory())


def write(folder: Path, **texts: str) -> SqlCatalog:
    for name, text in texts.items():
        kind, _, stem = name.partition("_")
        (folder / kind).mkdir(exist_ok=True)
        (folder / kind / f"{stem}.sql").write_text(text)
    return SqlCatalog.load(folder)


def expand(catalog: SqlCatalog, text: str) -> str:
    return catalog.expand(parse_query(text)).sql("presto", comments=False)


def test_every_table_has_a_definition() -> None:
    assert sorted(CATALOG.schema) == sorted(table.name for table in TABLES)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_definition_agrees_with_the_iceberg_schema_column_by_column(table: TableDefinition) -> None:
    tree = sqlglot.parse_one(CATALOG.schema[table.name].text, read="presto")
    assert tree.this.this.name == table.name
    stated = [(column.name, column.args["kind"]) for column in tree.find_all(exp.ColumnDef) if column.depth == 2]
    wanted = [(f.name, exp.DataType.build(name_type(f.field_type), "presto")) for f in table.schema.fields]
    assert [name for name, _ in stated] == [name for name, _ in wanted]
    for (name, kind), (_, expected) in zip(stated, wanted, strict=True):
        assert kind.sql("presto") == expected.sql("presto"), name
    required = {c.name for c in tree.find_all(exp.ColumnDef) if c.find(exp.NotNullColumnConstraint)}
    assert required == {field.name for field in table.schema.fields if field.required}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_definition_partitions_as_iceberg_does(table: TableDefinition) -> None:
    names = {field.field_id: field.name for field in table.schema.fields}
    wanted = [
        names[part.source_id] if str(part.transform) == "identity" else f"{part.transform}({names[part.source_id]})"
        for part in table.partition_spec.fields
    ]
    tree = sqlglot.parse_one(CATALOG.schema[table.name].text, read="presto")
    stated = [
        literal.name
        for part in tree.find_all(exp.Property, exp.PartitionedByProperty)
        if "PARTITION" in part.sql("presto").upper()
        for literal in part.find_all(exp.Literal)
    ]
    assert stated == wanted


def test_the_definitions_explain_their_columns() -> None:
    comments = read_comments(CATALOG.schema["frames"])
    assert comments["exposure_s"] == "seconds"
    assert comments["header"].startswith("every header keyword, verbatim")


@pytest.mark.parametrize("kind", ["schema", "views", "queries"])
def test_every_file_is_one_statement_with_a_title(kind: str) -> None:
    for file in getattr(CATALOG, kind).values():
        assert file.title
        assert "\n" not in file.title
        assert len([tree for tree in sqlglot.parse(file.text, read="presto") if tree]) == 1


def test_views_and_queries_read_only_what_there_is() -> None:
    for file in (*CATALOG.views.values(), *CATALOG.queries.values()):
        tree = parse_query(file.text)
        assert names_in(tree) == {parameter.name for parameter in file.parameters}
        CATALOG.expand(tree)


def test_a_view_is_put_after_those_it_reads_from_and_only_those_used_are_put() -> None:
    tree = CATALOG.expand(parse_query("SELECT name FROM anomalies"))
    assert [cte.alias for cte in tree.ctes] == ["latest_verdicts", "anomalies"]
    assert "WITH" not in expand(CATALOG, "SELECT name FROM frames")


def test_a_view_used_twice_is_put_once_and_before_the_statements_own_parts() -> None:
    tree = CATALOG.expand(parse_query("WITH mine AS (SELECT * FROM nights) SELECT 1 FROM mine, nights, anomalies"))
    names = [cte.alias for cte in tree.ctes]
    assert names[-1] == "mine"
    assert sorted(names) == sorted(set(names)) == ["anomalies", "latest_verdicts", "mine", "nights"]


def test_views_are_found_in_subqueries_unions_and_with_a_schema(tmp_path: Path) -> None:
    catalog = write(tmp_path, views_a="-- a\nSELECT name FROM frames", views_b="-- b\nSELECT name FROM a")
    assert expand(catalog, "SELECT 1 UNION SELECT 2 FROM ODDFRAME.A").startswith("WITH a AS (SELECT name FROM frames)")
    assert "b AS (SELECT name FROM a)" in expand(
        catalog, "SELECT (SELECT max(name) FROM b) FROM iceberg.oddframe.frames"
    )
    assert "FROM frames" in expand(catalog, 'SELECT 1 FROM "iceberg"."oddframe"."FRAMES"')


def test_expanding_leaves_the_statement_as_it_was() -> None:
    tree = parse_query("WITH x AS (SELECT 1 AS a) SELECT * FROM x, nights")
    before = tree.sql("presto")
    CATALOG.expand(tree)
    assert tree.sql("presto") == before


def test_a_part_with_the_name_of_a_view_or_table_is_refused() -> None:
    for name in ("nights", "FRAMES"):
        with pytest.raises(UsageError, match="choose another name"):
            expand(CATALOG, f"WITH {name} AS (SELECT 1 AS a) SELECT a FROM frames")  # noqa: S608


def test_an_unknown_table_or_query_is_refused_with_a_near_name() -> None:
    with pytest.raises(UsageError, match="no table or view nigths; did you mean nights"):
        expand(CATALOG, "SELECT * FROM nigths")
    with pytest.raises(UsageError, match="no query seeing_tren; did you mean seeing_trend"):
        CATALOG.query("seeing_tren")


def test_a_view_that_reads_from_itself_is_a_broken_installation(tmp_path: Path) -> None:
    catalog = write(tmp_path, views_a="-- a\nSELECT name FROM a")
    with pytest.raises(StoreError, match="reads from itself"):
        expand(catalog, "SELECT * FROM a")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "-- parameter: a bigint\nSELECT :a",
        "-- title\n-- parameter: a int\nSELECT :a",
        "-- title\n-- parameter: a\nSELECT :a",
        "-- title\nSELECT :a",
        "-- title\n-- parameter: a bigint\nSELECT 1",
    ],
)
def test_a_file_with_a_wrong_header_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(StoreError):
        write(tmp_path, queries_q=text)


def test_parameters_are_read_from_the_header(tmp_path: Path) -> None:
    catalog = write(
        tmp_path,
        queries_q="-- Title\n-- parameter: n bigint 5\n-- parameter: t timestamp 2024-01-01 10:00:00\n"
        "-- parameter: s varchar null\n-- parameter: d date\nSELECT :n, :t, :s, :d",
    )
    assert catalog.query("q").title == "Title"
    _, values = catalog.bind("q", {"d": "2024-02-03", "n": "7"})
    assert values == {"n": 7, "t": datetime(2024, 1, 1, 10), "s": None, "d": date(2024, 2, 3)}  # noqa: DTZ001
    with pytest.raises(UsageError, match=r"parameter d \(date\) needs a value"):
        catalog.bind("q", {})
    with pytest.raises(UsageError, match="no parameter dd; did you mean d"):
        catalog.bind("q", {"dd": 1})
    with pytest.raises(UsageError, match=r"parameter n: '1\.5' is not a bigint"):
        catalog.bind("q", {"d": "2024-02-03", "n": "1.5"})


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("date", date(2024, 1, 2), date(2024, 1, 2)),
        ("date", " 2024-01-02 ", date(2024, 1, 2)),
        ("timestamp", "2024-01-02T03:04:05.123999", datetime(2024, 1, 2, 3, 4, 5, 123_000)),  # noqa: DTZ001
        ("timestamp", "2024-01-02T03:00:00+02:00", datetime(2024, 1, 2, 1)),  # noqa: DTZ001
        ("timestamp", "2024-01-02T03:00:00Z", datetime(2024, 1, 2, 3)),  # noqa: DTZ001
        ("timestamp", date(2024, 1, 2), datetime(2024, 1, 2)),  # noqa: DTZ001
        ("timestamp", datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=-1))), datetime(2024, 1, 2, 1)),  # noqa: DTZ001
        ("double", "1e-3", 0.001),
        ("double", 2, 2.0),
        ("bigint", "-9223372036854775808", -(2**63)),
        ("varchar", "' OR 1=1 --", "' OR 1=1 --"),
        ("boolean", "TRUE", True),
        ("boolean", False, False),
        ("bigint", None, None),
    ],
)
def test_values_are_turned_into_their_type(kind: str, value: object, expected: object) -> None:
    found = coerce(kind, value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("date", "yesterday"), ("date", datetime(2024, 1, 1, tzinfo=UTC)), ("date", 20240101), ("timestamp", "now"),
        ("timestamp", 0), ("double", "nan"), ("double", float("inf")), ("double", True), ("double", "1,5"),
        ("bigint", 2**63), ("bigint", 1.0), ("bigint", "1 OR 1=1"), ("bigint", True), ("varchar", 5),
        ("varchar", "a\x00b"), ("varchar", "x" * 70_000), ("varchar", "\ud800"), ("boolean", "yes"), ("boolean", 1),
    ],
)  # fmt: skip
def test_values_of_another_type_are_refused_in_one_line(kind: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"is not a {kind}") as caught:
        coerce(kind, value)
    assert "\n" not in str(caught.value)


def test_no_parameters_is_no_values() -> None:
    assert check_values((), {}) == {}


def test_parameters_of_a_free_statement_must_match_its_names() -> None:
    tree = parse_query("SELECT :night")
    with pytest.raises(UsageError, match=":night has no value; did you mean nigth"):
        with_literals(tree, {"nigth": 1})
    with pytest.raises(UsageError, match="has no parameter :b"):
        with_literals(tree, {"night": 1, "b": 2})
    with pytest.raises(UsageError, match="cannot be a list"):
        with_literals(tree, {"night": [1]})  # type: ignore[dict-item]


def test_typed_placeholders_carry_the_type_of_their_value() -> None:
    values = {"a": 1, "b": 1.5, "c": "x", "d": date(2024, 1, 1), "e": True, "f": None}
    text = type_placeholders(parse_query("SELECT :a, :b, :c, :d, :e, :f"), values).sql("duckdb")
    assert text == (
        "SELECT CAST($a AS BIGINT), CAST($b AS DOUBLE), CAST($c AS TEXT), CAST($d AS DATE), CAST($e AS BOOLEAN), NULL"
    )


PLAIN_TIMES = st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 1, 1))  # noqa: DTZ001
VALUES = st.one_of(
    st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00")),
    st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.dates(),
    PLAIN_TIMES, st.none(),
)  # fmt: skip


@given(VALUES)
def test_a_literal_is_one_node_whatever_the_value(value: object) -> None:
    tree = with_literals(parse_query("SELECT :v AS v FROM frames WHERE name = :v"), {"v": value})  # type: ignore[dict-item]
    again = sqlglot.parse(tree.sql("presto"), read="presto")
    assert len(again) == 1
    select = again[0]
    assert isinstance(select, exp.Select)
    assert [table.name for table in select.find_all(exp.Table)] == ["frames"]
    assert len(select.selects) == 1
    node = select.selects[0].unalias()
    inner = node.this if isinstance(node, exp.Cast) else node
    assert isinstance(inner, (exp.Literal, exp.Boolean, exp.Null))
    if isinstance(value, str):
        assert inner.is_string
        assert inner.name == value


def test_rows_become_json() -> None:
    names = ("t", "z", "d", "n", "i", "l", "m", "b", "t")
    columns = tuple(SqlColumn(name, "varchar") for name in names)
    row = (
        datetime(2024, 1, 1, 0, 0, 0, 123_999),  # noqa: DTZ001
        datetime(2024, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), date(2024, 1, 2), float("nan"), float("-inf"),
        [{"a": 1.5, "b": [None, float("nan")]}], {date(2024, 1, 1): True, 5: "x"}, b"a", timedelta(seconds=1),
    )  # fmt: skip
    assert row_to_json(columns, row) == {
        "t": "2024-01-01T00:00:00.123Z",
        "z": "2024-01-01T00:00:00.000Z",
        "d": "2024-01-02",
        "n": None,
        "i": None,
        "l": [{"a": 1.5, "b": [None, None]}],
        "m": {"2024-01-01": True, "5": "x"},
        "b": "YQ==",
        "t_2": "0:00:01",
    }
