"""A frame minus its references: noise where nothing is new, and what is new where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from pipeline.difference.channels import Significance
from pipeline.difference.layout import DIMENSION
from pipeline.difference.learn import Learnt, learn, look
from pipeline.difference.localise import Place, localise
from pipeline.difference.subtract import Exposure, Residual, expose, subtract
from pipeline.difference.vector import exceed, flatten, level_signed
from pipeline.judge.calibration import to_amplitude
from pipeline.simulate import ExposurePlan, place_anomaly, plan_night, render_exposure
from pipeline.simulate.conditions import PRESETS

SHAPE = (256, 256)
SATURATION = 60_000.0
HARD = replace(PRESETS["hard"], cosmic_rays=0.5, reference_nights=1)
LARGEST_MILVUS_VECTOR = 32_768


def shoot(plan: ExposurePlan) -> Exposure:
    return read(render_exposure(plan)[0])


def read(pixels: np.ndarray, valid: np.ndarray | None = None) -> Exposure:
    known = np.ones(pixels.shape, dtype=bool) if valid is None else valid
    return expose(pixels.astype(np.float32), known, SATURATION)


@pytest.fixture(scope="module")
def night() -> list[ExposurePlan]:
    """References of many nights, and the frames of one."""
    plans = plan_night(21, preset=HARD, fields=1, references=16, frames=10, anomaly_share=0.0, shape=SHAPE)
    references = [p for p in plans if p.role == "reference"]
    spread = [replace(p, start=p.start - timedelta(days=1.37 * k)) for k, p in enumerate(references)]
    return [*spread, *(p for p in plans if p.role == "science")]


@pytest.fixture(scope="module")
def learnt(night: list[ExposurePlan]) -> Learnt:
    references = [shoot(p) for p in night if p.role == "reference"]
    return learn(references, [None] * len(references))


@pytest.fixture(scope="module")
def science(night: list[ExposurePlan]) -> list[ExposurePlan]:
    return [p for p in night if p.role == "science"]


def compare(learnt: Learnt, frame: Exposure) -> tuple[Residual, Significance]:
    frame = frame if learnt.detector is None else learnt.detector.correct(frame)
    residual = subtract(frame, learnt.stack, None)
    assert residual is not None
    return residual, look(residual, learnt.stack, frame.noise)


def find_empty(learnt: Learnt, plan: ExposurePlan, rim: int = 40) -> tuple[int, int]:
    """Column and row of the frame's darkest place, away from its border."""
    residual, _ = compare(learnt, shoot(plan))
    light = residual.match.light.copy()
    wide = np.cumsum(np.cumsum(np.abs(light), axis=0), axis=1)
    box = wide[24:, 24:] - wide[:-24, 24:] - wide[24:, :-24] + wide[:-24, :-24]
    inner = box[rim:-rim, rim:-rim]
    row, column = np.unravel_index(np.argmin(inner), inner.shape)
    return int(column) + rim + 12, int(row) + rim + 12


def around(values: np.ndarray, x: float, y: float, reach: int = 3) -> np.ndarray:
    row, column = round(y), round(x)
    return values[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]


def test_a_normal_frame_leaves_noise(learnt: Learnt, science: list[ExposurePlan]):
    for plan in science:
        residual, found = compare(learnt, shoot(plan))
        seen = found.point[residual.weight > 0]
        assert 0.8 < seen.std() < 1.25
        assert np.abs(seen).max() < 6.5
        assert residual.registration.source == "stars"
        assert (residual.weight > 0).mean() > 0.9


def test_a_new_source_is_found_in_its_place_near_the_matched_filter_limit(learnt, science):
    ratios = []
    for plan in science:
        x, y = find_empty(learnt, plan)
        odd = replace(plan, anomaly=place_anomaly("supernova", plan.wcs, pixel=(x + 0.3, y - 0.4), snr=15.0))
        _, found = compare(learnt, shoot(odd))
        row, column = np.unravel_index(np.argmax(found.point), found.point.shape)
        assert np.hypot(column - x - 0.3, row - y + 0.4) < 2
        ratios.append(found.point.max() / 15.0)
    # The stack has noise of its own, and the frame's PSF is not known better than from its stars.
    assert np.mean(ratios) > 0.75


KINDS: list[tuple[str, dict[str, float], Callable[[Significance], float]]] = [
    ("trail", {"snr": 15.0, "angle": 37.0}, lambda s: float(s.channels.line.max())),
    ("dead_column", {"snr": 15.0}, lambda s: float(s.channels.column.max())),
    ("cloud", {"depth": 0.05, "pattern": 3}, lambda s: float(np.abs(s.channels.cloud).max())),
    ("asteroid", {"snr": 15.0, "length": 12.0, "angle": 20.0}, lambda s: float(s.channels.streak.max())),
    ("hot_cluster", {"snr": 25.0, "pattern": 5}, lambda s: float(s.channels.sharp.max())),
]


@pytest.mark.parametrize(("kind", "how", "measure"), KINDS, ids=[kind for kind, _, _ in KINDS])
def test_every_kind_stands_out_in_its_channel(learnt, science, kind, how, measure):
    for plan in science[:4]:
        x, y = find_empty(learnt, plan)
        anomaly = place_anomaly(kind, plan.wcs, pixel=(float(x), float(y)), **how)
        quiet, odd = (measure(compare(learnt, shoot(replace(plan, anomaly=a)))[1]) for a in (None, anomaly))
        assert odd > quiet + 3


def localise_one(learnt: Learnt, plan: ExposurePlan) -> tuple[Place, ...]:
    found = compare(learnt, shoot(plan))[1]
    return localise(replace(found, channels=level_signed(found.channels, learnt.usual)), 2.5)


def test_nothing_is_listed_of_a_normal_frame(learnt, science):
    listed = [place for plan in science for place in localise_one(learnt, plan)]
    assert len(listed) <= 1, listed


@pytest.mark.parametrize(
    ("kind", "how", "name", "reach"),
    [
        ("supernova", {"snr": 20.0}, "point", 1.0),
        ("asteroid", {"snr": 40.0, "length": 25.0, "angle": 35.0}, "streak", 3.0),
        ("hot_cluster", {"snr": 60.0, "pattern": 2}, "hot_pixels", 1.0),
        ("trail", {"snr": 30.0, "angle": 62.0}, "trail", 2.0),
        ("dead_column", {"snr": 40.0}, "column", 0.6),
        ("cloud", {"depth": 0.2, "pattern": 4}, "extended", 60.0),
    ],
)
def test_what_was_put_in_is_listed_first_with_its_place_and_kind(learnt, science, *, kind, how, name, reach):
    for plan in science[:4]:
        x, y = find_empty(learnt, plan)
        anomaly = place_anomaly(kind, plan.wcs, pixel=(float(x), float(y)), **how)
        first = localise_one(learnt, replace(plan, anomaly=anomaly))[0]
        assert first.kind == name
        if name == "trail":
            angle = np.radians(first.angle_deg)
            assert abs((y - first.y) * np.cos(angle) - (x - first.x) * np.sin(angle)) < reach
        elif name == "column":
            assert abs(first.x - x) < reach
        else:
            assert np.hypot(first.x - x, first.y - y) < reach
        if "angle" in how:
            assert abs(first.angle_deg - how["angle"]) < (2.0 if name == "trail" else 12.0)
        assert (first.sigma < 0) == (kind == "dead_column")


def test_cosmic_rays_are_masked_and_hot_clusters_are_not(learnt, science):
    plan = science[0]
    x, y = find_empty(learnt, plan)
    pixels, _ = render_exposure(plan)
    hit = pixels.astype(np.int64)
    for step in range(8):
        hit[y + step // 3, x + step] += 500
    hit[y - 8, x - 8] += 900
    residual, found = compare(learnt, read(hit.clip(0, 60_000)))
    assert all(residual.cosmic_rays[y + step // 3, x + step] for step in range(8))
    assert residual.cosmic_rays[y - 8, x - 8]
    assert np.abs(around(found.point, x + 4, y + 1, 9)).max() < 5.5
    cluster = pixels.astype(np.int64)
    cluster[y : y + 3, x : x + 3] += 150
    residual, found = compare(learnt, read(cluster))
    assert not around(residual.cosmic_rays, x + 1, y + 1).any()
    assert around(found.point, x + 1, y + 1).max() > 10


def test_a_star_that_varies_is_not_a_new_one(learnt, science):
    plan = science[1]
    residual, _ = compare(learnt, shoot(plan))
    light = residual.match.light.copy()
    light[:40], light[-40:], light[:, :40], light[:, -40:] = 0, 0, 0, 0
    light[light > 3_000] = 0
    row, column = np.unravel_index(np.argmax(light), light.shape)
    pixels = render_exposure(plan)[0].astype(np.float64)
    stamp = residual.match.psf
    reach = stamp.shape[0] // 2
    x, y = find_empty(learnt, plan)
    extra = 0.3 * light[row, column] / stamp.max() * stamp
    on_star, alone = pixels.copy(), pixels.copy()
    on_star[row - reach : row + reach + 1, column - reach : column + reach + 1] += extra
    alone[y - reach : y + reach + 1, x - reach : x + reach + 1] += extra
    varied = around(compare(learnt, read(np.rint(on_star)))[1].point, column, row).max()
    new = around(compare(learnt, read(np.rint(alone)))[1].point, x, y).max()
    assert new > 15
    assert varied < 5.5


def test_a_frame_that_overlaps_in_part_is_judged_where_it_does(learnt, science):
    pixels, _ = render_exposure(science[2])
    moved = np.full_like(pixels, int(np.median(pixels)))
    noise = np.random.default_rng(1).normal(0, 14, pixels.shape)
    moved = np.rint(moved + noise).clip(0, 60_000).astype(np.uint16)
    moved[:, :150] = pixels[:, 106:]
    residual, found = compare(learnt, read(moved))
    assert abs(residual.registration.to_reference.x0) > 90
    assert 0.4 < (residual.weight > 0).mean() < 0.65
    assert not residual.weight[:, 165:].any()
    assert np.abs(found.point[:, :140]).max() < 6.5


def test_blocks_without_a_value_are_left_out(learnt, science):
    pixels = render_exposure(science[3])[0].astype(np.float32)
    valid = np.ones(SHAPE, dtype=bool)
    valid[60:90, 100:180] = False
    pixels[~valid] = np.nan
    residual, found = compare(learnt, read(pixels, valid))
    assert not residual.weight[~valid].any()
    assert np.isfinite(found.point).all()
    assert np.abs(found.point).max() < 6.5


def test_a_frame_of_another_field_is_not_registered(learnt):
    other = plan_night(77, preset=HARD, fields=1, references=0, frames=1, anomaly_share=0.0, shape=SHAPE)[0]
    assert subtract(shoot(other), learnt.stack, None) is None


def test_a_frame_without_stars_is_not_registered(learnt):
    noise = np.random.default_rng(2).normal(500, 14, SHAPE)
    assert subtract(read(np.rint(noise)), learnt.stack, None) is None
    assert subtract(read(np.full(SHAPE, 500.0)), learnt.stack, None) is None


def test_vectors_are_of_unit_length_and_keep_the_amplitude(learnt, science):
    plan = science[4]
    x, y = find_empty(learnt, plan)
    vectors = []
    for snr in (0.0, 10.0, 20.0, 40.0):
        anomaly = place_anomaly("supernova", plan.wcs, pixel=(float(x), float(y)), snr=snr) if snr else None
        _, found = compare(learnt, shoot(replace(plan, anomaly=anomaly)))
        vectors.append(flatten(exceed(found.channels, learnt.usual)))
    assert all(v.shape == (DIMENSION,) and v.dtype == np.float32 for v in vectors)
    assert DIMENSION <= LARGEST_MILVUS_VECTOR
    assert [float(np.linalg.norm(v)) for v in vectors] == pytest.approx([1.0] * 4, abs=1e-6)
    distances = [float(np.linalg.norm(v - vectors[0])) for v in vectors[1:]]
    assert distances == sorted(distances)
    amplitudes = [to_amplitude(d) for d in distances]
    assert amplitudes[0] < 0.75 * amplitudes[1] < 0.75**2 * amplitudes[2]


def test_references_are_as_far_from_each_other_as_normal_frames_are_from_them(learnt, science):
    members = np.stack([v for v in learnt.vectors if v is not None])
    assert len(members) == len(learnt.vectors)
    loo = [np.linalg.norm(np.delete(members, i, 0) - members[i], axis=1).min() for i in range(len(members))]
    normal = []
    for plan in science:
        _, found = compare(learnt, shoot(plan))
        vector = flatten(exceed(found.channels, learnt.usual))
        normal.append(np.linalg.norm(members - vector, axis=1).min())
    assert 0.7 < np.median(normal) / np.median(loo) < 1.5


def test_learning_twice_gives_the_same_bits(night, learnt):
    references = [shoot(p) for p in night if p.role == "reference"]
    again = learn(references, [None] * len(references))
    assert all(np.array_equal(a, b) for a, b in zip(learnt.vectors, again.vectors, strict=True))
    assert np.array_equal(learnt.stack.coefficients, again.stack.coefficients)
