from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.frame.quality import measure

SIGMA_PX = 1.6
FWHM = 2.3548 * SIGMA_PX


def make_field(shape=(300, 400), stars=40, sky=500.0, noise=8.0, flux=4000.0) -> np.ndarray:
    rng = np.random.default_rng(7)
    pixels = rng.normal(sky, noise, shape)
    rows, columns = np.mgrid[-8:9, -8:9]
    shape_of_star = np.exp(-(rows**2 + columns**2) / (2 * SIGMA_PX**2))
    places = [(y, x) for y in range(20, shape[0] - 20, 35) for x in range(20, shape[1] - 20, 35)][:stars]
    assert len(places) == stars
    for y, x in places:
        pixels[y - 8 : y + 9, x - 8 : x + 9] += flux * shape_of_star
    return pixels.astype(np.float32)


def everywhere(pixels: np.ndarray) -> np.ndarray:
    return np.isfinite(pixels)


def test_sky_noise_stars_and_image_size_come_out_as_they_went_in() -> None:
    pixels = make_field()
    found = measure(pixels, everywhere(pixels), None)
    assert found.background == pytest.approx(500, abs=1)
    assert found.noise == pytest.approx(8, rel=0.05)
    assert found.stars == 40
    assert found.fwhm_px == pytest.approx(FWHM, rel=0.12)
    assert (found.valid_fraction, found.saturated_fraction) == (1.0, 0.0)


def test_a_gradient_is_neither_noise_nor_stars() -> None:
    pixels = make_field() + np.linspace(0, 400, 400, dtype=np.float32)
    found = measure(pixels, everywhere(pixels), None)
    assert found.noise == pytest.approx(8, rel=0.15)
    assert found.stars == 40


def test_invalid_pixels_count_for_nothing() -> None:
    pixels = make_field()
    pixels[:, :60] = np.nan
    pixels[100:110, 200:300] = np.nan
    found = measure(pixels, everywhere(pixels), None)
    assert found.valid_fraction == pytest.approx(1 - (300 * 60 + 1000) / 120_000)
    assert found.background == pytest.approx(500, abs=1.5)
    assert found.noise == pytest.approx(8, rel=0.05)
    masked = make_field()
    masked[:, :60] = 1e6
    assert measure(masked, np.isfinite(pixels), None).background == pytest.approx(found.background, abs=0.5)


def test_saturation_by_the_header_and_by_the_ceiling() -> None:
    pixels = make_field().clip(None, 3000)
    share = np.count_nonzero(pixels >= 3000) / pixels.size
    assert share > 0
    assert measure(pixels, everywhere(pixels), None).saturated_fraction == pytest.approx(share)
    assert measure(pixels, everywhere(pixels), 3000.0).saturated_fraction == pytest.approx(share)
    assert measure(pixels, everywhere(pixels), 60_000.0).saturated_fraction == 0


def test_saturated_stars_do_not_count_for_the_image_size() -> None:
    pixels = make_field()
    wide = pixels.copy()
    for y in range(20, 280, 35):
        wide[y - 6 : y + 7, 14:27] = 30_000
    assert measure(wide, everywhere(wide), 30_000.0).fwhm_px == pytest.approx(FWHM, rel=0.12)


def test_a_constant_frame_has_no_noise_and_no_stars() -> None:
    found = measure(np.full((90, 90), 12, np.float32), np.ones((90, 90), bool), None)
    assert (found.background, found.noise, found.stars, found.fwhm_px) == (12, 0, None, None)
    assert found.saturated_fraction == 0


def test_a_frame_without_valid_pixels_has_no_numbers() -> None:
    found = measure(np.full((9, 9), np.nan, np.float32), np.zeros((9, 9), bool), None)
    assert (found.background, found.noise, found.stars, found.valid_fraction) == (None, None, None, 0.0)


def test_one_valid_pixel_among_millions_is_found() -> None:
    pixels, valid = np.full((700, 700), np.nan, np.float32), np.zeros((700, 700), bool)
    pixels[333, 335], valid[333, 335] = 5, True
    assert measure(pixels, valid, None).background == 5


def test_noise_of_mostly_equal_values_is_not_zero() -> None:
    pixels = (np.random.default_rng(0).random((80, 80)) < 0.2).astype(np.float32)
    assert measure(pixels, everywhere(pixels), None).noise == pytest.approx(0.4, rel=0.1)


def test_a_frame_that_is_one_bright_group_is_counted_as_such() -> None:
    pixels = make_field(flux=0.0)
    pixels[10:-10, 10:-10] += 5_000
    found = measure(pixels, everywhere(pixels), None)
    assert found.stars is not None
    assert found.stars <= 10


def test_of_a_large_frame_the_centre_is_searched_in_bounded_time() -> None:
    rng = np.random.default_rng(1)
    pixels = rng.standard_normal((3000, 3000), dtype=np.float32)
    pixels[1500:1504, 1500:1504] += 100
    pixels[10:14, 10:14] += 100
    start = time.process_time()
    found = measure(pixels, np.ones(pixels.shape, bool), None)
    assert time.process_time() - start < 2
    assert found.stars == 1


@given(
    pixels=hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=90), elements=st.floats(width=32, allow_nan=True)
    )
)
def test_no_image_whatever_raises_or_gives_what_is_no_number(pixels) -> None:
    found = measure(pixels, np.isfinite(pixels), None)
    for number in (found.background, found.noise, found.fwhm_px, found.valid_fraction, found.saturated_fraction):
        assert number is None or np.isfinite(number)


@pytest.mark.parametrize("shape", [(1, 1568), (5, 2048), (1, 1), (2, 3)])
def test_slivers_are_measured(shape) -> None:
    pixels = np.random.default_rng(2).normal(100, 3, shape).astype(np.float32)
    assert measure(pixels, everywhere(pixels), None).background == pytest.approx(100, abs=12)
