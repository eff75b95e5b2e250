from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.frame.validity import valid_area

RNG = np.random.default_rng(11)


def mark(pixels: np.ndarray) -> np.ndarray:
    return valid_area(pixels.astype(np.float32), np.isfinite(pixels))


def sky(height: int = 60, width: int = 80) -> np.ndarray:
    return RNG.normal(400, 5, (height, width)).round()


def test_a_frame_without_zeros_on_its_border_is_left_as_it_came() -> None:
    pixels, finite = sky().astype(np.float32), np.ones((60, 80), bool)
    pixels[10:40, 10:40] = 0
    assert valid_area(pixels, finite) is finite


@given(top=st.integers(0, 9), left=st.integers(0, 9), bottom=st.integers(0, 9), right=st.integers(0, 9))
def test_margins_of_any_width_are_padding_and_nothing_else_is(top, left, bottom, right) -> None:
    expected = np.zeros((60, 80), bool)
    expected[top : 60 - bottom, left : 80 - right] = True
    np.testing.assert_array_equal(mark(np.where(expected, sky(), 0)), expected)


@pytest.mark.parametrize("degrees", [2, 20, 45])
def test_wedges_of_a_rotated_frame_are_padding(degrees) -> None:
    rotated = ndimage.rotate(sky(120, 120), degrees, reshape=True, order=0, cval=0)
    valid = mark(rotated)
    assert np.count_nonzero(valid != (rotated > 0)) < 0.002 * rotated.size


def test_the_black_surround_of_an_all_sky_circle_is_padding() -> None:
    rows, columns = np.mgrid[:100, :140]
    inside = np.hypot(rows - 50, columns - 70) < 45
    np.testing.assert_array_equal(mark(np.where(inside, 300.0, 0.0)), inside)


@pytest.mark.parametrize(
    "share", [0.05, 0.3, 0.5, 0.55, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.99, 0.999, 0.9999]
)
def test_where_zero_is_an_ordinary_value_no_area_is_lost(share) -> None:
    pixels = np.where(np.random.default_rng(int(share * 1000)).random((200, 200)) < share, 0, 7)
    pixels[0, 0] = 0
    assert mark(pixels).all()


def test_a_bias_frame_and_a_sky_subtracted_frame_lose_nothing() -> None:
    bias = np.random.default_rng(1).poisson(0.4, (100, 100))
    subtracted = np.random.default_rng(2).normal(0, 0.8, (100, 100)).round()
    assert (bias == 0).mean() > 0.5
    assert mark(bias).all()
    assert mark(subtracted).all()


def test_padding_is_found_in_a_frame_where_zero_is_ordinary_too() -> None:
    pixels = np.random.default_rng(3).normal(0, 2.5, (100, 100)).round()
    pixels[:, :12] = 0
    valid = mark(pixels)
    assert not valid[:, :12].any()
    assert valid[:, 14:].mean() > 0.98


def test_zeros_inside_the_frame_stay_valid() -> None:
    pixels = sky()
    pixels[:5] = 0
    pixels[20:40, 20:40] = 0
    valid = mark(pixels)
    assert not valid[:5].any()
    assert valid[5:].all()


def test_padding_behind_a_margin_of_nan_is_found() -> None:
    pixels = sky()
    pixels[:, :3], pixels[:, 3:9], pixels[0, 3:9] = np.nan, 0, 0
    assert not mark(pixels)[:, :9].any()
    assert mark(pixels)[:, 9:].all()


def test_a_frame_of_nothing_but_zeros_carries_no_sky() -> None:
    assert not mark(np.zeros((30, 30))).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 3), (4, 900)])
def test_tiny_frames_are_no_special_case(shape) -> None:
    assert mark(np.full(shape, 5.0)).all()
    assert not mark(np.zeros(shape)).any()
    assert mark(np.full(shape, np.nan)).sum() == 0
