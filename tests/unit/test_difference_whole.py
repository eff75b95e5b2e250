"""Frames that are wrong as a whole: named, and no others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pipeline.difference.learn import Learnt, learn
from pipeline.difference.psf import draw_gaussian
from pipeline.difference.subtract import expose
from pipeline.difference.whole import measure_elongation, measure_whole
from pipeline.embed.residual import Comparison, compare
from pipeline.simulate import plan_night, render_exposure

SIDE = 192


@pytest.fixture(scope="module")
def night():
    return plan_night(
        17, preset="evidence", fields=1, references=10, frames=4, anomaly_share=0.0, shape=(SIDE, SIDE)
    )  # fmt: skip


@pytest.fixture(scope="module")
def learnt(night) -> Learnt:
    exposures = [shoot(plan) for plan in night if plan.role == "reference"]
    return learn(exposures, [None] * len(exposures))


def draw(plan):
    return render_exposure(replace(plan, anomaly=None))[0].astype(np.float32)


def shoot(plan, change=lambda pixels: pixels):
    return expose(change(draw(plan)), np.ones((SIDE, SIDE), dtype=bool), 60_000.0)


def list_kinds(learnt: Learnt, exposure, prior=None) -> list[str]:
    found = compare(exposure, learnt, prior)
    assert isinstance(found, Comparison)
    return [place.kind for place in found.places]


def test_seeing_and_transparency_of_a_usual_night_are_no_news(night, learnt):
    for plan in night:
        if plan.role == "science":
            assert not {"defocus", "tracking", "exposure"} & set(list_kinds(learnt, shoot(plan)))


def defocus(plan):
    return shoot(replace(plan, conditions=replace(plan.conditions, fwhm_px=8.0)))


def lose_track(plan):
    """Stars drawn out along x, with the noise that they would have."""
    length, rng = 7, np.random.default_rng(2)

    def smear(pixels):
        spread = 1.4826 * np.median(np.abs(pixels - np.median(pixels)))
        noise = rng.normal(0, spread * np.sqrt(1 - 1 / length), pixels.shape)
        return (ndimage.uniform_filter1d(pixels, length, axis=1) + noise).astype(np.float32)

    return shoot(plan, smear)


def dim(plan):
    return shoot(plan, lambda pixels: np.median(pixels) + 0.4 * (pixels - np.median(pixels)))


@pytest.mark.parametrize(("change", "kind"), [(defocus, "defocus"), (lose_track, "tracking"), (dim, "exposure")])
def test_what_is_wrong_with_the_whole_frame_is_named(night, learnt, change, kind):
    plan = next(plan for plan in night if plan.role == "science")
    usual = compare(shoot(plan), learnt, None)
    assert isinstance(usual, Comparison)
    # Stars so wide are found by no pattern: the header says where they are.
    assert kind in list_kinds(learnt, change(plan), usual.residual.registration.to_reference)


def test_elongation_has_a_direction_and_round_stars_none():
    round_one = draw_gaussian(1.5)
    assert measure_elongation(round_one) == pytest.approx((0.0, 0.0), abs=1e-6)
    rows, columns = np.indices((25, 25)) - 12
    long_one = np.exp(-(columns**2) / (2 * 2.4**2) - rows**2 / (2 * 1.2**2)).astype(np.float32)
    along, across = measure_elongation(long_one / long_one.sum())
    assert along > 0.3
    assert across == pytest.approx(0.0, abs=1e-6)
    turned = ndimage.rotate(long_one, 45, reshape=False)
    assert abs(measure_elongation(turned / turned.sum())[1]) > 0.25


def test_the_same_frame_differs_in_nothing_but_its_noise():
    whole = measure_whole(draw_gaussian(1.4), draw_gaussian(1.4), 1.0, 1.0)
    np.testing.assert_allclose(whole, 0, atol=1e-9)
