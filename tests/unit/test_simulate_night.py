"""A planned night: its order, its share of odd frames, its files and their truth."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.simulate import KINDS, PRESETS, Conditions, plan_night, render_exposure, write_night
from pipeline.simulate.conditions import FAINT_LADDERS

SMALL = {"shape": (64, 64), "references": 3, "frames": 10}


def average_blocks(pixels: np.ndarray, side: int) -> np.ndarray:
    blocks = pixels.astype(float).reshape(side, pixels.shape[0] // side, side, -1).mean((1, 3)).ravel()
    return blocks / np.linalg.norm(blocks)


def test_references_come_first_and_time_runs_forward():
    plans = plan_night(1, fields=3, **SMALL)
    assert [plan.role for plan in plans] == ["reference"] * 9 + ["science"] * 30
    starts = [plan.start for plan in plans]
    assert starts == sorted(starts)
    assert starts[9] - starts[8] > timedelta(days=6)
    assert len({plan.name for plan in plans}) == len(plans)
    assert [plan.field.name for plan in plans[9:12]] == ["ODD-F01", "ODD-F02", "ODD-F03"]
    assert all(plan.kind == "normal" for plan in plans[:9])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    frames=st.integers(0, 25),
    share=st.floats(0, 1),
    preset=st.sampled_from(sorted(PRESETS)),
)
def test_the_share_of_odd_frames_is_the_one_asked_for(seed, frames, share, preset):
    plans = plan_night(seed, preset=preset, fields=1, references=1, frames=frames, anomaly_share=share, shape=(64, 64))
    odd = [plan for plan in plans if plan.anomaly is not None]
    assert len(odd) == round(share * frames)
    counts = Counter(plan.kind for plan in odd)
    assert max(counts.values(), default=0) - min(counts.values(), default=0) <= 1 or len(counts) < len(
        PRESETS[preset].ladders
    )
    for plan in odd:
        assert -0.5 <= plan.anomaly.x <= 63.5
        assert -0.5 <= plan.anomaly.y <= 63.5


def test_every_rung_of_the_ladder_is_climbed():
    plans = plan_night(2, preset="evidence", fields=1, references=0, frames=200, anomaly_share=1.0, shape=(64, 64))
    for ladder in FAINT_LADDERS:
        levels = {plan.anomaly.depth or plan.anomaly.snr for plan in plans if plan.kind == ladder.kind}
        assert levels == set(ladder.levels)
    assert {plan.kind for plan in plans} == set(KINDS)


def test_an_asteroid_moves_over_the_sky_from_exposure_to_exposure():
    plans = plan_night(4, preset="evidence", fields=1, references=0, frames=60, anomaly_share=0.3, shape=(256, 256))
    seen = [(index, plan) for index, plan in enumerate(plans) if plan.kind == "asteroid"]
    steps = []
    for (first, one), (second, other) in pairwise(seen):
        if second == first + 1 and one.anomaly.angle == other.anomaly.angle:
            straight = replace(one, conditions=Conditions()).wcs
            here, there = (
                np.array(straight.all_world2pix(plan.anomaly.ra, plan.anomaly.dec, 0), dtype=float)
                for plan in (one, other)
            )
            steps.append(there - here)
            direction = np.degrees(np.arctan2(*(there - here)[::-1])) % 360
            assert direction == pytest.approx(one.anomaly.angle, abs=1)
    assert steps
    assert all(np.hypot(*step) > 1.5 for step in steps)


def test_fields_lie_far_apart_and_stay_where_they_are():
    early = plan_night(7, fields=6, references=0, frames=1, shape=(64, 64))
    late = plan_night(7, fields=6, references=0, frames=1, shape=(64, 64), start=datetime(2026, 4, 1, 3, 0, tzinfo=UTC))
    places = [(plan.field.ra, plan.field.dec) for plan in early]
    assert places == [(plan.field.ra, plan.field.dec) for plan in late]
    gaps = [abs(a[1] - b[1]) + abs(a[0] - b[0]) for i, a in enumerate(places) for b in places[:i]]
    assert min(gaps) > 3.0
    assert not np.array_equal(render_exposure(early[0])[0], render_exposure(late[0])[0])


def test_a_start_is_written_in_utc():
    east = timezone(timedelta(hours=5))
    (plan,) = plan_night(
        1, fields=1, references=0, frames=1, shape=(64, 64), start=datetime(2026, 5, 1, 4, 30, tzinfo=east)
    )
    _, header = render_exposure(plan)
    assert header["DATE-OBS"] == "2026-04-30T23:30:00.000"
    assert header["MJD-OBS"] == pytest.approx(61160.97916667)
    assert plan.name == "odd-f01-r-20260430T233000.fits"


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"fields": 0}, {"frames": -1}, {"shape": (8, 8)}, {"anomaly_share": 1.2}, {"exposure_s": 0}]
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(UsageError):
        plan_night(**({"seed": 1} | wrong))


def test_a_written_night_is_whole_and_repeatable(tmp_path):
    plans = plan_night(6, fields=1, anomaly_share=0.5, bad_reference_share=0.34, **SMALL)
    told = []
    rows = write_night(plans, tmp_path / "one", lambda done, of: told.append((done, of)))
    assert told == [(n, 13) for n in range(1, 14)]
    write_night(plans, tmp_path / "two")
    one, two = (
        {path.relative_to(top): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}
        for top in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two
    assert len(one) == 14
    assert sum(row.label for row in rows if row.role == "reference") == 1
    with (tmp_path / "one" / "truth.csv").open(newline="") as stream:
        for line, row in zip(csv.DictReader(stream), rows, strict=True):
            content = (tmp_path / "one" / line["file"]).read_bytes()
            assert line["sha256"] == hashlib.sha256(content).hexdigest() == row.sha256
            assert line["label"] == str(int(line["kind"] != "normal"))
            assert bool(line["x"]) == bool(line["snr"]) == (line["label"] == "1")


def test_no_name_or_header_tells_the_label(tmp_path):
    rows = write_night(plan_night(6, preset="hard", fields=1, anomaly_share=0.6, **SMALL), tmp_path)
    for row in rows:
        text = (row.file + repr(fits.getheader(tmp_path / row.file))).lower()
        assert not any(word in text for word in (*KINDS, "normal", "anomal", "inject", "label", "snr"))


def test_the_truth_agrees_with_the_file_s_own_world_coordinates(tmp_path):
    rows = write_night(plan_night(8, preset="hard", fields=1, anomaly_share=1.0, **SMALL), tmp_path)
    for row in rows:
        if row.label:
            x, y = WCS(fits.getheader(tmp_path / row.file)).all_world2pix(row.ra, row.dec, 0)
            assert (float(x), float(y)) == pytest.approx((row.x, row.y), abs=1e-3)


def test_two_nights_do_not_share_a_folder(tmp_path):
    write_night(plan_night(1, fields=1, **SMALL), tmp_path)
    with pytest.raises(UsageError, match="another night"):
        write_night(plan_night(1, fields=1, start=datetime(2026, 4, 1, tzinfo=UTC), **SMALL), tmp_path)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_demo_s_anomalies_stand_out_in_plain_block_averages(seed):
    plans = plan_night(seed, fields=1, references=12, frames=12, anomaly_share=0.5, shape=(256, 256))
    references = np.array([average_blocks(render_exposure(p)[0], 64) for p in plans if p.role == "reference"])
    among = np.linalg.norm(references[:, None] - references[None], axis=2) + 9.0 * np.eye(len(references))
    threshold = among.min(axis=1).max()
    for plan in plans[12:]:
        distance = np.linalg.norm(references - average_blocks(render_exposure(plan)[0], 64), axis=1).min()
        assert (distance > 1.4 * threshold) == (plan.anomaly is not None), plan.kind
