"""Where a frame lies on its reference: known roughly, drifted far, turned over, or not to be known at all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.difference.reference import find_nearest
from pipeline.difference.register import register
from pipeline.difference.sources import Sources
from pipeline.difference.transform import Affine, fit_affine, fit_rigid, fit_shift

SIDE = 600.0


def make_sources(x: np.ndarray, y: np.ndarray, flux: np.ndarray) -> Sources:
    order = np.argsort(-flux, kind="stable")
    return Sources(x[order], y[order], flux[order], flux[order] / 10, np.full(x.size, 1.4))


def make_sky(seed: int, stars: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-SIDE, 2 * SIDE, stars), rng.uniform(-SIDE, 2 * SIDE, stars), rng.pareto(1.2, stars) + 1


def turn(angle_deg: float, dx: float, dy: float) -> Affine:
    angle = math.radians(angle_deg)
    return Affine(math.cos(angle), -math.sin(angle), dx, math.sin(angle), math.cos(angle), dy)


def look(sky: tuple[np.ndarray, np.ndarray, np.ndarray], at: Affine, seed: int) -> Sources:
    """Stars of the sky as a frame shows them whose pixels lie at `at`; places good to a tenth of a pixel."""
    rng = np.random.default_rng(seed)
    x, y = at.invert().apply(sky[0], sky[1])
    x, y = x + rng.normal(0, 0.1, x.size), y + rng.normal(0, 0.1, y.size)
    inside = (x > 0) & (x < SIDE) & (y > 0) & (y < SIDE)
    flux = sky[2][inside] * rng.uniform(0.9, 1.1, int(inside.sum()))
    return make_sources(x[inside], y[inside], flux)


@pytest.mark.parametrize(
    "at",
    [
        turn(0, 0, 0),
        turn(0.3, 4.2, -3.1),
        turn(0.05, 270.0, -60.0),
        turn(-1.5, -150.0, 210.0),
        turn(180.0, 590.0, 610.0),
        turn(179.6, 700.0, 480.0),
    ],
    ids=["same", "dithered", "drifted", "turned and drifted", "flipped", "flipped and drifted"],
)
def test_the_pattern_of_the_stars_says_where_a_frame_lies(at: Affine):
    sky = make_sky(5)
    found = register(look(sky, at, 1), look(sky, Affine(), 2))
    assert found is not None
    assert found.source == "stars"
    assert found.pairs >= 12
    assert found.rms_px < 0.3
    corners = np.array([0, SIDE, 0, SIDE]), np.array([0, 0, SIDE, SIDE])
    assert np.hypot(*(np.subtract(found.to_reference.apply(*corners), at.apply(*corners)))).max() < 0.5


def test_a_map_that_is_known_roughly_is_refined():
    sky = make_sky(6)
    at = turn(0.1, 12.0, -7.0)
    found = register(look(sky, at, 1), look(sky, Affine(), 2), prior=turn(0, 10.0, -5.0))
    assert found is not None
    assert found.source == "stars"
    assert abs(found.to_reference.x0 - at.x0) < 0.2


def test_a_known_map_stands_where_no_star_confirms_it():
    nothing = make_sources(np.zeros(0), np.zeros(0), np.zeros(0))
    prior = turn(0, 3.0, 4.0)
    found = register(nothing, look(make_sky(1), Affine(), 1), prior)
    assert found is not None
    assert (found.source, found.pairs, found.rms_px) == ("wcs", 0, None)
    assert found.to_reference == prior


def test_a_map_that_is_wrong_is_found_out_by_the_stars():
    sky = make_sky(7)
    at = turn(0, 120.0, 80.0)
    found = register(look(sky, at, 1), look(sky, Affine(), 2), prior=Affine())
    assert found is not None
    assert abs(found.to_reference.x0 - 120.0) < 0.5


@pytest.mark.parametrize("stars", [0, 1, 2, 8, 60, 400])
def test_other_stars_are_no_match(stars: int):
    for seed in range(5):
        mine, theirs = (look(make_sky(seed + k, stars), Affine(), seed) for k in (100, 200))
        assert register(mine, theirs) is None


def test_a_mirror_image_is_no_match():
    frame = look(make_sky(8), Affine(), 1)
    mirrored = Sources(SIDE - frame.x, frame.y, frame.flux, frame.peak, frame.size)
    assert register(mirrored, frame) is None


def test_stars_on_a_grid_neither_hang_nor_match():
    x, y = (v.ravel().astype(float) for v in np.meshgrid(np.arange(20) * 25.0, np.arange(20) * 25.0))
    grid = make_sources(x, y, np.ones(400))
    found = register(grid, make_sources(x + 3.0, y, np.ones(400)))
    assert found is None or found.to_reference.is_sound()


numbers = st.floats(-500, 500, allow_nan=False)


@given(st.floats(-180, 180), numbers, numbers, numbers, numbers)
@settings(max_examples=60, deadline=None)
def test_a_map_and_its_inverse_undo_each_other(angle: float, dx: float, dy: float, x: float, y: float):
    at = turn(angle, dx, dy)
    back = at.invert().apply(*at.apply(np.float64(x), np.float64(y)))
    assert back == pytest.approx((x, y), abs=1e-6)
    both = at.after(at.invert())
    assert both.apply(np.float64(x), np.float64(y)) == pytest.approx((x, y), abs=1e-6)
    assert at.scale == pytest.approx(1.0)
    assert math.cos(math.radians(at.rotation_deg - angle)) == pytest.approx(1.0)


@given(st.floats(-180, 180), numbers, numbers)
@settings(max_examples=30, deadline=None)
def test_fits_find_the_map_that_made_the_pairs(angle: float, dx: float, dy: float):
    at = turn(angle, dx, dy)
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 500, 20), rng.uniform(0, 500, 20)
    u, v = at.apply(x, y)
    for found in (fit_affine(x, y, u, v), fit_rigid(x, y, u, v), fit_shift(x, y, u, v, turn(angle, 0, 0))):
        assert np.allclose(found.apply(x, y), (u, v), atol=1e-6)


def test_between_the_outermost_pixel_and_the_border_nothing_is_known():
    # A spline has nothing to go by there, and a star cut by the border would look new on the next frame.
    assert find_nearest(Affine(), (5, 6), (5, 6)).inside.all()
    moved = find_nearest(Affine(y0=-0.3, x0=0.2), (5, 6), (5, 6)).inside
    assert not moved[0].any()
    assert not moved[:, -1].any()
    assert moved[1:, :-1].all()
