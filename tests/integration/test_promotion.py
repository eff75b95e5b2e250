"""Normal frames become references by rule: what joins, what never does, what the log says, and what a crash leaves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from pipeline.errors import TransientError
from pipeline.judge.promotion import PromotionRule
from pipeline.run.explain import find_verdict, replay_verdict
from pipeline.run.lake import Lake, name_in_log, spec_of
from pipeline.run.learn import learn_models
from pipeline.run.promote import BY, promote_frames
from pipeline.run.reference import remove_references
from pipeline.run.references import load_references
from tests.lake_tools import (
    add_references,
    edit,
    ingest,
    lake_at,
    oddframe_here,
    plan_field,
    read_lines,
    rows,
    snapshots,
    write_odd,
    write_plans,
    wrong,
)

REFERENCES, FRAMES = 8, 6
ALL = PromotionRule(days=0.0, most=99, least_p=0.0)


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> dict[str, list[Path]]:
    directory = tmp_path_factory.mktemp("night")
    plans = plan_field(REFERENCES, FRAMES, seed=5)
    paths = write_plans(plans, directory)
    odd = write_odd(plans[-1], directory / "odd.fits")
    undated = edit(paths[-1], directory / "undated.fits", DATE__OBS=None, MJD__OBS=None)
    return {"references": paths[:REFERENCES], "normal": paths[REFERENCES:], "odd": [odd], "undated": [undated]}


@pytest.fixture(scope="module")
def begun(tmp_path_factory, night) -> Path:
    """Eight references, six normal frames, an odd one, and a normal one that does not say when it was taken."""
    home = tmp_path_factory.mktemp("home")
    with lake_at(home) as lake:
        add_references(lake, night["references"])
        reports = ingest(lake, [*night["normal"], *night["odd"], *night["undated"]])
        assert [r["status"] for r in reports] == [*["normal"] * FRAMES, "anomaly", "normal"]
    return home


@pytest.fixture
def lake(begun, tmp_path) -> Iterator[Lake]:
    shutil.copytree(begun, tmp_path / "home")
    with lake_at(tmp_path / "home") as lake:
        yield lake


def names(lines) -> list[str]:
    return [line["name"] for line in lines]


def test_normal_frames_join_and_the_log_says_why(lake, night):
    lines = promote_frames(lake, ALL)
    assert names(lines) == names_of(night["normal"]), "earliest first; neither the odd one nor the undated"
    assert {line["action"] for line in lines} == {"added"}
    written = [row for row in rows(lake, "reference_members") if row["by"] == BY]
    assert {row["name"] for row in written} == set(names(lines))
    for row in written:
        verdict = find_verdict(lake.tables, row["name"])
        assert row["action"] == "add"
        assert verdict["verdict_id"] in row["why"]
        assert f"p = {verdict['p_value']:.3g}" in row["why"]
        assert "cool-down 0" in row["why"]
    assert {m.frame_id for m in load_references(lake).members} == lake.vectors.contents(pixels(lake)).references
    assert wrong(lake) == {}
    assert promote_frames(lake, ALL) == [], "they are references now"


def test_what_was_judged_before_replays_and_what_comes_is_compared_with_them(lake, night, tmp_path):
    promote_frames(lake, ALL)
    for path in (*night["normal"], *night["odd"]):
        assert replay_verdict(lake, find_verdict(lake.tables, path.name)).same
    [report] = ingest(lake, [edit(night["normal"][0], tmp_path / "next.fits", OBJECT="again")])
    assert find_verdict(lake.tables, report["name"])["references_in_cell"] == REFERENCES + FRAMES
    assert report["nearest"][0]["name"] == night["normal"][0].name


def test_a_cell_is_filled_and_no_more(lake, night):
    rule = replace(ALL, most=REFERENCES + 2)
    assert names(promote_frames(lake, rule)) == names_of(night["normal"][:2])
    assert promote_frames(lake, rule) == []


def test_the_rule_of_time_and_of_the_p_value_hold(lake, night):
    last = max(row["obs_time"] for row in rows(lake, "frames") if row["obs_time"] is not None)
    rule = replace(ALL, days=30.0)
    early, late = (replace(lake, clock=lambda d=d: last + timedelta(days=d)) for d in (29.9, 30.1))
    assert night["normal"][-1].name not in names(promote_frames(early, rule, dry_run=True))
    assert night["normal"][-1].name in names(promote_frames(late, rule, dry_run=True))
    p_values = sorted(find_verdict(lake.tables, path.name)["p_value"] for path in night["normal"])
    joined = promote_frames(lake, replace(ALL, least_p=p_values[2]), dry_run=True)
    assert sorted(line["p_value"] for line in joined) == [p for p in p_values if p >= p_values[2]]


def test_a_dry_run_names_them_and_changes_nothing(lake, night):
    before, held = snapshots(lake), lake.vectors.contents(pixels(lake))
    lines = promote_frames(lake, ALL, dry_run=True)
    assert names(lines) == names_of(night["normal"])
    assert {line["action"] for line in lines} == {"would be added"}
    assert (snapshots(lake), lake.vectors.contents(pixels(lake))) == (before, held)


def test_whom_a_person_took_out_stays_out(lake, night):
    promote_frames(lake, ALL)
    remove_references(lake, [night["normal"][0].name], by="a person", why="a cloud")
    assert promote_frames(lake, ALL) == []
    assert night["normal"][0].name not in {m.name for m in load_references(lake).members}


def test_once_an_anomaly_is_never_a_reference(lake, night):
    strict = replace(lake, rules=replace(lake.rules, budget=0.49))
    ingest(strict, night["normal"], judge_again=True)
    ingest(lake, night["normal"], judge_again=True)
    flagged = {row["name"] for row in rows(lake, "verdicts", status="anomaly")} - {"odd.fits"}
    assert flagged
    assert {find_verdict(lake.tables, name)["status"] for name in flagged} == {"normal"}
    assert set(names(promote_frames(lake, ALL))) == {path.name for path in night["normal"]} - flagged


def test_a_frame_that_is_not_normal_under_every_embedding_does_not_join(lake, night):
    [first, *_] = night["normal"]
    [report] = ingest(lake, [first], embedding="pixels-demo", judge_again=True)
    assert report["status"] == "no_reference"
    assert first.name not in names(promote_frames(lake, ALL))


def test_a_frame_judged_against_another_set_does_not_join_this_one(lake):
    other = replace(lake, rules=replace(lake.rules, reference_set="another"))
    assert promote_frames(other, ALL) == []


def test_a_frame_whose_vector_is_gone_is_told_and_leaves_its_place_to_the_next(lake, night):
    first = find_verdict(lake.tables, night["normal"][0].name)["frame_id"]
    lake.vectors.delete(pixels(lake), [first])
    lines = promote_frames(lake, replace(ALL, most=REFERENCES + 1))
    assert [(line["name"], line["action"]) for line in lines] == [
        (night["normal"][1].name, "added"),
        (night["normal"][0].name, "left out"),
    ]
    assert "no vector" in lines[1]["reason"]


class Failing:
    """Tables that take no word into the log of members: what a kill between the two stores leaves."""

    def __init__(self, tables) -> None:
        self._tables = tables

    def __getattr__(self, name: str):
        return getattr(self._tables, name)

    def append(self, table: str, *rest):
        if table == "reference_members":
            raise TransientError("killed")
        return self._tables.append(table, *rest)


def test_a_crash_before_the_log_leaves_no_reference_and_the_next_run_goes_on(lake, night):
    with pytest.raises(TransientError):
        promote_frames(replace(lake, tables=Failing(lake.tables)), ALL)
    assert len(load_references(lake).members) == REFERENCES
    assert set(wrong(lake)) == {f"vectors {pixels(lake).key}: none without a row"}
    [report] = ingest(lake, night["odd"], judge_again=True)
    assert report["status"] == "anomaly"
    assert find_verdict(lake.tables, report["name"])["references_in_cell"] == REFERENCES
    assert names(promote_frames(lake, ALL)) == names_of(night["normal"])
    assert wrong(lake) == {}


def test_the_command_promotes_and_says_so(begun, night, tmp_path, monkeypatch):
    monkeypatch.setenv("ODDFRAME_EMBED__RESIDUAL", "false")
    home = tmp_path / "home"
    shutil.copytree(begun, home)
    options = ("--days", 0, "--p", 0)
    tried = oddframe_here("reference", "promote", "--most", 9, *options, "--dry-run", "--json", home=home)
    assert [line["action"] for line in read_lines(tried.stdout)] == ["would be added"]
    done = oddframe_here("reference", "promote", "--most", 10, *options, "--json", home=home)
    assert (done.returncode, names(read_lines(done.stdout))) == (0, names_of(night["normal"][:2]))
    monkeypatch.setenv("ODDFRAME_PROMOTE__MOST", "11")
    third = oddframe_here("reference", "promote", *options, "--json", home=home)
    assert names(read_lines(third.stdout)) == names_of(night["normal"][2:3])
    listed = oddframe_here("reference", "list", "--json", home=home)
    assert len(read_lines(listed.stdout)) == REFERENCES + 3


def test_models_are_learnt_from_those_that_joined(tmp_path):
    plans = plan_field(6, 2, seed=11, shape=(192, 192))
    paths = write_plans(plans, tmp_path / "night")
    with lake_at(tmp_path / "home", embed={"residual": True}) as lake:
        add_references(lake, paths[:6])
        assert [lesson.outcome for lesson in learn_models(lake)] == ["learnt"]
        assert {r["status"] for r in ingest(lake, paths[6:])} == {"normal"}
        promote_frames(lake, ALL)
        [lesson] = learn_models(lake)
        assert (lesson.outcome, lesson.references) == ("learnt", 8)
        keys = {name_in_log(lake.residual), pixels(lake).key}
        added = [row for row in rows(lake, "reference_members") if row["by"] == BY]
        assert sorted((row["name"], row["embedding"]) for row in added) == sorted(
            (path.name, key) for path in paths[6:] for key in keys
        )
        assert wrong(lake) == {}


def pixels(lake: Lake):
    return spec_of(lake.embeddings[0])


def names_of(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]
