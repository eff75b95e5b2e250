"""Tables full of small commits, in either catalogue, for tests of housekeeping."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pymilvus import MilvusClient

from pipeline.ports import SourcePosition
from pipeline.store.catalog_sqlite import open_sqlite_catalog
from pipeline.store.tables_iceberg import IcebergTables
from tests.contract.rest_catalog import lend_namespace, open_shared
from tests.stack import require_stack

START = datetime(2026, 3, 1, 12, 0, 0)  # noqa: DTZ001 - the tables keep naive UTC
PARTITION = "spool:/night"

OpenTables = Callable[[], IcebergTables]


@contextmanager
def lend_tables(catalogue: str, place: Path) -> Iterator[OpenTables]:
    """A way to open the tables of one lake, as often as it is called; `catalogue` is sqlite or rest."""
    opened: list[IcebergTables] = []
    if catalogue == "sqlite":

        def open_tables() -> IcebergTables:
            opened.append(IcebergTables(open_sqlite_catalog(place / "catalog.db", place / "ware house")))
            opened[-1].create_missing()
            return opened[-1]

        yield open_tables
    else:
        stack = require_stack()
        with lend_namespace(stack) as namespace:

            def open_tables() -> IcebergTables:
                opened.append(open_shared(stack, namespace))
                return opened[-1]

            yield open_tables
    for tables in opened:
        tables.close()


def frame(number: int, **changes: Any) -> dict[str, Any]:
    """A row of `frames`; two days and two instruments take turns."""
    return {
        "frame_id": f"{number:064x}",
        "name": f"{number}.fits",
        "obs_time": START + timedelta(days=number % 2),
        "instrument": f"cam/{number % 2} ?",
        "header": [("A", str(number)), ("A", "twice"), ("B", None)],
        "zones": [number, None],
        "fwhm_px": float("nan") if number % 3 else None,
        "ingested_at": START + timedelta(hours=number),
        **changes,
    }


def fill(tables: IcebergTables, table: str, commits: int, start: int = 0, **changes: Any) -> None:
    """So many commits of one row and one position each."""
    for number in range(start, start + commits):
        tables.append(table, [frame(number, **changes)], [SourcePosition(PARTITION, number)])


def read_rows(tables: IcebergTables, table: str = "frames", as_of: int | None = None) -> list[str]:
    """Every row as text, in an order that no file has a part in."""
    return sorted(repr(row) for row in tables.scan(table, as_of=as_of).to_pylist())


def list_files(tables: IcebergTables, table: str = "frames") -> set[Path]:
    """Every file below the table's location."""
    place = Path(urlsplit(tables.raw(table).location()).path)
    return {path for path in place.rglob("*") if path.is_file()}


def count_data_files(tables: IcebergTables, table: str = "frames") -> int:
    """Live ones."""
    return len(list(tables.raw(table).scan().plan_files()))


def drop_database(uri: str, name: str) -> None:
    """Take a database of a Milvus server away, with all that is in it."""
    client = MilvusClient(uri)
    if name in client.list_databases():
        inside = MilvusClient(uri, db_name=name)
        for collection in inside.list_collections():
            inside.drop_collection(collection)
        inside.close()
        client.drop_database(name)
    client.close()
