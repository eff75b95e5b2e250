"""What an ill-meaning caller may try: through values, through the statement, and through its cost."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from secrets import token_hex
from time import monotonic

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import StoreError, UsageError
from pipeline.parts import open_tables
from pipeline.settings import Settings
from pipeline.store.sql_duckdb import DuckDbSql
from pipeline.store.sql_engine import SqlEngine
from pipeline.store.sql_parameters import Value
from pipeline.store.sql_presto import PrestoSql
from tests.contract.corpora import SQL_STATEMENTS, SQL_VALUES, Hostile
from tests.contract.presto_says import list_statements
from tests.contract.rest_catalog import open_catalog
from tests.contract.sql_world import CATALOG, ENGINES, ROWS, open_engine, open_world
from tests.lake_tools import oddframe_here
from tests.stack import require_stack

VALUES = [one.text for one in SQL_VALUES]
REFUSED = [one for one in SQL_STATEMENTS if one.rows is None]
HARMLESS = [one for one in SQL_STATEMENTS if one.rows is not None]
# Nobody else asks the server under this name.
USER = f"hostile_{token_hex(6)}"


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> SqlEngine:
    if request.param == "duckdb":
        return open_engine("duckdb", seconds=2.0, memory_mb=256)
    # A cold Presto takes seconds to plan a view.
    return PrestoSql(replace(open_world(), user=USER), CATALOG, seconds=10.0)


def refusal_of(engine: SqlEngine, text: str) -> str:
    try:
        engine.query(text, limit=5)
    except UsageError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module", autouse=True)
def untouched(engine: SqlEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is written, no file is made, and the server is sent nothing but reading statements."""
    place = tmp_path_factory.mktemp("cwd")
    before = list_commits(engine)
    with contextlib.chdir(place):
        yield
    assert list(place.iterdir()) == []
    assert list_commits(engine) == before
    assert engine.query("SELECT count(*) FROM frames").rows[0][0] == len(ROWS["frames"])
    if isinstance(engine, PrestoSql):
        sent = [one for one in list_statements(open_world()) if one["session"]["user"] == USER]
        assert sent
        assert {one["query"].split(maxsplit=1)[0] for one in sent} <= {"SELECT", "WITH", "(SELECT"}
        assert {one.get("updateType") for one in sent} == {None}


def list_commits(engine: SqlEngine) -> dict[str, int | None]:
    """The tables there are, each with its newest commit."""
    if not isinstance(engine, PrestoSql):
        return {}
    catalog = open_catalog(require_stack())
    assert ("x",) not in catalog.list_namespaces()
    found = {}
    for name in catalog.list_tables(open_world().schema):
        snapshot = catalog.load_table(name).current_snapshot()
        found[name[-1]] = snapshot.snapshot_id if snapshot else None
    catalog.close()
    assert sorted(found) == sorted(ROWS)
    return found


@pytest.mark.parametrize("text", VALUES, ids=range(len(VALUES)))
def test_a_hostile_value_is_only_text(engine: SqlEngine, text: str) -> None:
    rows = engine.query("SELECT :v, length(:v), count(*) FROM frames WHERE name = :v", {"v": text}).rows
    assert list(rows) == [(text, len(text), 0)]


@pytest.mark.parametrize("text", VALUES[::5], ids=range(len(VALUES[::5])))
def test_a_hostile_value_is_only_text_to_a_named_query(engine: SqlEngine, text: str) -> None:
    assert not engine.query(*CATALOG.bind("verdict_history", {"frame_id": text})).rows
    assert len(engine.query(*CATALOG.bind("header_keyword", {"keyword": text})).rows) == 1


@pytest.mark.parametrize("text", VALUES, ids=range(len(VALUES)))
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


@pytest.mark.parametrize("hostile", REFUSED, ids=lambda one: ascii(one.text)[:60])
def test_a_statement_that_does_more_than_read_is_refused_in_one_line(engine: SqlEngine, hostile: Hostile) -> None:
    with pytest.raises(UsageError) as caught:
        engine.query(hostile.text)
    assert "\n" not in str(caught.value)
    assert 0 < len(str(caught.value)) < 400


@pytest.mark.parametrize("hostile", HARMLESS, ids=lambda one: ascii(one.text)[:60])
def test_what_only_looks_like_more_is_read_as_what_it_is(engine: SqlEngine, hostile: Hostile) -> None:
    assert [list(row) for row in engine.query(hostile.text).rows] == hostile.rows


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


@pytest.mark.parametrize("engine_name", ENGINES)
def test_a_hostile_value_of_the_command_is_only_text(
    engine_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine_name == "presto":
        stack = require_stack()
        for name, value in {
            "PROFILE": "full", "STORES__NAMESPACE": open_world().schema, "STACK__DATA": str(stack.data),
            "STACK__FIRST_PORT": str(stack.first_port), "PRESTO__USER": USER,
        }.items():  # fmt: skip
            monkeypatch.setenv(f"ODDFRAME_{name}", value)
    else:
        open_tables(Settings().model_copy(update={"home": tmp_path})).close()
    # A server takes its time with each; the engine above has met them all.
    for text in VALUES if engine_name == "duckdb" else VALUES[::9]:
        asked = ("sql", "SELECT :v AS v, length(:v) AS n", "--set", f"v={text}", "--json")
        done = oddframe_here(*asked, home=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), ascii(text[:60])
        assert json.loads(done.stdout) == {"v": text, "n": len(text)}


def test_the_corpora_are_large() -> None:
    assert len({one.text for one in SQL_VALUES}) == len(SQL_VALUES) >= 200
    assert len({one.text for one in SQL_STATEMENTS}) == len(SQL_STATEMENTS) >= 300
    assert all(one.why for one in (*SQL_VALUES, *SQL_STATEMENTS))
    assert len(HARMLESS) >= 15


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
