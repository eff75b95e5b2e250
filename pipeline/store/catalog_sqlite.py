"""An Iceberg catalogue in one SQLite file, for a lake on one machine."""

from __future__ import annotations

from pathlib import Path

import stamina
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy import URL
from sqlalchemy.exc import DatabaseError, OperationalError

from pipeline.errors import StoreError, TransientError
from pipeline.store.schema import NAMESPACE


def open_sqlite_catalog(database: Path, warehouse: Path) -> Catalog:
    """A catalogue in one SQLite file, data files under a local directory.

    Raises:
        TransientError: the file cannot be opened now.
        StoreError: it is no database.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    warehouse.mkdir(parents=True, exist_ok=True)
    # A path, not a URI: pyiceberg would take the %20 of a URI for part of the directory's name.
    place = str(warehouse.absolute())
    # Built, not pasted: a question mark in the path would end it there.
    uri = URL.create("sqlite", database=str(database), query={"timeout": "30"}).render_as_string()
    try:
        # Two processes on a fresh home both find nothing there; the one that came second opens what the first makes.
        for attempt in stamina.retry_context(on=_is_beaten, attempts=5, wait_initial=0.05):
            with attempt:
                return SqlCatalog(NAMESPACE, uri=uri, warehouse=place, init_catalog_tables="true")
    except OperationalError as error:
        raise TransientError(f"the catalogue {database} cannot be used now: {error.orig}") from error
    except DatabaseError as error:
        raise StoreError(f"the catalogue {database} is damaged: {error.orig}; put back a backup of it") from error
    raise AssertionError("a retry ends in an answer or an error")


def _is_beaten(error: Exception) -> bool:
    return isinstance(error, OperationalError) and "already exists" in str(error.orig)
