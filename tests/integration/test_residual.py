"""The residual embedding from references to a verdict: models, places, replays, and what happens where none serves."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from pipeline.run.explain import find_verdict, replay_verdict
from pipeline.run.lake import KillSwitch, Lake, spec_of
from pipeline.run.learn import learn_models
from pipeline.run.picture import explain_picture
from pipeline.run.reference import audit_references, list_references, remove_references
from pipeline.run.repair import repair_lake
from pipeline.run.verify import verify_lake
from pipeline.simulate import render_exposure, to_fits_bytes
from pipeline.simulate.night import ExposurePlan
from tests import children
from tests.lake_tools import (
    add_references,
    die_at,
    edit,
    ingest,
    lake_at,
    oddframe,
    plan_field,
    read_lines,
    rows,
    wrong,
)

REFERENCES, FRAMES, SIDE = 10, 5, 192
WITH_MODELS = {"embed": {"residual": True}}
PLACE = (131.0, 67.0)


def write_with_star(plan: ExposurePlan, path: Path, electrons: float = 12_000.0) -> Path:
    """The frame of a plan with one star too many."""
    pixels, header = render_exposure(replace(plan, anomaly=None))
    y, x = np.indices(pixels.shape)
    sigma = plan.conditions.fwhm_px / 2.3548
    star = np.exp(-((x - PLACE[0]) ** 2 + (y - PLACE[1]) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    path.write_bytes(to_fits_bytes((pixels + electrons * star).astype(pixels.dtype), header))
    return path


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> dict[str, list[Path]]:
    directory = tmp_path_factory.mktemp("night")
    plans = plan_field(REFERENCES, FRAMES, shape=(SIDE, SIDE))
    paths = []
    for plan in plans:
        path = directory / plan.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_fits_bytes(*render_exposure(plan)))
        paths.append(path)
    odd = write_with_star(plans[-1], directory / "odd.fits")
    return {"references": paths[:REFERENCES], "normal": paths[REFERENCES:-1], "odd": [odd]}


@pytest.fixture(scope="module")
def begun(tmp_path_factory, night) -> Path:
    home = tmp_path_factory.mktemp("home")
    with lake_at(home, **WITH_MODELS) as lake:
        add_references(lake, night["references"])
        lessons = list(learn_models(lake))
        assert [(x.outcome, x.references, x.registered) for x in lessons] == [("learnt", REFERENCES, REFERENCES)]
    return home


@pytest.fixture
def lake(begun, tmp_path) -> Iterator[Lake]:
    shutil.copytree(begun, tmp_path / "home")
    with lake_at(tmp_path / "home", **WITH_MODELS) as lake:
        yield lake


def test_a_new_star_is_flagged_where_it_is_and_the_stores_agree(lake, night):
    reports = ingest(lake, [*night["normal"], *night["odd"]])
    assert {r["embedding"] for r in reports} == {spec_of(lake.residual).key}
    assert [r["status"] for r in reports] == ["normal"] * (FRAMES - 1) + ["anomaly"]
    strongest = reports[-1]["detections"][0]
    assert np.hypot(strongest["x"] - PLACE[0], strongest["y"] - PLACE[1]) < 1.0
    assert strongest["kind"] == "point"
    assert strongest["sigma"] > 10
    assert strongest["ra"] is not None
    [model] = rows(lake, "models")
    verdict = find_verdict(lake.tables, "odd.fits")
    assert dict(verdict["models"])["residual"] == model["model"]
    assert wrong(lake) == {}


def test_verdicts_replay_after_their_model_was_retired(lake, night):
    ingest(lake, [*night["normal"], *night["odd"]])
    remove_references(lake, [night["references"][0].name], by="test", why="a test")
    assert set(wrong(lake)) >= {"models: learnt from references alone"}
    assert [lesson.outcome for lesson in learn_models(lake)] == ["learnt"]
    assert wrong(lake) == {}
    assert [row["event"] for row in rows(lake, "models")].count("retired") == 1
    for path in (*night["normal"], *night["odd"]):
        answer = replay_verdict(lake, find_verdict(lake.tables, path.name))
        assert answer.same, answer.differences


def test_learning_again_learns_nothing_new(lake):
    before = lake.tables.snapshot_id("models")
    assert [lesson.outcome for lesson in learn_models(lake)] == ["kept"]
    assert lake.tables.snapshot_id("models") == before


def test_a_reference_is_judged_by_the_others(lake, night):
    [report] = ingest(lake, night["references"][:1])
    assert report["embedding"] == spec_of(lake.residual).key
    assert report["nearest"][0]["distance"] == 0.0
    assert report["distance"] > 0
    assert "judged by the others" in report["reason"]
    assert wrong(lake) == {}


def test_a_frame_that_cannot_be_registered_is_told_and_judged_by_pixels(lake, night, tmp_path):
    path = tmp_path / "elsewhere.fits"
    edit(night["normal"][0], path, CTYPE1=None, CTYPE2=None)
    with fits.open(path, mode="update") as units:
        generator = np.random.default_rng(3)
        units[0].data[:] = generator.normal(400, 20, units[0].data.shape).astype(units[0].data.dtype)
    [report] = ingest(lake, [path])
    assert report["embedding"].startswith("pixels@")
    assert "cannot be found among" in report["reason"]


def test_too_few_references_leave_the_answer_to_pixels(night, tmp_path):
    with lake_at(tmp_path, **WITH_MODELS) as lake:
        add_references(lake, night["references"][:4])
        assert [lesson.outcome for lesson in learn_models(lake)] == ["too_few"]
        assert rows(lake, "models") == []
        [report] = ingest(lake, night["odd"])
        assert report["status"] == "no_reference"


def test_the_audit_and_the_list_name_every_reference_once(lake, night):
    names = sorted(path.name for path in night["references"])
    audit, listed = audit_references(lake), list_references(lake)
    assert sorted(line["name"] for line in audit) == names
    assert {line["embedding"] for line in audit} == {spec_of(lake.residual).key}
    assert sorted(line["name"] for line in listed) == names
    assert len({line["model"] for line in listed}) == 1


def test_bad_references_are_left_out_where_that_is_asked_for(night, tmp_path):
    odd = tmp_path / "bad.fits"
    shutil.copy(night["odd"][0], odd)
    with lake_at(tmp_path / "home", embed={"residual": True, "leave_out_bad": True}) as lake:
        add_references(lake, [*night["references"], odd])
        [lesson] = learn_models(lake)
        assert lesson.left_out == ("bad.fits",)
        assert lesson.registered == REFERENCES
        [again] = learn_models(lake)
        assert again.outcome == "kept"
        [report] = ingest(lake, [odd])
        assert report["status"] == "anomaly"


def test_repair_learns_a_model_that_is_gone(lake, night):
    [model] = rows(lake, "models")
    lake.models.locate(model["model"]).unlink()
    assert set(wrong(lake)) == {"models: every artefact is kept"}
    assert all(check.agrees for check in repair_lake(lake, verify_lake(lake)))
    [report] = ingest(lake, night["odd"])
    assert report["status"] == "anomaly"


def learn_until(home: str, step: str) -> None:
    with lake_at(Path(home), **WITH_MODELS) as lake:
        list(learn_models(lake, switch=KillSwitch(die_at(step, 1))))


@pytest.mark.parametrize("step", ["keep model", "learnt vectors", "learnt references", "commit models"])
def test_a_kill_while_learning_costs_nothing(begun, night, tmp_path, step):
    home = tmp_path / "home"
    shutil.copytree(begun, home)
    with lake_at(home, **WITH_MODELS) as lake:
        remove_references(lake, [night["references"][0].name], by="test", why="a test")
    assert children.run(learn_until, str(home), step) == -signal.SIGKILL
    with lake_at(home, **WITH_MODELS) as lake:
        [report] = ingest(lake, night["odd"])
        assert report["status"] in ("anomaly", "normal")
        assert [lesson.outcome for lesson in learn_models(lake)] == ["learnt"]
        assert wrong(lake) == {}
        [again] = ingest(lake, night["odd"], judge_again=True)
        assert (again["status"], again["embedding"]) == ("anomaly", spec_of(lake.residual).key)


def test_the_picture_shows_what_the_model_left(lake, night):
    ingest(lake, night["odd"])
    verdict = find_verdict(lake.tables, "odd.fits")
    detections = rows(lake, "detections")
    plain = explain_picture(lake.originals, lake.tables, verdict, detections)
    drawn = explain_picture(lake.originals, lake.tables, verdict, detections, models=lake.models)
    assert drawn.startswith(b"\x89PNG")
    assert drawn != plain


def test_the_command_learns_as_it_adds(night, tmp_path):
    home = tmp_path / "home"
    added = oddframe(
        "reference", "add", *night["references"], "--json", home=home, ODDFRAME_EMBED__RESIDUAL="true"
    )  # fmt: skip
    assert added.returncode == 0, added.stderr
    assert len(read_lines(added.stdout)) == REFERENCES
    assert f"learnt from {REFERENCES} of {REFERENCES} references" in " ".join(added.stderr.split())
    judged = oddframe("ingest", *night["odd"], "--json", home=home, ODDFRAME_EMBED__RESIDUAL="true")
    [report] = read_lines(judged.stdout)
    assert report["status"] == "anomaly"
    assert report["embedding"].startswith("residual@")
    learnt = oddframe("reference", "learn", "--json", home=home, ODDFRAME_EMBED__RESIDUAL="true")
    assert [line["outcome"] for line in read_lines(learnt.stdout)] == ["kept"]
