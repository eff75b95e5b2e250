"""References of one night or of many: when they were taken, and what that does to stars that vary."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cli.app import run
from pipeline.errors import UsageError
from pipeline.simulate import PRESETS, Conditions, ExposurePlan, plan_night, render_exposure, write_night
from pipeline.simulate.exposure import SITE_LONGITUDE_DEG, compute_airmass
from pipeline.simulate.night import DEFAULT_START
from pipeline.simulate.render import expect_electrons
from pipeline.simulate.turns import MOST_NIGHTS, SEASON_NIGHTS, list_turns

CADENCE = timedelta(seconds=75)


def plan_references(preset: str, references: int, **more: object) -> list[ExposurePlan]:
    shape = {"shape": (64, 64)}
    plans = plan_night(3, preset=preset, **({"fields": 1, "references": references, "frames": 2} | shape | more))
    return [plan for plan in plans if plan.role == "reference"]


def find_solar_time(plan: ExposurePlan) -> datetime:
    return plan.start + timedelta(hours=SITE_LONGITUDE_DEG / 15.0)


def name_night(plan: ExposurePlan) -> date:
    """The day on which the night began, as observatories count."""
    return (find_solar_time(plan) - timedelta(hours=12)).date()


@pytest.mark.parametrize("fields", [1, 3])
def test_each_reference_of_hard_has_a_night_of_its_own(fields):
    plans = plan_references("hard", 24, fields=fields)
    assert sorted(Counter(map(name_night, plans)).values()) == [fields] * 24


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"hard"}))
def test_other_presets_take_their_references_in_a_row_a_week_before(preset):
    starts = [plan.start for plan in plan_references(preset, 5, fields=2)]
    assert starts == [DEFAULT_START - timedelta(days=7) + k * CADENCE for k in range(10)]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), nights=st.integers(1, 300), more=st.integers(0, 300))
def test_as_many_nights_as_asked_for_share_the_turns_evenly(seed, nights, more):
    count = nights + more
    turns = list_turns(seed, begin=DEFAULT_START, count=count, nights=nights, spacing=CADENCE)
    assert len(turns) == count
    assert turns == sorted(set(turns))
    each = Counter((turn - timedelta(hours=16)).date() for turn in turns)
    assert len(each) == nights
    assert max(each.values()) - min(each.values()) <= 1
    assert DEFAULT_START in turns
    assert turns[-1] - DEFAULT_START < each.total() * CADENCE
    years = -(-nights // SEASON_NIGHTS)
    assert DEFAULT_START - turns[0] < timedelta(days=365 * (years - 1) + SEASON_NIGHTS)


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize(("asked", "given_out"), [(1, 1), (4, 4), (9, 6), (0, 6)])
def test_the_number_of_nights_overrides_the_preset(preset, asked, given_out):
    plans = plan_references(preset, 6, reference_nights=asked)
    assert len(plans) == 6
    assert len(set(map(name_night, plans))) == given_out


def test_references_are_taken_in_the_dark_with_the_field_high():
    plans = plan_references("hard", 200, fields=2)
    assert all(not 5 <= find_solar_time(plan).hour < 20 for plan in plans)
    assert max(compute_airmass(plan.field.ra, plan.field.dec, plan.start) for plan in plans) < 2.0


def test_only_the_time_of_references_hangs_on_their_nights():
    one, many = (
        plan_night(3, preset="hard", references=5, frames=2, reference_nights=n, shape=(64, 64)) for n in (1, 5)
    )
    for here, there in zip(one, many, strict=True):
        assert (here.conditions, here.seed, here.field.name) == (there.conditions, there.seed, there.field.name)
        if here.role == "science":
            assert here.name == there.name
            assert np.array_equal(render_exposure(here)[0], render_exposure(there)[0])


def measure_swings(plans: list[ExposurePlan]) -> np.ndarray:
    """Magnitudes between the brightest and the faintest that each star was in frames without sky and noise."""
    alike = [replace(plan, conditions=Conditions(sky_e=0.0, variable_share=1.0)) for plan in plans]
    catalogue = alike[0].field.catalogue
    x, y = (
        np.rint(place).astype(int) for place in alike[0].wcs.all_world2pix(catalogue.star_ra, catalogue.star_dec, 0)
    )
    inside = (x >= 0) & (x < 64) & (y >= 0) & (y < 64)
    light = np.array([expect_electrons(plan)[y[inside], x[inside]] for plan in alike])
    return 2.5 * np.log10(light.max(axis=0) / light.min(axis=0))


def test_variable_stars_stand_at_other_phases_in_other_nights():
    one, many = (measure_swings(plan_references("hard", 20, reference_nights=nights)) for nights in (1, 0))
    assert len(many) > 3
    whole = 2.0 * Conditions().variable_mag
    assert np.median(many) > 0.8 * whole
    assert np.median(one) < 0.6 * whole


@pytest.mark.parametrize(
    "wrong",
    [
        {"reference_nights": -1},
        {"references": MOST_NIGHTS + 1, "reference_nights": 0},
        {"references": 3000, "reference_nights": 2},
    ],
)
def test_nights_that_cannot_be_are_refused(wrong):
    with pytest.raises(UsageError, match="nights"):
        plan_night(1, fields=1, frames=0, shape=(64, 64), **wrong)


def test_a_night_without_references_needs_no_nights_for_them():
    assert plan_references("hard", 0) == []


def test_the_truth_lists_references_of_all_nights(tmp_path):
    plans = plan_night(3, preset="hard", fields=1, references=4, frames=2, shape=(64, 64))
    rows = write_night(plans, tmp_path)
    references = [row for row in rows if row.role == "reference"]
    assert [row.file for row in references] == [f"references/{plan.name}" for plan in plans[:4]]
    assert len({row.date_obs[:10] for row in references}) == 4
    assert all((tmp_path / row.file).is_file() for row in references)


def test_the_command_takes_the_number_of_nights(tmp_path):
    size = ["--fields", "1", "--references", "6", "--frames", "1", "--size", "64"]
    for preset, option, nights in (("demo", ["--reference-nights", "3"], 3), ("hard", [], 6)):
        assert run(["simulate", str(tmp_path / preset), "--preset", preset, *size, *option]) == 0
        with (tmp_path / preset / "truth.csv").open(newline="") as stream:
            starts = [line["date_obs"] for line in csv.DictReader(stream) if line["role"] == "reference"]
        assert len({datetime.fromisoformat(start).replace(tzinfo=UTC).date() for start in starts}) == nights
