"""Embeddings: one direction per frame, whatever its size, padding or level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.embed.pixels import Pixels
from pipeline.embed.pixels_demo import PixelsDemo
from pipeline.embed.registry import find_embedding, known_embeddings
from pipeline.embed.types import NothingToEmbedError
from pipeline.errors import UsageError
from pipeline.frame.validity import valid_area

EVERY = known_embeddings((16, 16))


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Sky with smooth structure and noise."""
    y, x = np.mgrid[0:height, 0:width]
    smooth = 500 + 100 * np.sin(x / 17.0) + 80 * np.cos(y / 23.0)
    return (smooth + np.random.default_rng(seed).normal(0, 5, (height, width))).astype(np.float32)


def embed(spec, pixels: np.ndarray) -> np.ndarray:
    return spec.embed(pixels, valid_area(pixels, np.isfinite(pixels)))


def apart(spec, one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(embed(spec, one).astype(float) - embed(spec, other).astype(float)))


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 20), st.integers(1, 20), st.integers(0, 5))
@settings(max_examples=60)
def test_a_vector_has_unit_length_whatever_the_shapes(height, width, rows, columns, seed):
    for spec in (Pixels(rows, columns), PixelsDemo()):
        vector = spec.embed(scene(height, width, seed), np.ones((height, width), dtype=bool))
        assert vector.shape == (spec.dimension,)
        assert vector.dtype == np.float32
        assert np.linalg.norm(vector.astype(float)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("spec", EVERY, ids=lambda s: s.name)
def test_the_same_frame_gives_the_same_bits(spec):
    frame = scene(123, 77)
    frame[40:50, 20:30] = np.nan
    np.testing.assert_array_equal(embed(spec, frame), embed(spec, frame.copy()))


@pytest.mark.parametrize("spec", EVERY, ids=lambda s: s.name)
def test_the_level_of_light_does_not_matter(spec):
    frame = scene(64, 64)
    np.testing.assert_allclose(embed(spec, frame), embed(spec, frame * np.float32(8)), atol=1e-6)


def test_a_grid_that_divides_the_frame_is_plain_block_means():
    frame = scene(48, 64)
    means = frame.astype(float).reshape(8, 6, 16, 4).mean(axis=(1, 3)).ravel()
    np.testing.assert_allclose(embed(Pixels(8, 16), frame), means / np.linalg.norm(means), atol=1e-7)


def test_a_frame_smaller_than_the_grid_repeats_its_pixels():
    frame = np.float32([[1, 2], [3, 4]])
    vector = Pixels(4, 4).embed(frame, np.ones((2, 2), dtype=bool)).reshape(4, 4)
    expected = np.kron(frame, np.ones((2, 2)))
    np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=1e-7)
    assert Pixels(5, 7).embed(np.float32([[3]]), np.ones((1, 1), dtype=bool)).shape == (35,)


@pytest.mark.parametrize("border", [5, 11, 20])
def test_a_zero_filled_border_moves_pixels_far_less_than_the_demo(border):
    frame = scene(160, 200)
    padded = frame.copy()
    padded[:border] = 0
    padded[:, -border:] = 0
    demo, ours = apart(PixelsDemo(), frame, padded), apart(Pixels(16, 16), frame, padded)
    assert demo > 0.15
    assert ours < demo / 4


def test_invalid_pixels_inside_a_cell_do_not_shift_its_mean():
    frame = np.full((40, 40), 7.0, dtype=np.float32)
    holed = frame.copy()
    holed[3:5, 3:5] = np.nan
    holed[20:23, 30:33] = np.nan
    assert apart(Pixels(4, 4), frame, holed) < 1e-6


def test_cells_without_sky_add_no_distance_between_frames_with_the_same_hole():
    one, other = scene(64, 64, 1), scene(64, 64, 2)
    for frame in (one, other):
        frame[:32, :32] = np.nan
    whole = apart(Pixels(8, 8), scene(64, 64, 1), scene(64, 64, 2))
    assert apart(Pixels(8, 8), one, other) < 2 * whole


def test_a_frame_of_which_no_cell_is_half_covered_is_still_embedded():
    frame = np.full((40, 40), np.nan, dtype=np.float32)
    frame[::7, ::7] = 5.0
    assert np.linalg.norm(embed(Pixels(4, 4), frame)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("frame", [np.full((9, 9), np.nan), np.zeros((9, 9))], ids=["nan", "zero"])
def test_a_frame_without_light_has_no_direction(frame):
    frame = frame.astype(np.float32)
    for spec in EVERY:
        with pytest.raises(NothingToEmbedError):
            spec.embed(frame, np.isfinite(frame) & (frame != 0))


def test_valid_pixels_that_are_all_zero_have_no_direction():
    with pytest.raises(NothingToEmbedError):
        Pixels(4, 4).embed(np.zeros((8, 8), dtype=np.float32), np.ones((8, 8), dtype=bool))


@pytest.mark.parametrize("value", [3e38, -3e38, 1e-40])
def test_extreme_values_give_a_finite_direction_or_none(value):
    frame = np.full((20, 20), value, dtype=np.float32)
    for spec in EVERY:
        vector = spec.embed(frame, np.ones_like(frame, dtype=bool))
        assert np.isfinite(vector).all()


def test_a_version_changes_with_the_shape_and_a_name_does_not():
    assert Pixels(64, 64).version != Pixels(64, 32).version != Pixels(32, 64).version
    assert Pixels(8, 9).dimension == 72
    assert {spec.name for spec in (Pixels(1, 1), Pixels(9, 9))} == {"pixels"}


def test_every_known_vector_fits_in_milvus():
    assert all(0 < spec.dimension <= 32768 for spec in known_embeddings((64, 64)))
    assert len({(s.name, s.version) for s in EVERY}) == len(EVERY)


def test_the_demo_preset_resizes_as_the_demo_does():
    """A shrink by whole factors: Gaussian of half the factor, then one sample at the centre of each cell."""
    frame = scene(332, 300)
    image = PixelsDemo().embed(frame, np.ones(frame.shape, dtype=bool)).reshape(166, 100)
    means = frame.astype(float).reshape(166, 2, 100, 3).mean(axis=(1, 3))
    assert np.corrcoef(image.ravel(), means.ravel())[0, 1] > 0.995
    flat = PixelsDemo().embed(np.full((300, 500), 3, dtype=np.float32), np.ones((300, 500), dtype=bool))
    np.testing.assert_allclose(flat, 16600**-0.5, atol=1e-7)


def test_the_demo_preset_agrees_with_scikit_image_s_resize_where_it_is_installed():
    transform = pytest.importorskip("skimage.transform")
    frame = scene(500, 333)
    expected = transform.resize(frame.astype(float), (166, 100), anti_aliasing=True).ravel()
    found = PixelsDemo().embed(frame, np.ones(frame.shape, dtype=bool))
    assert np.linalg.norm(found - expected / np.linalg.norm(expected)) < 0.01


def test_an_unknown_embedding_is_told_with_those_there_are():
    assert find_embedding("pixels-demo", EVERY).name == "pixels-demo"
    with pytest.raises(UsageError, match="pixels, pixels-demo"):
        find_embedding("Pixels", EVERY)
