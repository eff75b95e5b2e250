"""A rendered frame agrees with its plan: places, strengths, noise, header."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.simulate import (
    KINDS,
    PRESETS,
    Conditions,
    ExposurePlan,
    place_anomaly,
    plan_night,
    render_exposure,
    render_with_truth,
    to_fits_bytes,
)
from pipeline.simulate.anomalies import draw_template
from pipeline.simulate.fields import flux_of, magnitude_of
from pipeline.simulate.psf import draw_line, draw_points
from pipeline.simulate.render import estimate_variance, expect_electrons

SHAPE = (96, 112)
ROUGH = Conditions(dither_x=4.9, dither_y=-3.2, rotation_deg=0.1, cosmic_rays=3.0, psf_growth=0.1)
NOISELESS = Conditions(photon_noise=False, read_noise_e=0.0, gain=1.0, bias_adu=0.0)


def make_plan(conditions: Conditions | None = None, seed: int = 3, shape: tuple[int, int] = SHAPE) -> ExposurePlan:
    (plan,) = plan_night(seed, preset="quiet", fields=1, references=0, frames=1, anomaly_share=0.0, shape=shape)
    return plan if conditions is None else replace(plan, conditions=conditions)


def find_centroid(change: np.ndarray, x: float, y: float, reach: int = 8) -> tuple[float, float]:
    rows, columns = np.indices(change.shape)
    near = (abs(rows - y) <= reach) & (abs(columns - x) <= reach)
    weights = np.where(near & (change > 0.1 * change[near].max()), change, 0.0)
    return float((weights * columns).sum() / weights.sum()), float((weights * rows).sum() / weights.sum())


@pytest.mark.parametrize("preset", PRESETS)
def test_the_same_plan_gives_the_same_bytes(preset):
    files = []
    for _ in range(2):
        plans = plan_night(5, preset=preset, fields=2, references=1, frames=6, anomaly_share=1.0, shape=(64, 64))
        files.append([to_fits_bytes(*render_exposure(plan)) for plan in plans])
    assert files[0] == files[1]
    assert len(set(files[0])) == len(files[0])


def test_another_seed_gives_another_sky():
    one, other = (expect_electrons(make_plan(seed=seed)) for seed in (3, 4))
    assert not np.allclose(one, other)


@settings(max_examples=25, deadline=None)
@given(
    dither=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
    rotation=st.floats(-0.5, 0.5),
    fwhm=st.floats(2.4, 4.0),
)
def test_a_catalogue_star_lands_where_the_header_says(dither, rotation, fwhm):
    plan = make_plan()
    height, width = SHAPE
    x0, y0 = width / 2 + 3.3, height / 2 - 6.8
    ra, dec = (float(value) for value in plan.wcs.all_pix2world(x0, y0, 0))
    plan = replace(plan, field=replace(plan.field, catalogue=one_star(plan, ra, dec)))
    plan = replace(
        plan,
        conditions=replace(NOISELESS, dither_x=dither[0], dither_y=dither[1], rotation_deg=rotation, fwhm_px=fwhm),
    )
    pixels, header = render_exposure(plan)
    x, y = (float(value) for value in WCS(header).all_world2pix(ra, dec, 0))
    found = find_centroid(pixels - np.median(pixels.astype(float)), x, y)
    assert found == pytest.approx((x, y), abs=0.1)
    # And the shift is the one asked for: rotation about the centre moves this star by less than a tenth of a pixel.
    assert (x - x0, y - y0) == pytest.approx(dither, abs=0.1)


def one_star(plan: ExposurePlan, ra: float, dec: float):
    catalogue = plan.field.catalogue
    empty = {name: np.zeros(0) for name in vars(catalogue) if name.startswith("galaxy")}
    kept = {name: values[:1] for name, values in vars(catalogue).items() if name.startswith("star")}
    kept |= {"star_ra": np.array([ra]), "star_dec": np.array([dec]), "star_flux_e": np.array([20_000.0])}
    return replace(catalogue, **empty, **kept)


@pytest.mark.parametrize("kind", ["supernova", "asteroid", "hot_cluster"])
@pytest.mark.parametrize("place", [(30.25, 61.5), (80.0, 20.75)])
def test_an_injection_is_found_at_its_place(kind, place):
    quiet = make_plan(Conditions(dither_x=2.5, dither_y=-1.5))
    anomaly = place_anomaly(kind, quiet.wcs, pixel=place, snr=300.0, angle=30.0, length=4.0)
    odd = replace(quiet, anomaly=anomaly)
    change = render_exposure(odd)[0].astype(float) - render_exposure(quiet)[0]
    assert find_centroid(change, anomaly.x, anomaly.y) == pytest.approx(place, abs=1.0)
    world = WCS(render_exposure(odd)[1]).all_pix2world(*place, 0)
    assert (anomaly.ra, anomaly.dec) == pytest.approx(tuple(float(v) for v in world), abs=1e-6)


def test_a_place_on_the_sky_and_its_pixel_are_the_same_place():
    wcs = make_plan().wcs
    from_pixel = place_anomaly("supernova", wcs, pixel=(40.0, 50.0), snr=10.0)
    from_sky = place_anomaly("supernova", wcs, sky=(from_pixel.ra, from_pixel.dec), snr=10.0)
    assert (from_sky.x, from_sky.y) == pytest.approx((40.0, 50.0), abs=1e-3)
    with pytest.raises(ValueError, match="pixel or a sky place"):
        place_anomaly("supernova", wcs, snr=10.0)


@pytest.mark.parametrize(
    ("kind", "snr"),
    [("supernova", 5.0), ("supernova", 20.0), ("asteroid", 7.0), ("trail", 10.0), ("dead_column", 10.0)],
)
def test_a_matched_filter_measures_the_stated_strength(kind, snr):
    plan = make_plan()
    anomaly = place_anomaly(kind, plan.wcs, pixel=(52.3, 47.6), snr=snr, angle=25.0, length=5.0)
    expected = expect_electrons(plan)
    variance = estimate_variance(plan.conditions, expected)
    template = draw_template(anomaly, SHAPE, plan.conditions.fwhm_px, expected)
    weights = template / variance / np.sqrt((template**2 / variance).sum())
    measured = {None: [], anomaly: []}
    for number in range(150):
        for injected, values in measured.items():
            pixels, _ = render_exposure(replace(plan, anomaly=injected, seed=(number,)))
            electrons = (pixels - plan.conditions.bias_adu) * plan.conditions.gain
            values.append(float((weights * (electrons - expected)).sum()))
    # Without it the filter sees noise of mean zero and width one, which is what makes the number a ratio to noise.
    assert np.mean(measured[None]) == pytest.approx(0.0, abs=0.3)
    assert np.std(measured[None]) == pytest.approx(1.0, rel=0.15)
    assert np.mean(measured[anomaly]) == pytest.approx(snr, rel=0.15)
    assert render_with_truth(replace(plan, anomaly=anomaly)).truth.snr == pytest.approx(snr, abs=1e-3)


def test_a_magnitude_fixes_the_light():
    plan = make_plan(Conditions(transparency=0.8))
    anomaly = place_anomaly("supernova", plan.wcs, pixel=(50.0, 40.0), magnitude=18.0)
    truth = render_with_truth(replace(plan, anomaly=anomaly)).truth
    assert truth.magnitude == pytest.approx(18.0, abs=1e-3)
    assert truth.flux_e == pytest.approx(0.8 * flux_of(18.0, 60.0), rel=0.01)
    assert magnitude_of(flux_of(21.5, 30.0), 30.0) == pytest.approx(21.5)


def test_a_dead_column_is_dark_and_only_that_column():
    plan = make_plan()
    anomaly = place_anomaly("dead_column", plan.wcs, pixel=(40.0, 47.5), snr=1e6, width=2)
    odd, quiet = (render_exposure(replace(plan, anomaly=injected))[0].astype(float) for injected in (anomaly, None))
    changed = np.flatnonzero((odd != quiet).any(axis=0))
    assert list(changed) == [40, 41]
    assert np.median(odd[:, 40:42]) == pytest.approx(plan.conditions.bias_adu, abs=3)


def test_a_cloud_dims_the_stars_and_lifts_the_sky():
    plan = make_plan(NOISELESS)
    ra, dec = (float(value) for value in plan.wcs.all_pix2world(56.0, 48.0, 0))
    plan = replace(plan, field=replace(plan.field, catalogue=one_star(plan, ra, dec)))
    anomaly = place_anomaly("cloud", plan.wcs, pixel=(56.0, 48.0), depth=0.5, pattern=4)
    odd, quiet = (render_exposure(replace(plan, anomaly=injected))[0].astype(float) for injected in (anomaly, None))
    sky = [float(np.median(frame[28:68, 36:76])) for frame in (odd, quiet)]
    star = [float(frame[48, 56]) - level for frame, level in zip((odd, quiet), sky, strict=True)]
    assert 1.2 * sky[1] < sky[0] <= 1.5 * sky[1]
    assert 0.45 * star[1] < star[0] < 0.85 * star[1]
    assert render_with_truth(replace(plan, anomaly=anomaly)).truth.depth == 0.5


def test_profiles_keep_their_light():
    x, y = np.array([60.3, 40.0]), np.array([50.7, 44.2])
    light = draw_points((128, 128), x, y, np.array([1e4, 2e5]), np.array([3.0, 2.4]))
    assert light.sum() == pytest.approx(2.1e5, rel=0.01)
    line = draw_line((128, 128), 64.0, 64.0, 90.0, 3.0)
    assert line.sum(axis=1) == pytest.approx(np.ones(128), rel=0.01)
    assert line.argmax(axis=1) == pytest.approx(np.full(128, 64))


def test_a_star_beyond_the_border_lights_the_frame_as_far_as_it_reaches():
    places = [(-60.0, 20.0), (100.0, -63.4), (191.0, 80.0), (30.0, 190.0)]
    for x, y in places:
        alone = draw_points((128, 128), np.array([x]), np.array([y]), np.array([5e6]), np.array([4.0]))
        wide = draw_points((384, 384), np.array([x + 128]), np.array([y + 128]), np.array([5e6]), np.array([4.0]))
        assert alone.max() > 0
        assert alone == pytest.approx(wide[128:256, 128:256], rel=1e-9)


def test_noise_is_that_of_photons_and_read_out():
    plan = make_plan(shape=(128, 128))
    expected = expect_electrons(plan)
    variance = estimate_variance(plan.conditions, expected)
    pixels, _ = render_exposure(plan)
    deviation = ((pixels - plan.conditions.bias_adu) * plan.conditions.gain - expected) / np.sqrt(variance)
    assert deviation.std() == pytest.approx(1.0, rel=0.03)
    assert abs(deviation.mean()) < 0.03


def test_every_option_changes_the_frame():
    plan = make_plan()
    quiet, _ = render_exposure(plan)
    changes = {
        "sky_e": 500.0, "sky_gradient": 0.1, "transparency": 0.9, "fwhm_px": 3.5, "dither_x": 1.0, "dither_y": -1.0,
        "rotation_deg": 1.0, "cosmic_rays": 20.0, "variable_share": 1.0, "psf_growth": 0.3, "psf_stretch": 0.3,
        "saturation_adu": 700, "bias_adu": 310.0, "gain": 2.0, "read_noise_e": 9.0, "photon_noise": False,
    }  # fmt: skip
    for name, value in changes.items():
        pixels, _ = render_exposure(replace(plan, conditions=replace(plan.conditions, **{name: value})))
        assert not np.array_equal(pixels, quiet), name
    capped, _ = render_exposure(replace(plan, conditions=replace(plan.conditions, saturation_adu=700)))
    assert capped.max() == 700


def test_the_psf_varies_over_the_frame():
    plan = make_plan(replace(NOISELESS, psf_growth=0.4, psf_stretch=0.4))
    widths = []
    for x, y in ((55.5, 47.5), (4.0, 4.0)):
        ra, dec = (float(value) for value in plan.wcs.all_pix2world(x, y, 0))
        alone = replace(plan, field=replace(plan.field, catalogue=one_star(plan, ra, dec)))
        frame = render_exposure(alone)[0].astype(float) - plan.conditions.sky_e
        widths.append(frame.sum() / frame.max())
    assert widths[1] > 1.3 * widths[0]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_injection_is_in_the_header(kind):
    plan = make_plan()
    anomaly = place_anomaly(kind, plan.wcs, pixel=(50.0, 40.0), snr=30.0, depth=0.2)
    quiet, odd = (render_exposure(replace(plan, anomaly=injected))[1] for injected in (None, anomaly))
    assert repr(odd) == repr(quiet)


def test_the_header_is_standard():
    pixels, header = render_exposure(make_plan(ROUGH))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unit = fits.HDUList.fromstring(to_fits_bytes(pixels, header))[0]
        unit.verify("exception")
        wcs = WCS(unit.header)
    np.testing.assert_array_equal(unit.data, pixels)
    assert wcs.wcs.ctype[0] == "RA---TAN"
    assert {"DATE-OBS", "MJD-OBS", "EXPTIME", "FILTER", "INSTRUME", "TELESCOP", "OBJECT", "RA", "DEC"} < set(
        unit.header
    )
    assert {"OBSTYPE", "GAIN", "SATURATE", "AIRMASS", "CRPIX1", "CRVAL2", "CD1_2", "CUNIT1"} < set(unit.header)
    assert 1.0 <= unit.header["AIRMASS"] < 3.0
    assert "DATE" not in unit.header


def test_an_unknown_preset_is_named():
    with pytest.raises(UsageError, match="unknown preset 'loud'"):
        plan_night(1, preset="loud")
