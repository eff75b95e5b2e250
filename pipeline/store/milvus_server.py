"""A Milvus server: shared by processes, durable by its own log, consistent where a request asks for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from pymilvus import MilvusClient, MilvusException

from pipeline.errors import TransientError
from pipeline.ports import VectorCompaction, VectorSpec
from pipeline.store.filters import quote
from pipeline.store.maintenance_milvus import compact_collections
from pipeline.store.milvus_faults import Faults, first_line
from pipeline.store.milvus_layout import name_collection
from pipeline.store.vectors_milvus import DEFAULT_SET, MilvusVectors

_SECONDS = 30.0
_ROWS_PER_PAGE = 1_000


class ServerVectors(MilvusVectors):
    """Where a server differs from Milvus Lite: nothing is flushed by us, and others write, too."""

    def flush(self) -> None:
        """Nothing: what a server acknowledged is in its log, and every read asks for it with strong consistency.

        Asked to flush, a server seals its segments: many small ones, and it allows that once in ten seconds only.
        """

    def compact(self, seconds: float) -> list[VectorCompaction]:
        """Seal what is growing, merge small segments, wait; searches and writes go on meanwhile."""
        return compact_collections(self._client, self._own_collections(), seconds)

    def _rows(
        self, spec: VectorSpec, expression: str, fields: list[str], partitions: list[str] | None
    ) -> Iterator[dict[str, Any]]:
        # The client's own iterator reads as of its machine's clock, which misses what was written a moment ago.
        last = ""
        while True:
            with Faults("query"):
                page = self._client.query(
                    name_collection(spec),
                    filter=f"({expression}) and id > {quote(last)}",
                    output_fields=sorted({"id", *fields}),
                    partition_names=partitions or [],
                    consistency_level="Strong",
                    limit=_ROWS_PER_PAGE,
                    # A page then lacks no id lower than its last one; it may be short of the limit before the end.
                    reduce_stop_for_best=True,
                )
            if not page:
                return
            yield from page
            last = max(row["id"] for row in page)

    def _known_partitions(self, spec: VectorSpec) -> set[str]:
        # Another process may have added references of a cell that was empty a moment ago.
        self._partitions.pop(name_collection(spec), None)
        return super()._known_partitions(spec)


def open_server(
    uri: str, token: str = "", reference_set: str = DEFAULT_SET, database: str = "default"
) -> ServerVectors:
    """A Milvus server at `uri`.

    Args:
        uri: like http://127.0.0.1:19530.
        token: `user:password`, or empty where the server asks for none.
        reference_set: the references that are seen.
        database: of the server; made where it is not there.

    Raises:
        TransientError: no server answers there, or it does not let us in.
    """
    # The client logs what it then raises; users get our one line instead.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    try:
        _ensure_database(uri, token, database)
        client = MilvusClient(uri, token=token, db_name=database, timeout=_SECONDS)
    except MilvusException as error:
        raise TransientError(f"no Milvus server answers at {uri}: {first_line(error)}") from error
    return ServerVectors(client, reference_set)


def _ensure_database(uri: str, token: str, database: str) -> None:
    # A client of its own: older servers do not answer what `use_database` asks.
    client = MilvusClient(uri, token=token, timeout=_SECONDS)
    try:
        if database in client.list_databases():
            return
        try:
            client.create_database(database)
        except MilvusException:
            # Another process may have come first.
            if database not in client.list_databases():
                raise
    finally:
        client.close()
