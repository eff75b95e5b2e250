"""Fixtures of the tests of housekeeping: tables in either catalogue. A module that wants others has its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.store.tables_iceberg import IcebergTables
from tests.table_tools import OpenTables, lend_tables


@pytest.fixture(params=["sqlite", "rest"])
def opened(request, tmp_path: Path) -> Iterator[OpenTables]:
    with lend_tables(request.param, tmp_path) as open_tables:
        yield open_tables


@pytest.fixture
def tables(opened) -> IcebergTables:
    return opened()
