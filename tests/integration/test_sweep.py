"""One pass over a spool: what waits is taken in batches, what failed is taken again, what is done stays done."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pipeline.errors import TransientError, UsageError
from pipeline.ports import SourcePosition
from pipeline.run.batch import IngestRequest
from pipeline.run.ingest import Ingestor
from pipeline.run.sweep import Sweep, draw_frame, plan_files, plan_spool
from tests.lake_tools import add_references, ingest, lake_at, rows, wrong

SAMPLES = Path(__file__).resolve().parents[2] / "sample_fits"


@pytest.fixture
def spool(tmp_path) -> Path:
    directory = tmp_path / "spool"
    directory.mkdir()
    for path in sorted((SAMPLES / "night").iterdir())[:4]:
        copied = Path(shutil.copy(path, directory))
        os.utime(copied, (1e9, 1e9))
    (directory / ".half-written.fits").write_bytes(b"SIMPLE")
    return directory


def test_a_pass_takes_whole_batches_once(tmp_path, spool):
    with lake_at(tmp_path / "home") as lake:
        batches = plan_spool(lake, spool, 3)
        assert [len(batch) for batch in batches] == [3, 1]
        with Sweep(lake, IngestRequest(record_duplicates=True), spool=True) as sweep:
            reports = [report for batch in batches for report in sweep.ingest(batch)]
        assert [report["name"] for report in reports] == sorted(path.name for path in spool.glob("[!.]*"))
        assert plan_spool(lake, spool, 3) == []
        assert wrong(lake) == {}


def test_a_file_that_is_still_written_waits(tmp_path, spool):
    shutil.copy(next(spool.glob("[!.]*")), spool / "zz-new.fits")
    with lake_at(tmp_path / "home") as lake:
        (batch,) = plan_spool(lake, spool, 10)
        assert "zz-new.fits" not in {path.name for path in batch}


def test_a_batch_that_failed_is_given_again(tmp_path, spool, monkeypatch):
    append = None

    def refuse(table, rows, positions, unique):
        if table == "verdicts":
            monkeypatch.undo()
            raise TransientError("the catalogue is busy")
        return append(table, rows, positions, unique)

    with lake_at(tmp_path / "home") as lake, Sweep(lake, IngestRequest(), spool=True) as sweep:
        (batch,) = plan_spool(lake, spool, 10)
        append = lake.tables.append_new
        monkeypatch.setattr(lake.tables, "append_new", refuse)
        with pytest.raises(TransientError):
            sweep.ingest(batch)
        assert {report["status"] for report in sweep.ingest(batch)} == {"no_reference"}
        assert len(rows(lake, "frames")) == len(rows(lake, "verdicts")) == 4
        assert wrong(lake) == {}


def test_what_an_interrupted_run_left_is_finished_without_new_files(tmp_path, spool):
    with lake_at(tmp_path / "home") as lake:
        path = min(spool.glob("[!.]*"))
        frame_id, size, _ = lake.originals.put(path)
        (raw,) = lake.source.enrol([(path, frame_id, size)])
        assert raw.position == SourcePosition(f"spool:{spool}", 0)
        for left in spool.glob("[!.]*"):
            left.unlink()
        assert plan_spool(lake, spool, 10) == [[]]
        with Sweep(lake, IngestRequest(), spool=True) as sweep:
            assert sweep.ingest([]) == []
        assert plan_spool(lake, spool, 10) == []
        assert wrong(lake) == {}


def test_a_missing_spool_is_wrong_use(tmp_path):
    with lake_at(tmp_path / "home") as lake, pytest.raises(UsageError, match="not a directory"):
        plan_spool(lake, tmp_path / "nowhere", 10)


def test_judging_again_against_the_same_references_changes_nothing(tmp_path):
    with lake_at(tmp_path / "home") as lake:
        add_references(lake, sorted((SAMPLES / "references").iterdir()))
        (night,) = plan_files([str(SAMPLES / "night")], 100)
        first = ingest(lake, night)
        with Ingestor(lake, IngestRequest(judge_again=True)) as ingestor:
            assert list(ingestor.ingest(night)) == first
        assert wrong(lake) == {}
        assert len(rows(lake, "verdicts")) == len(night)
        odd = min((report for report in first if report["status"] == "anomaly"), key=lambda report: report["p_value"])
        assert draw_frame(lake, odd["frame_id"]).startswith(b"\x89PNG")
