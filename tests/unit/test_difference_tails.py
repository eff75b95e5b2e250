"""What normal frames of real cameras show, and no anomaly is: banded rows, rays, drifting skies, odd references."""

from __future__ import annotations

import numpy as np

from pipeline.difference import filters
from pipeline.difference.axes import remove_bands
from pipeline.difference.channels import Channels, doubt_misfits
from pipeline.difference.cosmic import find_cosmic_rays
from pipeline.difference.layout import NAMES, SIZES
from pipeline.difference.learn import find_odd
from pipeline.difference.psf import draw_gaussian
from pipeline.difference.vector import exceed, flatten, learn_usual

SHAPE = (200, 240)


def draw_noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, SHAPE).astype(np.float32)


def make_channels(seed: int, sky: np.ndarray | None = None) -> Channels:
    rng = np.random.default_rng(seed)
    values = {name: rng.exponential(0.3, SIZES[name]) + 3 for name in NAMES}
    values["sky"] = rng.normal(0, 1, SIZES["sky"]) if sky is None else sky + rng.normal(0, 1, SIZES["sky"])
    values["cloud"] = rng.normal(0, 1, SIZES["cloud"])
    return Channels(**values)


def test_banded_rows_are_taken_off_and_a_lone_row_stays():
    offsets = np.random.default_rng(1).normal(0, 0.5, (SHAPE[0], 1)).astype(np.float32)
    offsets[77] = 6.0
    cleaned = remove_bands(draw_noise(2) + offsets, np.ones(SHAPE, dtype=np.float32))
    means = cleaned.mean(axis=1)
    assert np.delete(means, 77).std() < 0.15
    assert means[77] > 5


def test_noise_without_bands_is_left_alone():
    noise = draw_noise(3)
    assert remove_bands(noise, np.ones(SHAPE, dtype=np.float32)) is noise


def test_light_of_another_shape_counts_less_and_a_star_hardly_less():
    normal = np.zeros(SHAPE, dtype=np.float32)
    stamp = draw_gaussian(1.0)[10:15, 10:15]
    normal[50:55, 50:55] = 20 * stamp / np.sqrt(np.square(stamp).sum())
    normal[100, 98:103] = 14
    significance = np.zeros(SHAPE, dtype=np.float32)
    significance[52, 52] = significance[100, 100] = 20
    row, column, doubted = doubt_misfits(significance, normal, 5)
    assert list(zip(row.tolist(), column.tolist(), strict=True)) == [(52, 52), (100, 100)]
    assert 18 < doubted[0] <= 20
    assert doubted[1] < 14


def test_a_faint_hit_of_one_pixel_is_a_ray_and_a_faint_star_is_none():
    psf, deviation = draw_gaussian(1.0), np.ones(SHAPE, dtype=np.float32)
    hit, star = np.zeros(SHAPE, dtype=np.float32), np.zeros(SHAPE, dtype=np.float32)
    hit[60, 60] = 9
    hit[59:62, 59:62] += 1
    star[48:73, 48:73] = 10 * psf / psf.max()
    assert find_cosmic_rays(hit, deviation, psf)[60, 60]
    assert not find_cosmic_rays(star, deviation, psf).any()


def test_a_sky_that_drifts_tells_so_by_its_spread():
    pattern = np.linspace(-1, 1, SIZES["sky"])
    steady = learn_usual([make_channels(i) for i in range(20)])
    drifting = learn_usual([make_channels(i, (i - 10) * pattern) for i in range(20)])
    ahead = make_channels(99, 14 * pattern)
    reach = {name: exceed(ahead, usual).max() for name, usual in (("steady", steady), ("drifting", drifting))}
    assert drifting.spread["sky"][0] > 6 * steady.spread["sky"][0]
    assert reach["steady"] > 15
    assert reach["drifting"] < 12


def test_one_odd_reference_raises_no_level():
    frames = [make_channels(i) for i in range(9)]
    odd = make_channels(50)
    odd.point[:] += 30
    assert learn_usual([*frames, odd]).level["point"] < learn_usual(frames).level["point"] + 0.1


def test_an_odd_reference_is_left_out_and_usual_ones_are_not():
    rng = np.random.default_rng(6)
    vectors = {i: flatten(rng.exponential(1.0, 300)) for i in range(16)}
    assert find_odd(vectors) == []
    vectors[5] = flatten(rng.exponential(60.0, 300))
    assert find_odd(vectors) == [5]


def test_frames_of_like_seeing_share_the_kernels_of_streaks():
    weight = np.ones(SHAPE, dtype=np.float32)
    filters._streak_kernels.cache_clear()
    for sigma in (1.20, 1.21, 1.22):
        filters.filter_streaks(draw_noise(7), weight, draw_gaussian(sigma))
    assert filters._streak_kernels.cache_info().misses == 1
