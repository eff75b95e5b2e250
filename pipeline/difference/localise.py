"""Maps of significance -> places: what lies where, how far it reaches, and what it looks like."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.difference.bands import list_bands
from pipeline.difference.channels import Significance
from pipeline.difference.layout import SKY_CELLS
from pipeline.difference.lines import Line
from pipeline.difference.robust import measure_spread

Image = NDArray[np.float32]
Floats = NDArray[np.float64]

POINT_SIGMA = 5.0
"""Significance from which a place counts; of the 100,000 independent places of a 1-megapixel frame 0.03 reach it."""

LINE_SIGMA = 6.0
AXIS_SIGMA = 5.0
SKY_SIGMA = 5.0
WHOLE_SIGMA = 3.5

MOST = 50
"""Places listed at most, strongest first."""

_FAINT_SHARE = 0.4
_LEAST_FAINT_SIGMA = 3.0
_ELONGATED = 2.0
# A star gives squares of 3 x 3 px at most 0.85 of the significance it gives its own shape; even charge gives more.
_SHARP = 1.05
_REACH_PX = 8.0
_ALIKE_DEG = 3.0
_OWN_SHARE = 0.6
_CLIP_SIGMA = 4.0
_CUT_SHARE = 0.15
_EVEN_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class Place:
    """Something odd and where it is; 0-based pixels of the frame.

    Attributes:
        x: column of its centre.
        y: row of its centre.
        sigma: significance of its peak; negative where light is missing.
        kind: `point`, `streak`, `trail`, `row`, `column`, `hot_pixels`, `extended`; of the whole frame `defocus`,
            `tracking` or `exposure`.
        size_px: how far it reaches along its longest side.
        angle_deg: direction of its longest side, from +x towards +y, 0 to 180; None where it has none.
    """

    x: float
    y: float
    sigma: float
    kind: str
    size_px: float
    angle_deg: float | None


def localise(found: Significance, fwhm_px: float) -> tuple[Place, ...]:
    """List what stands out.

    What lies along a trail or a column is that trail or column and not listed again.

    Args:
        found: of one frame.
        fwhm_px: of the frame's PSF.
    """
    shape = found.point.shape
    axes = _find_axes(found.normal)
    # A bad column is a line across the frame too.
    trails = [_to_place(line, shape) for line in _find_trails(found)]
    trails = [trail for trail in trails if not any(_lies_on(trail, axis) for axis in axes)]
    spots = [*_find_spots(found, fwhm_px, sign=1), *_find_spots(found, fwhm_px, sign=-1)]
    # What is more significant than the whole of a line is no part of it.
    lines = (*axes, *trails)
    free = [s for s in spots if not any(abs(s.sigma) <= abs(line.sigma) and _lies_on(s, line) for line in lines)]
    wide = [*_find_extended(found.channels.sky, shape), *_find_whole(found.channels.whole, shape)]
    listed = [*axes, *trails, *free, *wide]
    return tuple(sorted(listed, key=lambda p: -abs(p.sigma))[:MOST])


def _find_spots(found: Significance, fwhm_px: float, *, sign: int) -> list[Place]:
    if sign * float(found.point.max() if sign > 0 else found.point.min()) < POINT_SIGMA:
        return []
    places = []
    faint = found.point >= _LEAST_FAINT_SIGMA if sign > 0 else found.point <= -_LEAST_FAINT_SIGMA
    # Labels of a large frame in as few bytes as they fit.
    narrow = np.uint16 if np.count_nonzero(faint) <= np.iinfo(np.uint16).max else np.int32
    labels = np.empty(faint.shape, dtype=narrow)
    ndimage.label(faint, structure=np.ones((3, 3)), output=labels)
    for number, window in enumerate(ndimage.find_objects(labels), start=1):
        values = np.where(labels[window] == number, sign * found.point[window], 0)
        peak = float(values.max())
        if peak < POINT_SIGMA:
            continue
        # The faint rim of a bright thing is wide: its shape is that of what is over a share of the peak.
        body = np.where(values >= max(_LEAST_FAINT_SIGMA, _FAINT_SHARE * peak), values, 0)
        y, x, length, width, angle = _measure_shape(body)
        long = length > _ELONGATED * max(width, fwhm_px)
        sharp = sign > 0 and float(found.sharp[window].max()) > _SHARP * peak
        kind = "streak" if long else "hot_pixels" if sharp else "point"
        place = (x + window[1].start, y + window[0].start, sign * peak)
        places.append(Place(*place, kind, max(length, fwhm_px), angle if long else None))
    return places


def _measure_shape(values: Floats) -> tuple[float, float, float, float, float]:
    """Centre, full length and width of a body of even brightness with these second moments, and its direction."""
    rows, columns = np.indices(values.shape)
    total = values.sum()
    y, x = float((values * rows).sum() / total), float((values * columns).sum() / total)
    xx = float((values * (columns - x) ** 2).sum() / total)
    yy = float((values * (rows - y) ** 2).sum() / total)
    xy = float((values * (columns - x) * (rows - y)).sum() / total)
    middle, spread = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    angle = math.degrees(math.atan2(2 * xy, xx - yy) / 2) % 180
    # A line of even brightness and length L has the variance L^2 / 12.
    return y, x, math.sqrt(12 * (middle + spread)), math.sqrt(12 * max(0.0, middle - spread)), angle


def _find_trails(found: Significance) -> list[Line]:
    """Lines that are significant without what stronger ones put on them."""
    likely = sorted((line for line in found.lines if line.sigma >= LINE_SIGMA), key=lambda line: -line.sigma)
    if not likely:
        return []
    free = np.ones(found.point.shape, dtype=bool)
    trails: list[Line] = []
    for line in likely:
        whole = left = 0.0
        for band in list_bands(free.shape):
            on_it = np.abs(_measure_distance(line, band, free.shape)) < 1
            strength = np.abs(np.clip(found.point[band][on_it], -_CLIP_SIGMA, _CLIP_SIGMA))
            whole += float(strength.sum())
            left += float(strength[free[band][on_it]].sum())
        if left < _OWN_SHARE * whole:
            continue
        trails.append(line)
        for band in list_bands(free.shape):
            free[band] &= np.abs(_measure_distance(line, band, free.shape)) > _REACH_PX
    return trails


def _measure_distance(line: Line, rows: slice, shape: tuple[int, ...]) -> Image:
    """Of the pixels of some rows from a line."""
    x, y = np.arange(shape[1], dtype=np.float64), np.arange(rows.start, rows.stop, dtype=np.float64)
    return line.measure_distance(x, y[:, None], shape)


def _find_axes(normal: Image) -> list[Place]:
    """Columns and rows that are off over their whole length."""
    places = []
    height, width = normal.shape
    for axis, kind in ((0, "column"), (1, "row")):
        known = normal != 0
        count = np.maximum(known.sum(axis=axis), 1)
        strength = normal.sum(axis=axis) / np.sqrt(count)
        spread = max(1.0, measure_spread(strength))
        strength = strength / spread
        for i in np.flatnonzero(np.abs(strength) >= AXIS_SIGMA).tolist():
            # One bright thing raises the sums of the rows and columns that it lies on.
            if not _is_even(normal[:, i] if axis == 0 else normal[i], _EVEN_SHARE * AXIS_SIGMA * spread):
                continue
            x, y = (float(i), (height - 1) / 2) if axis == 0 else ((width - 1) / 2, float(i))
            length = float(height if axis == 0 else width)
            places.append(Place(x, y, float(strength[i]), kind, length, 90.0 if axis == 0 else 0.0))
    return places


def _is_even(values: Image, least: float) -> bool:
    """Whether a column or row is off as a whole: also without its highest and lowest values."""
    ordered = np.sort(values[values != 0])
    cut = int(_CUT_SHARE * ordered.size)
    middle = ordered[cut : ordered.size - cut]
    return middle.size > 0 and abs(float(middle.mean())) * math.sqrt(ordered.size) >= least


def _find_extended(sky: Floats, shape: tuple[int, ...]) -> list[Place]:
    """Groups of touching sky cells that are off alike."""
    places = []
    cell = (shape[0] / SKY_CELLS[0], shape[1] / SKY_CELLS[1])
    for sign in (1, -1):
        labels, count = ndimage.label(sign * sky >= SKY_SIGMA, structure=np.ones((3, 3)))
        for number in range(1, count + 1):
            body = np.where(labels == number, sign * sky, 0)
            y, x, length, _, _ = _measure_shape(body)
            size = max(length, 1.0) * max(cell)
            place = ((x + 0.5) * cell[1] - 0.5, (y + 0.5) * cell[0] - 0.5, sign * float(body.max()))
            places.append(Place(*place, "extended", size, None))
    return places


def _find_whole(whole: Floats, shape: tuple[int, ...]) -> list[Place]:
    """What is off with the frame as a whole, at its middle and as large as it."""
    width, along, across, flux, noise = whole.tolist()
    off = {
        "defocus": width,
        "tracking": math.hypot(along, across),
        "exposure": flux if abs(flux) > abs(noise) else noise,
    }
    middle = ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    size = math.hypot(*shape)
    return [Place(*middle, z, kind, size, None) for kind, z in off.items() if abs(z) >= WHOLE_SIGMA]


def _to_place(line: Line, shape: tuple[int, ...]) -> Place:
    angle = math.radians(line.angle_deg)
    x, y = (shape[1] - 1) / 2 - line.across_px * math.sin(angle), (shape[0] - 1) / 2 + line.across_px * math.cos(angle)
    return Place(x, y, line.sigma, "trail", math.hypot(*shape), line.angle_deg % 180)


def _lies_on(place: Place, line: Place) -> bool:
    """Whether a place lies on a line, in its direction where it has one."""
    if place.kind == "trail" and _turn_between(place.angle_deg or 0.0, line.angle_deg or 0.0) > _ALIKE_DEG:
        return False
    angle = math.radians(line.angle_deg or 0.0)
    across = (place.y - line.y) * math.cos(angle) - (place.x - line.x) * math.sin(angle)
    return abs(across) <= _REACH_PX


def _turn_between(one: float, other: float) -> float:
    """Degrees between two directions of lines, 0 to 90."""
    return abs((one - other + 90) % 180 - 90)
