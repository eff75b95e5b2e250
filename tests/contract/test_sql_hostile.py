"""What an ill-meaning caller may try: through values, through the statement, and through its cost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from time import monotonic

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import StoreError, UsageError
from pipeline.store.sql_duckdb import DuckDbSql
from pipeline.store.sql_engine import SqlEngine
from pipeline.store.sql_parameters import Value
from pipeline.store.sql_presto import PrestoSql
from tests.contract.sql_world import CATALOG, ENGINES, open_engine


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> SqlEngine:
    # A cold Presto takes seconds to plan a view.
    seconds = 2.0 if request.param == "duckdb" else 10.0
    return open_engine(request.param, seconds=seconds, memory_mb=256)


def refusal_of(engine: SqlEngine, text: str) -> str:
    try:
        engine.query(text, limit=5)
    except UsageError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module", autouse=True)
def untouched(engine: SqlEngine) -> Iterator[None]:
    yield
    assert engine.query("SELECT count(*) FROM frames").rows[0][0] == 8


HOSTILE_VALUES = [
    "'", "''", '"', '""', "`", "\\", "\\'", "';", "'--", "' --", "'/*", "*/", "/* x */", "--", "#", ";", ";;",
    "' OR '1'='1", "' OR 1=1 --", '" OR ""="', "') OR ('1'='1", "' OR ''='", "1 OR 1=1", "1; DROP TABLE frames",
    "'; DROP TABLE frames; --", "' UNION SELECT name FROM frames --", "' UNION ALL SELECT NULL, NULL --",
    "'||(SELECT max(name) FROM frames)||'", "' || 'a", "'+'1", "a' AND sleep(5) --", "'; ATTACH 'x.db' AS x; --",
    "'; COPY frames TO 'out.csv'; --", "'; INSTALL httpfs; LOAD httpfs; --", "'; SET threads=1; --",
    "'; PRAGMA database_list; --", "read_csv('/etc/passwd')", "'||read_text('/etc/passwd')||'", "$1", "$name", ":name",
    ":name)--", "?", "??", "@x", "{{7*7}}", "${7*7}", "%s", "%(name)s", "%n%n%n", "{0}", "{name}", "\n", "\r\n", "\t",
    "a\nSELECT 1", "\u2019 OR 1=1", "\u02bc; DROP", "\uff07 OR 1=1", "\u202e' OR 1=1", "\ufeff'", "N'x'", "E'\\''",
    "U&'\\0027'", "x'27'", "$$ OR 1=1 $$", "chr(39) || 'x'", "NULL", "null", "true", "a" * 5000, "'" * 3000,
    "nights", "frames; --", "0x27", "CAST(1 AS varchar)", "1e309", "\x1b[31m", "\x7f",
    "'; CALL system.runtime.kill_query('x'); --", "' FROM system.runtime.nodes --", '"frames$snapshots"', "a''b",
    "'; EXECUTE IMMEDIATE 'DROP TABLE frames'; --", "' FOR VERSION AS OF 1 --", "\U0001f52d' OR '1'='1", "'" * 4,
    "&apos; OR 1=1", "%27%20OR%201=1", "a\x0bb", "x" * 4000 + "' OR '1'='1",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE_VALUES, ids=range(len(HOSTILE_VALUES)))
def test_a_hostile_value_is_only_text(engine: SqlEngine, text: str) -> None:
    rows = engine.query("SELECT :v, length(:v), count(*) FROM frames WHERE name = :v", {"v": text}).rows
    assert list(rows) == [(text, len(text), 0)]


@pytest.mark.parametrize("text", HOSTILE_VALUES[::5], ids=range(len(HOSTILE_VALUES[::5])))
def test_a_hostile_value_is_only_text_to_a_named_query(engine: SqlEngine, text: str) -> None:
    assert not engine.query(*CATALOG.bind("verdict_history", {"frame_id": text})).rows
    assert len(engine.query(*CATALOG.bind("header_keyword", {"keyword": text})).rows) == 1


@pytest.mark.parametrize("text", HOSTILE_VALUES, ids=range(len(HOSTILE_VALUES)))
def test_a_hostile_value_is_no_number_time_or_name(text: str) -> None:
    for name, parameter in (
        ("frames_of_a_field", "zone"),
        ("flagged_per_night", "first_night"),
        ("frames_in_cone", "ra"),
    ):
        with pytest.raises(UsageError):
            CATALOG.bind(name, {parameter: text})
    with pytest.raises(UsageError):
        CATALOG.query(text)


HOSTILE_STATEMENTS = [
    "INSERT INTO frames VALUES ('x')", "UPDATE frames SET name = 'x'", "DELETE FROM frames", "DROP TABLE frames",
    "MERGE INTO frames USING verdicts ON true WHEN MATCHED THEN DELETE", "TRUNCATE TABLE frames",
    "CREATE TABLE x AS SELECT 1", "CREATE VIEW x AS SELECT 1", "CREATE MACRO f() AS 1", "CREATE SECRET s (TYPE s3)",
    "ALTER TABLE frames ADD COLUMN x int", "SELECT 1 INTO x FROM frames", "SELECT * FROM frames FOR UPDATE",
    "COPY frames TO 'x.csv'", "COPY (SELECT 1) TO 'x.csv'", "COPY frames FROM 'x.csv'", "EXPORT DATABASE 'x'",
    "IMPORT DATABASE 'x'", "ATTACH 'x.db'", "ATTACH 'x.db' AS x", "DETACH x", "USE x", "INSTALL httpfs",
    "LOAD httpfs", "FORCE INSTALL httpfs", "UPDATE EXTENSIONS", "SET threads = 1", "SET SESSION a = 'b'",
    "RESET threads", "PRAGMA database_list", "PRAGMA enable_external_access", "CALL pragma_version()", "CHECKPOINT",
    "VACUUM", "ANALYZE", "BEGIN", "COMMIT", "PREPARE p AS SELECT 1", "EXECUTE p", "DEALLOCATE p",
    "GRANT ALL ON x TO y",
    "EXPLAIN SELECT 1", "EXPLAIN ANALYZE SELECT 1", "SUMMARIZE frames", "PIVOT frames ON name", "SHOW CATALOGS",
    "SHOW CREATE TABLE frames", "DESCRIBE SELECT 1",
    "WITH x AS (INSERT INTO frames VALUES ('x') RETURNING 1) SELECT * FROM x",
    "SELECT 1; SELECT 2", "SELECT 1; DROP TABLE frames", "SELECT 1 -- x\n; DROP TABLE frames", "", " ", ";", "-- x",
    "SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM read_csv_auto('/etc/passwd')",
    "SELECT * FROM read_parquet('x')", "SELECT * FROM parquet_scan('x')", "SELECT * FROM read_json('x')",
    "SELECT * FROM read_text('/etc/passwd')", "SELECT * FROM read_blob('/etc/passwd')", "SELECT * FROM glob('*')",
    "SELECT * FROM sniff_csv('x')", "SELECT * FROM '/etc/passwd'", 'SELECT * FROM "/etc/passwd"',
    "SELECT * FROM 'x.parquet'", "SELECT * FROM sqlite_scan('x', 'y')", "SELECT * FROM iceberg_scan('x')",
    "SELECT * FROM query('SELECT 1')", "SELECT * FROM query_table('frames')", "SELECT * FROM duckdb_settings()",
    "SELECT * FROM pragma_database_list()", "SELECT * FROM TABLE(read_csv('x'))", "SELECT * FROM range(10)",
    "SELECT * FROM frames, LATERAL read_csv('x')", "SELECT 1 IN (SELECT * FROM read_csv('x'))",
    "SELECT (SELECT count(*) FROM read_csv('x'))", "WITH x AS (SELECT * FROM read_csv('x')) SELECT * FROM x",
    "SELECT read_csv('x')", "SELECT read_text('/etc/passwd')", "SELECT getenv('HOME')", "SELECT getvariable('x')",
    "SELECT current_setting('memory_limit')", "SELECT nextval('x')", "SELECT columns('.*') FROM frames",
    "SELECT oddframe_slice(ARRAY[1], 1, 1)", "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_catalog.pg_tables", "SELECT * FROM duckdb_tables", "SELECT * FROM sqlite_master",
    "SELECT * FROM main.frames", "SELECT ?", "SELECT @x", "SELECT $1", "SELECT * FROM :v",
    "SELECT 1 AS x FROM frames AS :v",
    "SELECT 'a", 'SELECT "a', "SELECT /* x", "SELECT (1", "SELECT 1)", "SELECT \x00", "SELECT 1 FROM",
    "SELECT '" + "x" * 200_000 + "'", "SELECT * FROM frames FOR VERSION AS OF 1",
    "SELECT * FROM frames FOR TIMESTAMP AS OF TIMESTAMP '2024-01-01 00:00:00 UTC'", "SHOW SESSION",
    'SELECT * FROM "frames$files"', 'SELECT * FROM "frames$snapshots"', 'SELECT * FROM oddframe."frames$history"',
    "SELECT * FROM system.runtime.queries", "SELECT * FROM lake.information_schema.tables", "SHOW FUNCTIONS",
    "CALL system.runtime.kill_query(query_id => 'x', message => 'y')", "SET SESSION query_max_run_time = '9h'",
    "RESET SESSION query_max_run_time", "SET ROLE ALL", "START TRANSACTION", "ROLLBACK", "SHOW GRANTS",
    "PREPARE p FROM DROP TABLE frames", "EXECUTE IMMEDIATE 'DROP TABLE frames'", "DEALLOCATE PREPARE p",
    "SELECT * FROM TABLE(lake.system.query('x'))", "REFRESH MATERIALIZED VIEW x", "CREATE ROLE x", "SHOW SCHEMAS",
    "CREATE FUNCTION x() RETURNS bigint RETURN 1", "EXPLAIN (TYPE DISTRIBUTED) SELECT 1", "DROP SCHEMA oddframe",
    "ALTER SCHEMA oddframe RENAME TO x", "CREATE SCHEMA x", "DROP VIEW nights", "REVOKE ALL ON frames FROM x",
    "INSERT INTO lake.oddframe.frames SELECT * FROM frames", "DELETE FROM lake.oddframe.frames WHERE true",
    "DESCRIBE INPUT p", "SHOW STATS FOR frames",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE_STATEMENTS, ids=lambda text: text[:60].replace("\x00", "NUL"))
def test_a_statement_that_does_more_than_read_is_refused_in_one_line(engine: SqlEngine, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        engine.query(text)
    assert "\n" not in str(caught.value)
    assert 0 < len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "text",
    [
        "WITH RECURSIVE t (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
        (
            "SELECT count(*) FROM unnest(sequence(1, 100000)) AS a (x) CROSS JOIN unnest(sequence(1, 100000)) AS b (y)"
            " CROSS JOIN unnest(sequence(1, 1000)) AS c (z) WHERE x * y % 7 = z"
        ),
        "SELECT cardinality(sequence(1, 100000000000))",
        "SELECT array_agg(rpad(cast(x AS varchar), 9999, 'x')) FROM unnest(sequence(1, 1000000)) AS t (x)",
        "SELECT rpad('x', 2000000000, 'y')",
        "SELECT rpad('x', 1000 * 1000 * 1000, 'y')",
        "SELECT repeat('x', 2000000000)",
        "SELECT " + "(" * 5000 + "1" + ")" * 5000,
        "SELECT " + "array[" * 30 + "1" + "]" * 30,
        "SELECT " + ", ".join(["array[" * 12 + "1" + "]" * 12] * 100),
        "SELECT " + "row(" * 30 + "1" + ")" * 30,
        "SELECT " + "NOT " * 5000 + "true",
        "SELECT " + "- " * 5000 + "1",
        "SELECT " + "CASE WHEN true THEN " * 500 + "1" + " END" * 500,
        "SELECT " + " + ".join(["1"] * 5000),
        "SELECT * FROM " + "(SELECT * FROM " * 100 + "frames" + ")" * 100,
    ],
    ids=range(16),
)
def test_a_costly_statement_ends_soon(engine: SqlEngine, text: str) -> None:
    started = monotonic()
    # An array longer than Java can count is an internal error to Presto.
    with pytest.raises((UsageError, StoreError) if isinstance(engine, PrestoSql) else UsageError) as caught:
        engine.query(text)
    assert monotonic() - started < 30
    assert "\n" not in str(caught.value)


def test_a_statement_over_its_time_says_so(engine: SqlEngine) -> None:
    # Presto makes no longer sequences.
    slow = (
        "SELECT count(*) FROM unnest(sequence(1, 9999)) AS a (x) CROSS JOIN unnest(sequence(1, 9999)) AS b (y) "
        "CROSS JOIN unnest(sequence(1, 9999)) AS c (z) WHERE x % (y + z) = 3"
    )
    with pytest.raises(UsageError, match=r"stopped after \d+ s: narrow it"):
        engine.query(slow)


def test_the_corpus_is_large() -> None:
    assert len({*HOSTILE_VALUES, *HOSTILE_STATEMENTS}) >= 200


def test_the_embedded_engine_reaches_nothing_even_past_the_checks() -> None:
    embedded = open_engine("duckdb")
    assert isinstance(embedded, DuckDbSql)
    with embedded._connect({}) as connection:
        for text in (
            "SELECT * FROM read_csv('/etc/passwd')", "COPY (SELECT 1) TO 'x.csv'", "ATTACH 'x.db'", "INSTALL httpfs",
            "LOAD httpfs", "SET enable_external_access = true", "SET lock_configuration = false", "SET threads = 8",
            "RESET memory_limit", "SELECT * FROM engine", "SELECT * FROM glob('/*')", "EXPORT DATABASE 'x'",
        ):  # fmt: skip
            with pytest.raises(Exception, match=r"(?i)disabled|locked|does not exist|cannot|not allowed|permission"):
                connection.execute(text).fetchall()


TEXTS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00"), max_size=200)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
RELAXED = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@RELAXED
@given(st.tuples(TEXTS, st.integers(-(2**63), 2**63 - 1), NUMBERS, st.booleans(), st.dates()))
def test_every_value_comes_back_as_it_went_in(engine: SqlEngine, row: tuple[str, int, float, bool, date]) -> None:
    values: dict[str, Value] = dict(zip("twryd", row, strict=True))
    assert engine.query("SELECT :t, :w, :r, :y, :d", values).rows[0] == row


@RELAXED
@given(st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31)))  # noqa: DTZ001
def test_every_time_comes_back_in_milliseconds(engine: SqlEngine, moment: datetime) -> None:
    row = engine.query("SELECT :m", {"m": moment}).rows[0]
    assert row == (moment.replace(microsecond=moment.microsecond // 1000 * 1000),)


@RELAXED
@given(TEXTS)
def test_any_text_at_all_is_answered_or_refused(engine: SqlEngine, text: str) -> None:
    for statement in (text, f"SELECT {text}", f"SELECT name FROM frames WHERE {text}", f"SELECT 1 FROM {text}"):  # noqa: S608
        assert "\n" not in refusal_of(engine, statement)
