"""Maps of significance with known things in them, and the places that are read from them."""

from __future__ import annotations

import numpy as np

from pipeline.difference.channels import Channels, Significance
from pipeline.difference.layout import NAMES, SIZES
from pipeline.difference.localise import localise

SIDE = 160
_SHAPES = {"sky": (16, 16), "cloud": (4, 4), "whole": (5,)}


def build(point: np.ndarray, normal: np.ndarray) -> Significance:
    channels = Channels(**{name: np.zeros(_SHAPES.get(name, (SIZES[name],))) for name in NAMES})
    return Significance(channels, point, np.zeros_like(point), normal, ())


def test_one_bright_star_is_no_bad_row_and_is_listed_as_what_it_is():
    rng = np.random.default_rng(5)
    y, x = np.indices((SIDE, SIDE), dtype=np.float32)
    distance = np.hypot(x - 103, y - 138)
    normal = rng.normal(size=(SIDE, SIDE)).astype(np.float32)
    normal[distance < 8] = 4.0
    point = (800 * np.exp(-(distance**2) / 12)).astype(np.float32)
    assert abs(normal[138].sum() / np.sqrt(SIDE)) > 5
    [place] = localise(build(point, normal), 3.0)
    assert (place.kind, round(place.x), round(place.y)) == ("point", 103, 138)


def test_a_column_that_is_off_as_a_whole_is_a_column():
    normal = np.random.default_rng(6).normal(size=(SIDE, SIDE)).astype(np.float32)
    normal[:, 40] += 0.7
    [place] = localise(build(np.zeros((SIDE, SIDE), dtype=np.float32), normal), 3.0)
    assert (place.kind, place.x, place.angle_deg) == ("column", 40.0, 90.0)
