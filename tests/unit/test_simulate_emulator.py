"""The telescope emulator: pace, whole files, no overwriting."""

from __future__ import annotations

import pytest

from pipeline.errors import TransientError, UsageError
from pipeline.simulate import feed


@pytest.fixture
def frames(tmp_path):
    source = tmp_path / "night"
    source.mkdir()
    made = [source / f"f{number}.fits" for number in range(5)]
    for number, path in enumerate(made):
        path.write_bytes(bytes([number]) * 100)
    return made


def test_it_waits_between_frames_and_not_around_them(frames, tmp_path):
    spool, events = tmp_path / "spool", []
    copied = feed(frames, spool, 2.5, events.append, lambda path, fresh: events.append((path.name, fresh)))
    assert copied == 5
    assert events == [(f"f{n // 2}.fits", True) if n % 2 == 0 else 2.5 for n in range(9)]
    assert [path.read_bytes() for path in sorted(spool.iterdir())] == [path.read_bytes() for path in frames]


def test_a_burst_comes_without_waits_within(frames, tmp_path):
    waits = []
    assert feed(frames, tmp_path / "spool", 10.0, waits.append, burst=2) == 5
    assert waits == [10.0, 10.0]


def test_frames_already_there_are_passed_over_without_waiting(frames, tmp_path):
    spool, waits, seen = tmp_path / "spool", [], []
    feed(frames[:3], spool, 0.0, waits.append)
    before = {path.name: path.stat().st_mtime_ns for path in spool.iterdir()}
    assert feed(frames, spool, 1.0, waits.append, lambda _path, fresh: seen.append(fresh)) == 2
    assert seen == [False, False, False, True, True]
    assert waits == [1.0]
    assert all((spool / name).stat().st_mtime_ns == stamp for name, stamp in before.items())


def test_a_different_file_of_the_same_name_is_never_overwritten(frames, tmp_path):
    spool = tmp_path / "spool"
    feed(frames[:1], spool)
    (spool / "f1.fits").write_bytes(b"somebody else's")
    with pytest.raises(UsageError, match="different file"):
        feed(frames, spool)
    assert (spool / "f1.fits").read_bytes() == b"somebody else's"
    assert sorted(path.name for path in spool.iterdir()) == ["f0.fits", "f1.fits"]


def test_readers_see_hidden_names_until_a_frame_is_whole(frames, tmp_path, monkeypatch):
    spool, visible = tmp_path / "spool", []

    def fail(_handle):
        visible.append([path.name for path in spool.iterdir()])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(TransientError, match="No space"):
        feed(frames, spool)
    assert len(visible) == 1
    assert all(name.startswith(".") for name in visible[0])
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"cadence_s": -1.0}, {"burst": 0}])
def test_a_pace_that_makes_no_sense_is_refused(frames, tmp_path, wrong):
    with pytest.raises(UsageError, match="no sense"):
        feed(frames, tmp_path / "spool", **wrong)


def test_a_missing_frame_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"gone\.fits"):
        feed([tmp_path / "gone.fits"], tmp_path / "spool")


def test_a_spool_that_is_a_file_is_refused(frames):
    with pytest.raises(UsageError, match="cannot make the directory"):
        feed(frames, frames[0])
