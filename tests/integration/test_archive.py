from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.run.archive import archive_originals, verify_checksums
from pipeline.store.originals import LocalOriginals, TieredOriginals
from pipeline.store.originals_s3 import S3Originals
from pipeline.store.tables_iceberg import IcebergTables
from tests.table_tools import START, frame, lend_tables

LATER = START + timedelta(days=365)


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[IcebergTables]:
    with lend_tables("sqlite", tmp_path) as open_tables:
        yield open_tables()


@pytest.fixture(params=["local", "s3"])
def originals(request, tmp_path: Path) -> TieredOriginals:
    if request.param == "local":
        return TieredOriginals(LocalOriginals(tmp_path / "hot"), LocalOriginals(tmp_path / "archive"))
    connection = request.getfixturevalue("s3").connect()
    return TieredOriginals(LocalOriginals(tmp_path / "hot"), S3Originals(connection, tmp_path / "fetched", 2**20))


def _keep(originals: TieredOriginals, tmp_path: Path, content: bytes) -> str:
    file = tmp_path / "delivered"
    file.write_bytes(content)
    return originals.put(file)[0]


def test_old_originals_move_and_young_ones_stay(tables, originals, tmp_path):
    old, young, odd, redriven = (_keep(originals, tmp_path, content) for content in (b"old", b"new", b"odd", b"again"))
    tables.append(
        "frames", [frame(0, frame_id=old), frame(1, frame_id=young, ingested_at=LATER), frame(2, frame_id=redriven)]
    )
    events = [{"frame_id": odd, "at": START}, {"frame_id": redriven, "at": LATER}]
    tables.append("quarantine", events)
    dry = archive_originals(tables, originals, START + timedelta(days=1), dry_run=True)
    assert (dry.moved, dry.bytes, set(originals.archive.ids())) == (2, 6, set())
    told: list[tuple[str, int, int]] = []
    done = archive_originals(
        tables, originals, START + timedelta(days=1), on_progress=lambda *progress: told.append(progress)
    )
    assert (done.moved, done.kept, done.problems) == (2, 2, ())
    assert set(originals.archive.ids()) == {old, odd}
    assert set(originals.hot.ids()) == {young, redriven}
    assert originals.locate(old).read_bytes() == b"old"
    assert told[-1] == ("originals", 2, 2)
    assert done.to_json()["moved"] == 2
    again = archive_originals(tables, originals, START + timedelta(days=1))
    assert (again.moved, again.problems) == (0, ())


def test_originals_that_no_table_names_are_left_alone(tables, originals, tmp_path):
    _keep(originals, tmp_path, b"landed and not committed yet")
    assert archive_originals(tables, originals, LATER).moved == 0
    assert len(list(originals.hot.ids())) == 1


@pytest.mark.parametrize("step", ["adopt", "remove", "write"])
def test_a_run_stopped_at_any_step_loses_nothing_and_can_be_repeated(tables, originals, tmp_path, monkeypatch, step):
    ids = [_keep(originals, tmp_path, f"frame {i}".encode()) for i in range(3)]
    tables.append("frames", [frame(i, frame_id=frame_id) for i, frame_id in enumerate(ids)])
    calls = 0

    def stop(*_: object) -> None:
        nonlocal calls
        calls += 1
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step == "write" and isinstance(originals.archive, S3Originals):
            patch.setattr(originals.archive, "_send", stop)
        elif step == "write":
            patch.setattr(os, "fsync", stop)
        else:
            patch.setattr(originals.archive if step == "adopt" else originals.hot, step, stop)
        with pytest.raises(KeyboardInterrupt):
            archive_originals(tables, originals, LATER)
    assert calls == 1
    assert set(originals.hot.ids()) == set(ids), "nothing is deleted before its copy is proved"
    done = archive_originals(tables, originals, LATER)
    assert (done.moved, done.problems) == (3, ())
    assert set(originals.archive.ids()) == set(ids)
    assert not list(originals.hot.ids())
    assert not list((tmp_path / "archive").rglob("*.part")), "half-written copies of the killed run are gone"


def test_a_copy_is_proved_before_the_original_goes(tables, originals, tmp_path, monkeypatch):
    frame_id = _keep(originals, tmp_path, b"good bytes")
    tables.append("frames", [frame(0, frame_id=frame_id)])
    kind, method = type(originals.archive), "_send" if isinstance(originals.archive, S3Originals) else "_write"
    write = getattr(kind, method)

    def write_badly(self: object, place: object, payload: bytes, **how: Any) -> None:
        write(self, place, payload[:-1], **how)

    monkeypatch.setattr(kind, method, write_badly)
    done = archive_originals(tables, originals, LATER)
    assert done.moved == 0
    assert "does not hash" in done.problems[0]
    assert originals.hot.is_intact(frame_id)


def test_a_corrupt_hot_copy_is_reported_and_stays(tables, originals, tmp_path):
    bad, good = _keep(originals, tmp_path, b"soon rotten"), _keep(originals, tmp_path, b"sound")
    tables.append("frames", [frame(0, frame_id=bad), frame(1, frame_id=good)])
    originals.hot.locate(bad).write_bytes(b"rotten")
    done = archive_originals(tables, originals, LATER)
    assert (done.moved, len(done.problems)) == (1, 1)
    assert bad in done.problems[0]
    assert originals.hot.locate(bad).read_bytes() == b"rotten"
    assert set(originals.archive.ids()) == {good}
    assert done.to_json()["problems"] == 1


def test_checksums_of_the_archive(originals, tmp_path, request):
    ids = [_keep(originals, tmp_path, f"{i}".encode()) for i in range(12)]
    for frame_id in ids:
        originals.archive.adopt(frame_id, originals.hot.locate(frame_id))
    if isinstance(originals.archive, S3Originals):
        request.getfixturevalue("s3").write(originals.archive._key(ids[3]), b"bit rot")
    else:
        originals.archive.locate(ids[3]).write_bytes(b"bit rot")
    everything = verify_checksums(originals.archive, now=START)
    assert (everything.checked, everything.total, len(everything.problems)) == (12, 12, 1)
    assert ids[3] in everything.problems[0]
    assert everything.to_json()["problems"] == 1
    found = [
        len(verify_checksums(originals.archive, sample=3, now=START + timedelta(days=d)).problems) for d in range(40)
    ]
    assert 0 < sum(found) < 40, "every day another sample"
    assert verify_checksums(originals.archive, sample=3, now=START).checked == 3
