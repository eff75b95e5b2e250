"""What only Presto has: a network that fails, statements that go on without us, tables that others write."""

# ruff: noqa: DTZ001 - times are naive UTC throughout, as the tables have them

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_hex
from threading import Thread
from typing import Any

import pytest
import requests
from prestodb.exceptions import PrestoQueryError
from pyiceberg.table import Table
from pyiceberg.types import StringType

from pipeline.errors import StoreError, TransientError, UsageError
from pipeline.store.sql_presto import PrestoSql
from pipeline.store.sql_presto_client import PrestoServer, run_statement
from pipeline.store.sql_presto_faults import name_fault
from pipeline.store.sql_presto_values import read_columns, read_rows
from pipeline.store.tables_iceberg import IcebergTables
from tests.contract.interrupts import interrupt_after
from tests.contract.presto_says import states, wait_for_end, why_failed
from tests.contract.rest_catalog import lend_namespace, open_catalog, open_shared
from tests.contract.sql_world import CATALOG, embed, open_world
from tests.stack import require_stack

MANY = "FROM unnest(sequence(1, 9999)) AS a (x) CROSS JOIN unnest(sequence(1, 9999)) AS b (y)"
# So long that it never ends by itself here, and answers nothing until then.
SLOW = f"SELECT count(*) {MANY} CROSS JOIN unnest(sequence(1, 9999)) AS c (z) WHERE x % (y + z) = 3"


@pytest.fixture(scope="module")
def server() -> PrestoServer:
    return open_world()


@pytest.fixture(scope="module")
def engine(server: PrestoServer) -> PrestoSql:
    return PrestoSql(server, CATALOG)


def new_mark() -> str:
    return f"'{token_hex(8)}'"


@dataclass
class Relay:
    """A way to the real server on which some requests fail."""

    server: PrestoServer
    cut: dict[tuple[str, int], int] = field(default_factory=dict)
    """(method, number from 1) -> status to answer with, 0 to hang up."""
    seen: list[str] = field(default_factory=list)


@pytest.fixture
def relay(server: PrestoServer) -> Iterator[tuple[Relay, PrestoSql]]:
    state = Relay(server)

    class Handler(BaseHTTPRequestHandler):
        def pass_on(self) -> None:
            state.seen.append(self.command)
            fault = state.cut.get((self.command, state.seen.count(self.command)))
            if fault == 0:
                self.close_connection = True
                return
            if fault is not None:
                self.send_error(fault)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = requests.request(
                self.command, server.url + self.path, data=body, headers=dict(self.headers), timeout=20
            )
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_DELETE = pass_on  # noqa: N815 - as the base class has them

        def log_message(self, *_: Any) -> None:
            pass

    gate = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=gate.serve_forever, daemon=True).start()
    near = PrestoServer("127.0.0.1", gate.server_port, schema=server.schema)
    yield state, PrestoSql(near, CATALOG)
    gate.shutdown()
    gate.server_close()


@pytest.mark.parametrize("fault", [0, 503, 502])
# A third request may bring the rows already, on a machine that has nothing else to do.
@pytest.mark.parametrize("place", [("POST", 1), ("GET", 1)])
def test_a_connection_that_fails_before_the_first_row_is_tried_again(
    relay: tuple[Relay, PrestoSql], fault: int, place: tuple[str, int]
) -> None:
    state, engine = relay
    state.cut[place] = fault
    assert list(engine.query(f"SELECT count(*) {MANY} WHERE x % 3 = 0").rows) == [(3333 * 9999,)]
    assert state.seen.count("POST") == 2


def test_a_connection_that_fails_after_the_first_row_is_not_tried_again(relay: tuple[Relay, PrestoSql]) -> None:
    state, engine = relay
    with engine.stream(f"SELECT x {MANY}") as answer:
        assert next(answer.rows)
        state.cut |= {("GET", number): 0 for number in range(state.seen.count("GET") + 1, 1000)}
        with pytest.raises(TransientError, match="no Presto server answers at"):
            list(answer.rows)
    assert state.seen.count("POST") == 1
    assert state.seen[-1] == "DELETE"


def test_a_wrong_statement_is_not_tried_again(relay: tuple[Relay, PrestoSql]) -> None:
    state, engine = relay
    with pytest.raises(UsageError, match="division by zero"):
        engine.query("SELECT 1 / (zone - zone) FROM frames")
    assert state.seen.count("POST") == 1


def test_a_server_that_stays_away_is_told_in_one_line(relay: tuple[Relay, PrestoSql], server: PrestoServer) -> None:
    state, engine = relay
    state.cut = {("POST", number): 503 for number in range(10)}
    with pytest.raises(TransientError, match="is busy or starting: HTTP 503"):
        engine.query("SELECT 1")
    assert state.seen.count("POST") == 3
    with pytest.raises(TransientError, match=r"no Presto server answers at http://127\.0\.0\.1:1/.* refused$"):
        PrestoSql(PrestoServer("127.0.0.1", 1), CATALOG).query("SELECT 1")
    wrong = PrestoServer("127.0.0.1", require_stack().port("catalog"))
    with pytest.raises(StoreError, match="Presto server"):
        PrestoSql(wrong, CATALOG).query("SELECT 1")


def test_rows_are_read_as_they_come_and_the_rest_is_cancelled(engine: PrestoSql, server: PrestoServer) -> None:
    mark, cut = new_mark(), new_mark()
    with engine.stream(f"SELECT x, y, {mark} AS mark {MANY}") as answer:
        assert [column.type for column in answer.columns] == ["bigint", "bigint", "varchar"]
        assert len(next(answer.rows)) == 3
        assert states(server, mark) == ["RUNNING"]
    assert wait_for_end(server, mark) == ["FAILED"]
    assert len(engine.query(f"SELECT x, y, {cut} AS mark {MANY}", limit=7).rows) == 7
    assert wait_for_end(server, cut) == ["FAILED"]


def test_an_interrupt_cancels_the_statement(engine: PrestoSql, server: PrestoServer) -> None:
    mark = new_mark()
    with pytest.raises(KeyboardInterrupt), interrupt_after(2.0):
        engine.query(f"{SLOW} AND {mark} <> ''")
    assert why_failed(server, mark) == ["USER_CANCELED"]


def test_a_statement_over_its_time_is_cancelled(server: PrestoServer) -> None:
    mark = new_mark()
    with pytest.raises(UsageError, match="stopped after 2 s"):
        PrestoSql(server, CATALOG, seconds=2.0).query(f"{SLOW} AND {mark} <> ''")
    assert wait_for_end(server, mark) == ["FAILED"]


def test_threads_may_share_an_engine(engine: PrestoSql) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: engine.query("SELECT :n, count(*) FROM frames", {"n": n}).rows[0], range(8)))
    assert answers == [(n, 8) for n in range(8)]


@pytest.fixture
def fresh() -> Iterator[tuple[IcebergTables, PrestoSql]]:
    stack = require_stack()
    with lend_namespace(stack) as namespace:
        tables = open_shared(stack, namespace)
        yield tables, PrestoSql(PrestoServer("127.0.0.1", stack.port("presto"), schema=namespace), CATALOG)
        tables.close()


def test_presto_sees_what_was_written_a_moment_ago(fresh: tuple[IcebergTables, PrestoSql]) -> None:
    tables, engine = fresh

    def ask() -> list[str]:
        return [row[0] for row in engine.query("SELECT verdict_id FROM detections ORDER BY 1").rows]

    assert ask() == []
    for number in range(1, 6):
        tables.append("detections", [{"verdict_id": f"v{number}", "frame_id": "f"}])
        assert ask() == [f"v{n}" for n in range(1, number + 1)]
    tables.delete("detections", {"verdict_id": ["v5", "v1"]})
    assert ask() == ["v2", "v3", "v4"]
    tables.rewrite("detections", {}, tables.scan("detections", where={"verdict_id": ["v2"]}))
    assert ask() == ["v2"]
    with tables.raw("detections").update_schema() as update:
        update.add_column("later", StringType())
    assert ask() == ["v2"]


def test_the_definitions_in_sql_make_on_presto_what_iceberg_makes_here() -> None:
    stack = require_stack()
    with lend_namespace(stack) as ours, lend_namespace(stack) as theirs:
        open_shared(stack, ours).close()
        catalog = open_catalog(stack)
        catalog.create_namespace(theirs)
        server = PrestoServer("127.0.0.1", stack.port("presto"), schema=theirs)
        for name, file in sorted(CATALOG.schema.items()):
            # Sent as it stands: the engine lets no such statement through.
            with run_statement(server, file.text, 30.0, "stopped") as answer:
                list(answer.pages())
            made, meant = (catalog.load_table(f"{namespace}.{name}") for namespace in (theirs, ours))
            assert describe(made) == describe(meant), name
        catalog.close()


def describe(table: Table) -> tuple[list[tuple[str, str, bool]], list[str]]:
    """Columns without the numbers that a catalogue gives them, and the partitioning in words."""
    schema = table.schema()
    columns = [(f.name, re.sub(r"\d+: ", "", str(f.field_type)), f.required) for f in schema.fields]
    parts = [f"{f.transform}({schema.find_column_name(f.source_id)})" for f in table.spec().fields]
    return columns, parts


def test_both_engines_read_the_same_of_what_iceberg_holds(fresh: tuple[IcebergTables, PrestoSql]) -> None:
    tables, engine = fresh
    moments = (
        datetime(1955, 3, 1, 2, 3, 4, 567_890), datetime(1969, 12, 31, 23, 59, 59, 999_999), datetime(1, 1, 1),
        datetime(2024, 2, 29, 1, 2, 3, 999_999), datetime(9998, 12, 31, 23, 59, 59, 999_999),
    )  # fmt: skip
    rows: list[dict[str, Any]] = [
        {
            "frame_id": f"f{number}", "obs_time": moment, "night": moment.date(), "zones": [None, 2**62], "notes": [],
            "header": {"A": None, "": "ä\n\t'\"🔭", "Z": ""}, "exposure_s": 0.1 + 0.2, "ra": float("nan"),
            "dec": float("-inf"), "width": -(2**31), "zone": -(2**63), "name": "x" * 5000,
        }
        for number, moment in enumerate(moments)
    ]  # fmt: skip
    tables.append("frames", rows)
    for text in (
        "SELECT * FROM frames ORDER BY frame_id",
        "SELECT f.*, f.obs_time + INTERVAL '1' DAY FROM frames AS f ORDER BY frame_id",
    ):
        both = [each.query(text) for each in (embed(tables), engine)]
        assert both[0].columns == both[1].columns
        # As text, because no NaN is equal to itself.
        assert [show(row) for row in both[0].rows] == [show(row) for row in both[1].rows]


def show(row: tuple[Any, ...]) -> str:
    return repr([sorted(value.items()) if isinstance(value, dict) else value for value in row])


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("USER_ERROR", "SYNTAX_ERROR", UsageError), ("INSUFFICIENT_RESOURCES", "EXCEEDED_TIME_LIMIT", UsageError),
        ("INSUFFICIENT_RESOURCES", "EXCEEDED_LOCAL_MEMORY_LIMIT", UsageError),
        ("INSUFFICIENT_RESOURCES", "QUERY_QUEUE_FULL", TransientError),
        ("INSUFFICIENT_RESOURCES", "CLUSTER_OUT_OF_MEMORY", TransientError),
        ("INTERNAL_ERROR", "NO_NODES_AVAILABLE", TransientError),
        ("INTERNAL_ERROR", "SERVER_SHUTTING_DOWN", TransientError),
        ("INTERNAL_ERROR", "GENERIC_INTERNAL_ERROR", StoreError),
        ("EXTERNAL", "ICEBERG_FILESYSTEM_ERROR", TransientError),
        ("EXTERNAL", "ICEBERG_BAD_DATA", StoreError), ("EXTERNAL", "ICEBERG_INVALID_SNAPSHOT_ID", StoreError),
    ],
)  # fmt: skip
def test_an_error_is_of_our_tree_and_one_line(kind: str, name: str, expected: type[Exception]) -> None:
    told = {"errorType": kind, "errorName": name, "message": "line 1:2: it\nfailed"}
    fault = name_fault(PrestoQueryError(told), "it was stopped")
    assert type(fault) is expected
    assert ("it was stopped" if name == "EXCEEDED_TIME_LIMIT" else "it failed") in str(fault)
    assert "\n" not in str(fault)
    assert "line 1:2" not in str(fault)


def test_values_of_every_kind_are_read(engine: PrestoSql) -> None:
    row = engine.query(
        "SELECT map(ARRAY[1], ARRAY[NULL]), map(ARRAY[true], ARRAY[DATE '2024-01-02']), CAST(NULL AS array(bigint)), "
        "INTERVAL '1 02:03:04.5' DAY TO SECOND, TIMESTAMP '2024-06-01 12:00:00 Europe/Berlin', "
        "TIMESTAMP '2024-06-01 12:00:00 +02:00', ARRAY[nan(), infinity(), -infinity(), NULL], json_parse('[1, 2]')"
    ).rows[0]
    noon = datetime(2024, 6, 1, 10, tzinfo=UTC)
    length = timedelta(days=1, hours=2, minutes=3, seconds=4.5)
    assert row[:6] == ({1: None}, {True: date(2024, 1, 2)}, None, length, noon, noon)
    assert [str(number) for number in row[6]] == ["nan", "inf", "-inf", "None"]
    assert row[7] == "[1,2]"


def test_a_value_that_python_lacks_is_told(engine: PrestoSql) -> None:
    with pytest.raises(StoreError, match="answered with a value that cannot be read"):
        engine.query("SELECT DATE '9999-12-31' + INTERVAL '1' DAY")
    columns, types = read_columns([{"name": "A", "typeSignature": {"rawType": "bigint"}}])
    assert (columns[0].name, columns[0].type) == ("a", "bigint")
    with pytest.raises(StoreError):
        read_rows(types, [[1, 2]])
