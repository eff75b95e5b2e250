"""Originals are kept byte for byte under the name of their content, and an archive proves it, near or far."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import OddframeError, StoreError, TransientError, UsageError
from pipeline.ports import OriginalStore, OriginalTier
from pipeline.store.originals import LocalOriginals, TieredOriginals
from pipeline.store.originals_s3 import S3Connection, S3Originals
from tests import children

PLENTY = 2**30
NOBODY = "0" * 64
NO_IDS = ["", "../../etc/passwd", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 64 + "\n"]


@pytest.fixture
def bucket(s3, tmp_path) -> S3Originals:
    return S3Originals(s3.connect(), tmp_path / "fetched", PLENTY)


@pytest.fixture(params=["local", "s3"])
def archive(request, tmp_path) -> OriginalTier:
    return LocalOriginals(tmp_path / "archive") if request.param == "local" else request.getfixturevalue("bucket")


@pytest.fixture
def write(archive, request, tmp_path) -> Callable[[str, bytes], object]:
    """Write into the archive by its path there, past the code that is tested."""
    if isinstance(archive, S3Originals):
        service, root = request.getfixturevalue("s3"), archive._connection.root
        return lambda name, content: service.write(f"{root}/{name}", content)

    def write_file(name: str, content: bytes) -> None:
        path = tmp_path / "archive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return write_file


@pytest.fixture(params=["local", "tiered", "tiered over s3"])
def store(request, tmp_path) -> OriginalStore:
    local = LocalOriginals(tmp_path / "kept")
    if request.param == "local":
        return local
    far = request.param == "tiered over s3"
    return TieredOriginals(local, request.getfixturevalue("bucket") if far else LocalOriginals(tmp_path / "archive"))


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


@pytest.mark.parametrize("wrong", NO_IDS)
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


# --- an archive -----------------------------------------------------------------------------------------------------


def bring(archive: OriginalTier, tmp_path: Path, content: bytes) -> str:
    frame_id = make(tmp_path / "delivered", content)
    archive.adopt(frame_id, tmp_path / "delivered")
    return frame_id


# The largest goes to S3 in parts.
@pytest.mark.parametrize("size", [0, 1, 2880, 24 * 2**20 + 1])
def test_what_an_archive_took_is_there_byte_for_byte(archive, tmp_path, size):
    content = os.urandom(size)
    frame_id = bring(archive, tmp_path, content)
    assert archive.is_intact(frame_id)
    assert archive.locate(frame_id).read_bytes() == content
    assert list(archive.ids()) == [frame_id]
    assert (tmp_path / "delivered").read_bytes() == content


def test_an_archive_takes_nothing_under_a_wrong_name(archive, tmp_path):
    make(tmp_path / "b.fits", b"rotten")
    with pytest.raises(StoreError, match="hash"):
        archive.adopt("1" * 64, tmp_path / "b.fits")
    assert not archive.is_intact("1" * 64)


def test_an_archive_takes_the_same_content_again(archive, tmp_path):
    assert bring(archive, tmp_path, b"frame") == bring(archive, tmp_path, b"frame")
    assert len(list(archive.ids())) == 1


def test_an_archived_copy_that_rotted_is_found_out_and_left(archive, tmp_path, write):
    frame_id = bring(archive, tmp_path, b"frame")
    write(f"{frame_id[:2]}/{frame_id}", b"fRame")
    assert not archive.is_intact(frame_id)
    with pytest.raises(StoreError, match="does not hash to its name"):
        archive.adopt(frame_id, tmp_path / "delivered")
    assert not archive.is_intact(frame_id)
    assert list(archive.ids()) == [frame_id]


def test_an_archive_says_that_it_has_not_got_a_content(archive):
    assert archive.locate(NOBODY) is None
    assert archive.find_nearby(NOBODY) is None
    assert not archive.is_intact(NOBODY)
    archive.remove(NOBODY)
    assert list(archive.ids()) == []
    assert archive.sweep() == 0


@pytest.mark.parametrize("wrong", NO_IDS)
def test_what_is_no_frame_id_names_nothing_in_an_archive(archive, tmp_path, wrong):
    (tmp_path / "a.fits").write_bytes(b"frame")
    adopt = lambda frame_id: archive.adopt(frame_id, tmp_path / "a.fits")  # noqa: E731 - like the methods beside it
    for method in (archive.locate, archive.find_nearby, archive.is_intact, archive.remove, adopt):
        with pytest.raises(OddframeError):
            method(wrong)


def test_what_was_removed_is_gone_and_the_rest_stays(archive, tmp_path):
    gone, kept = bring(archive, tmp_path, b"one"), bring(archive, tmp_path, b"two")
    assert archive.locate(gone) is not None
    archive.remove(gone)
    assert archive.locate(gone) is None
    assert not archive.is_intact(gone)
    assert list(archive.ids()) == [kept]


def test_contents_are_listed_in_order_and_strangers_are_not(archive, tmp_path, write):
    ids = [bring(archive, tmp_path, f"{number}".encode()) for number in range(20)]
    for name in ("README", f"ab/{NOBODY}.txt", f"ab/deeper/{NOBODY}", "ab/notes"):
        write(name, b"a stranger")
    assert list(archive.ids()) == sorted(ids)


def test_an_archive_reads_in_another_process(archive, tmp_path):
    frame_id = bring(archive, tmp_path, b"frame")
    assert pickle.loads(pickle.dumps(archive)).locate(frame_id).read_bytes() == b"frame"  # noqa: S301 - our own


def test_many_threads_may_ask_for_the_same_content(archive, tmp_path):
    frame_id = bring(archive, tmp_path, bytes(2**20))
    with ThreadPoolExecutor(8) as pool:
        contents = set(pool.map(lambda _: archive.locate(frame_id).read_bytes(), range(32)))
    assert contents == {bytes(2**20)}


def test_an_archived_frame_is_found_where_it_is_now(archive, tmp_path):
    frame_id = make(tmp_path / "a.fits", b"frame")
    tiers = TieredOriginals(LocalOriginals(tmp_path / "hot"), archive)
    hot = tiers.put(tmp_path / "a.fits")[2]
    tiers.archive.adopt(frame_id, hot)
    tiers.hot.remove(frame_id)
    assert tiers.locate(frame_id) == archive.locate(frame_id) != hot
    assert tiers.locate(frame_id).read_bytes() == b"frame"
    assert list(tiers.ids()) == [frame_id]


def test_what_comes_again_is_kept_where_it_can_be_read_without_asking(archive, tmp_path):
    frame_id = bring(archive, tmp_path, b"frame")
    tiers = TieredOriginals(LocalOriginals(tmp_path / "hot"), archive)
    place = tiers.put(tmp_path / "delivered")[2]
    assert place == (archive.find_nearby(frame_id) or tiers.hot.locate(frame_id))
    assert place.read_bytes() == b"frame"
    assert list(tiers.ids()) == [frame_id]


# --- an archive that is far away ------------------------------------------------------------------------------------


def test_reading_twice_asks_once(bucket, s3, tmp_path):
    frame_id = bring(bucket, tmp_path, b"frame")
    bucket.locate(frame_id)
    with s3.listen("GET") as reads, s3.listen("HEAD") as looks:
        assert bucket.locate(frame_id).read_bytes() == b"frame"
    assert reads + looks == []


def test_listing_reads_nothing(bucket, s3, tmp_path):
    ids = [bring(bucket, tmp_path, f"{number}".encode()) for number in range(5)]
    with s3.listen("GET") as asked:
        assert list(bucket.ids()) == sorted(ids)
    assert len(asked) == 1
    assert "list-type=2" in asked[0]


def test_what_is_there_is_not_sent_again(bucket, s3, tmp_path):
    frame_id = bring(bucket, tmp_path, b"frame")
    with s3.listen("PUT") as sent, s3.listen("POST") as begun:
        bucket.adopt(frame_id, tmp_path / "delivered")
    assert sent + begun == []


def test_a_file_that_is_not_what_it_is_said_to_be_is_not_even_sent(bucket, tmp_path):
    make(tmp_path / "b.fits", b"rotten")
    with pytest.raises(StoreError, match="it was not uploaded"):
        bucket.adopt(NOBODY, tmp_path / "b.fits")
    assert list(bucket.ids()) == []


def test_an_open_connection_stays_in_its_process(bucket, tmp_path):
    bring(bucket, tmp_path, b"frame")
    assert b"S3FileSystem" not in pickle.dumps(bucket)


def test_taking_a_frame_in_asks_nobody(bucket, s3, tmp_path):
    frame_id = bring(bucket, tmp_path, b"frame")
    tiers = TieredOriginals(LocalOriginals(tmp_path / "hot"), bucket)
    with s3.stalled():
        start = time.monotonic()
        assert tiers.put(tmp_path / "delivered")[0] == frame_id
        assert tiers.keep(frame_id, b"frame").read_bytes() == b"frame"
        # A first question would wait three seconds at least.
        assert time.monotonic() - start < 3


def test_a_fetched_copy_that_rotted_is_fetched_again(bucket, tmp_path):
    frame_id = bring(bucket, tmp_path, b"frame")
    bucket.locate(frame_id).write_bytes(b"fRame")
    assert bucket.locate(frame_id).read_bytes() == b"frame"


def test_fetched_copies_may_be_cleared_at_any_time(bucket, tmp_path):
    frame_id = bring(bucket, tmp_path, b"frame")
    assert bucket.locate(frame_id).is_relative_to(tmp_path / "fetched")
    shutil.rmtree(tmp_path / "fetched")
    assert bucket.locate(frame_id).read_bytes() == b"frame"
    bucket.locate(frame_id).unlink()
    assert bucket.locate(frame_id).read_bytes() == b"frame"


def test_wrong_bytes_are_never_handed_out(bucket, s3, tmp_path):
    frame_id = bring(bucket, tmp_path, b"frame")
    s3.write(f"{bucket._connection.root}/{frame_id[:2]}/{frame_id}", b"fRame")
    with pytest.raises(StoreError, match="does not hash to its name"):
        bucket.locate(frame_id)
    assert not [path for path in (tmp_path / "fetched").rglob("*") if path.is_file()]


def test_fetched_copies_stay_within_their_bound_but_for_those_just_asked_for(s3, tmp_path):
    bucket = S3Originals(s3.connect(), tmp_path / "fetched", 2500)
    ids = [bring(bucket, tmp_path, bytes([number]) * 1000) for number in range(5)]
    places = [bucket.locate(frame_id) for frame_id in ids[:4]]
    assert all(place.exists() for place in places), "somebody may be about to open them"
    long_ago = time.time() - 86_400
    for age, place in enumerate(places):
        os.utime(place, (long_ago - age, long_ago - age))
    assert bucket.locate(ids[3]) == places[3], "the oldest, but now it was asked for"
    last = bucket.locate(ids[4])
    assert [place.exists() for place in [*places, last]] == [False, False, False, True, True]
    assert bucket.locate(ids[0]).read_bytes() == bytes(1000)


def test_half_a_fetched_copy_is_swept_once_nobody_can_be_at_it(bucket, tmp_path):
    frame_id = bring(bucket, tmp_path, b"frame")
    place = bucket.locate(frame_id)
    fresh, old = (place.with_name(f".{frame_id}.{word}.part") for word in ("fresh", "old"))
    for part in (fresh, old):
        part.write_bytes(b"fra")
    os.utime(old, (time.time() - 86_400,) * 2)
    assert bucket.sweep() == 1
    assert (fresh.exists(), old.exists(), place.exists()) == (True, False, True)


def test_an_object_of_another_size_is_replaced(bucket, s3, tmp_path):
    frame_id = make(tmp_path / "a.fits", b"a whole frame")
    s3.write(f"{bucket._connection.root}/{frame_id[:2]}/{frame_id}", b"a whole")
    bucket.adopt(frame_id, tmp_path / "a.fits")
    assert bucket.is_intact(frame_id)


def test_an_upload_killed_half_way_is_no_content_and_goes_through_the_next_time(bucket, tmp_path):
    content = os.urandom(30 * 2**20)
    frame_id = make(tmp_path / "a.fits", content)
    killed = children.run(_upload_half, bucket, frame_id, content[: 20 * 2**20])
    assert killed == -signal.SIGKILL
    assert list(bucket.ids()) == []
    assert bucket.locate(frame_id) is None
    bucket.adopt(frame_id, tmp_path / "a.fits")
    assert bucket.is_intact(frame_id)


def _upload_half(bucket: S3Originals, frame_id: str, half: bytes) -> None:
    stream = bucket._files.open_output_stream(bucket._key(frame_id))
    stream.write(half)
    os.kill(os.getpid(), signal.SIGKILL)


def ask_everything(connection: S3Connection, tmp_path: Path) -> list[OddframeError]:
    """The errors of every question that goes over the network."""
    bucket = S3Originals(connection, tmp_path / "fetched", PLENTY)
    frame_id = make(tmp_path / "a.fits", b"frame")
    asked: list[Callable[[], object]] = [
        lambda: bucket.locate(frame_id),
        lambda: bucket.is_intact(frame_id),
        lambda: bucket.adopt(frame_id, tmp_path / "a.fits"),
        lambda: bucket.remove(frame_id),
        lambda: list(bucket.ids()),
    ]
    told = []
    for ask in asked:
        with pytest.raises(OddframeError) as caught:
            ask()
        text = str(caught.value)
        assert "\n" not in text
        assert "not-to-be-shown" not in text + repr(connection)
        told.append(caught.value)
    return told


def test_a_service_that_is_not_there_is_worth_another_try(s3, tmp_path):
    told = ask_everything(replace(s3.connect(), endpoint="http://127.0.0.1:1"), tmp_path)
    assert {type(error) for error in told} == {TransientError}
    assert all("http://127.0.0.1:1 does not answer for s3://archive/" in str(error) for error in told)


def test_a_service_that_says_nothing_is_given_up(bucket, s3, tmp_path):
    frame_id = bring(bucket, tmp_path, b"frame")
    with s3.stalled(), pytest.raises(TransientError, match="does not answer"):
        bucket.locate(frame_id)
    assert bucket.locate(frame_id).read_bytes() == b"frame"


def test_credentials_that_are_refused_are_the_users_affair(s3, tmp_path):
    with s3.refusing():
        told = ask_everything(s3.connect(), tmp_path)
    assert {type(error) for error in told} == {UsageError}
    assert all("refuses the credentials" in str(error) and "archive.s3_access_key" in str(error) for error in told)


def test_credentials_that_are_refused_later_are_told_too(bucket, s3, tmp_path):
    frame_id = bring(bucket, tmp_path, b"frame")
    with s3.refusing():
        for ask in (bucket.locate, bucket.is_intact, bucket.remove, lambda _: list(bucket.ids())):
            with pytest.raises(UsageError, match="refuses the credentials"):
                ask(frame_id)
        with pytest.raises(UsageError, match="refuses the credentials"):
            bucket.adopt(make(tmp_path / "b.fits", b"other"), tmp_path / "b.fits")
    assert bucket.is_intact(frame_id)


@pytest.mark.parametrize("where", ["settings", "environment"])
def test_the_right_keys_are_let_in_and_a_wrong_secret_is_not(s3, tmp_path, monkeypatch, where):
    key, secret = s3.admit()
    connection = replace(s3.connect(), access_key=key, secret_key=secret)
    if where == "environment":
        connection = replace(connection, access_key=None, secret_key=None)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret.get_secret_value())
    with s3.refusing():
        bring(S3Originals(connection, tmp_path / "fetched", PLENTY), tmp_path, b"frame")
        told = ask_everything(replace(s3.connect(), access_key=key), tmp_path)
    assert {type(error) for error in told} == {UsageError}


def test_a_bucket_that_is_not_there_is_the_users_affair(s3, tmp_path):
    told = ask_everything(s3.connect("nowhere"), tmp_path)
    assert {type(error) for error in told} == {UsageError}
    assert all("no bucket nowhere" in str(error) for error in told)
    assert s3.files().get_file_info("nowhere").type.name == "NotFound", "it was not made on the way"


def test_a_place_for_fetched_copies_that_cannot_be_written_is_worth_another_try(bucket, tmp_path):
    frame_id = bring(bucket, tmp_path, b"frame")
    (tmp_path / "fetched").write_bytes(b"a file where a directory should be")
    with pytest.raises(TransientError, match="cannot keep a copy"):
        bucket.locate(frame_id)
