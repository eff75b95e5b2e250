"""Which files a person means by a path, a directory or a pattern."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.run.land import expand_paths, split_batches


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


def test_an_empty_directory_names_nothing(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
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
