"""What is worked out band by band, tile by tile and on coarser pixels is what it was on the whole frame."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.difference import bands, filters
from pipeline.difference.bands import list_bands
from pipeline.difference.channels import measure_channels
from pipeline.difference.derivatives import TERMS, combine, count_unknowns, derive, derive_at
from pipeline.difference.filters import Points, filter_points, measure_usual
from pipeline.difference.lines import Line, choose_bin, filter_lines, sharpen_lines
from pipeline.difference.match import MOST_PIXELS, _choose_pixels
from pipeline.difference.psf import draw_gaussian
from pipeline.difference.reference import find_nearest, sample_nearest
from pipeline.difference.transform import Affine

SHAPE = (300, 280)
CLOSE = 1e-5


def draw_noise(seed: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes bands of 17 rows."""

    def narrow() -> None:
        monkeypatch.setattr(bands, "BAND_PIXELS", 17 * SHAPE[1])

    return narrow


def test_bands_make_up_a_frame(few_rows):
    few_rows()
    for multiple in (1, 4, 50):
        found = list_bands(SHAPE, multiple=multiple, start=3)
        assert [row for band in found for row in range(band.start, band.stop)] == list(range(3, SHAPE[0]))
        assert all((band.stop - band.start) % multiple == 0 for band in found[:-1])
        assert len(found) > 5


def test_a_basis_in_bands_and_at_pixels_is_that_of_the_whole(few_rows):
    image = draw_noise(1)
    places = np.arange(0, image.size, 7)
    whole = derive(image)
    for values, one in zip(whole, derive_at(image, places), strict=True):
        assert np.array_equal(values.ravel()[places], one)
    unknowns = np.random.default_rng(2).normal(size=count_unknowns())
    at_once = combine(image, unknowns)
    few_rows()
    assert np.array_equal(combine(image, unknowns), at_once)
    constant = np.zeros(count_unknowns())
    places_of = np.cumsum([0] + [(1, 3, 6)[term.order] for term in TERMS])[:-1]
    constant[places_of] = np.arange(1, len(TERMS) + 1)
    wanted = sum((k + 1) * values.astype(np.float64) for k, values in enumerate(whole))
    assert np.abs(combine(image, constant) - wanted).max() < CLOSE * np.abs(wanted).max()


def test_every_so_many_bright_pixels_are_chosen_across_bands(few_rows):
    template, usable = np.abs(draw_noise(3)) * 10, draw_noise(4) > -1
    bright = np.flatnonzero((template > 4) & usable)
    step = -(-bright.size // MOST_PIXELS)
    assert step > 1
    few_rows()
    assert np.array_equal(_choose_pixels(template, usable, 1.0), bright[::step])


def test_pixels_are_looked_up_in_bands_as_at_once(few_rows):
    image, at = draw_noise(5), Affine(xx=0.8, xy=-0.6, yx=0.6, yy=0.8, x0=40.3, y0=-20.1)
    at_once = find_nearest(at, SHAPE, image.shape).take(image, fill=7.0)
    few_rows()
    assert np.array_equal(sample_nearest(image, at, SHAPE, fill=7.0), at_once)
    assert 0.05 < (at_once == 7.0).mean() < 0.9


def test_the_usual_weight_is_that_of_every_so_many_known_pixels(few_rows):
    weight = np.where(draw_noise(6) > 0, np.abs(draw_noise(7)), 0).astype(np.float32)
    known = weight[weight > 0]
    few_rows()
    assert measure_usual(weight) == float(np.median(known[:: known.size // 4096]))


def test_point_sources_in_tiles_are_those_of_the_whole(monkeypatch):
    normal, psf = draw_noise(8), draw_gaussian(1.3)
    weight = np.where(draw_noise(9) > -2, 1 + 0.1 * np.abs(draw_noise(10)), 0).astype(np.float32)
    normal[weight == 0] = 0
    whole = filter_points(normal, weight, psf)
    monkeypatch.setattr(filters, "_TILE_PX", 90)
    tiled = filter_points(normal, weight, psf)
    for name in ("significance", "information"):
        one, other = getattr(whole, name), getattr(tiled, name)
        assert np.abs(one - other).max() < CLOSE * np.abs(one).max()


def test_channels_in_bands_are_those_at_once(few_rows):
    difference, psf = draw_noise(11) * 3, draw_gaussian(1.2)
    difference += np.random.default_rng(12).normal(0, 1, (SHAPE[0], 1)).astype(np.float32)
    difference[120:145, 90:115] += 60 * psf / psf.max()
    difference[40, 60] = -70
    weight = np.full(SHAPE, 1 / 9, dtype=np.float32)
    weight[200:220, 30:70] = 0
    difference[weight == 0] = 0
    at_once = measure_channels(difference, weight, psf, np.ones(5))
    few_rows()
    banded = measure_channels(difference, weight, psf, np.ones(5))
    for name, values in at_once.channels.flat().items():
        assert np.abs(values - banded.channels.flat()[name]).max() < CLOSE * np.abs(values).max(), name
    for name in ("point", "sharp", "normal"):
        assert np.abs(getattr(at_once, name) - getattr(banded, name)).max() < CLOSE * 100
    assert at_once.channels.point.max() > 15
    assert at_once.channels.hole.max() > 4


def test_lines_on_a_large_frame_are_looked_for_on_as_few_pixels():
    assert [choose_bin((n, 700)) for n in (64, 1024, 1025, 4096, 9000)] == [4, 4, 5, 16, 36]


@pytest.mark.parametrize(("angle", "across"), [(31.4, 211.0), (117.3, -420.0), (90.0, 33.0)])
def test_a_faint_line_across_a_large_frame_is_found_to_a_pixel(angle, across):
    shape, psf = (1500, 1800), draw_gaussian(1.2)
    side = choose_bin(shape)
    y, x = np.indices(shape)
    line = np.abs(Line(0.0, angle, across).measure_distance(x, y, shape)) < 1
    normal = draw_noise(13, shape)
    normal[line] += 0.35
    weight = np.ones(shape, dtype=np.float32)
    points: Points = filter_points(normal, weight, psf)
    coarse = filter_lines(filters.sum_blocks(normal, side) / side, filters.sum_blocks(weight, side) / side**2)
    _, found = sharpen_lines(coarse, points, psf)
    best = max(found, key=lambda one: one.sigma)
    assert side == 8
    assert best.sigma > 12
    assert abs(best.angle_deg - angle) < 0.15
    assert abs(best.across_px - across) < 2
