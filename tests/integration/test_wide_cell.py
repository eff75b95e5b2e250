"""A field with few references, beside one with many: calibrated by those anywhere, said so, and replayed to the bit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.run.explain import find_verdict, replay_verdict
from pipeline.run.lake import Lake
from pipeline.run.reference import remove_references
from tests.lake_tools import add_references, edit, ingest, lake_at, plan_field, rows, write_odd, write_plans, wrong

MANY, FEW, FRAMES = 10, 3, 4
# Other frames are of other fields by what their headers say of it, wherever the pixels come from.
FAR = {"RA": 210.0, "DEC": -41.0, "CRVAL1": 210.0, "CRVAL2": -41.0}
WORDS = f"calibrated by the {MANY} references of that instrument and filter elsewhere on the sky"


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> dict[str, list[Path]]:
    directory = tmp_path_factory.mktemp("night")
    many = plan_field(MANY, 0, seed=11)
    few = plan_field(FEW, FRAMES, seed=29)
    here = write_plans(few, directory / "few")
    there = [edit(path, directory / "many" / path.name, **FAR) for path in write_plans(many, directory / "plain")]
    odd = write_odd(few[-1], directory / "odd.fits")
    lost = edit(here[FEW], directory / "lost.fits", **{**FAR, "DEC": 62.0, "CRVAL2": 62.0})
    return {"many": there, "few": here[:FEW], "normal": here[FEW:-1], "odd": [odd], "lost": [lost]}


@pytest.fixture(scope="module")
def begun(tmp_path_factory, night) -> Path:
    home = tmp_path_factory.mktemp("home")
    with lake_at(home) as lake:
        add_references(lake, [*night["many"], *night["few"]])
    return home


@pytest.fixture
def lake(begun, tmp_path) -> Iterator[Lake]:
    shutil.copytree(begun, tmp_path / "home")
    with lake_at(tmp_path / "home") as lake:
        yield lake


def test_a_thin_field_is_judged_by_references_anywhere_and_says_so(lake, night):
    *normal, odd = ingest(lake, [*night["normal"], *night["odd"]])
    assert {report["status"] for report in normal} == {"normal"}
    assert odd["status"] == "anomaly"
    own = {path.name for path in night["few"]}
    for report in (*normal, odd):
        assert f"{WORDS}, for its own cell has {FEW}" in report["reason"]
        assert {n["name"] for n in report["nearest"]} <= own, "nothing of another field is a neighbour"
        verdict = find_verdict(lake.tables, report["name"])
        assert verdict["references_in_cell"] == FEW
        assert dict(verdict["models"])["calibration"] == "anywhere"
    assert wrong(lake) == {}


def test_its_verdicts_replay_to_the_bit_when_the_references_have_changed(lake, night):
    paths = [*night["normal"], *night["odd"]]
    ingest(lake, paths)
    remove_references(lake, [path.name for path in night["many"][:6]], by="test", why="a test")
    for path in paths:
        answer = replay_verdict(lake, find_verdict(lake.tables, path.name))
        assert answer.same, answer.differences
    again = ingest(lake, paths, judge_again=True)
    assert {report["status"] for report in again} == {"no_reference"}, "four elsewhere are fewer than twice five"
    for path in paths:
        answer = replay_verdict(lake, find_verdict(lake.tables, path.name))
        assert answer.same, answer.differences


def test_a_verdict_from_before_there_were_wider_cells_replays_as_it_was(lake, night):
    remove_references(lake, [path.name for path in night["many"][:6]], by="test", why="a test")
    [path] = night["odd"]
    ingest(lake, [path])
    add_references(lake, night["many"][:6])
    verdict = find_verdict(lake.tables, path.name)
    # What an earlier version wrote while there were enough of them: the snapshot is of then, the word is not.
    verdict["reference_snapshot_id"] = lake.tables.snapshot_id("reference_members")
    assert verdict["status"] == "no_reference"
    assert replay_verdict(lake, verdict).same


def test_a_field_without_any_reference_has_none_and_a_full_one_needs_no_other(lake, night):
    lost, member = ingest(lake, [*night["lost"], night["many"][0]])
    assert (lost["status"], lost["p_value"]) == ("no_reference", None)
    assert member["status"] == "normal"
    assert "anywhere" not in member["reason"]
    assert [dict(row["models"]).get("calibration") for row in rows(lake, "verdicts")] == [None, None]
