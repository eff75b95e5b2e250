"""Namespaces of their own in the catalogue of the local stack, for tests that share it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchNamespaceError

from pipeline.stack.layout import Layout
from pipeline.store.catalog_rest import open_rest_catalog
from pipeline.store.tables_iceberg import IcebergTables


def open_catalog(stack: Layout) -> Catalog:
    return open_rest_catalog(f"http://127.0.0.1:{stack.port('catalog')}", f"file://{stack.warehouse}")


def open_shared(stack: Layout, namespace: str) -> IcebergTables:
    tables = IcebergTables(open_catalog(stack), namespace)
    tables.create_missing()
    return tables


@contextmanager
def lend_namespace(stack: Layout) -> Iterator[str]:
    """A name that nobody else has; what stands under it is gone afterwards, its files too."""
    namespace = f"test_{token_hex(6)}"
    try:
        yield namespace
    finally:
        catalog = open_catalog(stack)
        with suppress(NoSuchNamespaceError):
            for name in catalog.list_tables(namespace):
                place = Path(urlsplit(catalog.load_table(name).location()).path)
                catalog.drop_table(name)
                shutil.rmtree(place, ignore_errors=True)
                with suppress(OSError):
                    place.parent.rmdir()
            catalog.drop_namespace(namespace)
        catalog.close()
