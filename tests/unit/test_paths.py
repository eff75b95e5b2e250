"""Which files a person means by a path, a directory or a pattern; and what a file too large costs to land."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.run.land import Landed, NotLanded, expand_paths, land_files, split_batches
from pipeline.store.originals import LocalOriginals


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    for name in ("b.fits", "a.fits", "sub/c.fits.gz", "sub/deep/d.fz", ".hidden.fits", ".git/e.fits", "odd[1].fits"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(*arguments: str) -> list[str]:
    return [path.name for path in expand_paths(arguments)]


def test_files_come_in_the_order_given_and_as_often_as_given(tree):
    assert names("b.fits", "a.fits", "b.fits") == ["b.fits", "a.fits", "b.fits"]


def test_a_directory_is_walked_in_name_order_without_what_is_hidden(tree):
    assert names(".") == ["a.fits", "b.fits", "odd[1].fits", "c.fits.gz", "d.fz"]
    assert names(str(tree)) == names(".")
    assert names("sub", "a.fits") == ["c.fits.gz", "d.fz", "a.fits"]


def test_patterns_may_be_relative_or_absolute_and_deep(tree):
    assert names("*.fits") == [".hidden.fits", "a.fits", "b.fits", "odd[1].fits"] or names("?.fits") == [
        "a.fits",
        "b.fits",
    ]
    assert names(f"{tree}/sub/*.gz") == ["c.fits.gz"]
    assert names("**/*.fz") == ["d.fz"]


def test_a_name_with_brackets_is_that_file_and_no_pattern(tree):
    assert names("odd[1].fits") == ["odd[1].fits"]


def test_a_hidden_file_that_is_named_is_meant(tree):
    assert names(".hidden.fits") == [".hidden.fits"]


@pytest.mark.parametrize(
    "argument",
    ["missing.fits", "*.png", "", "   ", "a**b", "**", "nowhere/*.fits", "x" * 5000, "a.fits/b", "[", "/", "~/frames"],
)
def test_what_names_nothing_is_told_in_one_line(tmp_path, monkeypatch, argument):
    monkeypatch.chdir(tmp_path)
    if argument == "/":
        pytest.skip("everything there is: not for a test")
    with pytest.raises(UsageError) as caught:
        expand_paths([argument])
    assert "\n" not in str(caught.value)


def test_a_directory_without_frames_is_told_as_one(tmp_path):
    for name in ("notes.txt", ".hidden.fits"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(UsageError, match="holds no frames"):
            expand_paths([str(tmp_path)])


def test_links_in_a_circle_end(tree):
    (tree / "sub" / "again").symlink_to(tree)
    (tree / "dangling.fits").symlink_to(tree / "nowhere")
    assert sorted(set(names("."))) == sorted(["a.fits", "b.fits", "odd[1].fits", "c.fits.gz", "d.fz"])


def test_a_name_that_is_no_text_is_found(tree):
    (tree / "sub" / os.fsdecode(b"bad\xff.fits")).write_bytes(b"x")
    assert len(names("sub")) == 3


def test_batches_keep_the_order():
    paths = [Path(str(n)) for n in range(7)]
    assert list(split_batches(paths, 3)) == [paths[:3], paths[3:6], paths[6:]]
    assert list(split_batches([], 3)) == []


def test_a_file_over_the_size_limit_is_known_by_its_content_and_not_copied(tmp_path):
    (tmp_path / "large.fits").write_bytes(b"0123456789")
    originals = LocalOriginals(tmp_path / "originals")
    (landed,) = land_files([tmp_path / "large.fits"], originals, max_bytes=9)
    assert isinstance(landed, Landed)
    assert (landed.frame_id, landed.size) == (sha256(b"0123456789").hexdigest(), 10)
    assert list(originals.ids()) == []


def test_a_file_too_large_to_hash_in_time_is_not_landed_and_does_not_hold_up_the_next(tmp_path):
    with (tmp_path / "endless.fits").open("wb") as file:
        # Eight terabytes of holes: nothing on disk, hours to read.
        file.truncate(2**43)
    (tmp_path / "next.fits").write_bytes(b"x")
    originals = LocalOriginals(tmp_path / "originals")
    paths = [tmp_path / "endless.fits", tmp_path / "next.fits"]
    endless, following = land_files(paths, originals, max_bytes=100, seconds=0.05)
    assert isinstance(endless, NotLanded)
    assert all(word in endless.reason for word in ("endless.fits", "8,796,093,022,208 bytes", "0.05 s"))
    assert isinstance(following, Landed)
