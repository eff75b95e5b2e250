"""Which normal frames become references: whatever there is, the rule holds of all that join."""
# ruff: noqa: DTZ001 - times are naive UTC throughout, as the tables have them

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import artifacts
from pipeline.judge.promotion import Candidate, Place, PromotionRule, choose_promotions, count_comparable

NOW = datetime(2026, 3, 31)
HERE = Place("cam", "r", 7, 60.0)
RULE = PromotionRule(days=30.0, most=3, least_p=0.2)
places = st.builds(
    Place,
    *(st.sampled_from([None, "cam", "Cam"]), st.sampled_from(["r", "g"]), st.sampled_from([None, 0, 7])),
    st.sampled_from([None, 0.0, 30.0, 60.0, 90.0, 200.0]),
)
candidates = st.lists(
    st.builds(
        Candidate,
        *(st.text("abc", min_size=1, max_size=6), st.just("name"), places),
        *(st.datetimes(datetime(2026, 1, 1), datetime(2026, 4, 2)), st.floats(0.0, 1.0), st.just("verdict")),
    ),
    max_size=25,
    unique_by=lambda c: c.frame_id,
)
rules = st.builds(PromotionRule, st.floats(0, 90), st.integers(1, 6), st.floats(0, 1))


def choose(some, held, rule=RULE):
    return choose_promotions(some, held, rule, factor=2.0, now=NOW)


def make(number: int, **changes) -> Candidate:
    one = Candidate(f"{number:02}", f"f{number}.fits", HERE, datetime(2026, 1, 1) + timedelta(days=number), 0.5, "v")
    return replace(one, **changes)


@given(candidates, st.lists(places, max_size=15), rules)
def test_all_that_join_keep_the_rule_and_no_cell_is_overfilled(some, held, rule):
    chosen = choose(some, held, rule)
    joined: list[Place] = []
    for one in chosen:
        assert one.candidate in some
        assert one.candidate.p_value >= rule.least_p
        assert one.candidate.obs_time <= NOW - timedelta(days=rule.days)
        assert one.in_cell == count_comparable(one.candidate.place, [*held, *joined], 2.0) < rule.most
        joined.append(one.candidate.place)
    moments = [(one.candidate.obs_time, one.candidate.frame_id) for one in chosen]
    assert moments == sorted(set(moments))


@given(candidates, st.lists(places, max_size=15), rules)
def test_who_is_left_out_is_too_young_too_odd_or_one_too_many(some, held, rule):
    chosen = choose(some, held, rule)
    everywhere = [*held, *(one.candidate.place for one in chosen)]
    for one in {*some} - {p.candidate for p in chosen}:
        young, odd = one.obs_time > NOW - timedelta(days=rule.days), one.p_value < rule.least_p
        assert young or odd or count_comparable(one.place, everywhere, 2.0) >= rule.most


@given(candidates, st.lists(places, max_size=9), rules, st.randoms())
def test_the_order_they_come_in_does_not_matter(some, held, rule, random):
    assert choose(random.sample(some, len(some)), held, rule) == choose(some, held, rule)


def test_the_earliest_join_until_the_cell_is_full():
    chosen = choose([make(4), make(1), make(3), make(2)], [HERE])
    assert [(one.candidate.frame_id, one.in_cell) for one in chosen] == [("01", 1), ("02", 2)]
    assert choose([make(1)], [HERE] * 3) == []


@pytest.mark.parametrize("other", [{"instrument": "b"}, {"filter_band": "g"}, {"zone": 8}, {"zone": None}])
def test_another_cell_fills_no_place(other):
    assert len(choose([make(1)], [replace(HERE, **other)] * 9)) == 1


@pytest.mark.parametrize(
    ("exposure", "fits"), [(60.0, True), (30.0, True), (120.0, True), (29.9, False), (121.0, False), (None, False)]
)
def test_exposures_fill_a_cell_as_they_are_compared(exposure, fits):
    assert HERE.compares(replace(HERE, exposure_s=exposure), 2.0) is fits
    assert replace(HERE, exposure_s=None).compares(replace(HERE, exposure_s=None), 2.0)


@pytest.mark.parametrize(("days", "joins"), [(30.0, True), (29.999, False), (-1.0, False)])
def test_the_cool_down_counts_from_the_observation(days, joins):
    assert bool(choose([make(1, obs_time=NOW - timedelta(days=days))], [])) is joins


def test_the_story_names_who_joined_and_how_to_take_them_back():
    lines = [
        {"name": "a*b.fits", "action": "added", "p_value": 0.5, "obs_time": NOW, "reason": "normal with p = 0.5"},
        {"name": "c.fits", "action": "left out", "p_value": 0.4, "obs_time": NOW, "reason": "it has no vector"},
    ]
    story = artifacts.tell_promotions(lines)
    assert "1 added, 1 left out." in story
    assert r"a\*b.fits" in story
    assert "oddframe reference remove" in story
    assert artifacts.tabulate_promotions(lines)[0]["p-value"] == "0.5"
    assert artifacts.summarise_promotions([]) == "No frame joined."
    assert "remove" not in artifacts.tell_promotions([lines[0] | {"action": "would be added"}])
