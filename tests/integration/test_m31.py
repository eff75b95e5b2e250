"""The figures the project promises for real frames."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from pipeline.run.explain import find_verdict, replay_verdict
from pipeline.run.land import expand_paths
from pipeline.run.reference import audit_references
from tests.lake_tools import add_references, ingest, lake_at, rows, wrong

PROMISED = {"m31.fits": (0.000, 0.0153, 0.0201), "m31dot.fits": (1.5147, 1.5171, 1.5172)}


@pytest.fixture(scope="module")
def m31(real_data) -> tuple[list[Path], list[Path]]:
    references = sorted((real_data / "m31").glob("m31?.FITS"))
    assert len(references) == 10
    return references, [real_data / "m31" / name for name in PROMISED]


def test_the_demo_preset_gives_the_distances_of_the_demo(m31, tmp_path):
    with lake_at(tmp_path) as lake:
        add_references(lake, m31[0], embedding="pixels-demo")
        reports = ingest(lake, m31[1])
        assert {r["embedding"] for r in reports} == {"pixels-demo@1-166x100"}
        for report in reports:
            squares = [n["distance"] ** 2 for n in report["nearest"]]
            assert squares == pytest.approx(PROMISED[report["name"]], abs=0.02), report["name"]
        assert [r["status"] for r in reports] == ["normal", "anomaly"]
        assert wrong(lake) == {}


def test_the_default_flags_the_dot_and_its_audit_finds_the_bad_reference(m31, tmp_path):
    with lake_at(tmp_path) as lake:
        add_references(lake, m31[0])
        reports = {r["name"]: r for r in ingest(lake, m31[1])}
        assert reports["m31dot.fits"]["status"] == "anomaly"
        assert reports["m31.fits"]["status"] == "normal"
        # Byte for byte the reference m31a: it finds itself and is judged by the others.
        assert reports["m31.fits"]["nearest"][0]["distance"] == 0.0
        assert 0 < reports["m31.fits"]["distance"] < 0.01
        audit = audit_references(lake)
        assert len(audit) == 10
        assert audit[0]["name"] == "m31g.FITS"
        assert audit[0]["distance"] > 5 * audit[1]["distance"]
        for name in reports:
            assert replay_verdict(lake, find_verdict(lake.tables, name)).same
        assert wrong(lake) == {}


def test_every_frame_of_a_real_series_gets_a_verdict(real_data, tmp_path, record_property, capsys):
    frames = sorted((real_data / "series_microobs").glob("*.fits.gz"))
    assert len(frames) == 71
    with lake_at(tmp_path) as lake:
        added = add_references(lake, frames[:40])
        assert {r["status"] for r in added} == {"reference"}
        reports = ingest(lake, frames[40:])
        counts = Counter(r["status"] for r in reports)
        assert counts.keys() <= {"normal", "anomaly"}
        assert counts.total() == 31
        assert all(0 < r["p_value"] <= 1 for r in reports)
        assert wrong(lake) == {}
    record_property("series_microobs flagged", counts["anomaly"])
    with capsys.disabled():
        print(f"\nseries_microobs: {counts['anomaly']} of 31 flagged by pixels")  # noqa: T201 - a figure to report


@pytest.mark.parametrize("folder", ["header_variety", "streak", "rubin/unmodified_cutouts", "dq_masks"])
def test_real_frames_of_many_cameras_are_ingested_or_quarantined(real_data, tmp_path, folder):
    paths = expand_paths([str(real_data / folder)])
    with lake_at(tmp_path) as lake:
        reports = ingest(lake, paths)
        assert len(reports) == len(paths)
        for report in reports:
            is_frame = ".fit" in report["name"].lower()
            assert report["status"] in (("no_reference", "not_searched") if is_frame else ("unreadable",)), report
            assert len(report["reason"]) > 10
        contents = {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
        held = {row["frame_id"] for table in ("frames", "quarantine") for row in rows(lake, table)}
        assert held == contents
        assert wrong(lake) == {}
        if folder == "header_variety":
            calibrations = [r for r in reports if r["name"].startswith(("bias", "dark", "flat"))]
            assert {r["status"] for r in calibrations} == {"not_searched"}
