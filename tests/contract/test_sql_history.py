"""Asking of tables as they were: by a snapshot or a time, on every engine with equal answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep

import pyarrow as pa
import pytest

from pipeline.errors import UsageError
from pipeline.store.catalog_sqlite import open_sqlite_catalog
from pipeline.store.maintenance_iceberg import IcebergMaintenance
from pipeline.store.sql_duckdb import DuckDbSql
from pipeline.store.sql_engine import SqlEngine
from pipeline.store.sql_history import AsOf, TableHistory, read_as_of
from pipeline.store.sql_presto import PrestoSql
from pipeline.store.sql_presto_client import PrestoServer
from pipeline.store.tables_iceberg import IcebergTables
from tests.contract.rest_catalog import lend_namespace, open_shared
from tests.contract.sql_world import CATALOG, ENGINES, embed
from tests.stack import require_stack


@dataclass
class World:
    """Tables in which a verdict and a delivery follow each other, and when that was."""

    engine: SqlEngine
    tables: IcebergTables
    before: datetime
    verdict: int
    between: datetime
    delivery: int
    second: int


def now() -> datetime:
    # Snapshots are told apart by milliseconds.
    sleep(0.02)
    moment = datetime.now(UTC).replace(tzinfo=None)
    sleep(0.02)
    return moment


def append(tables: IcebergTables, table: str, number: int) -> int:
    rows = {
        "verdicts": {"verdict_id": f"v{number}", "embedding": "pixels", "judged_at": datetime(2024, 1, number)},  # noqa: DTZ001
        "deliveries": {"source_partition": "p", "source_offset": number},
    }
    snapshot = tables.append(table, [{"frame_id": f"f{number}", **rows[table]}])
    assert snapshot is not None
    return snapshot


@pytest.fixture(scope="module", params=ENGINES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as held:
        if request.param == "duckdb":
            home = tmp_path_factory.mktemp("home")
            tables = IcebergTables(open_sqlite_catalog(home / "catalog.db", home / "warehouse"))
            tables.create_missing()
            engine: SqlEngine = embed(tables)
        else:
            stack = require_stack()
            namespace = held.enter_context(lend_namespace(stack))
            tables = open_shared(stack, namespace)
            server = PrestoServer("127.0.0.1", stack.port("presto"), schema=namespace)
            engine = PrestoSql(server, CATALOG, history=TableHistory(tables.raw))
        before = now()
        verdict = append(tables, "verdicts", 1)
        between = now()
        delivery = append(tables, "deliveries", 1)
        now()
        second = append(tables, "verdicts", 2)
        yield World(engine, tables, before, verdict, between, delivery, second)
        tables.close()


BOTH = "SELECT (SELECT count(*) FROM verdicts AS v), (SELECT count(*) FROM deliveries)"


def counts(world: World, as_of: AsOf | None) -> tuple[int, int]:
    ((verdicts, deliveries),) = world.engine.query(BOTH, as_of=as_of).rows
    return verdicts, deliveries


def test_a_time_shows_every_table_as_it_was_then(world: World) -> None:
    assert counts(world, world.before) == (0, 0)
    assert counts(world, world.between) == (1, 0)
    assert counts(world, world.between.replace(tzinfo=UTC)) == (1, 0)
    assert counts(world, datetime.now(UTC)) == counts(world, None) == (2, 1)


def test_a_snapshot_shows_its_own_table_and_the_others_at_its_moment(world: World) -> None:
    assert counts(world, world.verdict) == (1, 0)
    assert counts(world, world.delivery) == (1, 1)
    assert counts(world, world.second) == (2, 1)


def test_a_snapshot_of_a_table_that_is_not_asked_gives_the_moment(world: World) -> None:
    assert list(world.engine.query("SELECT verdict_id FROM verdicts", as_of=world.delivery).rows) == [("v1",)]


def test_views_joins_aliases_and_parameters_work_on_old_tables(world: World) -> None:
    text = (
        "SELECT l.verdict_id, d.source_offset FROM latest_verdicts AS l LEFT JOIN oddframe.deliveries AS d "
        "ON d.frame_id = l.frame_id WHERE l.frame_id >= :first ORDER BY l.verdict_id"
    )

    def ask(as_of: AsOf | None) -> list[tuple[object, ...]]:
        return list(world.engine.query(text, {"first": "f1"}, as_of=as_of).rows)

    assert ask(world.before) == []
    assert ask(world.between) == [("v1", None)]
    assert ask(world.delivery) == [("v1", 1)]
    assert ask(None) == [("v1", 1), ("v2", None)]


def test_an_empty_table_of_old_has_its_columns(world: World) -> None:
    old, new = (world.engine.query("SELECT * FROM verdicts", as_of=as_of) for as_of in (world.before, None))
    assert (list(old.rows), len(new.rows)) == ([], 2)
    assert old.columns == new.columns


def test_a_snapshot_that_no_table_has_is_told(world: World) -> None:
    with pytest.raises(UsageError, match="no table has a snapshot 5"):
        world.engine.query(BOTH, as_of=5)


def test_an_engine_without_a_history_refuses() -> None:
    engine = DuckDbSql(lambda *_: pa.table({}), CATALOG)
    with pytest.raises(UsageError, match="keep no snapshots"):
        engine.query(BOTH, as_of=5)


def test_a_time_before_expired_snapshots_is_refused_not_taken_for_empty(tmp_path: Path) -> None:
    tables = IcebergTables(open_sqlite_catalog(tmp_path / "catalog.db", tmp_path / "warehouse"))
    tables.create_missing()
    append(tables, "verdicts", 1)
    then = now()
    gone = append(tables, "verdicts", 2)
    kept = append(tables, "verdicts", 3)
    IcebergMaintenance(tables).expire("verdicts", datetime(2100, 1, 1))  # noqa: DTZ001 - as the tables have times
    engine = embed(tables)
    with pytest.raises(UsageError, match=r"the snapshots of verdicts before \d{4}-.* are gone"):
        engine.query("SELECT 1 FROM verdicts", as_of=then)
    with pytest.raises(UsageError, match="no table has a snapshot"):
        engine.query("SELECT 1 FROM verdicts", as_of=gone)
    assert len(engine.query("SELECT 1 FROM verdicts", as_of=kept).rows) == 3
    # A table that never had a row was empty at any time.
    assert not engine.query("SELECT 1 FROM frames", as_of=then - timedelta(days=1)).rows
    tables.close()


def test_what_users_write_is_a_snapshot_or_a_time() -> None:
    assert read_as_of(" 7857550471676621825 ") == 7857550471676621825
    assert read_as_of("2024-01-31T20:15:00+02:00") == datetime(2024, 1, 31, 18, 15)  # noqa: DTZ001
    assert read_as_of("2024-01-31") == datetime(2024, 1, 31)  # noqa: DTZ001
    for text in ("", "-5", "yesterday", "1.5", "' OR 1=1", "9" * 5000, "9999-12-31T23:59:59-23:00"):
        with pytest.raises(UsageError, match="is neither a snapshot nor a time"):
            read_as_of(text)
