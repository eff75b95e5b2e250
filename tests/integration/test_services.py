"""A small night through the services: what is said of each frame, what is written, what is proved and mended."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import LockedError, UsageError
from pipeline.ports import VectorEntity
from pipeline.run.batch import IngestRequest
from pipeline.run.explain import find_verdict, replay_verdict
from pipeline.run.ingest import Ingestor
from pipeline.run.lake import Lake, spec_of
from pipeline.run.reference import audit_references, list_references, remove_references
from pipeline.run.repair import repair_lake
from pipeline.run.stored import list_verdicts
from pipeline.run.verify import verify_lake
from pipeline.run.watch import WatchRules, watch_spool
from pipeline.wiring import lock_home
from tests.lake_tools import (
    add_references,
    edit,
    ingest,
    lake_at,
    oddframe_here,
    plan_field,
    redrive,
    rows,
    snapshots,
    write_odd,
    write_plans,
    wrong,
)

REFERENCES, FRAMES = 10, 6


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> dict[str, list[Path]]:
    """Ten references, six normal frames, one odd one."""
    directory = tmp_path_factory.mktemp("night")
    plans = plan_field(REFERENCES, FRAMES + 1)
    science = write_plans(plans[REFERENCES:-1], directory / "science")
    odd = write_odd(plans[-1], directory / "science" / "odd.fits")
    return {"references": write_plans(plans[:REFERENCES], directory / "references"), "science": science, "odd": [odd]}


@pytest.fixture(scope="module")
def begun(tmp_path_factory, night) -> Path:
    """A home with the references in it: copied for each test that changes something."""
    home = tmp_path_factory.mktemp("begun") / "home"
    with lake_at(home) as lake:
        add_references(lake, night["references"])
    return home


@pytest.fixture
def home(begun, tmp_path) -> Path:
    """A copy of the home with references: tables hold absolute places, so it is copied back under its own name."""
    kept = tmp_path / "kept"
    shutil.copytree(begun, kept)
    yield begun
    shutil.rmtree(begun)
    shutil.copytree(kept, begun)


@pytest.fixture
def lake(home) -> Lake:
    with lake_at(home) as opened:
        yield opened


def statuses(reports) -> list[str]:
    return [report["status"] for report in reports]


def make_broken(directory: Path, night: dict[str, list[Path]], name: str = "broken.fits") -> Path:
    path = directory / name
    path.write_bytes(night["science"][0].read_bytes()[:5000])
    return path


def test_references_are_frames_too_and_were_delivered_as_references(lake, night):
    assert len(rows(lake, "frames")) == REFERENCES
    assert {row["purpose"] for row in rows(lake, "deliveries")} == {"reference"}
    assert {line["name"] for line in list_references(lake)} == {path.name for path in night["references"]}
    assert wrong(lake) == {}


def test_normal_frames_are_normal_and_the_odd_one_is_found_where_it_is_odd(lake, night):
    reports = ingest(lake, [*night["science"], *night["odd"]])
    assert [report["name"] for report in reports] == [path.name for path in night["science"]] + ["odd.fits"]
    assert statuses(reports[:-1]).count("normal") >= FRAMES - 1
    odd = reports[-1]
    assert odd["status"] == "anomaly"
    assert 0 < odd["p_value"] <= 0.01
    assert odd["distance"] > max(report["distance"] for report in reports[:-1])
    # Unit length makes the stars of a frame with so much light look faint: they may be told as well.
    (place,) = [d for d in odd["detections"][:3] if (d["x"], d["y"]) == pytest.approx((55.5, 35.5), abs=2)]
    assert None not in (place["ra"], place["dec"])
    assert [n["distance"] for n in odd["nearest"]] == sorted(n["distance"] for n in odd["nearest"])
    assert {n["name"] for n in odd["nearest"]} <= {path.name for path in night["references"]}
    assert wrong(lake) == {}


def test_ingesting_again_answers_the_same_and_writes_nothing(lake, night, tmp_path):
    broken = make_broken(tmp_path, night)
    paths = [*night["science"], *night["odd"], broken]
    first = ingest(lake, paths)
    before = snapshots(lake)
    again = ingest(lake, paths)
    assert again == first
    assert snapshots(lake) == before


def test_a_known_frame_under_another_name_is_answered_and_writes_nothing(lake, night, tmp_path):
    (first,) = ingest(lake, night["odd"])
    before = snapshots(lake)
    shutil.copy(night["odd"][0], tmp_path / "other name.fits")
    (again,) = ingest(lake, [tmp_path / "other name.fits"])
    assert again == {**first, "name": "other name.fits"}
    assert snapshots(lake) == before


def test_the_same_file_twice_in_one_call_is_one_frame(lake, night):
    path = night["science"][0]
    reports = ingest(lake, [path, path, path], batch=2)
    assert reports[0] == reports[1] == reports[2]
    assert len(rows(lake, "frames", frame_id=reports[0]["frame_id"])) == 1
    assert len(rows(lake, "verdicts")) == 1
    assert wrong(lake) == {}


def test_adding_references_again_writes_nothing(lake, night):
    before = snapshots(lake)
    reports = add_references(lake, night["references"])
    assert set(statuses(reports)) == {"reference"}
    assert snapshots(lake) == before


def test_a_frame_judged_before_may_become_a_reference_and_a_reference_be_judged(lake, night):
    ingest(lake, night["science"])
    add_references(lake, night["science"][:2])
    (report, *_) = ingest(lake, [night["references"][0]])
    assert report["status"] == "normal"
    assert report["distance"] > 0.0
    assert len(rows(lake, "frames")) == REFERENCES + FRAMES
    assert len(list_references(lake)) == REFERENCES + 2
    assert wrong(lake) == {}


def test_a_reference_is_compared_with_the_others_as_if_it_were_none(lake, night):
    """It finds itself; what is said of it then, and after it was taken out, is otherwise the same."""
    path = night["references"][0]
    (within,) = ingest(lake, [path])
    assert within["nearest"][0] == {"frame_id": within["frame_id"], "name": path.name, "distance": 0.0}
    assert "a reference itself" in within["reason"]
    assert replay_verdict(lake, find_verdict(lake.tables, path.name)).same
    assert rows(lake, "verdicts")[0]["references_in_cell"] == REFERENCES - 1
    remove_references(lake, [path.name], by="test", why="")
    (without,) = ingest(lake, [path], judge_again=True)
    assert "itself" not in without["reason"]
    assert within["nearest"][1:] == without["nearest"][:-1]
    assert {**within, "reason": "", "nearest": []} == {**without, "reason": "", "nearest": []}
    first, second = rows(lake, "verdicts")
    assert (first["threshold"], first["references_in_cell"]) == (second["threshold"], second["references_in_cell"])


def test_a_reference_with_as_many_others_as_are_needed_less_one_has_no_reference(home, night):
    with lake_at(home, search={"min_references": REFERENCES}) as lake:
        reports = ingest(lake, [night["references"][0], night["science"][0]])
        assert statuses(reports) == ["no_reference", "normal"]
        assert "a reference itself" in reports[0]["reason"]
        assert f"{REFERENCES - 1} of the {REFERENCES} references needed" in reports[0]["reason"]
        assert replay_verdict(lake, find_verdict(lake.tables, reports[0]["frame_id"])).same


ELSEWHERE = {
    "filter": {"FILTER": "g"},
    "instrument": {"INSTRUME": "another camera"},
    "no instrument": {"INSTRUME": None},
    "exposure": {"EXPTIME": 600.0},
    "shorter exposure": {"EXPTIME": 6.0},
    "no exposure": {"EXPTIME": None},
    "zone": {"CRVAL1": 10.0, "CRVAL2": 80.0, "RA": 10.0, "DEC": 80.0},
}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory, night) -> list[Path]:
    """A frame as normal as can be, once in each cell that has no references."""
    directory = tmp_path_factory.mktemp("elsewhere")
    return [edit(night["references"][0], directory / f"{name}.fits", **cards) for name, cards in ELSEWHERE.items()]


def test_a_frame_of_another_cell_has_no_reference_and_is_never_normal(lake, elsewhere):
    reports = ingest(lake, elsewhere)
    assert {report["name"]: report["status"] for report in reports} == {
        f"{name}.fits": "no_reference" for name in ELSEWHERE
    }
    for report in reports:
        assert report["p_value"] is None
        assert report["nearest"] == []
        assert "references needed" in report["reason"]
    assert wrong(lake) == {}


def test_an_exposure_within_a_factor_of_two_is_comparable(lake, night, tmp_path):
    paths = [edit(night["science"][0], tmp_path / f"{s}.fits", EXPTIME=s) for s in (30.0, 120.0, 29.9, 120.1)]
    assert [s == "no_reference" for s in statuses(ingest(lake, paths))] == [False, False, True, True]


def test_what_the_rules_object_to_is_not_searched(lake, night, tmp_path):
    paths = [
        edit(night["science"][0], tmp_path / "bias.fits", OBSTYPE="BIAS"),
        edit(night["science"][0], tmp_path / "dark.fits", EXPTIME=0.0),
        edit(night["science"][0], tmp_path / "shut.fits", SHUTTER="Closed"),
    ]
    reports = ingest(lake, paths)
    assert statuses(reports) == ["not_searched"] * 3
    assert [r["distance"] for r in reports] == [None] * 3
    assert ["bias" in r["reason"].lower() for r in reports] == [True, False, False]
    assert "exposure" in reports[1]["reason"]
    assert "shutter" in reports[2]["reason"]
    assert wrong(lake) == {}


def write_empty_frame(night: dict[str, list[Path]], path: Path) -> Path:
    """A frame of the night in which every pixel is zero: there is nothing to compare."""
    content = night["science"][0].read_bytes()
    header = content[: content.index(b"END" + b" " * 77)]
    size = -(-(len(header) + 80) // 2880) * 2880
    # BZERO keeps zeros apart from the unsigned convention: -32768 is what is stored for 0.
    pixels = np.full(96 * 96, -32768, dtype=">i2").tobytes()
    path.write_bytes(content[:size] + pixels.ljust(-(-len(pixels) // 2880) * 2880, b"\0"))
    return path


def test_a_frame_without_light_is_not_searched_as_a_frame_and_no_reference_either(lake, night, tmp_path):
    empty = write_empty_frame(night, tmp_path / "empty.fits")
    (added,) = add_references(lake, [empty])
    assert added["status"] == "not_searched"
    assert len(list_references(lake)) == REFERENCES
    assert wrong(lake) == {}
    (report,) = ingest(lake, [empty])
    assert report["status"] == "not_searched"
    assert wrong(lake) == {}


def test_an_unreadable_file_is_quarantined_with_a_reason_and_stops_nothing(lake, night, tmp_path):
    broken, letter = make_broken(tmp_path, night), tmp_path / "letter.fits"
    letter.write_text("Dear astronomer,\n" * 300)
    reports = ingest(lake, [broken, night["science"][0], letter])
    assert statuses(reports) == ["unreadable", "normal", "unreadable"]
    assert "truncated" in reports[0]["reason"]
    assert "not_fits" in reports[2]["reason"]
    assert {row["event"] for row in rows(lake, "quarantine")} == {"quarantined"}
    assert Counter(row["outcome"] for row in rows(lake, "deliveries", purpose="ingest")) == {"quarantined": 2, "new": 1}
    assert wrong(lake) == {}


def test_paths_that_give_no_bytes_are_reported_and_not_recorded(lake, night, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    before = snapshots(lake)
    reports = ingest(lake, [tmp_path / "gone.fits", tmp_path / "pipe", tmp_path])
    assert statuses(reports) == ["unreadable"] * 3
    assert [r["frame_id"] for r in reports] == [None] * 3
    assert snapshots(lake) == before


def test_quarantine_can_be_driven_again_once_the_limits_allow(home, night, tmp_path):
    path = night["science"][1]
    tight = {"max_pixels": 1000}
    broken = make_broken(tmp_path, night)
    with lake_at(home, decode=tight) as lake:
        assert statuses(ingest(lake, [path, broken])) == ["unreadable", "unreadable"]
        assert statuses(ingest(lake, [path])) == ["unreadable"]
        assert statuses(redrive(lake)) == ["unreadable", "unreadable"]
        assert len(rows(lake, "quarantine")) == 2
    with lake_at(home) as lake:
        assert sorted(statuses(redrive(lake))) == ["normal", "unreadable"]
        assert Counter(r["event"] for r in rows(lake, "quarantine")) == {"quarantined": 2, "redriven": 1}
        assert wrong(lake) == {}
        before = snapshots(lake)
        assert [r["name"] for r in redrive(lake)] == ["broken.fits"]
        assert statuses(ingest(lake, [path, broken])) == ["normal", "unreadable"]
        assert snapshots(lake) == before


def test_a_verdict_that_is_true_again_is_the_newest_again(home, night):
    path = night["science"][1]
    for limits, said in (({}, "normal"), ({"max_pixels": 1000}, "unreadable"), ({}, "normal")) * 2:
        with lake_at(home, decode=limits) as lake:
            assert statuses(ingest(lake, [path], judge_again=True)) == [said]
            assert statuses(ingest(lake, [path])) == [said]
            assert [r["status"] for r in list_verdicts(lake.tables) if r["name"] == path.name][-1:] == [said]
    with lake_at(home) as lake:
        assert Counter(r["status"] for r in rows(lake, "verdicts")) == {"normal": 4 - 1, "unreadable": 2}
        assert wrong(lake) == {}


def test_an_unreadable_reference_is_quarantined_once_however_often_it_is_added(lake, night, tmp_path):
    broken = make_broken(tmp_path, night)
    for _ in range(3):
        assert statuses(add_references(lake, [broken])) == ["unreadable"]
    assert len(rows(lake, "quarantine")) == 1
    assert len(rows(lake, "verdicts")) == 1
    assert wrong(lake) == {}


def test_a_file_over_the_size_limit_is_hashed_and_not_copied(home, night):
    path = night["science"][0]
    with lake_at(home, decode={"max_bytes": 4000}) as lake:
        (report,) = ingest(lake, [path])
        assert (report["status"], report["reason"].split(":")[0]) == ("unreadable", "too_many_bytes")
        assert report["frame_id"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert lake.originals.locate(report["frame_id"]) is None
        assert [row["archive_uri"] for row in rows(lake, "quarantine")] == [None]
        (again,) = redrive(lake)
        assert "not kept" in again["reason"]
        before = snapshots(lake)
        assert ingest(lake, [path]) == [report]
        assert snapshots(lake) == before
        assert wrong(lake) == {}


def test_judging_again_gives_a_new_verdict_only_where_something_changed(lake, night):
    ingest(lake, night["science"])
    ingest(lake, night["science"], judge_again=True)
    assert len(rows(lake, "verdicts")) == FRAMES
    remove_references(lake, [night["references"][0].name], by="test", why="changed")
    ingest(lake, night["science"], judge_again=True)
    assert len(rows(lake, "verdicts")) == 2 * FRAMES
    assert len(rows(lake, "frames")) == REFERENCES + FRAMES
    assert wrong(lake) == {}


def test_only_the_newest_verdict_counts_in_a_list_by_status(lake, night, tmp_path):
    (first,) = ingest(lake, night["odd"])
    assert first["status"] == "anomaly"
    add_references(lake, [edit(night["odd"][0], tmp_path / "twin.fits", TWIN=1)])
    (second,) = ingest(lake, night["odd"], judge_again=True)
    assert second["status"] == "normal"
    assert list_verdicts(lake.tables, status="anomaly") == []
    assert [r["name"] for r in list_verdicts(lake.tables, status="normal")] == ["odd.fits"]


def test_verdicts_are_listed_oddest_first_and_by_night(lake, night):
    ingest(lake, [*night["science"], *night["odd"]])
    lines = list_verdicts(lake.tables)
    assert lines[0]["name"] == "odd.fits"
    assert [line["p_value"] for line in lines] == sorted(line["p_value"] for line in lines)
    (evening,) = {row["night"] for row in rows(lake, "verdicts")}
    assert len(list_verdicts(lake.tables, night=evening.isoformat())) == FRAMES + 1
    assert list_verdicts(lake.tables, night="1999-12-31") == []


def test_a_second_process_cannot_open_the_home(lake, home):
    with pytest.raises(LockedError, match="in use"), lock_home(home):
        pass
    with pytest.raises(LockedError, match=r"in use by another oddframe process after 0\.3 s"), lock_home(home, 0.3):
        pass


def test_a_home_that_is_left_in_time_is_had(tmp_path, caplog):
    left = threading.Event()

    def hold() -> None:
        with lock_home(tmp_path):
            held.set()
            time.sleep(0.5)
            left.set()

    held = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(5.0)
    with lock_home(tmp_path, 10.0):
        assert left.is_set()
    thread.join()
    assert caplog.messages == [f"waiting for {tmp_path}, which another oddframe process has open"]


def test_the_audit_puts_the_worst_reference_first(lake, night):
    add_references(lake, night["odd"])
    lines = audit_references(lake)
    assert lines[0]["name"] == "odd.fits"
    assert len(lines) == REFERENCES + 1
    assert lines[0]["p_value"] <= 0.01
    assert "odd" in lines[0]["reason"]
    assert lines[0].keys() >= {"name", "frame_id", "distance", "p_value", "reason"}
    assert [line["p_value"] for line in lines] == sorted(line["p_value"] for line in lines)


def test_the_audit_says_of_a_reference_what_judging_it_says(lake, night):
    lines = {line["name"]: line for line in audit_references(lake)}
    for report in ingest(lake, night["references"]):
        line = lines[report["name"]]
        assert (line["distance"], line["p_value"]) == (report["distance"], report["p_value"])


def test_the_audit_tells_a_reference_without_a_vector(lake):
    reference = list_references(lake)[0]["frame_id"]
    lake.vectors.drop_references(spec_of(lake.embeddings[0]), [reference])
    (line,) = [line for line in audit_references(lake) if line["frame_id"] == reference]
    assert "verify --repair" in line["reason"]


@pytest.mark.parametrize("outside", [1, REFERENCES - 2, REFERENCES])
def test_the_audit_tells_references_outside_the_dates_that_are_searched(home, night, outside):
    """They calibrate nothing and are compared with nothing; the others are audited as frames are judged."""
    with lake_at(home) as lake:
        dates = {row["name"]: row["obs_time"] for row in list_references(lake)}
        everyone = {line["name"]: line for line in audit_references(lake)}
    first = [*sorted(dates.values()), max(dates.values()) + timedelta(days=1)][outside]
    with lake_at(home, search={"obs_after": first}) as lake:
        lines = {line["name"]: line for line in audit_references(lake)}
    assert lines.keys() == everyone.keys()
    for name, line in lines.items():
        assert ("outside the dates" in line["reason"]) == (dates[name] < first)
        if dates[name] < first:
            assert (line["distance"], line["p_value"]) == (None, None)
        elif outside == 1:
            assert line["p_value"] is not None
            assert line["distance"] >= everyone[name]["distance"]
        else:
            assert "too few references" in line["reason"]


def test_a_removed_reference_is_searched_no_more_and_stays_a_frame(lake, night):
    gone = night["references"][3].name
    (line,) = remove_references(lake, [gone], by="test", why="cloud")
    assert gone not in {one["name"] for one in list_references(lake)}
    assert lake.vectors.contents(spec_of(lake.embeddings[0])).references == {
        one["frame_id"] for one in list_references(lake)
    }
    (report,) = ingest(lake, [night["references"][3]])
    assert report["distance"] > 0.0
    assert len(rows(lake, "frames", frame_id=line["frame_id"])) == 1
    assert wrong(lake) == {}
    with pytest.raises(UsageError, match="is not a reference"):
        remove_references(lake, [night["references"][0].name, gone], by="test", why="")
    assert len(list_references(lake)) == REFERENCES - 1


def test_a_reference_that_was_never_judged_is_explained_as_one(lake, night):
    (reference,) = [line for line in list_references(lake) if line["name"] == night["references"][0].name]
    for wanted in (reference["name"], reference["frame_id"], reference["frame_id"][:8]):
        with pytest.raises(UsageError, match=r"is a reference.*never judged.*`oddframe reference audit`"):
            find_verdict(lake.tables, wanted)
    remove_references(lake, [reference["name"]], by="test", why="")
    for wanted in (reference["name"], "nobody.fits", reference["frame_id"][:3]):
        with pytest.raises(UsageError, match="no verdict on a frame"):
            find_verdict(lake.tables, wanted)
    (report,) = ingest(lake, [night["references"][1]])
    assert find_verdict(lake.tables, report["frame_id"])["status"] == "normal"


def test_a_reference_of_any_set_is_explained_as_one(home, night):
    name = night["references"][0].name
    with lake_at(home, search={"reference_set": "other"}) as lake:
        add_references(lake, night["references"][:1])
        remove_references(lake, [name], by="test", why="")
        with pytest.raises(UsageError, match="is a reference"):
            find_verdict(lake.tables, name)
    told = oddframe_here("explain", name, home=home)
    assert (told.returncode, told.stdout) == (2, "")
    assert "is a reference" in told.stderr


def test_verdicts_replay_bit_for_bit_also_after_the_references_changed(lake, night, elsewhere):
    paths = [*night["science"], *night["odd"], elsewhere[0]]
    names = [report["name"] for report in ingest(lake, paths)]
    ingest(lake, [night["references"][2]])

    def check() -> None:
        for name in [*names, night["references"][2].name]:
            replay = replay_verdict(lake, find_verdict(lake.tables, name))
            assert replay.same, (name, replay.differences)

    check()
    add_references(lake, [*night["science"], *night["odd"]])
    remove_references(lake, [path.name for path in night["references"][:6]], by="test", why="")
    check()


def test_verdicts_among_equal_references_replay_bit_for_bit(lake, night, tmp_path):
    """Twelve references with the same pixels: which of them are named must not be chance."""
    twins = [edit(night["references"][0], tmp_path / f"twin{i}.fits", TWIN=i) for i in range(12)]
    add_references(lake, twins)
    near = [edit(night["references"][0], tmp_path / f"near{i}.fits", NEAR=i) for i in range(6)]
    for paths in (near[:1], near[1:], twins):
        for report in ingest(lake, [*paths, night["science"][0]]):
            replay = replay_verdict(lake, find_verdict(lake.tables, report["frame_id"]))
            assert replay.same, (report["name"], replay.differences)


def test_there_is_no_score_to_replay_where_nothing_was_searched(lake, night, tmp_path):
    ingest(lake, [edit(night["science"][0], tmp_path / "bias.fits", OBSTYPE="BIAS")])
    with pytest.raises(UsageError, match="nothing was searched"):
        replay_verdict(lake, find_verdict(lake.tables, "bias.fits"))


def test_two_embeddings_keep_their_references_apart(lake, night):
    (before, *_) = ingest(lake, night["science"])
    add_references(lake, night["references"][:6], embedding="pixels-demo")
    (report,) = ingest(lake, [night["science"][0]], embedding="pixels-demo")
    assert report["embedding"].startswith("pixels-demo@")
    assert report["distance"] != before["distance"]
    assert Counter(line["embedding"] for line in list_references(lake)) == {
        "pixels@1-32x32": REFERENCES,
        "pixels-demo@1-166x100": 6,
    }
    (default,) = ingest(lake, [night["odd"][0]])
    assert default["embedding"].startswith("pixels@")
    assert wrong(lake) == {}


FINER = {"pixels_shape": (48, 48)}


def test_references_of_another_version_are_not_searched_and_what_to_do_is_said(home, night):
    with lake_at(home, embed=FINER) as lake:
        (report,) = ingest(lake, [night["science"][0]])
        assert report["status"] == "no_reference"
        for word in (f"{REFERENCES} references", "pixels@1-32x32", "pixels@1-48x48", "`oddframe reference add`"):
            assert word in report["reason"]
        assert {line["p_value"] for line in audit_references(lake)} == {None}
        assert all("pixels@1-32x32" in line["reason"] for line in audit_references(lake))
        assert len(audit_references(lake)) == REFERENCES
        assert wrong(lake) == {}


def test_references_are_added_again_under_another_version(home, night):
    with lake_at(home) as lake:
        coarse = ingest(lake, night["science"][:3])
    with lake_at(home, embed=FINER) as lake:
        assert set(statuses(ingest(lake, night["science"][3:4]))) == {"no_reference"}
        added = add_references(lake, night["references"][:6])
        assert {(r["status"], r["embedding"]) for r in added} == {("reference", "pixels@1-48x48")}
        assert not any("already" in r["reason"] for r in added)
        assert Counter(r["embedding"] for r in list_references(lake)) == {"pixels@1-32x32": 10, "pixels@1-48x48": 6}
        assert Counter(r["embedding"] for r in audit_references(lake)) == {"pixels@1-32x32": 4, "pixels@1-48x48": 6}
        before = snapshots(lake)
        assert all("already" in r["reason"] for r in add_references(lake, night["references"][:6]))
        assert snapshots(lake) == before
        (fine,) = ingest(lake, [night["science"][4]])
        assert (fine["status"], fine["embedding"]) == ("normal", "pixels@1-48x48")
        assert replay_verdict(lake, find_verdict(lake.tables, fine["frame_id"])).same
        assert wrong(lake) == {}
    with lake_at(home) as lake:
        assert len(audit_references(lake)) == REFERENCES
        assert ingest(lake, night["science"][:3], judge_again=True) == coarse
        assert rows(lake, "verdicts", frame_id=coarse[0]["frame_id"])[-1]["references_in_cell"] == REFERENCES
        assert replay_verdict(lake, find_verdict(lake.tables, coarse[0]["frame_id"])).same
        assert wrong(lake) == {}


def test_a_reference_is_taken_out_of_every_version(home, night):
    gone = night["references"][0].name
    with lake_at(home, embed=FINER) as lake:
        add_references(lake, night["references"])
        lines = remove_references(lake, [gone], by="test", why="")
        assert {line["embedding"] for line in lines} == {"pixels@1-32x32", "pixels@1-48x48"}
        assert wrong(lake) == {}
    with lake_at(home) as lake:
        assert gone not in {line["name"] for line in list_references(lake)}
        assert wrong(lake) == {}


def test_another_reference_set_is_empty_and_leaves_the_first_alone(home, night):
    with lake_at(home, search={"reference_set": "other"}) as lake:
        assert statuses(ingest(lake, [night["science"][0]])) == ["no_reference"]
        repair_lake(lake, verify_lake(lake))
    with lake_at(home) as lake:
        assert wrong(lake) == {}
        assert statuses(ingest(lake, [night["science"][1]])) == ["normal"]


# What `verify` must find, and mend.


def mend(lake: Lake, name: str) -> None:
    """Exactly this check fails before the repair, and none after it."""
    found = wrong(lake)
    assert any(name in check for check in found), found
    assert all(check.repair for check in found.values()), found
    left = {check.name: check.differences for check in repair_lake(lake, verify_lake(lake)) if not check.agrees}
    assert left == {}


def test_vectors_that_went_missing_are_embedded_again(lake, night):
    ingest(lake, night["science"])
    spec = spec_of(lake.embeddings[0])
    before = {path.name: report for path, report in zip(night["science"], ingest(lake, night["science"]), strict=True)}
    lake.vectors.delete(spec, [row["frame_id"] for row in rows(lake, "frames")][:7])
    mend(lake, "none missing")
    assert {r["name"]: r for r in ingest(lake, night["science"])} == before
    for report in before.values():
        assert replay_verdict(lake, find_verdict(lake.tables, report["name"])).same


def test_a_vector_store_that_is_gone_is_made_anew(home, night):
    with lake_at(home) as lake:
        before = ingest(lake, [*night["science"], *night["odd"]])
    shutil.rmtree(home / "vectors.db")
    with lake_at(home) as lake:
        mend(lake, "none missing")
        assert ingest(lake, [*night["science"], *night["odd"]], judge_again=True) == before


def test_a_reference_vector_that_went_missing_is_put_back(lake):
    reference = list_references(lake)[0]["frame_id"]
    lake.vectors.drop_references(spec_of(lake.embeddings[0]), [reference])
    mend(lake, "none missing")


def test_vectors_without_a_row_are_removed(lake):
    spec = spec_of(lake.embeddings[0])
    vector = np.full(spec.dimension, spec.dimension**-0.5, dtype=np.float32)
    stray = VectorEntity("e" * 64, vector, "oddcam-1", "r", 1, 60.0, None)
    lake.vectors.upsert(spec, [stray])
    lake.vectors.put_references(spec, [stray])
    mend(lake, "none without a row")
    assert "e" * 64 not in lake.vectors.contents(spec).frames


@pytest.mark.parametrize(
    ("table", "check"),
    [("frames", "one row a content"), ("verdicts", "one row a judgement"), ("deliveries", "one row a message")],
)
def test_rows_written_twice_are_dropped(lake, night, table, check):
    ingest(lake, night["science"])
    before = sorted(map(str, rows(lake, table)))
    raw = lake.tables.raw(table)
    raw.append(raw.scan(limit=2).to_arrow())
    mend(lake, check)
    assert sorted(map(str, rows(lake, table))) == before


def test_a_message_without_a_delivery_is_delivered(lake, night):
    (raw,) = lake.source.enrol([(night["science"][0], *put(lake, night["science"][0]))])
    mend(lake, "every numbered message is delivered")
    assert [row["outcome"] for row in rows(lake, "deliveries", frame_id=raw.frame_id)] == ["new"]
    assert len(rows(lake, "verdicts", frame_id=raw.frame_id)) == 1


def put(lake: Lake, path: Path) -> tuple[str, int]:
    return lake.originals.put(path)[:2]


def test_a_delivery_row_that_was_deleted_is_written_again(lake, night, tmp_path):
    broken = make_broken(tmp_path, night)
    reports = ingest(lake, [*night["science"], broken])
    before = sorted(map(str, rows(lake, "deliveries")))
    members = [line["frame_id"] for line in list_references(lake)]
    lake.tables.delete("deliveries", {"frame_id": [reports[0]["frame_id"], reports[-1]["frame_id"], members[0]]})
    mend(lake, "every numbered message is delivered")
    assert sorted(map(str, rows(lake, "deliveries"))) == before


def test_detections_of_no_verdict_are_dropped(lake, night):
    ingest(lake, night["odd"])
    lake.tables.append("detections", [{"verdict_id": "nobody", "frame_id": "f", "x": 1.0}])
    mend(lake, "every one belongs to a verdict")
    assert len(rows(lake, "detections")) > 0


def test_what_only_a_person_can_mend_is_named_and_left(lake, night):
    (report,) = ingest(lake, [night["science"][0]])
    lake.originals.locate(report["frame_id"]).unlink()
    left = [check for check in repair_lake(lake, verify_lake(lake)) if not check.agrees]
    assert [(check.differences, check.repair) for check in left] == [((report["frame_id"],), "deliver it again")]
    assert ingest(lake, [night["science"][0]]) == [report]
    assert wrong(lake) == {}


def test_bytes_in_quarantine_that_are_gone_are_named_until_they_are_delivered_again(lake, night, tmp_path):
    broken, other = make_broken(tmp_path, night), tmp_path / "letter.fits"
    other.write_text("Dear astronomer,\n" * 300)
    report, _ = ingest(lake, [broken, other])
    lake.originals.locate(report["frame_id"]).unlink()
    (check,) = [check for check in repair_lake(lake, verify_lake(lake)) if not check.agrees]
    assert (check.differences, check.repair) == ((report["frame_id"],), "deliver it again")
    assert check.expected == check.found + 1 == REFERENCES + 2
    assert ingest(lake, [broken]) == [report]
    assert wrong(lake) == {}


def test_bytes_that_were_driven_out_of_quarantine_are_counted_once(home, night):
    with lake_at(home, decode={"max_pixels": 1000}) as lake:
        assert statuses(ingest(lake, night["science"][:1])) == ["unreadable"]
    with lake_at(home) as lake:
        assert statuses(redrive(lake)) == ["normal"]
        (check,) = [check for check in verify_lake(lake) if check.name.startswith("originals")]
        assert (check.expected, check.found) == (REFERENCES + 1, REFERENCES + 1)


def test_a_deleted_frames_row_is_named(lake, night):
    (report,) = ingest(lake, [night["science"][0]])
    lake.tables.delete("frames", {"frame_id": [report["frame_id"]]})
    assert any(report["frame_id"] in check.differences for check in wrong(lake).values())


def test_repairing_a_lake_that_agrees_writes_nothing(lake, night):
    ingest(lake, night["science"])
    before = snapshots(lake)
    assert all(check.agrees for check in repair_lake(lake, verify_lake(lake)))
    assert snapshots(lake) == before


# Following a spool.

RULES = WatchRules(frames=1, seconds=0.0, settle_seconds=0.0, poll_seconds=0.01)


def follow(lake: Lake, spool: Path, looks: int = 3) -> list[dict]:
    """Follow a spool for a few looks."""
    left = iter(range(looks))
    with Ingestor(lake, IngestRequest(record_duplicates=True)) as ingestor:
        return list(watch_spool(ingestor, lake.source, spool, RULES, lambda: next(left, None) is None))


def test_a_followed_spool_records_every_delivery_and_no_frame_twice(lake, night, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    shutil.copy(night["science"][0], spool / "a.fits")
    shutil.copy(night["science"][0], spool / "b.fits")
    (spool / ".c.fits.part").write_bytes(b"half")
    assert [r["name"] for r in follow(lake, spool)] == ["a.fits", "b.fits"]
    assert follow(lake, spool) == []
    os.utime(spool / "a.fits", ns=(5, 5))
    follow(lake, spool)
    shutil.copy(night["science"][1], spool / "a.fits")
    assert [(r["name"], r["frame_id"]) for r in follow(lake, spool)] == [
        ("a.fits", hashlib.sha256(night["science"][1].read_bytes()).hexdigest())
    ]
    delivered = sorted(rows(lake, "deliveries", purpose="ingest"), key=lambda row: row["source_offset"])
    assert [(row["name"], row["outcome"]) for row in delivered] == [
        ("a.fits", "new"), ("b.fits", "duplicate"), ("a.fits", "new"),
    ]  # fmt: skip
    assert len(rows(lake, "frames")) == REFERENCES + 2
    assert wrong(lake) == {}


def test_a_followed_spool_may_hold_what_is_no_file(lake, night, tmp_path):
    spool = tmp_path / "spool"
    (spool / "folder").mkdir(parents=True)
    os.mkfifo(spool / "pipe")
    (spool / "dangling.fits").symlink_to(tmp_path / "nowhere")
    (spool / "linked.fits").symlink_to(night["science"][0])
    bad = spool / os.fsdecode(b"bad\xff.fits")
    shutil.copy(night["science"][1], bad)
    reports = follow(lake, spool)
    assert sorted(statuses(reports)) == ["normal", "normal"]
    assert sorted(r["name"] for r in reports) == ["bad\\xff.fits", "linked.fits"]
    assert follow(lake, spool) == []
    assert wrong(lake) == {}


def test_references_of_an_interrupted_ingest_are_never_made(lake, night):
    """Frames that a killed `ingest` left behind must not become references of the next `reference add`."""
    lake.source.enrol([(path, *put(lake, path)) for path in night["odd"]])
    add_references(lake, night["science"][:2])
    assert len(list_references(lake)) == REFERENCES + 2
    assert "odd.fits" not in {line["name"] for line in list_references(lake)}
    ingest(lake, [])
    assert wrong(lake) == {}
    assert find_verdict(lake.tables, "odd.fits")["status"] == "anomaly"


def test_references_that_the_log_does_not_know_are_never_searched(lake, night):
    """A `reference add` that was killed between vectors and log must not change what is said of frames."""
    (before,) = ingest(lake, night["odd"])
    spec = spec_of(lake.embeddings[0])
    vector = lake.vectors.fetch(spec, [before["frame_id"]])[before["frame_id"]]
    like = VectorEntity(before["frame_id"], vector, "oddcam-1", "r", rows(lake, "frames")[0]["zone"], 60.0, None)
    lake.vectors.put_references(spec, [like])
    (again,) = ingest(lake, night["odd"], judge_again=True)
    assert again == before
    assert wrong(lake) == {}


def test_an_interrupted_file_that_was_rewritten_since_is_not_lost(lake, night, tmp_path):
    path = tmp_path / "a.fits"
    shutil.copy(night["science"][0], path)
    lake.source.enrol([(path, *put(lake, path))])
    shutil.copy(night["science"][1], path)
    assert statuses(ingest(lake, [path])) == ["normal"]
    assert len(rows(lake, "frames")) == REFERENCES + 2
    assert wrong(lake) == {}


def test_an_interrupted_file_whose_bytes_are_gone_stops_nothing(lake, night, tmp_path):
    """Too large to be copied, numbered, killed, deleted: every later run meets it again."""
    lake.source.enrol([(tmp_path / "gone.fits", "9" * 64, 10**12)])
    assert statuses(ingest(lake, [night["science"][0]])) == ["normal"]
    assert statuses(ingest(lake, [night["science"][1]])) == ["normal"]
    assert [row["frame_id"] for row in rows(lake, "quarantine")] == ["9" * 64]
    assert wrong(lake) == {}


def test_hostile_header_text_stops_nothing(lake, night, tmp_path):
    values = [
        "x" * 60,
        "../../etc",
        "a/b\\c",
        '" or 1==1',
        "'; drop table frames; --",
        "%2e%2e%2f",
        "{value}",
        "\\u0000",
    ]
    paths = [edit(night["science"][0], tmp_path / f"{i}.fits", INSTRUME=v, FILTER=v) for i, v in enumerate(values)]
    paths.append(edit(night["science"][0], tmp_path / "long.fits", INSTRUME="A" * 600, FILTER="é".encode().hex() * 90))
    paths.append(edit(night["science"][0], tmp_path / "slashes.fits", INSTRUME="/%" * 300))
    raw = night["science"][0].read_bytes()
    for number, code in enumerate(b"\x00\x01\x1b\x7f\xe9\xff"):
        changed = raw.replace(b"'oddcam-1'", b"'oddcam" + bytes([code]) + b"1'")
        assert changed != raw
        (tmp_path / f"control{number}.fits").write_bytes(changed)
        paths.append(tmp_path / f"control{number}.fits")
    reports = ingest(lake, paths)
    assert set(statuses(reports)) <= {"no_reference", "unreadable"}
    assert statuses(reports)[:8] == ["no_reference"] * 8
    assert wrong(lake) == {}
