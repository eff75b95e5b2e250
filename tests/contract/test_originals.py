"""Originals are kept byte for byte under the name of their content."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import StoreError, TransientError, UsageError
from pipeline.ports import OriginalStore
from pipeline.store.originals import LocalOriginals, TieredOriginals


@pytest.fixture(params=["local", "tiered"])
def store(request, tmp_path) -> OriginalStore:
    local = LocalOriginals(tmp_path / "kept")
    return local if request.param == "local" else TieredOriginals(local, LocalOriginals(tmp_path / "archive"))


def make(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_a_copy_has_the_bytes_and_the_name_of_its_content(store, tmp_path):
    frame_id = make(tmp_path / "a.fits", b"SIMPLE" * 1000)
    found, size, place = store.put(tmp_path / "a.fits")
    assert (found, size) == (frame_id, 6000)
    assert place.read_bytes() == b"SIMPLE" * 1000
    assert store.locate(frame_id) == place
    assert list(store.ids()) == [frame_id]


def test_the_copy_stays_when_the_file_changes_or_goes(store, tmp_path):
    frame_id = make(tmp_path / "a.fits", b"first")
    store.put(tmp_path / "a.fits")
    (tmp_path / "a.fits").write_bytes(b"second")
    store.put(tmp_path / "a.fits")
    (tmp_path / "a.fits").unlink()
    assert store.locate(frame_id).read_bytes() == b"first"
    assert len(list(store.ids())) == 2


def test_the_same_content_is_kept_once_whatever_its_name(store, tmp_path):
    for name in ("a.fits", "b.fits", "c with späce.fits"):
        make(tmp_path / name, b"same")
    first = {store.put(tmp_path / name) for name in ("a.fits", "b.fits", "c with späce.fits")}
    assert len(first) == 1
    assert len(list(store.ids())) == 1


def test_an_empty_file_is_a_content_too(store, tmp_path):
    frame_id = make(tmp_path / "empty", b"")
    assert store.put(tmp_path / "empty")[:2] == (frame_id, 0)
    assert store.locate(frame_id) is not None


def test_unknown_content_is_nowhere(store):
    assert store.locate("0" * 64) is None
    assert list(store.ids()) == []


@pytest.mark.parametrize("wrong", ["", "../../etc/passwd", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 64 + "\n"])
def test_what_is_no_frame_id_names_no_file(store, wrong):
    with pytest.raises(UsageError):
        store.locate(wrong)


def test_a_file_that_cannot_be_read_is_told(store, tmp_path):
    for path in (tmp_path / "missing.fits", tmp_path):
        with pytest.raises(UsageError, match="cannot read"):
            store.put(path)


def test_many_threads_may_put_the_same_content(store, tmp_path):
    frame_id = make(tmp_path / "a.fits", bytes(2**20))
    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(lambda _: store.put(tmp_path / "a.fits"), range(32)))
    assert {answer[0] for answer in answers} == {frame_id}
    assert list(store.ids()) == [frame_id]
    assert hashlib.sha256(store.locate(frame_id).read_bytes()).hexdigest() == frame_id


def test_half_a_copy_that_a_kill_left_is_no_content_and_is_swept(tmp_path):
    store = LocalOriginals(tmp_path / "kept")
    frame_id = make(tmp_path / "a.fits", b"whole")
    (tmp_path / "kept" / frame_id[:2]).mkdir(parents=True)
    half = tmp_path / "kept" / frame_id[:2] / f".{frame_id}.0123.part"
    half.write_bytes(b"wh")
    assert store.locate(frame_id) is None
    assert list(store.ids()) == []
    store.put(tmp_path / "a.fits")
    assert store.sweep() == 1
    assert not half.exists()
    assert list(store.ids()) == [frame_id]


def test_a_place_that_cannot_be_written_is_worth_another_try(tmp_path):
    (tmp_path / "kept").write_bytes(b"a file where a directory should be")
    make(tmp_path / "a.fits", b"frame")
    with pytest.raises(TransientError, match="cannot keep a copy"):
        LocalOriginals(tmp_path / "kept").put(tmp_path / "a.fits")


def test_an_archive_copy_is_proved_before_it_counts(tmp_path):
    frame_id = make(tmp_path / "a.fits", b"frame")
    archive = LocalOriginals(tmp_path / "archive")
    assert archive.adopt(frame_id, tmp_path / "a.fits").read_bytes() == b"frame"
    make(tmp_path / "b.fits", b"rotten")
    with pytest.raises(StoreError, match="hash"):
        archive.adopt("1" * 64, tmp_path / "b.fits")


def test_an_archived_frame_is_found_where_it_is_now(tmp_path):
    frame_id = make(tmp_path / "a.fits", b"frame")
    tiers = TieredOriginals(LocalOriginals(tmp_path / "hot"), LocalOriginals(tmp_path / "archive"))
    hot = tiers.put(tmp_path / "a.fits")[2]
    cold = tiers.archive.adopt(frame_id, hot)
    tiers.hot.remove(frame_id)
    assert tiers.locate(frame_id) == cold
    assert list(tiers.ids()) == [frame_id]
