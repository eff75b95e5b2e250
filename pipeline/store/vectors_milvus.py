"""Vectors in Milvus through pymilvus: the embedded Milvus Lite and a server speak the same calls.

One collection per spec. Every frame is one entity in partition `frames`; a reference is one more entity, in the
partition its prefilter cell hashes to, so a search touches only partitions that can hold an answer and nothing is ever
moved between partitions. A store is opened for one reference set and sees the references of no other. FLAT index: exact
under any filter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymilvus import MilvusClient

from pipeline.ports import Candidate, Prefilter, VectorCompaction, VectorCounts, VectorEntity, VectorSpec
from pipeline.store.cells import CellCache
from pipeline.store.filters import build_filter, one_of
from pipeline.store.matrix import Cell, search_matrix
from pipeline.store.milvus_faults import Faults
from pipeline.store.milvus_hits import is_tie, to_candidate
from pipeline.store.milvus_layout import (
    COLLECTION_PREFIX,
    FRAMES_PARTITION,
    check_collection,
    create_collection,
    is_frame,
    is_reference_partition,
    name_collection,
    name_partition,
    name_reference,
    read_reference,
    read_zone,
    to_row,
)

_ROWS_PER_CALL = 512
_QUERIES_PER_CALL = 16
_IDS_PER_CALL = 1_000
# A cell of up to this many float32 values (256 MiB) is fetched once and shared by many queries; larger ones are
# searched by Milvus alone, in groups whose (queries, rows, dimension) array stays under the same bound.
_MATRIX_VALUES = 64 * 2**20
_BULK_QUERIES = 4
_FRAME_ID_LENGTH = 64
DEFAULT_SET = "default"


class MilvusVectors:
    """The vector store behind a pymilvus client."""

    def __init__(
        self, client: MilvusClient, reference_set: str = DEFAULT_SET, release: Callable[[], None] = lambda: None
    ) -> None:
        self._client = client
        self._reference_set = reference_set
        self._release = release
        self._partitions: dict[str, set[str]] = {}
        self._checked: set[str] = set()
        self._dirty: set[str] = set()
        self._cells = CellCache(_MATRIX_VALUES)

    def settle(self) -> None:
        """Check and flush every collection before the first write.

        A process killed while Milvus Lite flushed leaves a log that would be replayed on top of the flushed rows.
        """
        with Faults("open"):
            for collection in self._client.list_collections():
                self._check(collection)
                self._client.flush(collection)

    def compact(self, seconds: float) -> list[VectorCompaction]:
        """Nothing but a flush: Milvus Lite merges its files by itself each time, and knows no call for it."""
        del seconds
        self._dirty.update(self._own_collections())
        self.flush()
        return [VectorCompaction(collection, "automatic") for collection in self._own_collections()]

    def upsert(self, spec: VectorSpec, entities: Sequence[VectorEntity]) -> None:
        """Keep one vector per frame id; the same id again replaces the earlier one."""
        self._write(spec, [(FRAMES_PARTITION, to_row(spec, e)) for e in entities])

    def put_references(self, spec: VectorSpec, entities: Sequence[VectorEntity]) -> None:
        """Make frames searchable as references."""
        self._cells.clear()
        self._write(
            spec,
            [(name_partition(e.instrument, e.filter, e.zone), to_row(spec, e, self._reference_set)) for e in entities],
        )
        self.flush()

    def drop_references(self, spec: VectorSpec, frame_ids: Sequence[str]) -> None:
        """Take frames out of the searchable references."""
        self._cells.clear()
        self._delete(spec, [name_reference(i, self._reference_set) for i in frame_ids])

    def delete(self, spec: VectorSpec, frame_ids: Sequence[str]) -> None:
        """Remove frames, as frames and as references."""
        self._cells.clear()
        self._delete(spec, [*frame_ids, *(name_reference(i, self._reference_set) for i in frame_ids)])

    def search(
        self, spec: VectorSpec, queries: NDArray[np.float32], prefilter: Prefilter, k: int
    ) -> list[list[Candidate]]:
        """The k nearest references of each query; distances are the root of what Milvus answers."""
        expression = build_filter(prefilter, self._reference_set)
        partitions = self._reference_partitions(spec, prefilter)
        if not partitions:
            return [[] for _ in queries]
        cell = self._fetch_cell(spec, expression, partitions) if len(queries) >= _BULK_QUERIES else None
        if isinstance(cell, tuple):
            return search_matrix(cell, queries, k)
        size = max(1, _MATRIX_VALUES // (spec.dimension * (cell or 1))) if cell else _BULK_QUERIES
        found: list[list[Candidate]] = []
        unclear: list[int] = []
        self.flush()
        for start in range(0, len(queries), min(size, _QUERIES_PER_CALL)):
            group = np.ascontiguousarray(queries[start : start + min(size, _QUERIES_PER_CALL)], dtype=np.float32)
            with Faults("search"):
                answer = self._client.search(
                    name_collection(spec),
                    list(group),
                    filter=expression,
                    limit=k + 1,
                    output_fields=["frame_id"],
                    partition_names=partitions,
                    consistency_level="Strong",
                )
            unclear += [start + i for i, hits in enumerate(answer) if is_tie(hits, k)]
            found += [[to_candidate(hit) for hit in hits[:k]] for hits in answer]
        # Which of several equally near ones a store names is its own affair: here the ids decide.
        if unclear and isinstance(cell := self._fetch_cell(spec, expression, partitions), tuple):
            for i, exact in zip(unclear, search_matrix(cell, queries[unclear], k), strict=True):
                found[i] = exact
        return found

    def members(self, spec: VectorSpec, prefilter: Prefilter, limit: int) -> list[str]:
        """Frame ids of the references that pass the prefilter, in id order."""
        expression = build_filter(prefilter, self._reference_set)
        partitions = self._reference_partitions(spec, prefilter)
        if not partitions:
            return []
        cell = self._fetch_cell(spec, expression, partitions)
        if isinstance(cell, tuple):
            return cell[0][:limit]
        rows = self._rows(spec, expression, ["frame_id"], partitions)
        return sorted(row["frame_id"] for row in rows)[:limit]

    def zones(self, spec: VectorSpec, prefilter: Prefilter) -> dict[str, int | None]:
        """Zones of the references that pass the prefilter, by frame id."""
        partitions = self._reference_partitions(spec, prefilter)
        if not partitions:
            return {}
        rows = self._rows(spec, build_filter(prefilter, self._reference_set), ["frame_id", "zone"], partitions)
        return {row["frame_id"]: read_zone(row["zone"]) for row in rows}

    def fetch(self, spec: VectorSpec, frame_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Stored vectors of these frames."""
        found: dict[str, NDArray[np.float32]] = {}
        if FRAMES_PARTITION not in self._known_partitions(spec):
            return found
        for group in _groups(sorted(set(frame_ids)), _IDS_PER_CALL):
            rows = self._rows(spec, one_of("id", group), ["frame_id", "vector"], [FRAMES_PARTITION])
            found |= {row["frame_id"]: np.asarray(row["vector"], dtype=np.float32) for row in rows}
        return found

    def contents(self, spec: VectorSpec) -> VectorCounts:
        """Every id held; an id stored twice is named."""
        if not self._known_partitions(spec):
            return VectorCounts(frozenset(), frozenset())
        counts = Counter(row["id"] for row in self._rows(spec, 'id != ""', ["id"], None))
        return VectorCounts(
            frames=frozenset(i for i in counts if is_frame(i)),
            references=frozenset(r for i in counts if (r := read_reference(i, self._reference_set)) is not None),
            doubled=frozenset(i[:_FRAME_ID_LENGTH] for i, n in counts.items() if n > 1),
        )

    def specs(self) -> list[str]:
        """Keys of the specs that hold anything."""
        keys: set[str] = set()
        with Faults("list"):
            for collection in self._own_collections():
                self._check(collection)
                self._client.load_collection(collection)
                rows = self._client.query(collection, filter='id != ""', output_fields=["embedding"], limit=1)
                keys |= {row["embedding"] for row in rows}
        return sorted(keys)

    def refresh(self) -> None:
        """Forget what was read of the references."""
        self._cells.clear()

    def flush(self) -> None:
        """Done before every read: unflushed rows are read through a slow path on Milvus Lite."""
        for collection in sorted(self._dirty):
            with Faults("flush"):
                self._client.flush(collection)
        self._dirty.clear()

    def close(self) -> None:
        """Flush, close, and let go of the directory."""
        with ExitStack() as stack:
            # Undone from the last to the first, whatever fails.
            stack.callback(self._release)
            stack.enter_context(Faults("close"))
            stack.callback(self._client.close)
            self.flush()

    def _write(self, spec: VectorSpec, rows: Iterable[tuple[str, dict[str, Any]]]) -> None:
        by_partition: dict[str, dict[str, dict[str, Any]]] = {}
        for partition, row in rows:
            # The same key twice in one call would be kept twice by a server.
            by_partition.setdefault(partition, {})[row["id"]] = row
        for partition, unique in by_partition.items():
            self._ensure_partition(spec, partition)
            for group in _groups(list(unique.values()), _ROWS_PER_CALL):
                with Faults("upsert"):
                    self._client.upsert(name_collection(spec), group, partition_name=partition)
        self._dirty.add(name_collection(spec))

    def _delete(self, spec: VectorSpec, ids: Sequence[str]) -> None:
        if not self._known_partitions(spec):
            return
        for group in _groups(list(ids), _IDS_PER_CALL):
            with Faults("delete"):
                self._client.delete(name_collection(spec), filter=one_of("id", group))
        self._dirty.add(name_collection(spec))
        self.flush()

    def _fetch_cell(self, spec: VectorSpec, expression: str, partitions: list[str]) -> Cell | int:
        """The cell's vectors, or how many there are where they are too many to hold."""
        key = (spec.key, expression)
        cell = self._cells.find(key)
        if cell is None:
            self.flush()
            with Faults("query"):
                counted = self._client.query(
                    name_collection(spec),
                    filter=expression,
                    output_fields=["count(*)"],
                    partition_names=partitions,
                    consistency_level="Strong",
                )[0]["count(*)"]
            small = counted * spec.dimension <= _MATRIX_VALUES
            cell = self._read_cell(spec, expression, partitions) if small else int(counted)
            self._cells.keep(key, cell)
        return cell

    def _read_cell(self, spec: VectorSpec, expression: str, partitions: list[str]) -> Cell:
        unique = {
            row["frame_id"]: row["vector"] for row in self._rows(spec, expression, ["frame_id", "vector"], partitions)
        }
        ids = sorted(unique)
        matrix = np.asarray([unique[i] for i in ids], dtype=np.float32).reshape(len(ids), spec.dimension)
        return ids, matrix

    def _rows(
        self, spec: VectorSpec, expression: str, fields: list[str], partitions: list[str] | None
    ) -> Iterator[dict[str, Any]]:
        self.flush()
        with Faults("query"):
            pages = self._client.query_iterator(
                name_collection(spec),
                batch_size=_IDS_PER_CALL,
                filter=expression,
                output_fields=fields,
                partition_names=partitions or [],
                consistency_level="Strong",
            )
            while page := pages.next():
                yield from page
            pages.close()

    def _reference_partitions(self, spec: VectorSpec, prefilter: Prefilter) -> list[str]:
        known = self._known_partitions(spec)
        if prefilter.anywhere:
            return sorted(partition for partition in known if is_reference_partition(partition))
        zones: Sequence[int | None] = prefilter.zones or (None,)
        return sorted(known & {name_partition(prefilter.instrument, prefilter.filter, zone) for zone in zones})

    def _known_partitions(self, spec: VectorSpec) -> set[str]:
        collection = name_collection(spec)
        if collection not in self._partitions:
            with Faults("describe"):
                if not self._client.has_collection(collection):
                    return set()
                self._check(collection)
                self._client.load_collection(collection)
                self._partitions[collection] = set(self._client.list_partitions(collection))
        return self._partitions[collection]

    def _own_collections(self) -> list[str]:
        with Faults("list"):
            return sorted(name for name in self._client.list_collections() if name.startswith(COLLECTION_PREFIX))

    def _check(self, collection: str) -> None:
        if collection.startswith(COLLECTION_PREFIX) and collection not in self._checked:
            check_collection(self._client, collection)
            self._checked.add(collection)

    def _ensure_partition(self, spec: VectorSpec, partition: str) -> None:
        collection = name_collection(spec)
        if partition in self._known_partitions(spec):
            return
        with Faults("create"):
            if not self._client.has_collection(collection):
                create_collection(self._client, spec)
                self._client.load_collection(collection)
            if not self._client.has_partition(collection, partition):
                self._client.create_partition(collection, partition)
                # A server makes a new partition searchable only when the collection is loaded once more.
                self._client.load_collection(collection)
        self._partitions.setdefault(collection, set()).add(partition)


def _groups(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
