"""Prefilters, the Milvus expressions made of them, and source positions as text."""
# ruff: noqa: DTZ001 - times are naive UTC throughout, as the tables have them

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import StoreError
from pipeline.judge.prefilter import SearchRules, build_prefilter, describe_cell, from_json, to_json, widen
from pipeline.ports import Prefilter, SourcePosition
from pipeline.run.detect import pick_sample
from pipeline.store.filters import (
    UNKNOWN_TIME,
    at_least,
    at_most,
    build_filter,
    equals,
    fit_text,
    one_of,
    quote,
    to_epoch,
)
from pipeline.store.positions import PositionSet

texts = st.one_of(st.none(), st.text(max_size=30))
times = st.one_of(st.none(), st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)))
seconds = st.one_of(st.none(), st.floats(0, 1e6))
prefilters = st.builds(
    Prefilter,
    texts,
    texts,
    st.lists(st.integers(0, 2**40), max_size=5).map(tuple),
    *(seconds, seconds, times, times, texts, st.booleans()),
)


@given(prefilters)
def test_a_prefilter_comes_back_from_its_json(prefilter):
    text = to_json(prefilter)
    assert from_json(text) == prefilter
    assert "\n" not in text
    json.loads(text)


def build(**changes) -> Prefilter:
    values = {"instrument": "cam", "filter_band": "r", "zones": (9, 2, 5), "exposure_s": 60.0, "rules": SearchRules()}
    return build_prefilter(**(values | changes))


def test_zones_are_sorted_so_that_equal_cells_are_one():
    assert build().zones == (2, 5, 9)
    assert build() == build(zones=(5, 9, 2))


def test_exposures_within_the_factor_are_comparable():
    wide = build(rules=SearchRules(exposure_factor=3.0))
    assert (wide.exposure_min, wide.exposure_max) == (20.0, 180.0)
    assert (build(exposure_s=None).exposure_min, build(exposure_s=None).exposure_max) == (None, None)
    assert (build(exposure_s=0.0).exposure_min, build(exposure_s=0.0).exposure_max) == (0.0, 0.0)


def test_a_cell_is_described_in_words():
    assert describe_cell(build()) == "instrument cam, filter r, sky zone 2, 5, 9, exposure 30 to 120 s"
    nothing = build(instrument=None, filter_band=None, zones=(), exposure_s=None)
    assert describe_cell(nothing) == "instrument unknown, filter unknown, sky zone none, exposure unknown"


def test_anywhere_is_said_where_it_holds_and_nowhere_else():
    narrow = build(rules=SearchRules(2.0, datetime(2020, 1, 1), None))
    wide = widen(narrow)
    assert describe_cell(wide) == "instrument cam, filter r, anywhere on the sky, exposure 30 to 120 s"
    assert wide == widen(build(zones=(), rules=SearchRules(2.0, datetime(2020, 1, 1), None))), "one cell for all zones"
    assert json.loads(to_json(wide)).keys() - json.loads(to_json(narrow)).keys() == {"anywhere"}
    assert "zone" in build_filter(narrow, "default")
    assert "zone" not in build_filter(wide, "default")
    assert build_filter(wide, "default").count(" and ") == build_filter(narrow, "default").count(" and ") - 1


@given(st.text())
def test_a_quoted_text_ends_only_where_it_ends(text):
    quoted = quote(text)
    assert quoted.startswith('"')
    assert quoted.endswith('"')
    inner, at = quoted[1:-1], 0
    read = []
    while at < len(inner):
        step = 2 if inner[at] == "\\" else 1
        assert step == 2 or inner[at] not in '"\n\r'
        read.append({"\\n": "\n", "\\r": "\r", "\\t": "\t"}.get(inner[at : at + step], inner[at + step - 1]))
        at += step
    assert "".join(read) == text


@given(st.text(max_size=2000))
def test_a_fitted_text_is_short_enough_and_fitting_is_done_once(text):
    fitted = fit_text(text)
    assert len(fitted.encode()) <= 512
    assert fit_text(fitted) == fitted
    assert text.encode(errors="replace").decode().startswith(fitted)


@pytest.mark.parametrize("field", ["vector", "id == id or id", "", "is_reference", "instrument "])
def test_only_known_fields_are_filtered_on(field):
    with pytest.raises(StoreError):
        equals(field, "x")
    with pytest.raises(StoreError):
        at_least(field, 1.0)
    with pytest.raises(StoreError):
        one_of(field, ["x"])


@pytest.mark.parametrize("bound", [float("nan"), float("inf"), float("-inf")])
def test_a_bound_is_a_finite_number(bound):
    for make in (at_least, at_most):
        with pytest.raises(StoreError, match="finite"):
            make("exposure_s", bound)


def test_a_filter_of_text_never_takes_numbers_and_the_other_way_round():
    with pytest.raises(StoreError):
        one_of("instrument", [1, 2])
    with pytest.raises(StoreError):
        one_of("zone", ["1"])


def test_a_filter_names_every_condition_and_no_other():
    text = build_filter(build(rules=SearchRules(2.0, datetime(2020, 1, 1), datetime(2021, 1, 1))), "default")
    for part in ("is_reference == true", 'instrument == "cam"', 'filter == "r"', 'model == ""', "zone in [2, 5, 9]"):
        assert part in text
    assert text.count(" and ") == 10


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)))
def test_moments_keep_their_microsecond_and_their_order(moment):
    assert to_epoch(moment) > UNKNOWN_TIME == to_epoch(None)
    assert datetime(1970, 1, 1) + timedelta(microseconds=to_epoch(moment)) == moment


# Which references calibrate a large cell.


@given(st.integers(1, 3000), st.integers(1, 600))
def test_a_sample_is_even_and_repeatable(count, size):
    ids = [f"{i:06}" for i in range(count)]
    sample = pick_sample(ids, size)
    assert len(sample) == min(count, size) == len(set(sample))
    assert sample == sorted(sample)
    assert sample == pick_sample(ids, size)


# Positions.

positions = st.lists(
    st.builds(SourcePosition, st.sampled_from(["spool:/a", "spool:/b,1-2", 'kafka:"x"', "é"]), st.integers(0, 40)),
    max_size=60,
)


@given(positions, positions)
def test_a_position_set_holds_what_was_added_and_nothing_else(first, second):
    held = PositionSet().add(first).add(second)
    added = {*first, *second}
    for partition in {p.partition for p in added} | {"spool:/c"}:
        for offset in range(-1, 43):
            position = SourcePosition(partition, offset)
            assert held.holds(position) == (position in added)
    assert held.count() == len(added)


@given(positions, positions)
def test_a_position_set_does_not_hang_on_order_or_repetition_and_never_changes(first, second):
    base = PositionSet().add(first)
    text = base.to_property()
    merged = base.add(second)
    assert base.to_property() == text
    assert merged == PositionSet().add([*second, *first, *second])
    assert hash(merged) == hash(PositionSet().add([*second, *first]))


@given(positions)
def test_a_position_set_comes_back_from_its_property(some):
    held = PositionSet().add(some)
    assert PositionSet.from_property(held.to_property()) == held


def test_work_in_order_stays_one_range():
    held = PositionSet().add(SourcePosition("spool:/a", n) for n in range(5120))
    assert json.loads(held.to_property()) == {"spool:/a": "0-5119"}
    assert held.add([SourcePosition("spool:/a", 5121)]).to_property() == '{"spool:/a": "0-5119,5121-5121"}'
