"""Texts out of headers that try to be a filter: each finds the reference that carries it and no other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from pymilvus import MilvusClient

from pipeline.ports import Prefilter, VectorEntity, VectorSpec
from pipeline.store.milvus_layout import COLLECTION_PREFIX, name_partition, to_row
from pipeline.store.milvus_lite import open_lite
from pipeline.store.milvus_server import ServerVectors, open_server
from pipeline.store.vectors_milvus import MilvusVectors
from tests.contract.corpora import FILTER_VALUES
from tests.stack import require_stack

VALUES = [one.text for one in FILTER_VALUES]
PLAIN_ZONE = 7
PLAIN = Prefilter("cam", "r", (PLAIN_ZONE,), 30.0, 120.0)
DIMENSION = 4
_NUMBERS = count()
# A server is shared: names of this run's own.
_MARK = f"t{uuid4().hex[:8]}_"

Store = MilvusVectors


@pytest.fixture(scope="module", params=["lite", "server"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    if request.param == "lite":
        opened: Store = open_lite(tmp_path_factory.mktemp("lite") / "vectors.db")
    else:
        opened = open_server(f"http://127.0.0.1:{require_stack().port('milvus')}")
    yield opened
    drop_collections(opened._client)
    opened.close()


def drop_collections(client: MilvusClient) -> None:
    for collection in client.list_collections():
        if collection.startswith(f"{COLLECTION_PREFIX}{_MARK}"):
            with suppress(Exception):
                client.drop_collection(collection)


@pytest.fixture
def spec() -> VectorSpec:
    return VectorSpec(f"{_MARK}spec{next(_NUMBERS)}", "1-2x2", DIMENSION)


def name(number: int) -> str:
    return hashlib.sha256(f"frame {number}".encode()).hexdigest()


def make_reference(frame_id: str, instrument: str | None, band: str | None, zone: int) -> VectorEntity:
    vector = np.full(DIMENSION, DIMENSION**-0.5, dtype=np.float32)
    return VectorEntity(frame_id, vector, instrument, band, zone, 60.0, None)


def find(store: Store, spec: VectorSpec, prefilter: Prefilter) -> list[str]:
    """Who is found among all that pass."""
    query = np.full((1, DIMENSION), DIMENSION**-0.5, dtype=np.float32)
    return sorted(candidate.frame_id for candidate in store.search(spec, query, prefilter, 500)[0])


def share_a_partition(instrument: str, band: str) -> int:
    """A zone that puts the cell into the partition of the plain reference, so that Milvus reads the filter."""
    wanted = name_partition("cam", "r", PLAIN_ZONE)
    return next(zone for zone in count(8) if name_partition(instrument, band, zone) == wanted)


def in_instrument(text: str) -> tuple[str, str]:
    return text, "r"


def in_filter(text: str) -> tuple[str, str]:
    return "cam", text


@pytest.mark.parametrize("place", [in_instrument, in_filter])
def test_a_hostile_value_finds_its_own_reference_and_nothing_else(
    store: Store, spec: VectorSpec, place: Callable[[str], tuple[str, str]]
) -> None:
    cells = [(*place(text), share_a_partition(*place(text))) for text in VALUES]
    # All but the text fits the plain reference: whatever gets around the text finds it.
    prefilters = [replace(PLAIN, instrument=i, filter=b, zones=(PLAIN_ZONE, zone)) for i, b, zone in cells]
    store.put_references(spec, [make_reference(name(10_000), "cam", "r", PLAIN_ZONE)])
    for hostile, prefilter in zip(FILTER_VALUES, prefilters, strict=True):
        assert find(store, spec, prefilter) == [], (hostile.why, ascii(hostile.text[:80]))
    store.put_references(spec, [make_reference(name(number), *cell) for number, cell in enumerate(cells)])
    for number, prefilter in enumerate(prefilters):
        assert find(store, spec, prefilter) == [name(number)], ascii(VALUES[number][:80])
    for number, prefilter in list(enumerate(prefilters))[::10]:
        assert store.members(spec, prefilter, 500) == [name(number)], ascii(VALUES[number][:80])
    assert find(store, spec, PLAIN) == [name(10_000)]


def test_a_hostile_reference_set_holds_its_own_references_and_no_others(store: Store, spec: VectorSpec) -> None:
    store.put_references(spec, [make_reference(name(10_000), "cam", "r", PLAIN_ZONE)])
    sets = [type(store)(store._client, text) for text in VALUES]
    for hostile, one in zip(FILTER_VALUES, sets, strict=True):
        assert find(one, spec, PLAIN) == [], (hostile.why, ascii(hostile.text[:80]))
    # As each set would write its own, but at once: every call waits for the server.
    cell = ("cam", "r", PLAIN_ZONE)
    rows = [to_row(spec, make_reference(name(number), *cell), text) for number, text in enumerate(VALUES)]
    store._write(spec, [(name_partition(*cell), row) for row in rows])
    for number, one in enumerate(sets):
        assert find(one, spec, PLAIN) == [name(number)], ascii(VALUES[number][:80])
    for one in sets[::20]:
        one.drop_references(spec, [name(number) for number in range(len(VALUES))])
    for number, one in list(enumerate(sets))[::5]:
        assert find(one, spec, PLAIN) == ([] if number % 20 == 0 else [name(number)]), ascii(VALUES[number][:80])
    assert find(store, spec, PLAIN) == [name(10_000)]


def test_a_hostile_id_is_no_frame(store: Store, spec: VectorSpec) -> None:
    held = {name(1), name(2)}
    store.upsert(spec, [make_reference(one, "cam", "r", PLAIN_ZONE) for one in sorted(held)])
    store.put_references(spec, [make_reference(name(1), "cam", "r", PLAIN_ZONE)])
    # A server takes its time with each, and meets them all in the next line.
    for hostile in FILTER_VALUES[:: 5 if isinstance(store, ServerVectors) else 1]:
        assert store.fetch(spec, [hostile.text]) == {}, (hostile.why, ascii(hostile.text[:80]))
    assert store.fetch(spec, [*VALUES, name(2)]).keys() == {name(2)}
    store.delete(spec, VALUES)
    store.drop_references(spec, VALUES)
    counted = store.contents(spec)
    assert (counted.frames, counted.references, counted.doubled) == (held, {name(1)}, frozenset())


# The client pages through Milvus Lite by itself, with the last id of a page pasted as it is: ids there are hashes.
@pytest.mark.parametrize("store", ["server"], indirect=True)
def test_ids_that_would_end_a_literal_are_paged_through(store: Store, spec: VectorSpec) -> None:
    ids = ["a' or ''='", 'b"', "c\\", 'd" or 1==1 or "']
    store.upsert(spec, [make_reference(one, "cam", "r", PLAIN_ZONE) for one in ids])
    assert store.contents(spec).frames == set(ids)
    assert store.fetch(spec, ids).keys() == set(ids)
    store.delete(spec, ids[:2])
    assert store.contents(spec).frames == set(ids[2:])


def test_the_corpus_is_large() -> None:
    assert len(set(VALUES)) == len(VALUES) >= 200
    assert all(one.why for one in FILTER_VALUES)
    assert max(map(len, VALUES)) >= 2**20


def test_this_machine_has_both_stores(tmp_path: Path) -> None:
    """The parameters above are what they are called."""
    lite = open_lite(tmp_path / "v.db")
    server = open_server(f"http://127.0.0.1:{require_stack().port('milvus')}")
    assert isinstance(server, ServerVectors)
    assert not isinstance(lite, ServerVectors)
    lite.close()
    server.close()
