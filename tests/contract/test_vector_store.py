"""What every vector store must do: the same suite for Milvus Lite and for the fake that other tests use."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from itertools import count, product
from pathlib import Path
from time import monotonic
from uuid import uuid4

import numpy as np
import pytest
from milvus_lite.server_manager import server_manager_instance
from pymilvus import MilvusClient

from pipeline.errors import LockedError, StoreError
from pipeline.ports import Prefilter, VectorEntity, VectorSpec, VectorStore
from pipeline.run.replay import passes
from pipeline.store.milvus_layout import COLLECTION_PREFIX, name_collection
from pipeline.store.milvus_lite import open_lite
from pipeline.store.milvus_server import open_server
from pipeline.store.vectors_milvus import MilvusVectors
from tests import children
from tests.fakes.vectors import MemoryVectors, belongs
from tests.stack import require_stack

ANY = Prefilter("cam", "r", (7,), 30.0, 120.0)
_NUMBERS = count()
# A server is shared: names of this run's own.
_MARK = f"t{uuid4().hex[:8]}_"


@pytest.fixture(scope="module")
def lite(tmp_path_factory) -> Iterator[MilvusVectors]:
    opened = open_lite(tmp_path_factory.mktemp("lite") / "vectors.db")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def server() -> Iterator[MilvusVectors]:
    stack = require_stack()
    opened = open_server(f"http://127.0.0.1:{stack.port('milvus')}")
    yield opened
    opened.close()


@pytest.fixture(params=["memory", "lite", "server"])
def store(request) -> Iterator[VectorStore]:
    if request.param == "memory":
        yield MemoryVectors()
        return
    opened = request.getfixturevalue(request.param)
    yield opened
    if request.param == "server":
        # A server keeps every collection in memory, and has others to serve.
        for collection in opened._client.list_collections():
            if collection.startswith(f"{COLLECTION_PREFIX}{_MARK}"):
                opened._client.drop_collection(collection)


@pytest.fixture
def spec() -> VectorSpec:
    """A spec of its own for each test, so that all may share one store."""
    return VectorSpec(f"{_MARK}spec{next(_NUMBERS)}", "1-2x4", 8)


def name(number: int) -> str:
    return hashlib.sha256(f"frame {number}".encode()).hexdigest()


def unit(*values: float, dimension: int = 8) -> np.ndarray:
    vector = np.zeros(dimension, dtype=np.float32)
    vector[: len(values)] = values
    return vector / np.linalg.norm(vector)


def entity(number: int, vector: np.ndarray | None = None, **metadata) -> VectorEntity:
    values = {"instrument": "cam", "filter": "r", "zone": 7, "exposure_s": 60.0, "obs_time": datetime(2024, 1, 1)}  # noqa: DTZ001
    return VectorEntity(name(number), unit(1, number) if vector is None else vector, **(values | metadata))


def scatter(seed: int, rows: int, dimension: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def ask(store: VectorStore, spec: VectorSpec, query: np.ndarray, prefilter: Prefilter = ANY, k: int = 3):
    return store.search(spec, query[None, :], prefilter, k)[0]


def test_a_distance_is_the_root_and_not_its_square(store, spec):
    store.put_references(spec, [entity(0, unit(1)), entity(1, unit(0, 1)), entity(2, unit(-1))])
    for copies in (1, 8):
        (found, *_) = store.search(spec, np.repeat(unit(1)[None], copies, axis=0), ANY, 3)
        assert [c.frame_id for c in found] == [name(0), name(1), name(2)]
        assert [c.distance for c in found] == pytest.approx([0.0, 2**0.5, 2.0], abs=1e-3)


@pytest.mark.parametrize("queries", [1, 3, 4, 40])
def test_neighbours_are_exactly_those_that_numpy_finds_one_by_one_and_in_bulk(store, queries):
    spec = VectorSpec(f"{_MARK}exact{next(_NUMBERS)}", "1-8x8", 64)
    references, asked = scatter(1, 300, 64), scatter(2, queries, 64)
    store.put_references(spec, [entity(i, v) for i, v in enumerate(references)])
    found = store.search(spec, asked, ANY, 10)
    distances = np.linalg.norm(asked[:, None].astype(np.float64) - references[None].astype(np.float64), axis=2)
    for row, candidates in zip(distances, found, strict=True):
        nearest = np.argsort(row)[:10]
        assert [c.frame_id for c in candidates] == [name(i) for i in nearest]
        assert [c.distance for c in candidates] == pytest.approx(row[nearest], abs=1e-5)


@pytest.mark.parametrize("copies", [1, 6])
def test_near_ties_do_not_hide_the_nearest(store, copies):
    """Differences far below float32's 1e-7 of a square, as frames of a bright constant sky have them."""
    spec = VectorSpec(f"{_MARK}ties{next(_NUMBERS)}", "1-8x8", 64)
    centre = scatter(3, 1, 64)[0]
    steps = np.arange(1, 41)[:, None] * 2e-5 * scatter(4, 40, 64)
    references = (centre + steps).astype(np.float32)
    store.put_references(spec, [entity(i, v) for i, v in enumerate(references)])
    found = store.search(spec, np.repeat(centre[None], copies, axis=0), ANY, 3)
    exact = np.linalg.norm(references.astype(np.float64) - centre.astype(np.float64), axis=1)
    for candidates in found:
        assert [c.frame_id for c in candidates] == [name(i) for i in np.argsort(exact)[:3]]


@pytest.mark.parametrize("copies", [1, 6])
def test_of_equally_near_references_the_ids_decide(store, spec, copies):
    """What a search names must not hang on the order of storing: a replay could not name it again."""
    store.put_references(spec, [entity(i, unit(1, 2)) for i in range(30)])
    found = store.search(spec, np.repeat(unit(1)[None], copies, axis=0), ANY, 5)
    assert [[c.frame_id for c in one] for one in found] == [sorted(name(i) for i in range(30))[:5]] * copies


def test_the_nearest_come_first_and_no_more_than_asked_for(store, spec):
    store.put_references(spec, [entity(i, unit(1, i / 10)) for i in range(6)])
    assert [c.frame_id for c in ask(store, spec, unit(1), k=4)] == [name(i) for i in range(4)]
    assert len(ask(store, spec, unit(1), k=50)) == 6


def test_nothing_held_is_an_empty_answer_and_no_error(store, spec):
    assert store.search(spec, np.stack([unit(1)] * 5), ANY, 3) == [[]] * 5
    assert store.members(spec, ANY, 10) == []
    assert store.fetch(spec, [name(1)]) == {}
    assert store.contents(spec).frames == store.contents(spec).references == frozenset()
    store.delete(spec, [name(1)])
    store.drop_references(spec, [name(1)])
    assert spec.key not in store.specs()


CAMERAS, BANDS, ZONES = (None, "cam", "Cam"), (None, "r"), (None, 0, 7)
EXPOSURES = (None, 0.0, 30.0, 60.0)
MOMENTS = (None, datetime(1955, 3, 1), datetime(1970, 1, 1), datetime(2024, 1, 1, 0, 0, 0, 1))  # noqa: DTZ001
GRID = [
    VectorEntity(name(number), unit(1, number / 1000), *values)
    for number, values in enumerate(product(CAMERAS, BANDS, ZONES, EXPOSURES, MOMENTS))
]
_RANGES = [
    (None, None),
    (datetime(1950, 1, 1), None),  # noqa: DTZ001
    (None, datetime(2000, 1, 1)),  # noqa: DTZ001
    (datetime(1970, 1, 1), datetime(2024, 1, 1)),  # noqa: DTZ001
    (datetime(2024, 1, 1, 0, 0, 0, 1), datetime(2024, 1, 1, 0, 0, 0, 1)),  # noqa: DTZ001
]
_PLACES = [((), False), ((7,), False), ((0, 7), False), ((), True), ((7,), True)]
PREFILTERS = [
    Prefilter(camera, band, zones, *exposures, *dates, anywhere=anywhere)
    for camera, band, (zones, anywhere), exposures, dates in product(
        (None, "cam"), (None, "r"), _PLACES, ((None, None), (15.0, 60.0), (0.0, 0.0)), _RANGES
    )
]


@pytest.fixture(scope="module")
def grid_lite(lite) -> tuple[MilvusVectors, VectorSpec]:
    spec = VectorSpec("grid", "1-2x4", 8)
    lite.put_references(spec, GRID)
    return lite, spec


def test_a_prefilter_admits_exactly_the_references_it_describes(grid_lite):
    lite, spec = grid_lite
    for prefilter in PREFILTERS:
        expected = sorted(e.frame_id for e in GRID if belongs(prefilter, e))
        assert lite.members(spec, prefilter, 1000) == expected, prefilter
        assert sorted(c.frame_id for c in ask(lite, spec, unit(1), prefilter, k=400)) == expected, prefilter


def test_a_replay_filters_as_the_vector_store_does():
    for prefilter, one in product(PREFILTERS, GRID):
        row = {key: getattr(one, key) for key in ("instrument", "filter", "zone", "exposure_s", "obs_time")}
        assert passes(prefilter, row) == belongs(prefilter, one), (prefilter, row)


def test_unknown_matches_unknown_alone(store, spec):
    unknown = {"instrument": None, "filter": None, "zone": None, "exposure_s": None, "obs_time": None}
    store.put_references(spec, [entity(0, **unknown), entity(1)])
    assert store.members(spec, Prefilter(None, None, (), None, None), 9) == [name(0)]
    for key, value in {"instrument": None, "filter": None, "zones": (), "exposure_min": None}.items():
        changed = {key: value} | ({"exposure_max": None} if key == "exposure_min" else {})
        assert store.members(spec, replace(ANY, **changed), 9) == [], key


def test_anywhere_is_every_zone_and_none_and_nothing_else_wider(store, spec):
    assert store.members(spec, replace(ANY, zones=(), anywhere=True), 999) == []
    assert store.zones(spec, ANY) == {}
    places = [entity(i, zone=i) for i in range(300)] + [entity(300, unit(0, 0, 1), zone=None)]
    store.put_references(spec, places)
    store.put_references(spec, [entity(301, instrument="other"), entity(302, filter="g"), entity(303, exposure_s=9.0)])
    store.upsert(spec, [entity(304)])
    wide = replace(ANY, zones=(), anywhere=True)
    everywhere = sorted(e.frame_id for e in places)
    assert store.members(spec, wide, 999) == everywhere
    assert store.members(spec, ANY, 999) == [name(7)]
    assert store.zones(spec, wide) == {name(i): i for i in range(300)} | {name(300): None}
    assert store.zones(spec, ANY) == {name(7): 7}
    for copies in (1, 6):
        for found in store.search(spec, np.repeat(unit(0, 0, 1)[None], copies, axis=0), wide, 999):
            assert sorted(c.frame_id for c in found) == everywhere
            assert found[0].frame_id == name(300)
    store.drop_references(spec, [name(300)])
    assert store.members(spec, wide, 999) == sorted(set(everywhere) - {name(300)})


def test_members_are_sorted_and_limited(store, spec):
    store.put_references(spec, [entity(i) for i in range(9)])
    assert store.members(spec, ANY, 100) == sorted(name(i) for i in range(9))
    assert store.members(spec, ANY, 4) == sorted(name(i) for i in range(9))[:4]


def test_two_specs_never_meet(store):
    label = f"twin{next(_NUMBERS)}"
    one, two = VectorSpec(label, "1-2x4", 8), VectorSpec(label, "2-2x4", 8)
    longer, other = VectorSpec(label, "1-2x5", 10), VectorSpec(label + "-demo", "1-2x4", 8)
    for number, spec in enumerate((one, two, longer, other)):
        vector = unit(1, dimension=spec.dimension)
        store.upsert(spec, [entity(number, vector)])
        store.put_references(spec, [entity(number, vector)])
    for number, spec in enumerate((one, two, longer, other)):
        assert [c.frame_id for c in ask(store, spec, unit(1, dimension=spec.dimension))] == [name(number)]
        assert store.contents(spec).frames == store.contents(spec).references == {name(number)}
    store.delete(one, [name(i) for i in range(4)])
    assert store.contents(two).frames == {name(1)}
    assert {two.key, longer.key, other.key} <= set(store.specs())


def test_two_reference_sets_never_meet(lite, spec):
    other = MilvusVectors(lite._client, 'a set" or 1==1')
    for one, number in ((lite, 1), (other, 2)):
        one.upsert(spec, [entity(1), entity(2), entity(3)])
        one.put_references(spec, [entity(number), entity(3)])
    for one, number in ((lite, 1), (other, 2)):
        assert {c.frame_id for c in ask(one, spec, unit(1))} == {name(number), name(3)}
        assert one.contents(spec).references == {name(number), name(3)}
        assert one.contents(spec).frames == {name(1), name(2), name(3)}
        assert one.contents(spec).doubled == frozenset()
    other.drop_references(spec, [name(1), name(2), name(3)])
    assert lite.contents(spec).references == {name(1), name(3)}


def test_the_same_id_again_replaces_the_earlier_one(store, spec):
    for vector in (unit(1), unit(0, 1)):
        store.upsert(spec, [entity(1, vector), entity(2)])
        store.put_references(spec, [entity(1, vector)])
    held = store.contents(spec)
    assert (held.frames, held.references, held.doubled) == ({name(1), name(2)}, {name(1)}, frozenset())
    np.testing.assert_array_equal(store.fetch(spec, [name(1)])[name(1)], unit(0, 1))
    assert [c.distance for c in ask(store, spec, unit(0, 1))] == pytest.approx([0.0], abs=1e-6)


def test_an_id_twice_in_one_call_is_kept_once_the_last_of_them(store, spec):
    store.upsert(spec, [entity(1, unit(1)), entity(1, unit(0, 1))])
    store.put_references(spec, [entity(1, unit(1)), entity(1, unit(0, 1))])
    assert store.contents(spec).doubled == frozenset()
    np.testing.assert_array_equal(store.fetch(spec, [name(1)])[name(1)], unit(0, 1))
    assert len(ask(store, spec, unit(1))) == 1


def test_a_frame_is_no_reference_until_it_is_put_among_them(store, spec):
    store.upsert(spec, [entity(i) for i in range(5)])
    assert ask(store, spec, unit(1)) == []
    store.put_references(spec, [entity(i) for i in range(5)])
    assert len(store.search(spec, np.stack([unit(1)] * 6), ANY, 9)[0]) == 5
    store.drop_references(spec, [name(0), name(3)])
    for queries in (1, 6):
        found = store.search(spec, np.stack([unit(1)] * queries), ANY, 9)
        assert all({c.frame_id for c in one} == {name(1), name(2), name(4)} for one in found)
    assert store.fetch(spec, [name(0), name(99)]).keys() == {name(0)}
    store.put_references(spec, [entity(0)])
    assert len(store.search(spec, np.stack([unit(1)] * 6), ANY, 9)[0]) == 4


def test_a_deleted_frame_is_gone_both_as_a_frame_and_as_a_reference(store, spec):
    store.upsert(spec, [entity(i) for i in range(3)])
    store.put_references(spec, [entity(i) for i in range(3)])
    store.delete(spec, [name(1)])
    held = store.contents(spec)
    assert held.frames == held.references == {name(0), name(2)}
    assert name(1) not in {c.frame_id for c in ask(store, spec, unit(1))}


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_finite_number_is_refused(store, spec, wrong):
    vector = unit(1)
    vector[3] = wrong
    for write in (store.upsert, store.put_references):
        with pytest.raises(StoreError, match="finite"):
            write(spec, [entity(1), entity(2, vector)])
    assert store.contents(spec).frames == frozenset()


def test_a_vector_of_another_length_is_refused(store, spec):
    store.upsert(spec, [entity(1)])
    with pytest.raises(StoreError):
        store.upsert(spec, [entity(2, unit(1, dimension=9))])


HOSTILE = [
    *('"', "'", "\\", "\\\\", '\\"', "\\'", '" or 1==1', '" or "1"=="1', "' or '1'=='1"),
    *(
        '" or is_reference == true or "',
        'cam" or instrument != "',
        "cam' --",
        'cam"; drop',
        'x" in ["x',
        "{0}",
        "{instrument}",
        "%s",
        "%",
        "_",
        "*",
        "?",
    ),
    *("cam%", "c_m", "like", "in", "and", "true", "null", "None", "NaN", "[]", "()", "$meta", "$a", "#", "//", "/* */"),
    *("\n", "\t", "\r\n", "a\nb", "\x00", "a\x00b", "\x01", "\x1b[31m", "\x7f", "\u2028", "\u200b", "\ufeff", "é"),
    *(
        "e\u0301",
        "ß",
        "日本",
        "🔭",
        "a🔭b",
        "اختبار",
        "\u202e",
        " ",
        "  ",
        " cam",
        "cam ",
        "CAM",
        "0",
        "1e9",
        "0x41",
        "\\u0041",
    ),
    *("A" * 511, "A" * 512, "\\n", "\\x00", "a,b", 'a","b', "a]b", "<script>", "../..", "~", "`id`", "${HOME}"),
]


@pytest.mark.parametrize("column", ["instrument", "filter"])
def test_hostile_text_matches_itself_and_nothing_else(store, spec, column):
    assert len(set(HOSTILE)) == len(HOSTILE) > 60
    blank = [text for text in HOSTILE if not text]
    assert not blank
    store.put_references(spec, [entity(i, **{column: text}) for i, text in enumerate(HOSTILE)])
    store.put_references(spec, [entity(1000)])
    for number, text in enumerate(HOSTILE):
        prefilter = replace(ANY, **{column: text})
        assert store.members(spec, prefilter, 99) == [name(number)], repr(text)
        assert [c.frame_id for c in ask(store, spec, unit(1), prefilter)] == [name(number)], repr(text)
    assert store.members(spec, ANY, 99) == [name(1000)]


def test_text_longer_than_the_store_can_hold_is_harmless(store, spec):
    long = "é" * 4000
    store.put_references(spec, [entity(1, instrument=long), entity(2)])
    assert store.members(spec, ANY, 9) == [name(2)]
    assert store.members(spec, replace(ANY, instrument=long), 9) == [name(1)]


def test_many_ids_are_fetched_counted_and_deleted_in_one_call(store, spec):
    ids = [name(i) for i in range(2500)]
    store.upsert(spec, [entity(i) for i in range(2500)])
    assert store.contents(spec).frames == set(ids)
    assert store.fetch(spec, ids).keys() == set(ids)
    store.delete(spec, ids[:2300])
    assert store.contents(spec).frames == set(ids[2300:])


def test_milvus_lite_survives_being_closed_and_opened_again(tmp_path, spec):
    first = open_lite(tmp_path / "v.db")
    first.upsert(spec, [entity(i) for i in range(20)])
    first.put_references(spec, [entity(i) for i in range(5)])
    first.drop_references(spec, [name(4)])
    first.close()
    again = open_lite(tmp_path / "v.db")
    held = again.contents(spec)
    found = ask(again, spec, unit(1), k=9)
    specs = again.specs()
    again.close()
    assert held.frames == {name(i) for i in range(20)}
    assert held.references == {name(i) for i in range(4)} == {c.frame_id for c in found}
    assert held.doubled == frozenset()
    assert specs == [spec.key]


@pytest.fixture
def killed_in_mid_flush(tmp_path, spec) -> Path:
    """A store whose log was not yet deleted when the rows in it had been written: what a kill may leave."""
    home = tmp_path / "v.db"
    first = open_lite(home)
    first.upsert(spec, [entity(i) for i in range(3)])
    first.flush()
    first.upsert(spec, [entity(i) for i in range(50)])
    logs = {path: path.read_bytes() for path in home.rglob("wal/*")}
    assert logs
    first.close()
    assert not any(path.exists() for path in logs)
    for path, content in logs.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return home


def test_milvus_lite_names_ids_that_are_stored_twice(killed_in_mid_flush, spec):
    # Opened as the client does it, without what `open_lite` does about it.
    unsettled = MilvusVectors(MilvusClient(str(killed_in_mid_flush)))
    held = unsettled.contents(spec)
    server_manager_instance.release_server(str(killed_in_mid_flush))
    assert held.doubled == held.frames == {name(i) for i in range(50)}


def test_a_kill_in_mid_flush_doubles_nothing(killed_in_mid_flush, spec):
    settled = open_lite(killed_in_mid_flush)
    held = settled.contents(spec)
    counted = settled._client.query(name_collection(spec), filter='id != ""', output_fields=["count(*)"])
    settled.close()
    assert (held.doubled, held.frames) == (frozenset(), {name(i) for i in range(50)})
    assert counted[0]["count(*)"] == 50


@pytest.mark.parametrize("left", [0, 60, 200])
def test_an_index_file_that_a_kill_cut_short_is_made_anew(tmp_path, spec, left):
    first = open_lite(tmp_path / "v.db")
    first.upsert(spec, [entity(i) for i in range(9)])
    first.put_references(spec, [entity(i) for i in range(9)])
    first.close()
    indexes = list((tmp_path / "v.db").rglob("*.idx"))
    assert indexes
    for index in indexes:
        assert index.stat().st_size > left
        index.write_bytes(index.read_bytes()[:left])
    again = open_lite(tmp_path / "v.db")
    found, held = ask(again, spec, unit(1), k=20), again.contents(spec)
    again.close()
    assert [c.frame_id for c in found] == [name(i) for i in range(9)]
    assert held.frames == {name(i) for i in range(9)}


def test_a_collection_that_a_kill_left_half_created_is_created_anew(tmp_path, spec):
    first = open_lite(tmp_path / "v.db")
    first.upsert(VectorSpec("another", "1", 8), [entity(1)])
    first.close()
    (tmp_path / "v.db" / "collections" / name_collection(spec) / "partitions").mkdir(parents=True)
    again = open_lite(tmp_path / "v.db")
    again.upsert(spec, [entity(2)])
    held = again.contents(spec).frames, again.contents(VectorSpec("another", "1", 8)).frames
    again.close()
    assert held == ({name(2)}, {name(1)})


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_a_log_that_a_kill_cut_short_loses_no_more_than_its_end(tmp_path, spec, share):
    home = tmp_path / "v.db"
    first = open_lite(home)
    first.upsert(spec, [entity(i) for i in range(3)])
    first.flush()
    for number in range(3, 9):
        first.upsert(spec, [entity(number)])
    logs = {path: path.read_bytes() for path in home.rglob("wal/*")}
    kept = {path: path.read_bytes() for path in home.rglob("*") if path.is_file() and path not in logs}
    first.close()
    shutil.rmtree(home)
    for path, content in (kept | {path: log[: int(len(log) * share)] for path, log in logs.items()}).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    again = open_lite(home)
    held = again.contents(spec).frames
    again.upsert(spec, [entity(i) for i in range(9)])
    whole = again.contents(spec)
    again.close()
    assert {name(i) for i in range(3)} <= held <= {name(i) for i in range(9)}
    assert (whole.frames, whole.doubled) == ({name(i) for i in range(9)}, frozenset())


def test_rows_that_a_kill_cut_short_while_they_were_written_are_written_again(tmp_path, spec):
    home = tmp_path / "v.db"
    first = open_lite(home)
    first.upsert(spec, [entity(i) for i in range(3)])
    first.flush()
    (data,) = home.rglob("data/*.parquet")
    first.close()
    (data.parent / "data_000004_000006.parquet").write_bytes(data.read_bytes()[:100])
    again = open_lite(home)
    again.upsert(spec, [entity(i) for i in range(3, 6)])
    again.flush()
    again.close()
    last = open_lite(home)
    assert last.contents(spec).frames == {name(i) for i in range(6)}
    last.close()


def test_milvus_lite_in_a_deep_directory_with_spaces_and_accents_opens(tmp_path, spec):
    deep = tmp_path / ("a rather long näme " * 4).strip() / ("b" * 90) / "vectors.db"
    opened = open_lite(deep)
    opened.upsert(spec, [entity(1)])
    assert opened.contents(spec).frames == {name(1)}
    opened.close()


def open_elsewhere(path: Path) -> None:
    try:
        open_lite(path).close()
    except LockedError:
        sys.exit(7)


def test_milvus_lite_is_locked_while_it_is_open_and_free_once_it_is_closed(tmp_path):
    opened = open_lite(tmp_path / "v.db")
    while_open = children.run(open_elsewhere, tmp_path / "v.db")
    opened.close()
    assert (while_open, children.run(open_elsewhere, tmp_path / "v.db")) == (7, 0)


@pytest.fixture(params=["memory", "lite", "server"])
def alone(request, tmp_path) -> Iterator[VectorStore]:
    """A store that nobody else's collections are in."""
    if request.param == "memory":
        yield MemoryVectors()
        return
    if request.param == "lite":
        opened = open_lite(tmp_path / "vectors.db")
        yield opened
        opened.close()
        return
    uri, database = f"http://127.0.0.1:{require_stack().port('milvus')}", f"{_MARK}{next(_NUMBERS)}"
    opened = open_server(uri, database=database)
    yield opened
    for collection in opened._client.list_collections():
        opened._client.drop_collection(collection)
    opened.close()
    client = MilvusClient(uri)
    client.drop_database(database)
    client.close()


def test_compaction_changes_nothing_that_can_be_asked(alone, spec):
    for start in (0, 20, 40):
        alone.put_references(spec, [entity(i) for i in range(start, start + 20)])
        alone.upsert(spec, [entity(i) for i in range(start, start + 20)])
        alone.flush()
    alone.upsert(spec, [entity(3, unit(0, 1))])
    alone.drop_references(spec, [name(5)])
    alone.delete(spec, [name(6)])
    before, found = alone.contents(spec), ask(alone, spec, unit(1, 8), k=10)
    (done,) = alone.compact(120.0)
    assert done.state in ("done", "automatic")
    if done.segments_before is not None and done.segments_after is not None:
        assert 0 < done.segments_after <= done.segments_before
    assert alone.contents(spec) == before
    assert (len(before.frames), len(before.references), before.doubled) == (59, 58, frozenset())
    assert ask(alone, spec, unit(1, 8), k=10) == found
    assert np.allclose(alone.fetch(spec, [name(3)])[name(3)], unit(0, 1))


def test_a_store_without_collections_has_nothing_to_compact(alone):
    assert alone.compact(0.0) == []


@pytest.mark.parametrize("alone", ["server"], indirect=True)
def test_nobody_waits_for_compaction_longer_than_was_allowed(alone, spec, monkeypatch):
    alone.upsert(spec, [entity(i) for i in range(40)])
    # How long a server really takes is its own affair.
    monkeypatch.setattr(alone._client, "get_compaction_state", lambda _job: "Executing")
    begun = monotonic()
    (done,) = alone.compact(2.0)
    assert done.state == "unfinished"
    assert 2.0 <= monotonic() - begun < 40.0
    assert alone.contents(spec).frames == {name(i) for i in range(40)}
