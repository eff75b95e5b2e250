"""What a vector store does where its client fails, or holds what another version of oddframe made."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import grpc
import numpy as np
import pytest
from pymilvus import MilvusClient, MilvusException

from pipeline.errors import StoreError, TransientError
from pipeline.ports import Prefilter, VectorEntity, VectorSpec
from pipeline.store.milvus_layout import build_schema, name_collection
from pipeline.store.milvus_lite import open_lite
from pipeline.store.vectors_milvus import MilvusVectors

ANY = Prefilter("cam", "r", (7,), 30.0, 120.0)
NUMBERS = count()


@pytest.fixture(scope="module")
def lite(tmp_path_factory) -> Iterator[MilvusVectors]:
    opened = open_lite(tmp_path_factory.mktemp("lite") / "vectors.db")
    yield opened
    opened.close()


@pytest.fixture
def spec() -> VectorSpec:
    return VectorSpec(f"spec{next(NUMBERS)}", "1-2x4", 8)


def name(number: int) -> str:
    return f"{number:064x}"


def unit(number: int) -> np.ndarray:
    vector = np.zeros(8, dtype=np.float32)
    vector[:2] = 1, number
    return vector / np.linalg.norm(vector)


def entity(number: int) -> VectorEntity:
    return VectorEntity(name(number), unit(number), "cam", "r", 7, 60.0, None)


def ask(store: MilvusVectors, spec: VectorSpec, query: np.ndarray) -> list:
    return store.search(spec, query[None, :], ANY, 3)


def create_older_collection(store: MilvusVectors, spec: VectorSpec) -> None:
    """A collection as a version of oddframe made it that knew no reference sets."""
    schema = store._client.create_schema(auto_id=False, enable_dynamic_field=False)
    for field in build_schema(spec.dimension).fields:
        if field.name != "reference_set":
            schema.add_field(field.name, field.dtype, is_primary=field.is_primary, **field.params)
    index = store._client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    store._client.create_collection(name_collection(spec), schema=schema, index_params=index)


def test_a_collection_of_another_version_is_told_with_what_to_do(tmp_path, spec):
    opened = open_lite(tmp_path / "v.db")
    create_older_collection(opened, spec)
    uses = (
        lambda: opened.upsert(spec, [entity(1)]), lambda: opened.put_references(spec, [entity(1)]),
        lambda: ask(opened, spec, unit(1)), lambda: opened.members(spec, ANY, 9), lambda: opened.contents(spec),
        lambda: opened.fetch(spec, [name(1)]), lambda: opened.delete(spec, [name(1)]), opened.specs,
    )  # fmt: skip
    try:
        for use in uses:
            with pytest.raises(StoreError, match=r"reference_set.*remove vectors\.db.*oddframe verify --repair"):
                use()
    finally:
        opened.close()
    for _ in range(2):
        with pytest.raises(StoreError, match="another version of oddframe"):
            open_lite(tmp_path / "v.db")


LOCAL = {"create_schema", "prepare_index_params"}
REMOTE = {
    "list_collections", "flush", "upsert", "delete", "query", "query_iterator", "search", "has_collection",
    "load_collection", "list_partitions", "create_collection", "has_partition", "create_partition", "close",
    "describe_collection",
}  # fmt: skip
USES = [
    lambda store, _: store.settle(),
    lambda store, _: store.specs(),
    lambda store, spec: store.upsert(spec, [entity(1)]),
    lambda store, _: store.upsert(VectorSpec(f"fresh{next(NUMBERS)}", "1-2x4", 8), [entity(1)]),
    lambda store, spec: store.put_references(spec, [entity(1)]),
    lambda store, spec: ask(store, spec, unit(1)),
    lambda store, spec: store.members(spec, ANY, 9),
    lambda store, spec: store.contents(spec),
    lambda store, spec: store.fetch(spec, [name(1)]),
    lambda store, spec: store.delete(spec, [name(1)]),
    lambda store, _: store.close(),
]


class Breaking:
    """The real client, one of whose calls fails."""

    def __init__(self, client: MilvusClient, call: str, error: Exception) -> None:
        self._client, self._call, self._error = client, call, error
        self.broken = False

    def __getattr__(self, called: str):
        assert called in LOCAL | REMOTE, f"{called}: name it above, so that its faults are tested"
        if called == self._call:
            self.broken = True
            raise self._error
        # The client is shared.
        return (lambda: None) if called == "close" else getattr(self._client, called)


class SilentError(grpc.RpcError):
    """As grpc's own: without a text."""


@pytest.mark.parametrize("error", [MilvusException(1, "no answer\nTraceback"), SilentError()], ids=["milvus", "grpc"])
@pytest.mark.parametrize("call", sorted(REMOTE))
def test_a_fault_of_the_client_is_one_of_ours_whatever_is_called(lite, spec, call, error):
    lite.put_references(spec, [entity(i) for i in range(3)])
    lite.upsert(spec, [entity(1)])
    told: list[str] = []
    for use in USES:
        client = Breaking(lite._client, call, error)
        before = len(told)
        try:
            use(MilvusVectors(client), spec)
        except TransientError as fault:
            told.append(str(fault))
        assert client.broken == (len(told) > before)
    assert told
    assert all(text.startswith("vector store, ") and "\n" not in text for text in told)
